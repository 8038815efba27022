/// `self.with_tasks(…)`: child tasks that may share locals.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "actors/child_task.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/detail/group.hpp"
#include "actors/error.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"
#include "actors/when.hpp"

namespace actors {

/// Starts the child tasks of a `self.with_tasks(…)`; see there. For the
/// coroutine that got it and for the tasks, on the actor's strand.
class task_group : public detail::group {
 public:
  /// Starts a task at once: a callable and its arguments, as of `spawn_task`.
  /// What it returns is dropped. When the group is ending already, the task's
  /// first operation ends with `operation_aborted`.
  template <class F, class... Args>
  void spawn(F&& f, Args&&... args) {
    using function = std::decay_t<F>;
    using returned =
        detail::child_task_result_t<function, std::decay_t<Args>...>;
    if constexpr (!detail::is_task<returned>::value) {
      detail::error_line<child_task_must_take_its_arguments_and_return_a_task<
          function, std::decay_t<Args>...>>::say();
    } else {
      using member = member_task<typename returned::value_type, function,
                                 std::decay_t<Args>...>;
      add_and_start(*detail::make_node<member>(std::forward<F>(f),
                                               std::forward<Args>(args)...));
    }
  }

 protected:
  task_group() noexcept : group{decided_by::error} {}
  ~task_group() = default;
  /// Destroys the tasks that are left.
  void clear() noexcept {
    while (detail::group_member* m = pop_disposable()) m->dispose(*m);
  }

 private:
  template <class T, class F, class... Args>
  struct member_task final : detail::group_member {
    template <class G, class... As>
    explicit member_task(G&& f, As&&... as)
        : call(std::forward<G>(f), std::forward<As>(as)...) {
      beside = true;
      start = [](group_member& m) {
        auto& self = static_cast<member_task&>(m);
        task<T> body = self.call(*self.owner);
        self.outermost = detail::task_access::release(body);
        self.begin(self.outermost.promise(), self.outermost);
      };
      thrown = [](child_fiber& c) noexcept {
        return static_cast<member_task&>(c).outermost.promise().error();
      };
      dispose = [](group_member& m) noexcept {
        auto* self = static_cast<member_task*>(&m);
        if (self->outermost) std::exchange(self->outermost, {}).destroy();
        detail::destroy_and_free(self);
      };
    }

    detail::owned_call<F, Args...> call;
    std::coroutine_handle<detail::promise<T>> outermost;
  };
};

namespace detail {

/// `F`: a reference for a body that has a name.
template <class F>
class [[nodiscard]] with_tasks_op final : public task_group {
  using body = std::invoke_result_t<F&, task_group&>;

 public:
  using value_type = typename body::value_type;

  explicit with_tasks_op(F&& f) : f_(std::forward<F>(f)) {}
  /// Only before it has started.
  with_tasks_op(with_tasks_op&& other) : f_(std::forward<F>(other.f_)) {}
  /// The tasks go first: they may know the body's locals.
  ~with_tasks_op() { clear(); }

  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    body_.emplace(f_(static_cast<task_group&>(*this)));
    add(*body_);
    return start_group(frame.promise().current(), frame);
  }
  value_type await_resume() {
    rethrow();
    return body_->take();
  }
  result<value_type> take() { return take_caught(*this); }

 private:
  /// The body's frame refers to it.
  F f_;
  std::optional<operand<body>> body_;
};

}  // namespace detail

}  // namespace actors
