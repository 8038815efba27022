/// Several operations at once: `when_all`, `when_any`, `with_timeout`.
#pragma once

#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "actors/detail/group.hpp"
#include "actors/error.hpp"
#include "actors/message.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"

namespace actors {

namespace detail {

void check_timeout(duration timeout);
/// Calls `expire` on the strand; null: the actor takes none any more.
timer* start_group_timer(fiber& f, duration delay,
                         void (*expire)(cell&, void*) noexcept, void* argument);
void cancel_group_timer(timer* t) noexcept;

/// The value of an operand whose `void` is `std::monostate`.
template <class Operand>
value_or_unit<typename Operand::value_type> take_or_unit(Operand& o) {
  if constexpr (std::is_void_v<typename Operand::value_type>) {
    o.take();
    return {};
  } else {
    return o.take();
  }
}

/// What `take()` of an operation gives whose `await_resume` throws.
template <class Op>
auto take_caught(Op& op) -> result<typename Op::value_type> {
  try {
    if constexpr (std::is_void_v<typename Op::value_type>) {
      op.await_resume();
      return {};
    } else {
      return op.await_resume();
    }
  } catch (...) {
    return std::current_exception();
  }
}

template <class... As>
class [[nodiscard]] when_all_op : public group {
 public:
  using value_type = std::tuple<value_or_unit<awaited_value_t<As>>...>;

  explicit when_all_op(As&&... as)
      : group{decided_by::error}, operands_(std::forward<As>(as)...) {}
  /// Only before it has started.
  when_all_op(when_all_op&& other)
      : group{decided_by::error}, operands_(std::move(other.operands_)) {}

  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    std::apply([this](auto&... os) { (add(os), ...); }, operands_);
    return start_group(frame.promise().current(), frame);
  }
  value_type await_resume() {
    rethrow();
    return std::apply(
        [](auto&... os) { return value_type{take_or_unit(os)...}; }, operands_);
  }
  result<value_type> take() { return take_caught(*this); }

 private:
  std::tuple<operand<As>...> operands_;
};

template <class T>
class [[nodiscard]] when_all_of_op : public group {
 public:
  using value_type = std::conditional_t<std::is_void_v<T>, void,
                                        std::vector<value_or_unit<T>>>;

  explicit when_all_of_op(std::vector<task<T>>&& tasks)
      : group{decided_by::error}, tasks_(std::move(tasks)) {}
  /// Only before it has started.
  when_all_of_op(when_all_of_op&& other)
      : group{decided_by::error}, tasks_(std::move(other.tasks_)) {}

  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    for (task<T>& t : tasks_) add(operands_.emplace_back(std::move(t)));
    return start_group(frame.promise().current(), frame);
  }
  value_type await_resume() {
    rethrow();
    if constexpr (!std::is_void_v<T>) {
      value_type values;
      values.reserve(operands_.size());
      for (auto& o : operands_) values.push_back(o.take());
      return values;
    }
  }
  result<value_type> take() { return take_caught(*this); }

 private:
  std::vector<task<T>> tasks_;
  std::deque<operand<task<T>>> operands_;
};

template <class... As>
class [[nodiscard]] when_any_op : public group {
 public:
  using value_type = std::variant<value_or_unit<awaited_value_t<As>>...>;

  explicit when_any_op(As&&... as)
      : group{decided_by::end}, operands_(std::forward<As>(as)...) {}
  /// Only before it has started.
  when_any_op(when_any_op&& other)
      : group{decided_by::end}, operands_(std::move(other.operands_)) {}

  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    std::apply([this](auto&... os) { (add(os), ...); }, operands_);
    return start_group(frame.promise().current(), frame);
  }
  value_type await_resume() {
    rethrow();
    return pick(std::index_sequence_for<As...>{});
  }
  result<value_type> take() { return take_caught(*this); }

 private:
  template <std::size_t... I>
  value_type pick(std::index_sequence<I...>) {
    std::optional<value_type> value;
    (void)((winner() == &std::get<I>(operands_) &&
            (value.emplace(std::in_place_index<I>,
                           take_or_unit(std::get<I>(operands_))),
             true)) ||
           ...);
    return std::move(*value);
  }

  std::tuple<operand<As>...> operands_;
};

template <class A>
class [[nodiscard]] with_timeout_op : public group {
 public:
  using value_type = awaited_value_t<A>;

  with_timeout_op(duration timeout, A&& a)
      : group{decided_by::end},
        operand_(std::forward<A>(a)),
        timeout_{timeout} {}
  /// Only before it has started.
  with_timeout_op(with_timeout_op&& other)
      : group{decided_by::end},
        operand_(std::move(other.operand_)),
        timeout_{other.timeout_} {}

  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    fiber& f = frame.promise().current();
    add(operand_);
    // The first end decides: the operand's, or the timer's.
    on_decided = [](group& g) noexcept {
      auto& self = static_cast<with_timeout_op&>(g);
      cancel_group_timer(std::exchange(self.timer_, nullptr));
    };
    timer_ = start_group_timer(f, timeout_, &expire, this);
    return start_group(f, frame);
  }
  value_type await_resume() {
    if (winner()) {
      rethrow();
    } else if (operand_.error && is_operation_aborted(operand_.error)) {
      throw_error(make_error_code(errc::timed_out));
    }
    if constexpr (is_result<value_type>::value) {
      value_type end = operand_.take();
      if (!winner() && end.error() == operation_aborted())
        return errc::timed_out;
      return end;
    } else {
      return operand_.take();
    }
  }
  result<value_type> take() { return take_caught(*this); }

 private:
  static void expire(cell&, void* op) noexcept {
    auto& self = *static_cast<with_timeout_op*>(op);
    self.timer_ = nullptr;
    self.decide_and_end(nullptr);
  }

  operand<A> operand_;
  duration timeout_;
  timer* timer_ = nullptr;
};

}  // namespace detail

/// Awaits several operations at once, each in a line of execution of its own
/// on the actor's strand, and gives a `std::tuple` of their values (`void` is
/// `std::monostate`). The first that throws has the others told to end
/// (`operation_aborted`); when all have ended, its exception is thrown.
///
/// Operands are tasks, operations of the library and, with <actors/asio.hpp>,
/// whatever Asio can await. What has a name has to live until the end; for the
/// rest it takes care. They may share locals: it does not return before all of
/// them have ended. One at a time may wait in `receive`, and answers what it
/// took; what it leaves unanswered in hand is the caller's. Awaited in an
/// actor's coroutines.
template <class... As>
requires(sizeof...(As) != 0) auto when_all(As&&... operands) {
  return detail::when_all_op<As...>{std::forward<As>(operands)...};
}
/// The same for as many tasks as there are; gives a `std::vector`.
template <class T>
auto when_all(std::vector<task<T>> tasks) {
  return detail::when_all_of_op<T>{std::move(tasks)};
}

/// Awaits several operations at once and gives the value of the first that
/// ends, in a `std::variant` at its index, or throws what it threw. The others
/// are told to end (`operation_aborted`) and waited for; what they give or
/// throw then is dropped. One that has not started when another ends never
/// does. A `receive` among them takes a message only when it wins: it wins by
/// taking one, and its handler then runs to the end. A `serve` takes many and
/// wins by none: told to end, it aborts what its handler awaits. See
/// `when_all`.
template <class... As>
requires(sizeof...(As) != 0) auto when_any(As&&... operands) {
  return detail::when_any_op<As...>{std::forward<As>(operands)...};
}

/// Awaits `operation` for `timeout` (not negative: `std::invalid_argument`) at
/// most; then it is told to end, waited for, and `errc::timed_out` is thrown.
/// If it ends with a value after all, that is given; another exception of its
/// own is thrown. Of an `as_result(…)` it is the `result` that is `timed_out`.
/// A `receive` that has taken a message in time runs its handler to the end.
/// See `when_all`.
template <class A>
auto with_timeout(duration timeout, A&& operation) {
  detail::check_timeout(timeout);
  return detail::with_timeout_op<A>{timeout, std::forward<A>(operation)};
}

}  // namespace actors
