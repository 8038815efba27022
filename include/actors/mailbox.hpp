/// `mailbox`: how many messages may wait for an actor, and what becomes of one
/// more.
#pragma once

#include <cstddef>
#include <vector>

#include "actors/message.hpp"

namespace actors {

/// What becomes of a message that comes to a full mailbox.
///
/// A message that is dropped is a dead letter, reason `mailbox_full`; where
/// somebody waits for its answer, or for `send`, that one gets
/// `errc::mailbox_full` instead.
enum class overflow : unsigned char {
  /// It is refused.
  fail,
  /// It is dropped, which comes to the same: the words are for the reader.
  drop_newest,
  /// It goes in, and the oldest of those that the limit counts is dropped.
  drop_oldest,
  /// Who awaits `send` or `ask` waits until there is room, in order, and as
  /// long as its timeout; a question that is forwarded waits, too. What is told
  /// cannot wait, and is dropped.
  wait,
};

namespace detail {

struct mailbox_limit {
  /// Null: all.
  const message_type* type;
  std::size_t capacity;
  overflow when_full;
};

}  // namespace detail

/// A kind of mailbox, for `spawn_options`:
/// `{.mailbox = actors::mailbox::bounded(1024, actors::overflow::wait)}`.
///
/// What counts are the messages that wait, also during a restart; not the one
/// in hand, nor those that wait for room. What the runtime itself has to say is
/// exempt: stops, failures, replies, timeouts, and the messages of `watch`. A
/// bounded mailbox has a lock; an unbounded one has none.
class mailbox {
 public:
  /// `unbounded()`.
  mailbox() noexcept = default;

  /// Takes whatever comes: the default. At 10,000 messages, and at each
  /// doubling of that, there is an event, `lifecycle_event::kind::crowded`.
  static mailbox unbounded() noexcept { return {}; }

  /// Takes `capacity` messages, 1 to 1,000,000,000 (`std::invalid_argument`).
  static mailbox bounded(std::size_t capacity, overflow when_full);

  /// The same with a limit of its own for messages of type `M`: `capacity` of
  /// them, 1 to 1,000,000,000. They count for the whole as well. A second limit
  /// for a type: `std::invalid_argument`; so is, at `spawn`, one for a type
  /// that the actor does not take.
  template <message M>
  [[nodiscard]] mailbox limit(std::size_t capacity, overflow when_full) const {
    return with({&detail::message_tag<M>, capacity, when_full});
  }

  /// For the runtime.
  const std::vector<detail::mailbox_limit>& limits() const noexcept {
    return limits_;
  }

 private:
  mailbox with(const detail::mailbox_limit& limit) const;

  std::vector<detail::mailbox_limit> limits_;
};

}  // namespace actors
