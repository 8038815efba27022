/// One lock-free lane of a mailbox: many producers, one consumer.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace actors::detail {

/// A stack of nodes (`node->next`) that producers push to and the consumer
/// takes whole and turns round (Treiber, "Systems programming: coping with
/// parallelism", 1986). One word says everything, so that each question has
/// one answer at one moment:
///
///   0                 empty, the consumer is awake and will look again
///   asleep            empty, the consumer sleeps: who pushes owes one wake
///   node              messages, newest first; a wake is not needed or owed
///   closed [+ any]    nothing more is taken; what was in it still is
///
///   producer   0 | asleep | node  -> node      (CAS; closed: refused)
///              asleep             -> 0         (nudge; the message is
///              elsewhere)
///   consumer   node               -> 0         (take_all)
///              0                  -> asleep    (sleep; fails on node, and
///                                               not while a wake is owed)
///              any                -> + closed  (close)
///
/// A wake that is owed is sent by the producer *after* its push, so the
/// consumer may already have seen the message; it must not end its life before
/// the wake has come. `owes()` tells: it was asleep, and now it is not.
template <class Node>
class lane {
 public:
  enum class pushed : unsigned char { quietly, owing_a_wake, refused };

  pushed push(Node* n) noexcept {
    std::uintptr_t v = word_.load(std::memory_order_acquire);
    for (;;) {
      if (v & closed_bit) return pushed::refused;
      n->next = pointer(v);
      // Release publishes the node; acquire orders the wake after the sleep.
      if (word_.compare_exchange_weak(v, reinterpret_cast<std::uintptr_t>(n),
                                      std::memory_order_acq_rel,
                                      std::memory_order_acquire))
        return v & asleep_bit ? pushed::owing_a_wake : pushed::quietly;
    }
  }

  /// A producer whose message is not in here, while nobody closes the lane and
  /// the consumer does not go to sleep: has it look. True: it slept, and is
  /// owed a wake.
  bool nudge() noexcept {
    std::uintptr_t v = word_.load(std::memory_order_relaxed);
    while (v & asleep_bit)
      if (word_.compare_exchange_weak(v, v & ~asleep_bit,
                                      std::memory_order_acq_rel,
                                      std::memory_order_relaxed))
        return true;
    return false;
  }

  Node* take_all(Node*& last) noexcept {
    std::uint32_t count;
    return take_all(last, count);
  }
  /// Consumer: all nodes, oldest first; `last` is the newest, `count` how many.
  Node* take_all(Node*& last, std::uint32_t& count) noexcept {
    count = 0;
    if (!has_nodes()) return nullptr;
    std::uintptr_t v = word_.fetch_and(closed_bit, std::memory_order_acq_rel);
    Node* newest = pointer(v);
    last = newest;
    Node* list = nullptr;
    while (newest) {
      Node* older = newest->next;
      newest->next = list;
      list = newest;
      newest = older;
      ++count;
    }
    return list;
  }

  /// Consumer: goes to sleep; false when there is something to take.
  bool sleep() noexcept {
    std::uintptr_t v = word_.load(std::memory_order_relaxed);
    for (;;) {
      if (pointer(v)) return false;
      // With a wake on its way the consumer is as good as asleep, and looks
      // again when it comes. Were it to say `asleep` now, a second producer
      // would owe a second wake, and `owes` would not know of the first.
      if ((v & asleep_bit) || slept_) return true;
      if (word_.compare_exchange_weak(v, v | asleep_bit,
                                      std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
        slept_ = true;
        return true;
      }
    }
  }
  /// Consumer, before there are producers: a wake is on its way.
  void expect_wake() noexcept { slept_ = true; }
  /// Consumer: the wake that was owed has come.
  void woken() noexcept { slept_ = false; }
  /// Consumer: a wake is on its way.
  bool owes() const noexcept {
    return slept_ && !(word_.load(std::memory_order_acquire) & asleep_bit);
  }

  /// Any thread: nothing more is taken.
  void close() noexcept {
    word_.fetch_or(closed_bit, std::memory_order_acq_rel);
  }
  /// Consumer: closes if there is nothing in it and nothing owed.
  bool close_if_empty() noexcept {
    if (owes()) return false;
    std::uintptr_t v = word_.load(std::memory_order_relaxed);
    if (v & closed_bit) return !pointer(v);
    if (pointer(v)) return false;
    // Fails when a producer came first; its wake, if it owes one, will come.
    return word_.compare_exchange_strong(v, v | closed_bit,
                                         std::memory_order_acq_rel);
  }

  /// Empty, open, and its consumer asleep.
  bool asleep() const noexcept {
    return word_.load(std::memory_order_relaxed) == asleep_bit;
  }
  bool closed() const noexcept {
    return word_.load(std::memory_order_acquire) & closed_bit;
  }
  bool has_nodes() const noexcept {
    return pointer(word_.load(std::memory_order_acquire)) != nullptr;
  }
  /// Open, and a producer of the consumer's thread may overtake nobody.
  bool passable() const noexcept {
    return (word_.load(std::memory_order_acquire) & ~asleep_bit) == 0;
  }

 private:
  static constexpr std::uintptr_t asleep_bit = 1;
  static constexpr std::uintptr_t closed_bit = 2;
  static Node* pointer(std::uintptr_t v) noexcept {
    return reinterpret_cast<Node*>(v & ~(asleep_bit | closed_bit));
  }

  std::atomic<std::uintptr_t> word_{0};
  /// Consumer only: it went to sleep and no wake has come since.
  bool slept_ = false;
};

/// A first-in-first-out list with one user.
template <class Node>
class queue {
 public:
  bool empty() const noexcept { return !head_; }
  Node* front() const noexcept { return head_; }
  void push(Node* n) noexcept {
    n->next = nullptr;
    append(n, n);
  }
  void append(Node* first, Node* last) noexcept {
    (head_ ? tail_->next : head_) = first;
    tail_ = last;
  }
  Node* pop() noexcept {
    Node* n = head_;
    if (n) head_ = n->next;
    return n;
  }
  /// Removes `n`, which follows `before` (null: it is the first).
  void unlink(Node* before, Node* n) noexcept {
    (before ? before->next : head_) = n->next;
    if (tail_ == n) tail_ = before;
  }

 private:
  Node* head_ = nullptr;
  Node* tail_ = nullptr;
};

}  // namespace actors::detail
