/// `timer_handle`: what `send_after` and `send_every` give.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "actors/detail/envelope.hpp"
#include "actors/fwd.hpp"
#include "actors/message.hpp"

namespace actors {

/// Names, in a compile error, a message of `send_after` or `send_every` that
/// the actor does not declare.
template <class M>
struct timer_sends_undeclared_message;
/// Names, in a compile error, a message of `send_every` that cannot be copied.
template <class M>
struct send_every_copies_its_message;

namespace detail {

/// A message that is to come. It belongs to its actor's strand, and to the
/// handle.
struct timed_message {
  timed_message(duration every, envelope* (*make_one)(timed_message&),
                void (*destroy)(timed_message&) noexcept) noexcept
      : period{every}, make{make_one}, free{destroy} {}
  timed_message(const timed_message&) = delete;
  timed_message& operator=(const timed_message&) = delete;

  /// Whose it is; not counted, and only compared by the handle.
  cell* owner = nullptr;
  /// Null: it is over.
  timer* running = nullptr;
  /// In its actor's list.
  timed_message* next = nullptr;
  timed_message* previous = nullptr;
  time_point due{};
  /// Zero: once.
  const duration period;
  /// Makes the message for the mailbox.
  envelope* (*const make)(timed_message&);
  /// Destroys and frees.
  void (*const free)(timed_message&) noexcept;
  /// The actor, while it is to come; the handle, which may be dropped on any
  /// thread.
  std::atomic<std::uint32_t> refs{2};

  void release() noexcept {
    if (refs.fetch_sub(1, std::memory_order_acq_rel) == 1) free(*this);
  }

 protected:
  ~timed_message() = default;
};

template <class M>
struct message_once final : timed_message {
  template <class... Args>
  explicit message_once(Args&&... args)
      : timed_message{{}, &give, &end},
        message{make_node<told<M>>(std::forward<Args>(args)...)} {}
  ~message_once() {
    if (message) told<M>::drop(message, errc::no_reply);
  }

  static envelope* give(timed_message& t) {
    return std::exchange(static_cast<message_once&>(t).message, nullptr);
  }
  static void end(timed_message& t) noexcept {
    destroy_and_free(static_cast<message_once*>(&t));
  }

  told<M>* message;
};

template <class M>
struct message_every final : timed_message {
  template <class... Args>
  explicit message_every(duration every, Args&&... args)
      : timed_message{every, &copy, &end},
        message(std::forward<Args>(args)...) {}

  static envelope* copy(timed_message& t) {
    return make_node<told<M>>(
        std::as_const(static_cast<message_every&>(t).message));
  }
  static void end(timed_message& t) noexcept {
    destroy_and_free(static_cast<message_every*>(&t));
  }

  M message;
};

/// Takes the node over, and starts it: after `delay`, or after its period.
/// Throws `actor_stopped` when the actor takes no messages any more. Strand.
void start_timed(cell& c, timed_message& m, duration delay);
/// `timer_handle::cancel`
bool cancel_timed(timed_message& m);
/// Of a `delay` below zero, or a period that is not above: throws
/// `std::invalid_argument`.
void check_delay(duration delay);
void check_period(duration period);

}  // namespace detail

/// A message that an actor has sent itself for later, and may still take back.
/// Dropping the handle does not cancel it. Move-only; it belongs to the
/// actor's strand.
class timer_handle {
 public:
  /// Of no message.
  timer_handle() noexcept = default;
  timer_handle(timer_handle&& other) noexcept
      : message_{std::exchange(other.message_, nullptr)} {}
  timer_handle& operator=(timer_handle other) noexcept {
    std::swap(message_, other.message_);
    return *this;
  }
  ~timer_handle() {
    if (message_) message_->release();
  }

  /// Sees to it that no message comes any more. True when one would have come;
  /// false when it has gone already: it is in the mailbox, or was, or the actor
  /// has been restarted since. Anywhere but in the actor's own coroutines:
  /// `std::logic_error`.
  bool cancel() { return message_ && detail::cancel_timed(*message_); }

  /// For the runtime.
  explicit timer_handle(detail::timed_message& m) noexcept : message_{&m} {}

 private:
  detail::timed_message* message_ = nullptr;
};

}  // namespace actors
