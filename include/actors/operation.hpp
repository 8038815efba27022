/// `operation<T>`: something that waits for an actor, started when it is used.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "actors/detail/envelope.hpp"
#include "actors/detail/fiber.hpp"
#include "actors/error.hpp"
#include "actors/message.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"

namespace actors {

/// Names, in a compile error, the header that an operation needs for `token`.
template <class Token>
struct completion_token_needs_actors_asio_hpp;
/// Says, in a compile error, how an `asio::awaitable` of an Asio that awaits
/// nothing without a token awaits `Op`: `co_await op(asio::use_awaitable)`.
template <class Op>
struct give_asio_use_awaitable_to_await_in_an_asio_awaitable;

namespace detail {

struct timer;

/// Defined by <actors/asio.hpp>: starts an operation with a token.
template <class Op, class Token>
struct token_bridge;

template <class Op, class Token>
concept token_bridged = requires {
  sizeof(token_bridge<Op, Token>);
};

/// No token. With a pointer to their own promise, Asio's coroutines find out
/// whether what they await is a function of theirs.
template <class Token>
concept object_pointer =
    std::is_pointer_v<Token> && std::is_object_v<std::remove_pointer_t<Token>>;

template <class Op, class Promise>
concept awaited_with_token_only =
    !token_bridged<Op, Promise*> || token_bridge<Op, Promise*>::needs_token;

/// The part of an operation that does not depend on its value. While an actor
/// waits for it, everything in it belongs to that actor's strand.
class operation_base : public awaitable_base, private detail::wait {
 public:
  static constexpr duration no_timeout = duration{-1};

  operation_base(cell_ptr target, ask_state* state) noexcept
      : target_{std::move(target)}, state_{state} {}
  operation_base(operation_base&& other) noexcept
      : target_{std::move(other.target_)},
        state_{std::exchange(other.state_, nullptr)},
        timeout_{other.timeout_},
        outcome_{other.outcome_},
        shielded_{other.shielded_} {}
  operation_base& operator=(operation_base&&) = delete;
  ~operation_base() {
    if (on_behalf_) [[unlikely]]
      disinherit();
    if (state_) state_->leave();
  }

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    return start(frame.promise().current(), frame);
  }

  /// For whoever starts it without a task: target, state and timeout are the
  /// caller's then.
  cell_ptr& target() noexcept { return target_; }
  ask_state* detach() noexcept { return std::exchange(state_, nullptr); }
  duration timeout() const noexcept { return timeout_; }
  /// Of a message in hand, when it starts.
  void inherit_nothing() noexcept { shielded_ = true; }

 protected:
  enum class outcome : std::uint8_t {
    none,
    /// The answer is in the state.
    answered,
    /// One of `errc`, in `error_`.
    error,
    aborted,
  };

  void set_timeout(duration timeout);
  outcome how() const noexcept { return outcome_; }
  errc why() const noexcept { return error_; }
  ask_state* state() const noexcept { return state_; }
  /// Blocks the calling thread until the end.
  void block();

 private:
  friend struct operation_access;
  friend struct ask_state;

  bool start(fiber& f, std::coroutine_handle<> frame);
  static void arrive(cell& c, system_node& n) noexcept;
  static void expire(cell& c, void* op) noexcept;
  static bool cancel_wait(wait& w, fiber& f, cancellation how) noexcept;
  bool deadlocks(cell& c, fiber& f);
  bool inherit(cell& c, const fiber& f) noexcept;
  void disinherit() noexcept;
  static void asker_left(cell& c, system_node& n) noexcept;
  bool abandon(std::uint8_t how) noexcept;
  void finish(cell& c) noexcept;
  bool refuse(errc why) noexcept;
  bool refuse(std::exception_ptr why) noexcept;

  cell_ptr target_;
  ask_state* state_;
  duration timeout_ = no_timeout;
  fiber* fiber_ = nullptr;
  timer* timer_ = nullptr;
  /// The question that it inherits from, while it waits; the others that do.
  ask_state* on_behalf_ = nullptr;
  operation_base* next_heir_ = nullptr;
  operation_base* previous_heir_ = nullptr;
  errc error_{};
  outcome outcome_ = outcome::none;
  bool shielded_ = false;
};

}  // namespace detail

/// A request to an actor that has not been sent yet: what `ref.ask(…)`,
/// `ref.started()` and `ref.stopped()` give.
///
/// Use it once, in one of these ways:
/// - `co_await op` in an `actors::task`; throws `actor_error`,
///   `std::system_error` with `operation_aborted` when the waiting actor is
///   stopped, or the exception that the reply was failed with. Errors come as
///   a value from `co_await as_result(op)`.
/// - `op.get()` on a plain thread, which blocks.
/// - `std::move(op)(token)` with any Asio completion token, after `#include
///   <actors/asio.hpp>`; signature `void(std::error_code, T)`.
///
/// It ends exactly once, whatever becomes of the actor. Dropping it unused
/// sends nothing. An ask or a `send` awaited while a question is in hand ends
/// with that one's asker: see `context::deadline` and `shield`. Move-only.
template <class T>
class [[nodiscard]] operation : public detail::operation_base {
 public:
  /// What it gives.
  using value_type = T;

  /// For the runtime.
  operation(detail::cell_ptr target, detail::reply_state<T>* state) noexcept
      : operation_base{std::move(target), state} {}
  operation(operation&&) noexcept = default;

  /// Gives up after `timeout` (not negative: `std::invalid_argument`) with
  /// `errc::timed_out`. The earlier call's timeout is replaced.
  operation&& within(duration timeout) && {
    set_timeout(timeout);
    return std::move(*this);
  }

  /// Blocks the calling thread until the end and gives the value or throws.
  /// On a thread of the runtime: `errc::would_deadlock`, at once.
  T get() && {
    block();
    return take().value();
  }
  /// As above; the timeout is counted by the waiting thread, and may not be
  /// negative (`std::invalid_argument`).
  T get(duration timeout) && {
    set_timeout(timeout);
    return std::move(*this).get();
  }
  /// The same for an operation with a name.
  T get() & { return std::move(*this).get(); }
  /// As above.
  T get(duration timeout) & { return std::move(*this).get(timeout); }

  /// Starts it with an Asio completion token; signature `void(std::error_code,
  /// T)`, where an error comes with an empty `T`, which therefore has to be
  /// default constructible. The handler runs on its associated executor, by
  /// default on a thread of the system, never on an actor's strand; its
  /// cancellation slot, emitted there, ends it with `operation_aborted`. Any
  /// thread.
  template <class Token>
  requires(!detail::object_pointer<std::decay_t<Token>>) decltype(auto)
  operator()(Token&& token) && {
    using token_type = std::decay_t<Token>;
    if constexpr (detail::token_bridged<operation, token_type>)
      return detail::token_bridge<operation, token_type>::start(
          std::move(*this), std::forward<Token>(token));
    else {
      (void)sizeof(completion_token_needs_actors_asio_hpp<token_type>);
      return detail::anything{};
    }
  }

  /// Nothing but an error that can be read, where an `asio::awaitable` cannot
  /// await it without a token.
  template <class Promise>
  requires(std::is_object_v<Promise>&&
               detail::awaited_with_token_only<operation, Promise>) auto
  operator()(Promise*) && {
    if constexpr (detail::token_bridged<operation, Promise*>)
      (void)sizeof(
          give_asio_use_awaitable_to_await_in_an_asio_awaitable<operation>);
    else
      (void)sizeof(completion_token_needs_actors_asio_hpp<Promise*>);
  }

  T await_resume() { return take().value(); }

  /// How it ended, without throwing; what `as_result` awaits. Once.
  result<T> take() {
    switch (how()) {
      case outcome::answered:
        return std::move(static_cast<detail::reply_state<T>*>(state())->value);
      case outcome::aborted:
        return detail::operation_aborted();
      default:
        return why();
    }
  }
};

/// Awaits `op`, an operation or a `task`, and gives its end as a `result`
/// instead of throwing: `auto r = co_await as_result(ref.ask<query>());`. Of a
/// child task: `as_result(t.join())`.
template <class Op>
class [[nodiscard]] as_result : public detail::awaitable_base {
 public:
  using value_type = typename Op::value_type;

  explicit as_result(Op&& op) : op_{std::move(op)} {}

  bool await_ready() { return op_.await_ready(); }
  template <class Promise>
  auto await_suspend(std::coroutine_handle<Promise> frame) {
    return op_.await_suspend(frame);
  }
  result<value_type> await_resume() { return op_.take(); }

 private:
  Op op_;
};

template <class Op>
as_result(Op&&) -> as_result<std::remove_cvref_t<Op>>;

/// Of a `task<T>`.
template <class T>
class [[nodiscard]] as_result<task<T>> : public detail::awaitable_base {
 public:
  using value_type = T;

  explicit as_result(task<T>&& t) : task_{std::move(t)} {}

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    return detail::task_awaiter<T>{task_}.await_suspend(frame);
  }
  result<T> await_resume() {
    detail::task_awaiter<T> ended{task_};
    try {
      if constexpr (std::is_void_v<T>) {
        ended.await_resume();
        return {};
      } else {
        return ended.await_resume();
      }
    } catch (...) {
      return std::current_exception();
    }
  }

 private:
  task<T> task_;
};

/// After a compile error.
template <>
class as_result<detail::anything> : public detail::anything {
 public:
  explicit as_result(const detail::anything&) {}
  result<detail::anything> await_resume() noexcept;
};

}  // namespace actors
