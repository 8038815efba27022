/// Timers of one context: a heap of deadlines behind one alarm.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "actors/detail/envelope.hpp"
#include "actors/message.hpp"

namespace actors::detail {

class cell;
class timer_queue;

/// A year is for ever, and added to a time does not overflow.
constexpr duration longest = std::chrono::hours{24 * 365};

/// A deadline of an actor. Made by `start_timer`; belongs to the actor's
/// strand, but for `due` and `position`, which the queue guards.
struct timer final : system_node {
  time_point due;
  /// Place in the heap, or `fired`.
  std::size_t position = fired;
  timer_queue* queue = nullptr;
  /// Counted.
  cell* owner = nullptr;
  /// Called on the strand, unless cancelled before; null then.
  void (*expire)(cell&, void*) noexcept = nullptr;
  void* argument = nullptr;

  static constexpr std::size_t fired = static_cast<std::size_t>(-1);
};

/// Starts a timer; zero or less fires at the next opportunity. Strand.
timer* start_timer(cell& c, duration delay,
                   void (*expire)(cell&, void*) noexcept, void* argument);
/// As above, at a point of the runtime's time.
timer* start_timer_at(cell& c, time_point due,
                      void (*expire)(cell&, void*) noexcept, void* argument);
/// Ends a timer that has not expired; it is gone then. Strand.
void cancel_timer(timer* t) noexcept;

/// A 4-ary heap. Used by its context's thread alone, or by many threads when
/// `concurrent`.
class timer_queue {
 public:
  explicit timer_queue(bool concurrent) noexcept : concurrent_{concurrent} {}
  timer_queue(const timer_queue&) = delete;
  timer_queue& operator=(const timer_queue&) = delete;

  /// True when `t` is now the earliest.
  bool add(timer* t);
  /// False when it is not in the heap: it fired.
  bool remove(timer* t) noexcept;
  /// Sends each timer that is due to its actor. Gives how many.
  std::size_t fire(time_point now) noexcept;
  /// The earliest deadline; `time_point::max()` when there is none.
  time_point next() const noexcept;

 private:
  struct entry {
    time_point due;
    timer* who;
  };
  class guard;

  void place(std::size_t i, entry e) noexcept {
    heap_[i] = e;
    e.who->position = i;
  }
  void up(std::size_t i) noexcept;
  void down(std::size_t i) noexcept;
  timer* take(std::size_t i) noexcept;

  std::vector<entry> heap_;
  mutable std::mutex mutex_;
  const bool concurrent_;
};

}  // namespace actors::detail
