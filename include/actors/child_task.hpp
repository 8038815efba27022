/// `self.spawn_task(fn, args…)`: a coroutine beside the actor's body.
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/config.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/detail/fiber.hpp"
#include "actors/fwd.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"

namespace actors {

/// Names, in a compile error, what was given as a child task: a callable that
/// takes the arguments, or an `actors::context<>` and the arguments, and
/// returns an `actors::task`.
template <class F, class... Args>
struct child_task_must_take_its_arguments_and_return_a_task;

/// On a compiler with the co_await temporaries bug (g++ before 14): the
/// callable of a task that is spawned and awaited in one expression may be
/// destroyed twice. Name the task in a statement before.
template <class T>
struct unsafe_temporary_on_this_compiler_name_the_child_task_first;

namespace detail {

/// A child task as the cell sees it. It belongs to the cell until it has ended
/// and is in its list; after that to the handles. Strand.
struct child_task_base : child_fiber, system_node {
  child_task_base() noexcept : child_fiber{&on_end} {
    beside = true;
    arrive = &on_arrival;
  }

  child_task_base* next_task = nullptr;
  child_task_base* previous_task = nullptr;
  /// The operation that waits for its end, and in which fiber.
  wait* joined = nullptr;
  fiber* joined_by = nullptr;
  /// Makes the outermost frame and runs it.
  void (*start)(child_task_base&) = nullptr;
  /// After the end of that frame: what it threw, unless it was told.
  std::exception_ptr (*finish)(child_task_base&) noexcept = nullptr;
  void (*destroy_frame)(child_task_base&) noexcept = nullptr;
  /// Destroys frame and node.
  void (*free)(child_task_base&) noexcept = nullptr;
  /// After its end: what it threw.
  std::exception_ptr error;
  std::uint32_t refs = 1;
  bool has_ended = false;
  /// A handler with a message in hand, which a stop lets finish.
  bool is_handler = false;
  /// Decides about failures: a `policy_task_base`.
  bool is_policy = false;
  /// The node is on its way: to start it, or to cancel it.
  bool on_its_way = false;

  void release() noexcept {
    if (--refs == 0) free(*this);
  }
  void begin(promise_base& p, std::coroutine_handle<> outermost) noexcept {
    frame = outermost;
    p.start_detached(*this, {});
    run_child(*this, outermost);
  }

 private:
  static void on_end(child_fiber& f) noexcept;
  static void on_arrival(cell& c, system_node& n) noexcept;
};

/// Starts `t` when the cell has nothing else on its stack. Throws
/// `actor_stopped` when the cell's body has ended.
void start_child_task(cell& c, child_task_base& t);
/// `child_task::cancel`
void cancel_child_task(child_task_base& t) noexcept;

/// With the place of its value.
template <class T>
struct child_task_of : child_task_base {
  child_task_of() noexcept {
    finish = [](child_task_base& t) noexcept {
      return static_cast<child_task_of&>(t).outermost.promise().error();
    };
    destroy_frame = [](child_task_base& t) noexcept {
      auto& self = static_cast<child_task_of&>(t);
      if (self.outermost) std::exchange(self.outermost, {}).destroy();
    };
  }

  std::coroutine_handle<promise<T>> outermost;
  bool taken = false;
};

/// Whether `F` is called with a context of its own before its arguments.
template <class F, class... Args>
inline constexpr bool wants_context =
    !std::is_invocable_v<F&, Args&&...> &&
    std::is_invocable_v<F&, context<>, Args&&...>;

/// `context<>`, which is not complete before `F` is known.
template <class F>
using own_context = std::conditional_t<true, context<>, F>;

template <class F, class... Args>
constexpr auto child_task_result() {
  if constexpr (wants_context<F, Args...>)
    return std::type_identity<std::invoke_result_t<F&, context<>, Args&&...>>{};
  else if constexpr (std::is_invocable_v<F&, Args&&...>)
    return std::type_identity<std::invoke_result_t<F&, Args&&...>>{};
  else
    return std::type_identity<void>{};
}
/// What `F` returns for `Args`, all decayed.
template <class F, class... Args>
using child_task_result_t =
    typename decltype(child_task_result<F, Args...>())::type;

/// A callable and its arguments, owned; called once.
template <class F, class... Args>
class owned_call {
 public:
  template <class G, class... As>
  explicit owned_call(G&& f, As&&... args)
      : f_(std::forward<G>(f)), args_(std::forward<As>(args)...) {}
  auto operator()(cell& c) {
    return std::apply(
        [&](Args&... args) {
          if constexpr (wants_context<F, Args...>)
            return std::invoke(f_, own_context<F>{c}, std::move(args)...);
          else
            return std::invoke(f_, std::move(args)...);
        },
        args_);
  }

 private:
  [[no_unique_address]] F f_;
  [[no_unique_address]] std::tuple<Args...> args_;
};

template <class T, class F, class... Args>
struct spawned_task final : child_task_of<T> {
  template <class G, class... As>
  explicit spawned_task(G&& f, As&&... args)
      : call(std::forward<G>(f), std::forward<As>(args)...) {
    this->start = [](child_task_base& t) {
      auto& self = static_cast<spawned_task&>(t);
      task<T> body = self.call(*self.owner);
      self.outermost = task_access::release(body);
      self.begin(self.outermost.promise(), self.outermost);
    };
    this->free = [](child_task_base& t) noexcept {
      auto* self = static_cast<spawned_task*>(&t);
      self->destroy_frame(t);  // before what it was called with
      destroy_and_free(self);
    };
  }

  owned_call<F, Args...> call;
};

/// `co_await` of a child task.
template <class T>
class [[nodiscard]] join_op : public awaitable_base, private wait {
 public:
  using value_type = T;

  explicit join_op(child_task_of<T>& t) noexcept : task_{&t} { ++t.refs; }
  join_op(join_op&& other) noexcept
      : task_{std::exchange(other.task_, nullptr)} {}
  join_op& operator=(join_op&&) = delete;
  ~join_op() {
    if (!task_) return;
    if (task_->joined == this) task_->joined = nullptr;
    task_->release();
  }

  bool await_ready() {
    if (task_->taken || task_->joined)
      throw std::logic_error(
          "a child task is awaited once: its value is moved out");
    return false;
  }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> waits) {
    fiber& f = waits.promise().current();
    if (task_->has_ended) return false;
    if (take_abort(f)) {
      aborted_ = true;
      return false;
    }
    waiter = waits;
    wait::cancel = [](wait& w, fiber& who, cancellation how) noexcept {
      auto& self = static_cast<join_op&>(w);
      self.task_->joined = nullptr;
      if (how == cancellation::stop) self.aborted_ = take_abort(who);
      return true;
    };
    task_->joined = this;
    task_->joined_by = &f;
    f.waiting = this;
    return true;
  }
  T await_resume() {
    if (aborted_) throw_error(operation_aborted());
    task_->taken = true;
    if (task_->error) std::rethrow_exception(task_->error);
    if (!task_->outermost) throw_error(make_error_code(errc::no_reply));
    return task_->outermost.promise().take();
  }
  result<T> take() {
    try {
      if constexpr (std::is_void_v<T>) {
        await_resume();
        return {};
      } else {
        return await_resume();
      }
    } catch (...) {
      return std::current_exception();
    }
  }

 private:
  child_task_of<T>* task_;
  bool aborted_ = false;
};

}  // namespace detail

/// A handle to a child task that gives a `T`: what `self.spawn_task` returns.
///
/// For the coroutines of the actor that spawned it, on its strand. Dropping it
/// does not cancel the task, whose end the actor awaits in any case. Movable.
template <class T>
class child_task {
 public:
  /// What it gives.
  using value_type = T;

  child_task(child_task&& other) noexcept
      : task_{std::exchange(other.task_, nullptr)} {}
  child_task& operator=(child_task&& other) noexcept {
    std::swap(task_, other.task_);
    return *this;
  }
  ~child_task() {
    if (task_) task_->release();
  }

  /// Tells the task to end: the operation it waits for, or its next one, ends
  /// with `operation_aborted`, once. Returns at once; `co_await` the task for
  /// its end.
  void cancel() noexcept { detail::cancel_child_task(*task_); }
  /// Whether it has ended.
  bool done() const noexcept { return task_->has_ended; }

  /// Waits for its end; gives its value, or throws what it threw. A second
  /// time: `std::logic_error`. A task that throws while nobody awaits it makes
  /// the actor fail.
  auto join() { return detail::join_op<T>{*task_}; }

  /// For the runtime: shares the task.
  explicit child_task(detail::child_task_of<T>& t) noexcept : task_{&t} {
    ++t.refs;
  }

 private:
  detail::child_task_of<T>* task_;
};

namespace detail {

/// `co_await a_child_task`
template <class T>
struct await_bridge<child_task<T>> {
  template <class A>
  static auto wrap(A&& t, fiber&) {
    if constexpr (ACTORS_CO_AWAIT_TEMPORARIES_BUG && !std::is_reference_v<A>)
      return error_line<
          unsafe_temporary_on_this_compiler_name_the_child_task_first<T>>::
          say();
    else
      return t.join();
  }
};

template <class F, class... Args>
auto spawn_child_task(cell& c, F&& f, Args&&... args) {
  using function = std::decay_t<F>;
  using returned = child_task_result_t<function, std::decay_t<Args>...>;
  if constexpr (!is_task<returned>::value) {
    return error_line<child_task_must_take_its_arguments_and_return_a_task<
        function, std::decay_t<Args>...>>::say();
  } else {
    using value = typename returned::value_type;
    auto* t = make_node<spawned_task<value, function, std::decay_t<Args>...>>(
        std::forward<F>(f), std::forward<Args>(args)...);
    child_task<value> handle{*t};
    try {
      start_child_task(c, *t);
    } catch (...) {
      t->release();
      throw;
    }
    return handle;
  }
}

}  // namespace detail

}  // namespace actors
