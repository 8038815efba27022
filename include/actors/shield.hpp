/// `shield(op)`: what a handler awaits although its asker may have left.
#pragma once

#include <coroutine>
#include <type_traits>
#include <utility>

#include "actors/detail/group.hpp"
#include "actors/operation.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"
#include "actors/when.hpp"

namespace actors {

/// Names, in a compile error, what `shield` was given: something that it cannot
/// take over, or that inherits nothing anyway.
template <class T>
struct shield_needs_an_operation_or_task_that_it_can_move;

namespace detail {

/// Awaits a task, or several operations at once, while nothing is inherited.
template <class A>
class [[nodiscard]] shielded : public awaitable_base {
 public:
  using value_type = awaited_value_t<A>;

  explicit shielded(A&& awaited) : awaited_{std::move(awaited)} {}

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    fiber_ = &frame.promise().current();
    before_ = fiber_->shielded;
    fiber_->shielded = true;
    try {
      if constexpr (is_task<A>::value)
        return task_awaiter<value_type>{awaited_}.await_suspend(frame);
      else
        return awaited_.await_suspend(frame);
    } catch (...) {
      fiber_->shielded = before_;
      throw;
    }
  }
  value_type await_resume() {
    fiber_->shielded = before_;
    if constexpr (is_task<A>::value)
      return task_awaiter<value_type>{awaited_}.await_resume();
    else
      return awaited_.await_resume();
  }
  result<value_type> take() { return take_caught(*this); }

 private:
  A awaited_;
  fiber* fiber_ = nullptr;
  bool before_ = false;
};

template <class T>
struct is_operation : std::false_type {};
template <class T>
struct is_operation<operation<T>> : std::true_type {};

template <class Op>
inline constexpr bool shieldable =
    !std::is_lvalue_reference_v<Op> &&
    (is_task<std::remove_cvref_t<Op>>::value ||
     std::is_base_of_v<group, std::remove_cvref_t<Op>>);

}  // namespace detail

/// Has `op` inherit nothing of the message in hand: neither its deadline nor
/// the end of its asker's wait. For what has to be done even if nobody waits
/// for it any more: `co_await actors::shield(from.ask<deposit>(sum));`.
///
/// `op` is an operation (`ref.ask(…)`, `ref.send(…)`), and then so is what it
/// gives: `shield(op).within(1s)`, `as_result(shield(op))`; or a `task`,
/// `when_all(…)` and its like: then nothing that is awaited in it inherits. A
/// stop and a kill of the actor itself end it as ever.
template <class Op>
auto shield(Op&& op) {
  using bare = std::remove_cvref_t<Op>;
  if constexpr (detail::is_operation<bare>::value &&
                !std::is_lvalue_reference_v<Op>) {
    op.inherit_nothing();
    return bare{std::move(op)};
  } else if constexpr (detail::shieldable<Op>) {
    return detail::shielded<bare>{std::move(op)};
  } else if constexpr (std::is_same_v<bare, detail::anything>) {
    return detail::anything{};
  } else {
    return detail::error_line<
        shield_needs_an_operation_or_task_that_it_can_move<bare>>::say();
  }
}

}  // namespace actors
