/// The dispatcher `shared`: any number of threads on one `io_context`, a strand
/// an actor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

/// The one context of a shared system; the `io_context` may be the user's.
class shared_scheduler final : public scheduler {
 public:
  /// `alone`: one thread runs `io`.
  shared_scheduler(system_core& core, net::io_context& io, bool alone)
      : scheduler{core, false, true}, io_{&io}, alone_{alone} {}

  void wake(cell& c, lane_id which) noexcept override;
  net::any_io_executor executor(cell& c) override;
  net::any_io_executor executor() override {
    // A ref may outlive the context.
    if (!io_) return net::system_executor{};
    return io_->get_executor();
  }
  void alarm(time_point due) override;

  /// The `io_context` is going: nothing is posted to it any more.
  void close() noexcept;
  bool runs_here() const noexcept {
    return io_ && io_->get_executor().running_in_this_thread();
  }

 protected:
  void post_run(cell& c) noexcept override;

 private:
  class burst;

  /// Runs a cell that this thread has been given.
  void take_turn(cell& c) noexcept;
  void signal(cell& c, std::uint8_t what) noexcept;
  void post(cell& c) noexcept;
  void rest() noexcept;
  void start_alarm(time_point due);
  void ring();

  net::io_context* io_;
  const bool alone_;
  std::mutex mutex_;
  /// Made when it is first needed: with it the io_context polls its reactor
  /// between any two handlers.
  std::optional<net::steady_timer> alarm_;
  time_point alarm_at_ = time_point::max();
  /// `ring` has been posted.
  bool ringing_ = false;
  /// Whether there may be an alarm to end: a hint, read without the lock.
  std::atomic<bool> armed_{false};
};

/// Threads of the system's own on one `io_context`.
class shared_threads {
 public:
  shared_threads(system_core& core, std::size_t count);

  /// Whose it is, it has to outlive this.
  shared_scheduler* scheduler() noexcept { return scheduler_; }
  /// Throws `std::system_error` when no more threads are to be had; those there
  /// are have to be stopped and joined then.
  void start();
  void stop() noexcept;
  void join() noexcept;
  void close() noexcept;
  bool runs_here() const noexcept {
    return io_.get_executor().running_in_this_thread();
  }

 private:
  system_core* core_;
  const std::size_t count_;
  /// Mutable, because Asio has no const way to an executor.
  mutable closable_context io_;
  net::executor_work_guard<net::io_context::executor_type> work_;
  shared_scheduler* scheduler_;
  std::vector<std::thread> threads_;
};

}  // namespace actors::detail
