/// The operations behind `receive`, `serve` and `until_stop`.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "actors/detail/handler.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/task.hpp"

namespace actors::detail {

/// Ends the message in hand after its handler: answered, or not.
template <class M, class R>
void answer_hand(fiber& f, R&& value) {
  envelope* e = f.hand;
  if constexpr (question<M>) {
    using reply = reply_of_t<M>;
    if (e->type == &asked<M>::type_of && asked<M>::of(e)->open) {
      asked<M>::of(e)->answer_and_end(
          result<reply>(std::forward<R>(value)));  // may throw: still in hand
      f.hand = nullptr;
      return;
    }
    if (e->type->slot(e)) {
      result<reply> answer(std::forward<R>(value));
      static_cast<reply_state<reply>*>(e->type->take_slot(e))
          ->answer(std::move(answer));
    }
  }
  f.hand = nullptr;
  e->type->drop(e, errc::no_reply);
}

/// Ends the message in hand of a handler that gave no value.
template <class M>
void end_hand(fiber& f) noexcept {
  if constexpr (question<M>) {
    if constexpr (std::is_void_v<reply_of_t<M>>) {
      answer_hand<M>(f, result<void>{});
      return;
    }
  }
  envelope* e = std::exchange(f.hand, nullptr);
  if (e->type == &told<M>::type_of)
    told<M>::drop(e, errc::no_reply);
  else
    e->type->drop(e, errc::no_reply);
}

/// Ends the message in hand of a handler that threw.
inline void fail_hand(fiber& f) noexcept {
  envelope* e = std::exchange(f.hand, nullptr);
  if (e) e->type->drop(e, errc::actor_failed);
}

/// The coroutine of a handler while it runs.
struct running_handler {
  std::coroutine_handle<> frame;
  promise_base* promise = nullptr;
  /// Takes its value, answers, destroys the frame. May throw what it threw.
  void (*finish)(running_handler&, fiber&) = nullptr;

  explicit operator bool() const noexcept { return bool(frame); }
};

template <class M, class T>
void finish_handler(running_handler& h, fiber& f) {
  struct destroy {
    running_handler& h;
    ~destroy() { std::exchange(h.frame, {}).destroy(); }
  } guard{h};
  auto& p = static_cast<promise<T>&>(*h.promise);
  if constexpr (std::is_void_v<T>) {
    p.take();
    if constexpr (!std::is_void_v<M>) end_hand<M>(f);
  } else {
    answer_hand<M>(f, p.take());
  }
}

template <class M, class T>
running_handler start_handler(task<T>&& t) {
  auto frame = task_access::release(t);
  return {frame, &frame.promise(), &finish_handler<M, T>};
}

/// `receive(handlers…)`: one message, given to its handler.
///
/// `Loop`: gives message after message without resuming the body; only for
/// handlers that are no coroutines.
template <bool Loop, class Taken, class... Hs>
class receive_op;

template <bool Loop, class... Ms, class... Hs>
class [[nodiscard]] receive_op<Loop, message_list<Ms...>, Hs...>
    : public awaitable_base, private receiver {
  using handler_tuple = std::tuple<Hs&&...>;
  using last_handler = std::remove_cvref_t<
      std::tuple_element_t<sizeof...(Hs) - 1, std::tuple<Hs...>>>;
  static constexpr bool has_after = is_after<last_handler>::value;

  template <class M>
  using result_for = std::remove_cvref_t<handler_result_t<
      M, std::remove_reference_t<std::tuple_element_t<
             handler_index<M, std::remove_reference_t<Hs>...>(),
             std::tuple<Hs...>>>>>;
  static constexpr bool after_is_task() {
    if constexpr (has_after)
      return is_task<std::invoke_result_t<
          decltype(std::declval<last_handler&>().handler())>>::value;
    else
      return false;
  }

 public:
  /// Whether some handler is a coroutine.
  static constexpr bool has_tasks =
      (is_task<result_for<Ms>>::value || ...) || after_is_task();
  /// Whether `serve` has to resume a body after each message.
  static constexpr bool needs_body = has_tasks || has_after;

  receive_op(cell& c, const message_filter* only, Hs&&... hs) noexcept
      : receiver{c, only}, handlers_{std::forward<Hs>(hs)...} {
    receiver::deliver = &on_event;
  }
  receive_op(const receive_op&) = delete;
  receive_op& operator=(const receive_op&) = delete;
  ~receive_op() {
    if constexpr (has_tasks) {
      if (child_) child_.frame.destroy();
    }
  }

  bool await_ready() {
    const poll_result polled = poll(*this);
    if (polled.what == poll_result::wait) return false;
    taken_ = polled.what == poll_result::message;
    if (!taken_) return true;
    if constexpr (Loop) {
      // The cell feeds a loop; one message is handled here to start it.
      handle(polled.found);
      return false;
    } else if constexpr (has_tasks) {
      guarded([&] { handle(polled.found); });
      return !child_;
    } else {
      main_fiber(*owner).hand = polled.found;
      return true;
    }
  }

  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    fiber& f = frame.promise().current();
    if constexpr (has_tasks) {
      if (child_) return !child_.promise->start_nested(f, frame, child_.frame);
    }
    waiter = frame;
    suspend(*this, f, delay());
    return true;
  }

  bool await_resume() {
    fiber& f = main_fiber(*owner);
    if (error_) std::rethrow_exception(std::move(error_));
    if constexpr (has_tasks) {
      if (child_) finish_child(f);
    } else if constexpr (!Loop) {
      if (timed_out_)
        handle_timeout();
      else if (taken_)
        handle(f.hand);
    }
    return taken_ || timed_out_;
  }

 private:
  duration delay() const noexcept {
    if constexpr (has_after)
      return std::get<sizeof...(Hs) - 1>(handlers_).delay();
    else
      return duration{-1};
  }

  static std::coroutine_handle<> on_event(receiver& r, event what,
                                          envelope* e) {
    auto& self = static_cast<receive_op&>(r);
    self.taken_ = what == event::message;
    self.timed_out_ = what == event::timeout;
    if (what == event::empty) return self.waiter;
    if constexpr (Loop) {
      self.guarded([&] { self.handle(e); });
      return self.error_ ? self.waiter : std::coroutine_handle<>{};
    } else if constexpr (has_tasks) {
      self.guarded([&] {
        if (e)
          self.handle(e);
        else
          self.handle_timeout();
      });
      if (!self.child_) return self.waiter;
      self.child_.promise->start_detached(main_fiber(*self.owner), self.waiter);
      return self.child_.frame;
    } else {
      main_fiber(*self.owner).hand = e;
      return self.waiter;
    }
  }

  /// Keeps an exception for the body.
  template <class F>
  void guarded(F&& f) noexcept {
    try {
      f();
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  void finish_child(fiber& f) {
    leave_handler(*owner);
    try {
      child_.finish(child_, f);
    } catch (...) {
      fail_hand(f);
      throw;
    }
  }

  void handle_timeout() {
    if constexpr (has_after) {
      auto& handler = std::get<sizeof...(Hs) - 1>(handlers_).handler();
      if constexpr (after_is_task()) {
        child_ = start_handler<void>(handler());
        enter_handler(*owner);
      } else {
        handler();
      }
    }
  }

  /// Gives the message to its handler. A plain one has run when this returns;
  /// a coroutine is in `child_`, to be started.
  void handle(envelope* e) {
    fiber& f = main_fiber(*owner);
    f.hand = e;
    try {
      if constexpr (sizeof...(Ms) == 1)
        (call<Ms>(e, only_payload<Ms>(e)), ...);
      else if (!(try_here<Ms>(e) || ...))
        (void)(try_elsewhere<Ms>(e) || ...);
    } catch (...) {
      fail_hand(f);
      throw;
    }
  }
  /// Of an actor with one message type, which this must be.
  template <class M>
  static M& only_payload(envelope* e) noexcept {
    if (e->type == &told<M>::type_of) return static_cast<told<M>*>(e)->payload;
    return *static_cast<M*>(e->type->payload(e));
  }
  template <class M>
  bool try_here(envelope* e) {
    M* m = payload_here<M>(e);
    return m && (call<M>(e, *m), true);
  }
  template <class M>
  bool try_elsewhere(envelope* e) {
    M* m = payload_elsewhere<M>(e);
    return m && (call<M>(e, *m), true);
  }

  template <class M>
  void call(envelope* e, M& m) {
    constexpr std::size_t i =
        handler_index<M, std::remove_reference_t<Hs>...>();
    auto& handler = std::get<i>(handlers_);
    fiber& f = main_fiber(*owner);
    using R = result_for<M>;
    if constexpr (is_task<R>::value) {
      child_ = start_handler<M>(call_handler<M>(handler, e, m));
      enter_handler(*owner);
    } else if constexpr (std::is_void_v<R>) {
      call_handler<M>(handler, e, m);
      end_hand<M>(f);
    } else {
      answer_hand<M>(f, call_handler<M>(handler, e, m));
    }
  }

  handler_tuple handlers_;
  std::exception_ptr error_;
  struct nothing {
    explicit operator bool() const noexcept { return false; }
  };
  [[no_unique_address]] std::conditional_t<has_tasks, running_handler, nothing>
      child_;
  bool taken_ = false;
  bool timed_out_ = false;
};

/// `receive()` and `receive<M…>()`: the next message itself.
template <class... Ms>
class [[nodiscard]] take_op : public awaitable_base, private receiver {
 public:
  using value_type = std::conditional_t<sizeof...(Ms) == 1, std::tuple<Ms...>,
                                        std::tuple<std::variant<Ms...>>>;
  using message = std::tuple_element_t<0, value_type>;

  take_op(cell& c, const message_filter* only) noexcept : receiver{c, only} {
    receiver::deliver = [](receiver& r, event what, envelope* e) {
      if (what == event::message) main_fiber(*r.owner).hand = e;
      static_cast<take_op&>(r).taken_ = what == event::message;
      return r.waiter;
    };
  }
  take_op(const take_op&) = delete;
  take_op& operator=(const take_op&) = delete;

  bool await_ready() {
    const poll_result polled = poll(*this);
    if (polled.what == poll_result::message) {
      main_fiber(*owner).hand = polled.found;
      taken_ = true;
    }
    return polled.what != poll_result::wait;
  }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    waiter = frame;
    suspend(*this, frame.promise().current(), duration{-1});
  }
  /// The message; its envelope stays in hand until the next `receive`, so
  /// that it can be answered.
  std::optional<message> await_resume() {
    std::optional<message> value;
    if (!taken_) return value;
    envelope* e = main_fiber(*owner).hand;
    if (!(here<Ms>(e, value) || ...)) (void)(elsewhere<Ms>(e, value) || ...);
    return value;
  }

 private:
  template <class M>
  static bool here(envelope* e, std::optional<message>& to) {
    M* m = payload_here<M>(e);
    return m && (fill(*m, to), true);
  }
  template <class M>
  static bool elsewhere(envelope* e, std::optional<message>& to) {
    M* m = payload_elsewhere<M>(e);
    return m && (fill(*m, to), true);
  }
  template <class M>
  static void fill(M& m, std::optional<message>& to) {
    if constexpr (sizeof...(Ms) == 1)
      to.emplace(std::move(m));
    else
      to.emplace(std::in_place_type<M>, std::move(m));
  }

  bool taken_ = false;
};

/// `until_stop()`: takes no message.
class [[nodiscard]] until_stop_op : public awaitable_base, private receiver {
 public:
  explicit until_stop_op(cell& c) noexcept
      : receiver{c, &message_set<>::filter} {
    receiver::deliver = [](receiver& r, event, envelope*) { return r.waiter; };
  }
  until_stop_op(const until_stop_op&) = delete;
  until_stop_op& operator=(const until_stop_op&) = delete;

  bool await_ready() { return poll(*this).what == poll_result::empty; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    waiter = frame;
    suspend(*this, frame.promise().current(), duration{-1});
  }
  void await_resume() const noexcept {}
};

}  // namespace actors::detail
