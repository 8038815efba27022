/// The dispatcher `manual` and the system on it: what a simulation drives.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "actors/testing.hpp"
#include "cell.hpp"
#include "net.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014): the same numbers on every platform.
class seeded_choice {
 public:
  explicit seeded_choice(std::uint64_t seed) noexcept : state_{seed} {}
  /// 0 to `n - 1`.
  std::size_t operator()(std::size_t n) noexcept {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<std::size_t>((z ^ (z >> 31)) % n);
  }

 private:
  std::uint64_t state_;
};

/// A context of the test's own. At each step the seed picks among all that
/// could happen: a wake that arrives, a cell that has its turn, due timers, a
/// completion of I/O.
///
/// A turn runs either as on the thread of the actors it tells, so that its
/// messages go through the local lanes, or as on another thread, so that they
/// go through the lock-free ones and it may owe wakes. A wake is a step of its
/// own: what happens between a push and its wake is explored as well.
class manual_scheduler final : public scheduler {
 public:
  manual_scheduler(system_core& core, std::uint64_t seed);

  void wake(cell& c, lane_id which) noexcept override;
  net::any_io_executor executor(cell&) override { return io_->get_executor(); }
  net::any_io_executor executor() override { return io_->get_executor(); }
  void alarm(time_point) override {}
  time_point now() const noexcept override { return now_; }
  time_point deadline(duration delay) const noexcept override;

  /// One thing; false when there is nothing that can be done now. Throws what
  /// a handler of Asio throws.
  bool step();
  /// After a `step` that found nothing: whether Asio has work outstanding.
  bool io_pending() const noexcept { return !io_->stopped(); }
  void post(offload_base& op);
  /// Waits for one completion, in real time. False when none came.
  bool wait_for_io(duration limit);
  void advance_to(time_point t) noexcept { now_ = t; }

  /// Nothing is queued any more.
  void close() noexcept;
  /// Destroys what operations are left.
  void close_io() noexcept;

  // For tests of the test kit: a bug put in on purpose.

  /// Loses the `k`-th wake from now, counted from 1.
  void drop_wake(std::uint64_t k) noexcept { drop_ = k; }
  bool dropped() const noexcept { return dropped_.has_value(); }
  /// What was lost arrives after all.
  void restore_wake() noexcept;
  /// Wakes that came while one for the same lane was on its way; the pool has
  /// no room for that.
  std::uint64_t double_wakes() const noexcept { return double_wakes_; }

 protected:
  void post_run(cell& c) noexcept override { ready_cells_.push_back(&c); }

 private:
  struct owed {
    cell* who;
    lane_id which;
  };
  class as_thread;

  bool poll_io();
  std::size_t wakes() noexcept;
  void arrive(std::size_t wake) noexcept;

  std::optional<net::io_context> io_;
  seeded_choice choose_;
  /// Of 8 turns, how many run as on another thread.
  const std::size_t remote_turns_;
  /// Of 4 wakes chosen, how many are put off for something else.
  const std::size_t late_wakes_;
  const std::thread::id driver_ = std::this_thread::get_id();
  time_point now_;
  std::vector<cell*> ready_cells_;
  std::mutex mutex_;  // guards what follows; completions may be on threads
  std::vector<owed> wakes_;
  bool closed_ = false;
  std::uint64_t drop_ = 0;
  std::optional<owed> dropped_;
  std::uint64_t double_wakes_ = 0;
};

/// The system of a simulation. For its thread alone, but for what
/// `system_core` says.
class manual_core final : public system_core {
 public:
  explicit manual_core(const simulation_options& options);

  manual_scheduler& home() noexcept { return *home_; }
  const simulation_options& options() const noexcept { return options_; }
  std::uint64_t steps() const noexcept { return steps_; }
  std::uint64_t next_run() noexcept { return ++runs_; }

  bool step();
  std::size_t run_until_idle();
  void advance(duration by);
  void run_until(const std::function<bool()>& done, std::string_view who);
  void terminate();
  /// As the last resort tears down what does not end. Does not throw; gives
  /// what went wrong, or nothing.
  std::string end() noexcept;

  void expect(cell_ptr who, const std::type_info& type, failure_filter accepts);
  void check();

  /// Where there is nobody else to go on, waiting is for ever.
  bool on_runtime_thread() const noexcept override { return true; }
  void report_failure(cell& c, const std::exception_ptr& e) noexcept override;
  double random() noexcept override {
    return static_cast<double>(chances_(1u << 24)) / (1u << 24);
  }
  void shut_down() noexcept override;
  /// A step of the simulation, as on another thread.
  void offload(offload_base& op) override;
  bool take_back(offload_base&) noexcept override { return false; }

 private:
  struct expected_failure {
    cell_ptr who;
    const std::type_info* type;
    failure_filter accepts;
  };
  class driving;

  bool do_step();
  void count_step(std::uint64_t& done, std::string_view who);
  void throw_failures();
  [[noreturn]] void throw_stuck(std::string text);
  bool ended() noexcept;

  const simulation_options options_;
  manual_scheduler* home_;
  /// Apart from what decides who runs next.
  seeded_choice chances_;
  std::uint64_t steps_ = 0;
  std::uint64_t runs_ = 0;
  bool driving_ = false;
  std::vector<expected_failure> expected_;
  std::vector<std::string> unexpected_;
};

/// What the test kit sees of a cell. On its strand.
struct cell_inspector {
  /// A line for each actor below `c` that is alive.
  static void describe_children(cell& c, std::string& text);
  static std::string describe(cell& c);
  /// Kills it here and now: its body, which may refer to the caller's locals,
  /// is never resumed.
  static void kill(cell& c) noexcept;
  /// Ends the body as if `error` had left it where it waits. In its turn.
  static void fail(cell& c, std::exception_ptr error) noexcept;
};

/// The inside of a simulation, for the test kit's own tests.
struct testing_access {
  static manual_core& core(simulation& sim) noexcept { return *sim.core_; }
};

}  // namespace actors::detail
