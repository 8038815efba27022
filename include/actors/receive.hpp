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

#include "actors/child_task.hpp"
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
      reply_to<reply> slot{e->type->take_slot(e)};
      (void)slot.answer(std::move(answer));
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

/// Whether a handler leaves the message where it is.
template <class M, class H>
constexpr bool keeps_message() {
  if constexpr (signature<H>::known)
    return std::is_lvalue_reference_v<
        std::tuple_element_t<0, typename signature<H>::parameters>>;
  else
    return style_of<H, M>() == call_style::lvalue ||
           style_of<H, M>() == call_style::lvalue_slot;
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

/// A `concurrent` handler at work on a message.
template <class M, class H>
struct concurrent_task final : child_task_base {
  concurrent_task(const H& h, M& m) : handler(h), payload{&m} {
    is_handler = true;
    start = [](child_task_base& t) {
      auto& self = static_cast<concurrent_task&>(t);
      self.running = start_handler<M>(
          call_handler<M>(self.handler, self.hand, *self.payload));
      self.whole = keeps_message<M, H>();  // should it be destroyed
      self.begin(*self.running.promise, self.running.frame);
    };
    finish = [](child_task_base& t) noexcept -> std::exception_ptr {
      auto& self = static_cast<concurrent_task&>(t);
      try {
        self.running.finish(self.running, self);
        return nullptr;
      } catch (...) {
        if (end_with_asker(self)) return nullptr;
        hand_failed(self, keeps_message<M, H>());
        return std::current_exception();
      }
    };
    destroy_frame = [](child_task_base& t) noexcept {
      auto& self = static_cast<concurrent_task&>(t);
      if (self.running) std::exchange(self.running.frame, {}).destroy();
    };
    free = [](child_task_base& t) noexcept {
      auto* self = static_cast<concurrent_task*>(&t);
      drop_hand(*self);  // could not be started
      destroy_and_free(self);
    };
  }

  /// The coroutine's frame refers to it.
  H handler;
  M* payload;
  running_handler running;
};

/// `receive(handlers…)`: one message, given to its handler.
///
/// `Selective`: takes the first of the types `Ms`, leaves others. `Loop`: gives
/// message after message without resuming the body; only for handlers that are
/// no coroutines.
template <bool Loop, bool Selective, class Taken, class... Hs>
class receive_op;

template <bool Loop, bool Selective, class... Ms, class... Hs>
class [[nodiscard]] receive_op<Loop, Selective, message_list<Ms...>, Hs...>
    : public awaitable_base, public receiving, private receiver {
  using handler_tuple = std::tuple<Hs&&...>;
  using last_handler = std::remove_cvref_t<
      std::tuple_element_t<sizeof...(Hs) - 1, std::tuple<Hs...>>>;
  static constexpr bool has_after = is_after<last_handler>::value;

  template <class M>
  using handler_for = std::remove_reference_t<std::tuple_element_t<
      handler_index<M, std::remove_reference_t<Hs>...>(), std::tuple<Hs...>>>;
  template <class M>
  using result_for = std::remove_cvref_t<handler_result_t<M, handler_for<M>>>;
  template <class M>
  static constexpr bool concurrent_for =
      is_concurrent<std::remove_cv_t<handler_for<M>>>::value;
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
      ((is_task<result_for<Ms>>::value && !concurrent_for<Ms>) || ...) ||
      after_is_task();
  /// Whether `serve` has to resume a body after each message.
  static constexpr bool needs_body = has_tasks || has_after;

  receive_op(fiber& f, Hs&&... hs) noexcept
      : receiver{f, kind}, handlers_{std::forward<Hs>(hs)...} {}
  /// Only before it has started.
  receive_op(receive_op&&) = default;
  receive_op& operator=(receive_op&&) = delete;
  ~receive_op() requires(has_tasks) {
    if (state_.child) state_.child.frame.destroy();
  }
  ~receive_op() requires(!has_tasks) = default;

  bool await_ready() {
    const poll_result polled = poll(*this);
    if (polled.what != poll_result::message)
      return polled.what == poll_result::empty;
    if constexpr (Loop) {
      // The cell feeds a loop; one message is handled here to start it.
      guarded([&] { handle(polled.found); });
      return false;
    } else if constexpr (has_tasks) {
      state_.taken = true;
      guarded([&] { handle(polled.found); });
      return !state_.child;
    } else {
      on->hand = polled.found;
      return true;
    }
  }

  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    if constexpr (has_tasks) {
      if (state_.child)
        return !state_.child.promise->start_nested(*on, frame,
                                                   state_.child.frame);
    }
    waiter = frame;
    suspend(*this, delay());
    if constexpr (Loop)
      if (state_.error) hold(*on, *this, std::move(state_.error), true);
    return true;
  }

  /// Of one that has thrown: whether a handler has, that was not told to end.
  bool handler_failed() const noexcept {
    if (!on || on->told) return false;
    if constexpr (has_tasks)
      return state_.taken || state_.timed_out;
    else if constexpr (has_after)
      return state_.timed_out || hand_of(*this);
    else
      return true;
  }

  bool await_resume() {
    if constexpr (Loop) {
      check_cancelled(*this);
      return false;
    } else if constexpr (has_tasks) {
      if (state_.error) std::rethrow_exception(std::move(state_.error));
      if (state_.child) finish_child();
      check_cancelled(*this);
      return state_.taken || state_.timed_out;
    } else {
      if (envelope* e = hand_of(*this)) {
        handle(e);
        return true;
      }
      if constexpr (has_after) {
        if (state_.timed_out) {
          handle_timeout();
          return true;
        }
      }
      check_cancelled(*this);
      return false;
    }
  }

 private:
  duration delay() const noexcept {
    if constexpr (has_after)
      return std::get<sizeof...(Hs) - 1>(handlers_).delay();
    else
      return duration{-1};
  }

  static std::coroutine_handle<> on_event(receiver& r, receive_event what,
                                          envelope* e) {
    auto& self = static_cast<receive_op&>(r);
    if constexpr (Loop) {
      if (what == receive_event::empty) return self.waiter;
      self.guarded([&] { self.handle(e); });
      if (self.state_.error)
        hold(*self.on, self, std::move(self.state_.error), true);
      return {};
    } else if constexpr (has_tasks) {
      self.state_.taken = what == receive_event::message;
      self.state_.timed_out = what == receive_event::timeout;
      if (what == receive_event::empty) return self.waiter;
      self.guarded([&] {
        if (e)
          self.handle(e);
        else
          self.handle_timeout();
      });
      if (!self.state_.child) return self.waiter;
      self.state_.child.promise->start_detached(*self.on, self.waiter);
      return self.state_.child.frame;
    } else {
      if constexpr (has_after)
        self.state_.timed_out = what == receive_event::timeout;
      self.on->hand = e;
      return self.waiter;
    }
  }

  /// Keeps an exception for the body.
  template <class F>
  void guarded(F&& f) noexcept {
    try {
      f();
    } catch (...) {
      state_.error = std::current_exception();
    }
  }

  void finish_child() {
    leave_handler(*main->owner);
    try {
      on->whole = false;
      state_.child.finish(state_.child, *on);
    } catch (...) {
      if (end_with_asker(*on)) return;
      if (on->hand) hand_failed(*on, whole(on->hand));
      throw;
    }
  }

  void handle_timeout() {
    if constexpr (has_after) {
      auto& handler = std::get<sizeof...(Hs) - 1>(handlers_).handler();
      if constexpr (after_is_task()) {
        state_.child = start_handler<void>(handler());
        enter_handler(*main->owner);
      } else {
        handler();
      }
    }
  }

  /// Gives the message to its handler. A plain one has run when this returns;
  /// a coroutine is in `child_`, to be started.
  void handle(envelope* e) {
    // Not by `catch` and `throw`, which would cost as much as the throw itself.
    struct when_it_throws {
      fiber& f;
      bool thrown = true;
      ~when_it_throws() {
        if (thrown && f.hand) hand_failed(f, whole(f.hand));
      }
    } guard{*on};
    on->hand = e;
    if constexpr (sizeof...(Ms) == 1)
      (call<Ms>(e, only_payload<Ms>(e)), ...);
    else if (!(try_here<Ms>(e) || ...))
      (void)(try_elsewhere<Ms>(e) || ...);
    guard.thrown = false;
  }
  /// Whether its handler has left the message where it was.
  static bool whole(const envelope* e) noexcept {
    return ((keeps_message<Ms, handler_for<Ms>>() &&
             same_type(e->type->message, &message_tag<Ms>)) ||
            ...);
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
    fiber& f = *on;
    using R = result_for<M>;
    if constexpr (concurrent_for<M>) {
      auto* t = make_node<concurrent_task<M, std::remove_cv_t<handler_for<M>>>>(
          handler, m);
      t->hand = std::exchange(f.hand, nullptr);
      try {
        start_child_task(*f.owner, *t);
      } catch (...) {
        t->release();
        throw;
      }
    } else if constexpr (is_task<R>::value) {
      state_.child = start_handler<M>(call_handler<M>(handler, e, m));
      f.whole = keeps_message<M, handler_for<M>>();  // should it be destroyed
      enter_handler(*main->owner);
    } else if constexpr (std::is_void_v<R>) {
      call_handler<M>(handler, e, m);
      end_hand<M>(f);
    } else {
      answer_hand<M>(f, call_handler<M>(handler, e, m));
    }
  }

  static constexpr receiver_type kind{
      Selective ? &message_set<Ms...>::filter : nullptr,
      Loop || needs_body ? &on_event : nullptr, Loop};

  /// What only some sets of handlers need; the others are trivial, and cost
  /// nothing to make and destroy for each message.
  struct with_tasks {
    running_handler child;
    std::exception_ptr error;
    bool taken = false;
    bool timed_out = false;
  };
  struct loop {
    std::exception_ptr error;
  };
  struct with_timeout {
    bool timed_out = false;
  };
  struct plain {};

  handler_tuple handlers_;
  [[no_unique_address]] std::conditional_t<
      has_tasks, with_tasks,
      std::conditional_t<Loop, loop,
                         std::conditional_t<has_after, with_timeout, plain>>>
      state_;
};

/// `receive()` and `receive<M…>()`: the next message itself.
template <bool Selective, class... Ms>
class [[nodiscard]] take_op : public awaitable_base,
                              public receiving,
                              private receiver {
 public:
  using value_type = std::conditional_t<sizeof...(Ms) == 1, std::tuple<Ms...>,
                                        std::tuple<std::variant<Ms...>>>;
  using message = std::tuple_element_t<0, value_type>;

  explicit take_op(fiber& f) noexcept : receiver{f, kind} {}
  /// Only before it has started.
  take_op(take_op&&) = default;
  take_op& operator=(take_op&&) = delete;

  bool await_ready() {
    const poll_result polled = poll(*this);
    if (polled.what == poll_result::message) on->hand = polled.found;
    return polled.what != poll_result::wait;
  }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    waiter = frame;
    suspend(*this, duration{-1});
  }
  /// The message; its envelope stays in hand until the next `receive`, so
  /// that it can be answered.
  std::optional<message> await_resume() {
    std::optional<message> value;
    envelope* e = hand_of(*this);
    if (!e) {
      check_cancelled(*this);
      return value;
    }
    if (!(here<Ms>(e, value) || ...)) (void)(elsewhere<Ms>(e, value) || ...);
    return value;
  }

 private:
  static constexpr receiver_type kind{
      Selective ? &message_set<Ms...>::filter : nullptr, nullptr};

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
};

/// The wait of a `serve` whose handler has thrown, until the supervisor resumes
/// the actor.
class [[nodiscard]] hold_op : public awaitable_base, private wait {
 public:
  explicit hold_op(std::exception_ptr error) noexcept
      : error_{std::move(error)} {}

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    waiter = frame;
    cancel = [](wait& w, fiber& f, cancellation how) noexcept {
      release(f, w);
      if (how == cancellation::stop)
        static_cast<hold_op&>(w).aborted_ = take_abort(f);
      return true;
    };
    hold(frame.promise().current(), *this, std::move(error_), false);
  }
  void await_resume() {
    if (aborted_) throw_error(operation_aborted());
  }

 protected:
  bool aborted() const noexcept { return aborted_; }

 private:
  std::exception_ptr error_;
  bool aborted_ = false;
};

/// `until_stop()`: takes no message.
class [[nodiscard]] until_stop_op : public awaitable_base, private receiver {
 public:
  explicit until_stop_op(fiber& f) noexcept : receiver{f, kind} {}
  /// Only before it has started.
  until_stop_op(until_stop_op&&) = default;
  until_stop_op& operator=(until_stop_op&&) = delete;

  bool await_ready() { return poll(*this).what == poll_result::empty; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    waiter = frame;
    suspend(*this, duration{-1});
  }
  void await_resume() { check_cancelled(*this); }

 private:
  static constexpr receiver_type kind{&message_set<>::filter, nullptr};
};

}  // namespace actors::detail
