/// The mailbox of an actor whose messages are limited, or traced: a queue with
/// a lock, from which a message can also be evicted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <typeinfo>
#include <vector>

#include "actors/detail/envelope.hpp"
#include "actors/error.hpp"
#include "actors/mailbox.hpp"
#include "lane.hpp"

namespace actors::detail {

struct message_filter;

/// A message that waits for room, and for whom: then it is not in the mailbox.
struct mailbox_waiter;

/// What a change of a mailbox leaves to do when the lock is released: whatever
/// runs the code of others, or wakes them.
struct mailbox_rest {
  /// The consumer slept, and is owed a wake.
  bool wakes = false;
  /// The mailbox has grown by some hundred messages.
  bool grown = false;
  queue<envelope> evicted;
  /// They have waited long enough, one way or the other.
  queue<mailbox_waiter> gone;
};

/// All messages of its actor are in here and none in the cell's lane, whose
/// word only says whether the actor sleeps (`lane::nudge`). A push and the end
/// of a sleep are one step under the lock, and so are the last look and the
/// begin of a sleep: a push comes before that look, which finds it, or after,
/// and then it owes the wake. Nothing else than its own memory is touched under
/// the lock.
///
/// Room that comes is given at once to those who wait, oldest first. So who
/// finds room finds nobody waiting for it.
class bounded_mailbox {
 public:
  enum class entered : unsigned char {
    in,
    /// It is kept until there is room.
    waits,
    full,
    closed,
    /// It would wait for who sends it.
    deadlock,
    /// The sender of a `send` has given up.
    left,
  };

  /// `lane`: the cell's, for messages.
  bounded_mailbox(const mailbox& kind, lane<envelope>& lane);
  bounded_mailbox(const bounded_mailbox&) = delete;
  bounded_mailbox& operator=(const bounded_mailbox&) = delete;
  ~bounded_mailbox();

  // --- any thread -----------------------------------------------------------

  /// What comes with the message.
  struct manner {
    /// Of a `send`: when the message is in, `outcome` is `answered`, and it is
    /// the caller's to deliver it.
    ask_state* sender = nullptr;
    /// The runtime's own, which no limit counts and nobody evicts.
    bool exempt = false;
    /// On the consumer's own thread, which needs no wake.
    bool at_home = false;
  };
  /// But for `in` and `waits` the message is still the caller's.
  entered push(envelope* e, const manner& how, mailbox_rest& rest) noexcept;
  /// Nothing more is taken, nor let in.
  void close() noexcept;
  std::size_t size() const noexcept;
  /// Any number of messages may come in.
  bool unlimited() const noexcept { return !total_; }

  // --- the actor's strand ---------------------------------------------------

  /// The first message that `filter` (null: any) takes.
  envelope* take(const message_filter* filter, mailbox_rest& rest) noexcept;
  /// Goes to sleep; false when there is something that `filter` was not asked
  /// about.
  bool sleep(const message_filter* filter) noexcept;
  /// After `close`: those who wait are told that the actor has stopped.
  void send_away(mailbox_rest& rest) noexcept;
  /// After `close`: all that is in it.
  queue<envelope> take_all() noexcept;

  /// Of a traced actor: the message it has taken; null: none.
  const std::type_info* in_hand = nullptr;
  cell_ptr in_hand_from;

 private:
  /// The place of a message in the queue.
  struct slot;

  struct limit {
    mailbox_limit is;
    std::size_t count = 0;
    /// The oldest that it counts.
    slot* oldest = nullptr;
    /// Those who wait: for this limit, or for the whole where their own type
    /// lets nobody wait. In each list the first is let in first.
    queue<mailbox_waiter> waiting;
    std::size_t waiters = 0;
    std::size_t purge_at = 16;

    bool full() const noexcept { return count >= is.capacity; }
  };

  limit* limit_of(const envelope& e) noexcept;
  limit* obstacle(limit* of) noexcept;
  bool counts(const limit& l, const slot& s) const noexcept;
  void insert(envelope* e, limit* of, bool exempt) noexcept;
  envelope* remove(slot& s) noexcept;
  void forget(limit* l, const slot& s) noexcept;
  void add_waiter(envelope* e, ask_state* sender, limit* of,
                  mailbox_rest& rest) noexcept;
  void let_in(mailbox_rest& rest) noexcept;

  mutable std::mutex mutex_;
  lane<envelope>& lane_;
  /// Fixed in number.
  std::vector<limit> limits_;
  /// The one for the whole, or null.
  limit* total_ = nullptr;
  slot* first_ = nullptr;
  slot* last_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t tickets_ = 0;
  bool closed_ = false;
  /// Selective receive: up to `scanned_` there is nothing for `scanned_for_`.
  const message_filter* scanned_for_ = nullptr;
  slot* scanned_ = nullptr;
};

struct mailbox_waiter {
  mailbox_waiter* next = nullptr;
  /// Null: it is in.
  envelope* message = nullptr;
  /// Null: it is a question, which says itself who waits.
  ask_state* sender = nullptr;
  /// Their order.
  std::uint64_t ticket = 0;
  /// Otherwise: what the sender is told, unless it has left.
  errc why = errc::actor_stopped;
  bool left = false;

  /// Tells who waited, and ends the message if it is not in.
  void finish() noexcept;
};

}  // namespace actors::detail
