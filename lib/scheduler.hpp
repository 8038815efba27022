/// What runs cells: one context of a dispatcher.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

#include "actors/message.hpp"
#include "cell.hpp"
#include "net.hpp"
#include "timers.hpp"

namespace actors::detail {

class construction;
class system_core;

/// One `io_context` (or the test's own) on which actors live, and what they
/// need from it. It runs cells and never sees a message.
class scheduler {
 public:
  /// `local`: one thread runs it, and cells wait in its run queue.
  scheduler(system_core& core, bool local, bool concurrent,
            bool pinned = false) noexcept
      : timers_{concurrent}, core_{&core}, local_{local}, pinned_{pinned} {}
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;
  virtual ~scheduler() = default;

  /// Sees to it that `c.wake(which)` and then `c.run()` are called on the
  /// cell's strand, soon. Any thread.
  virtual void wake(cell& c, lane_id which) noexcept = 0;
  /// The strand's executor, for operations of Asio.
  virtual net::any_io_executor executor(cell& c) = 0;
  /// The context's own executor, which is no actor's strand with `shared`.
  virtual net::any_io_executor executor() = 0;
  /// Sees to it that `timers().fire()` is called at `due`.
  virtual void alarm(time_point due) = 0;

  virtual time_point now() const noexcept;
  /// `now() + delay`; never early, and late by a tick of the coarse clock at
  /// the most where that is less than 4 % of the delay: it is read in 6 ns,
  /// the fine one in 25.
  virtual time_point deadline(duration delay) const noexcept;

  /// Runs the cell again after the others that are ready. Strand.
  void queue(cell& c) noexcept { queue(c, ready_); }
  /// As above, for a cell whose turn ended before its messages. Half of the
  /// turns are for those: with one turn in a hundred, the mailbox of an actor
  /// that a hundred others send to would grow without end.
  void queue_busy(cell& c) noexcept {
    if (local_) busy_next_ = true;  // and so the next turn is the others'
    queue(c, busy_);
  }

  timer_queue& timers() noexcept { return timers_; }
  system_core& core() const noexcept { return *core_; }

  /// Of `dispatcher::pinned`: a thread for one actor and those beside it.
  bool pinned() const noexcept { return pinned_; }
  /// For a pinned one: how many cells live here. It is for others when the last
  /// one has ended; so only while another cell lives here, or by who has just
  /// been given it.
  void add_cell() noexcept { cells_.fetch_add(1, std::memory_order_relaxed); }
  /// A cell has ended, and never runs again. True when it was the last.
  bool remove_cell() noexcept {
    return cells_.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }

  /// After the end of its own threads: until others are out of it, too.
  void wait_for_posts() const noexcept {
    while (posting_.load(std::memory_order_acquire) != 0)
      std::this_thread::yield();
  }

 protected:
  virtual void post_run(cell&) noexcept {}

  /// Held by a thread, of another system perhaps, that wakes a cell here: from
  /// before the cell can be seen to be woken until the thread is out of the
  /// io_context. The cell may have run by then, and with it the system ended.
  class posting {
   public:
    posting() = default;
    posting(const posting&) = delete;
    posting& operator=(const posting&) = delete;
    ~posting() {
      if (to_) to_->posting_.fetch_sub(1, std::memory_order_release);
    }
    void begin(scheduler& to) noexcept {
      if (to_) return;
      to_ = &to;
      to.posting_.fetch_add(1, std::memory_order_relaxed);
    }

   private:
    scheduler* to_ = nullptr;
  };

  /// `local`: a cell that is to have its turn; null: none.
  cell* next_ready() noexcept {
    busy_next_ = !busy_next_;
    const bool busy = !busy_.empty() && (busy_next_ || ready_.empty());
    return static_cast<cell*>(busy ? busy_.pop() : ready_.pop());
  }
  bool has_ready() const noexcept { return !ready_.empty() || !busy_.empty(); }

 private:
  using cells = actors::detail::queue<system_node>;
  void queue(cell& c, cells& where) noexcept {
    if (c.queued_) return;
    c.queued_ = true;
    if (local_)
      where.push(&c);
    else
      post_run(c);
  }

  cells ready_;
  cells busy_;
  /// `local`: the last turn was a busy cell's, if there was one.
  bool busy_next_ = false;
  timer_queue timers_;
  std::atomic<std::uint32_t> posting_{0};
  system_core* core_;
  const bool local_;
  const bool pinned_;
  std::atomic<std::uint32_t> cells_{0};
};

/// What the calling thread is doing for the runtime.
struct thread_state {
  /// The context whose cells this thread alone runs, or null.
  scheduler* home = nullptr;
  /// The fiber of the cell that runs, if it is not the body's.
  child_fiber* task = nullptr;
  /// A handler of Asio runs in the cell's turn, and no fiber has been resumed
  /// by it.
  bool at_top = false;
  /// Messages for actors of other threads that had some already.
  std::uint32_t pushes = 0;
  /// The object of an actor that is being constructed, or null.
  construction* constructing = nullptr;
  /// The cell that runs on it now, or null, and how many turns there have been.
  /// Written by this thread, read by who waits for the system's end.
  std::atomic<cell*> current{nullptr};
  std::atomic<std::uint32_t> turns{0};

  cell* running() const noexcept {
    return current.load(std::memory_order_relaxed);
  }
};
inline constinit thread_local thread_state here{};

/// Marks which cell runs on this thread.
class cell::turn {
 public:
  explicit turn(cell& c) noexcept : before_{here.running()} {
    here.current.store(&c, std::memory_order_release);
    here.turns.store(here.turns.load(std::memory_order_relaxed) + 1,
                     std::memory_order_relaxed);
  }
  turn(const turn&) = delete;
  turn& operator=(const turn&) = delete;
  ~turn() { here.current.store(before_, std::memory_order_release); }

 private:
  cell* before_;
};

}  // namespace actors::detail
