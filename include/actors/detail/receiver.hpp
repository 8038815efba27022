/// An actor's wait for messages, as the cell sees it.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>

#include "actors/detail/cell_base.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/detail/fiber.hpp"
#include "actors/message.hpp"

namespace actors::detail {

/// A set of message types; null pointers to it mean "any".
struct message_filter {
  const message_type* const* types;
  std::size_t count;

  bool accepts(const message_type* type) const noexcept {
    for (std::size_t i = 0; i != count; ++i)
      if (same_type(types[i], type)) return true;
    return false;
  }
};

template <class... Ms>
struct message_set {
  static constexpr const message_type* types[sizeof...(Ms) + 1] = {
      &message_tag<Ms>..., nullptr};
  static constexpr message_filter filter{types, sizeof...(Ms)};
};

/// The `cancel` of every receiver.
bool cancel_receive(wait& w, fiber& f, cancellation how) noexcept;

/// The operations that are done by taking a message.
struct receiving {};

enum class receive_event : unsigned char { message, empty, timeout };

struct receiver;

/// What one kind of `receive` is like.
struct receiver_type {
  /// Which messages it takes; null: any.
  const message_filter* filter;
  /// Takes what the wait was for and gives the frame to resume; null when it
  /// wants the next message instead. Strand. Null: a message is put in hand
  /// and the waiter resumed; nothing in hand means that it was no message.
  std::coroutine_handle<> (*deliver)(receiver&, receive_event, envelope*);
  /// Takes message after message, and so is never done by one.
  bool loop = false;
};

/// Suspended in `receive`, `serve` or `until_stop`; lives in the frame.
struct receiver : wait {
  receiver(fiber& f, const receiver_type& t) noexcept : main{&f}, type{&t} {
    cancel = &cancel_receive;
  }

  /// The fiber of the body.
  fiber* main;
  /// The fiber that waits, as `poll` found: the body's, or one of several
  /// operations that the body awaits at once. It has the message in hand. Null
  /// when the wait was cancelled.
  fiber* on = nullptr;
  const receiver_type* type;
};

/// What it has been given; null: no message.
inline envelope* hand_of(const receiver& r) noexcept {
  return r.on ? r.on->hand : nullptr;
}

/// What `receive` finds when it looks before it suspends.
struct poll_result {
  enum kind : unsigned char { message, empty, wait } what;
  envelope* found;
};

/// Looks for a message. Throws `std::logic_error` when called from anything
/// but the actor's own coroutine, `operation_aborted` when what it is in has
/// been told to end, or has lost against another operation. Strand.
poll_result poll(receiver& r);
/// What a wait without a message has come to: throws when it was cancelled,
/// and not by the actor's stop. Strand.
void check_cancelled(receiver& r);
/// Suspends until `deliver` is called; `timeout` negative: none. Strand.
void suspend(receiver& r, duration timeout);
/// A handler that `f` runs in a loop of the runtime's has thrown: the actor
/// fails, and `w` waits to be resumed. `loop`: it is a receiver that the cell
/// feeds. Strand.
void hold(fiber& f, wait& w, std::exception_ptr error, bool loop) noexcept;
/// It waits no more. Strand.
void release(fiber& f, wait& w) noexcept;
/// The handler of the message in hand has thrown: its asker is told, and the
/// message kept for whoever wants to know by what. `whole`: nobody has moved
/// from it. Strand.
void hand_failed(fiber& f, bool whole) noexcept;
/// Ends the message in hand when the exception that is being handled is how an
/// inheriting ask ends because the asker has left, or is about to: no failure
/// then, for nobody waits for what the handler did not come to. False: it is
/// something else. Strand; in a `catch`.
bool end_with_asker(fiber& f) noexcept;
/// The fiber that runs the actor's body.
fiber& main_fiber(cell& c) noexcept;
/// Marks that a coroutine handler runs, which a stop waits for. Strand.
void enter_handler(cell& c) noexcept;
void leave_handler(cell& c) noexcept;

/// The payload, when the envelope carries an `M`: by address of its type.
template <class M>
M* payload_here(envelope* e) noexcept {
  if (e->type == &told<M>::type_of) return &static_cast<told<M>*>(e)->payload;
  if (e->type->message == &message_tag<M>)
    return static_cast<M*>(e->type->payload(e));
  return nullptr;
}
/// As above, for an `M` from another shared library.
template <class M>
M* payload_elsewhere(envelope* e) noexcept {
  if (*e->type->message->info == typeid(M))
    return static_cast<M*>(e->type->payload(e));
  return nullptr;
}

}  // namespace actors::detail
