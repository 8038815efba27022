/// `reply_to<T>`: the reply slot of a question, for one who answers later.
#pragma once

#include <exception>
#include <system_error>
#include <type_traits>
#include <utility>

#include "actors/detail/envelope.hpp"
#include "actors/result.hpp"

namespace actors {

namespace detail {
/// `actor_failed` when an exception is what drops a slot, else `no_reply`.
errc why_dropped() noexcept;
}  // namespace detail

/// The right and duty to answer one question, apart from its handler.
///
/// A handler takes it as its second parameter: `[&](query q,
/// actors::reply_to<answer> reply) { … }`. It is move-only, may be kept or
/// sent on and used from any thread, by one at a time. Dropped unanswered, it
/// tells the asker `errc::no_reply`, or `errc::actor_failed` when an exception
/// dropped it. Empty when the question was told, not asked.
template <class T>
class [[nodiscard]] reply_to {
 public:
  /// Empty.
  reply_to() noexcept = default;
  /// Takes the slot over; `other` is empty then.
  reply_to(reply_to&& other) noexcept
      : state_{std::exchange(other.state_, nullptr)} {}
  /// Exchanges the slots.
  reply_to& operator=(reply_to&& other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~reply_to() {
    if (state_) answer(result<T>{detail::why_dropped()});
  }

  /// Answers. True when the asker gets it; false, and `value` untouched, when
  /// the asker has gone or the slot is empty. The slot is empty afterwards.
  template <class U = T>
  requires(!std::is_void_v<U> && std::is_same_v<U, T>) bool reply(U&& value) {
    if (!listening()) return false;
    // A move that throws leaves the question open.
    ::new (static_cast<void*>(&state_->value)) result<T>(std::move(value));
    auto* s = std::exchange(state_, nullptr);
    s->has_value = true;
    if (!s->win()) {
      // The asker left between the check and the exchange.
      value = std::move(*s->value);
      s->leave();
      return false;
    }
    s->deliver(*s);
    return true;
  }
  template <class U>
  requires(!std::is_void_v<T> && std::is_convertible_v<U&&, T> &&
           !std::is_same_v<U, T>) bool reply(U&& value) {
    if (!listening()) return false;
    T converted(std::forward<U>(value));
    return reply(std::move(converted));
  }
  /// Answers a question whose reply is `void`.
  bool reply() requires std::is_void_v<T> { return answer(result<T>{}); }

  /// Answers with an error; the actor that does it is well. True when the
  /// asker gets it.
  bool fail(std::error_code error) { return answer(result<T>{error}); }
  bool fail(std::exception_ptr error) {
    return answer(result<T>{std::move(error)});
  }

  /// Whether the asker has gone: timed out, cancelled, ended.
  bool cancelled() const noexcept { return state_ && state_->gone(); }
  /// Whether there is somebody to answer.
  explicit operator bool() const noexcept { return state_ != nullptr; }

  /// For the runtime: takes over the slot.
  explicit reply_to(detail::ask_state* slot) noexcept
      : state_{static_cast<detail::reply_state<T>*>(slot)} {}
  /// For the runtime: answers with either. A move that throws leaves the
  /// question open.
  bool answer(result<T>&& how) {
    if (!state_) return false;
    const bool taken = state_->answer(std::move(how));
    state_ = nullptr;
    return taken;
  }

 private:
  bool listening() noexcept {
    if (!state_) return false;
    if (!cancelled()) return true;
    std::exchange(state_, nullptr)->leave();
    return false;
  }

  detail::reply_state<T>* state_ = nullptr;
};

}  // namespace actors
