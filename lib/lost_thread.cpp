/// The end of a system one of whose threads does not come back.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cell.hpp"
#include "net.hpp"
#include "offload.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

// How a thread is known to be lost, while the system is asked to end: an
// actor's turn, which ends after so and so many messages, has lasted longer
// than a stop and a kill may take together; or, in a handler that is no
// actor's, nothing that is posted is run for as long, and no actor has a turn
// either.
//
// Whoever waits for the end reads which cell holds the thread. The cell is
// there as long as its turn; should the turn end just now, then its memory does
// not go before the lock does (`before_memory_goes`): that the lock is to be
// taken has been known since the watch began, long before.
class system_core::watch {
 public:
  watch(system_core& core, duration limit) : core_{core}, limit_{limit} {
    const auto now = clock::now();
    for (const thread_state* t : core.threads_)
      threads_.push_back({t, t->turns.load(std::memory_order_relaxed), now});
    core.each_context([this](scheduler& s) { pings_.push_back({&s}); });
  }
  /// What is wrong; nothing while nothing is. Under the system's lock.
  std::string look() {
    const auto now = clock::now();
    // A pinned actor may have come with a thread of its own.
    for (auto t = core_.threads_.rbegin(); t != core_.threads_.rend(); ++t) {
      const auto known = [t](const observed& o) { return o.thread == *t; };
      if (std::any_of(threads_.begin(), threads_.end(), known)) break;
      threads_.push_back(
          {*t, (*t)->turns.load(std::memory_order_relaxed), now});
    }
    for (observed& o : threads_) {
      const auto end = core_.threads_.end();
      if (std::find(core_.threads_.begin(), end, o.thread) == end) continue;
      cell* const c = o.thread->current.load(std::memory_order_acquire);
      const auto turns = o.thread->turns.load(std::memory_order_relaxed);
      if (turns != o.turns) last_turn_ = now;
      if (!c || turns != o.turns) {
        o.turns = turns;
        o.since = now;
      } else if (now - o.since >= limit_) {
        return c->path() + " does not come back from its code";
      }
    }
    for (ping& p : pings_) {
      if (!p.answered || p.answered->load(std::memory_order_acquire)) {
        p.answered = std::make_shared<std::atomic<bool>>(false);
        p.since = now;
        net::post(p.to->executor(), [answered = p.answered] {
          answered->store(true, std::memory_order_release);
        });
      } else if (now - std::max(p.since, last_turn_) >= limit_) {
        return "a handler does not come back";
      }
    }
    return {};
  }

 private:
  using clock = std::chrono::steady_clock;
  struct observed {
    const thread_state* thread;
    std::uint32_t turns;
    clock::time_point since;
  };
  struct ping {
    scheduler* to;
    std::shared_ptr<std::atomic<bool>> answered = {};
    clock::time_point since = {};
  };

  system_core& core_;
  const duration limit_;
  std::vector<observed> threads_;
  std::vector<ping> pings_;
  clock::time_point last_turn_ = clock::now();
};

bool system_core::wait_until_ended_or_lost() noexcept {
  const duration limit = std::min(options_.stop_timeout, longest) +
                         std::min(kill_timeout(), longest);
  const duration interval = std::clamp<duration>(
      limit / 8, std::chrono::milliseconds{10}, std::chrono::milliseconds{250});
  const auto over = [&] { return ended_ || lost_; };

  std::unique_lock lock{mutex_};
  ended_changed_.wait(lock, [&] { return over() || stopping_; });
  if (over()) return ended_;
  watching_.store(true, std::memory_order_relaxed);
  watch w{*this, limit};
  while (!ended_changed_.wait_for(lock, interval, over)) {
    const std::string wrong = w.look();
    if (wrong.empty()) continue;
    lost_ = true;
    ended_changed_.notify_all();
    lock.unlock();
    log(wrong + " and holds a thread: the system ends without it");
    return false;
  }
  return ended_;
}

bool system_core::stop_threads() noexcept {
  lock_out();
  ask_threads_to_stop();
  std::unique_lock lock{mutex_};
  if (ended_changed_.wait_for(lock, std::min(kill_timeout(), longest),
                              [&] { return threads_.empty(); })) {
    lock.unlock();
    // Of an actor that was abandoned: it ends frames that know the contexts.
    if (!offloads_ || offloads_->idle_within(std::min(kill_timeout(), longest)))
      return true;
    log("the system ends without an offloaded function that has not returned");
    return false;
  }
  const std::size_t left = threads_.size();
  lock.unlock();
  log("the system ends without " + std::to_string(left) +
      (left == 1 ? " thread that does" : " threads that do") +
      " not come back from a handler");
  return false;
}

}  // namespace actors::detail
