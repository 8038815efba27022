/// A thread of a dispatcher, and the context that it alone runs.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

#include "cell.hpp"
#include "recycling_allocator.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

/// A thread and the actors that live on it.
class worker final : public scheduler {
 public:
  worker(system_core& core, bool spins, bool pinned = false)
      : scheduler{core, true, false, pinned},
        io_{1},
        alarm_{io_},
        spins_{spins} {}

  void start() {
    thread_ = std::thread{[this] {
      core().joined();
      loop();
      core().left();
    }};
  }
  /// From another thread, when no wake can come any more.
  void stop() noexcept {
    // After what has been posted before, also by this thread to itself, which
    // comes into the queue later: handlers of questions are owed it.
    net::post(io_, [this] { net::post(io_, [this] { stop_ = true; }); });
  }
  void join() noexcept {
    if (thread_.joinable()) thread_.join();
  }
  /// Destroys what operations of abandoned actors are left.
  void close() noexcept {
    here.home = this;
    io_.close();
    here.home = nullptr;
  }

  void wake(cell& c, lane_id which) noexcept override {
    // `wakes` says which are on their way, `woken_` is a stack of the cells
    // that have any, linked by `next_woken`:
    //   0       the worker is awake and will look
    //   asleep  it sleeps in its io_context: whoever pushes posts to it
    //   a cell  newest first
    if (c.wakes.fetch_or(bit(which), std::memory_order_acq_rel) != 0) return;
    // It may wake by something else, and see the cell, before this posts.
    posting p;
    std::uintptr_t v = woken_.load(std::memory_order_relaxed);
    do {
      if (v == asleep) p.begin(*this);
      c.next_woken = reinterpret_cast<cell*>(v == asleep ? 0 : v);
    } while (!woken_.compare_exchange_weak(
        v, reinterpret_cast<std::uintptr_t>(&c), std::memory_order_acq_rel,
        std::memory_order_relaxed));
    if (v == asleep) net::post(io_, recycled{[] {}});
  }

  net::any_io_executor executor(cell&) override { return executor(); }

  net::any_io_executor executor() override { return io_.get_executor(); }

  void alarm(time_point due) override {
    if (due >= alarm_at_) return;
    if (due <= now()) {
      // Who only gives others their turn needs no timer of the system's.
      if (!std::exchange(ringing_, true))
        net::post(io_, recycled{[this] {
                    ringing_ = false;
                    ring();
                  }});
      return;
    }
    alarm_at_ = due;
    alarm_.expires_at(due);
    alarm_.async_wait(recycled{[this](std::error_code e) {
      if (e) return;  // another alarm has taken its place
      alarm_at_ = time_point::max();
      ring();
    }});
  }

 private:
  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  static constexpr std::uintptr_t asleep = 2;
  /// Turns between two looks at the io_context. A look costs about 300 ns.
  static constexpr int batch = 256;
  /// Looks for a wake before it sleeps, about 10 us: less than a sleep and a
  /// wake cost together.
  static constexpr int spin = 300;

  void loop() noexcept {
    here.home = this;
    const auto work = net::make_work_guard(io_);
    while (!stop_) {
      take_woken();
      for (int i = 0; i != batch; ++i) {
        cell* c = next_ready();
        if (!c) break;
        c->run_queued();
      }
      io_.poll();
      if (stop_ || has_ready() || look()) continue;
      if (!go_to_sleep()) continue;
      io_.run_one();
      wake_up();
    }
    here.home = nullptr;
  }

  void ring() {
    timers().fire(now());
    const time_point next = timers().next();
    if (next != time_point::max()) alarm(next);
  }

  bool look() const noexcept {
    return woken_.load(std::memory_order_acquire) != 0;
  }

  bool go_to_sleep() noexcept {
    if (spins_) {
      for (int i = 0; i != spin; ++i) {
        if (look()) return false;
        pause();
      }
    }
    std::uintptr_t awake = 0;
    return woken_.compare_exchange_strong(awake, asleep,
                                          std::memory_order_acq_rel);
  }
  void wake_up() noexcept {
    std::uintptr_t v = asleep;
    (void)woken_.compare_exchange_strong(v, 0, std::memory_order_acq_rel);
  }

  void take_woken() noexcept {
    if (!look()) return;
    auto* c =
        reinterpret_cast<cell*>(woken_.exchange(0, std::memory_order_acq_rel));
    while (c) {
      cell* next = c->next_woken;  // before others may link it again
      const auto bits = c->wakes.exchange(0, std::memory_order_acq_rel);
      if (bits & bit(lane_id::user)) c->woken(lane_id::user);
      if (bits & bit(lane_id::system)) c->woken(lane_id::system);
      if (!c->queued()) queue(*c);
      c = next;
    }
  }

  static constexpr std::uint8_t bit(lane_id which) noexcept {
    return which == lane_id::user ? 1 : 2;
  }

  closable_context io_;
  net::steady_timer alarm_;
  time_point alarm_at_ = time_point::max();
  /// `ring` has been posted.
  bool ringing_ = false;
  alignas(64) std::atomic<std::uintptr_t> woken_{0};
  bool stop_ = false;
  const bool spins_;
  std::thread thread_;
};

}  // namespace actors::detail
