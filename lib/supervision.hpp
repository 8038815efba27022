/// A supervisor's part of supervision: what it knows of its children, the
/// failures that wait for its policy, a group that is being restarted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <typeinfo>
#include <vector>

#include "actors/detail/cell_base.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/supervision.hpp"
#include "lane.hpp"

namespace actors::detail {

class cell;
struct timer;

/// What is told to a child about its life. Those that restart it make all
/// failures it had before void.
enum class child_order : std::uint8_t {
  resume,
  /// It ends, failed.
  stop,
  /// It ends its incarnation and begins the next.
  restart,
  /// It ends its incarnation and says so.
  fall,
  /// It begins the next incarnation and says when it is ready.
  rise,
};

/// A failure on its way from the child to its supervisor, and then to the
/// policy. Of the child's strand until it is sent, then of the supervisor's.
struct failure_record final : system_node {
  failure_record(cell& failed, std::exception_ptr e) noexcept;
  failure_record(const failure_record&) = delete;
  failure_record& operator=(const failure_record&) = delete;
  ~failure_record();

  void release() noexcept {
    if (--refs == 0) destroy_and_free(this);
  }

  /// Both counted.
  cell* child;
  cell* supervisor;
  std::exception_ptr error;
  const std::type_info* message = nullptr;
  time_point when;
  duration uptime;
  /// That of the child's last order; see `child_state`.
  std::uint32_t generation;
  /// Which incarnation of the supervisor has it.
  std::uint32_t epoch = 0;
  std::uint32_t refs = 1;
  bool initial;
  bool resumable = false;
  bool decided = false;
  /// It is restarted because `resume` is not possible.
  bool instead_of_resume = false;
  /// The policy that has it, or had it.
  const policy_task_base* taken_by = nullptr;
};

/// Any thread.
void drop_elsewhere(failure_record& r) noexcept;

/// What a supervisor knows of a child that has failed, or is restarted. Of the
/// supervisor's strand alone, though it hangs on the child's cell.
struct child_state {
  struct past_failure {
    time_point when;
    duration uptime;
    bool restarted;
  };
  static constexpr std::size_t remembered = 1'000;

  /// Oldest first.
  std::vector<past_failure> failures;
  /// Rises with each order that restarts it: failures of a former one, which
  /// may still be on their way, are void.
  std::uint32_t generation = 0;
  bool in_group = false;
  /// It was told to, by its group.
  bool falls = false;
  /// Its incarnation has ended and it was not told to begin the next.
  bool down = false;

  void add(const failure_record& r);
};

/// Children that are being restarted together: they fall one after another,
/// last first, then rise, each when the one before is ready. A failure on the
/// way goes to the policy; if that restarts a group again, the two are one, and
/// fall again.
struct group_restart {
  enum class phase : std::uint8_t { none, falling, resting, rising };

  phase now = phase::none;
  /// Counted, in the order of their start.
  std::vector<cell_ptr> members;
  /// Falling: how many are not known to be down. Rising: which one is next.
  std::size_t at = 0;
  duration delay = {};
  timer* rest = nullptr;

  void forget() noexcept;
};

/// Of one incarnation of a supervisor.
struct supervision {
  explicit supervision(cell& c) noexcept : owner{&c} {}
  supervision(const supervision&) = delete;
  supervision& operator=(const supervision&) = delete;
  ~supervision();

  /// Counted; null: the default, which has not begun.
  policy_task_base* policy = nullptr;
  /// Failures that the policy has not taken; counted.
  queue<system_node> waiting;
  group_restart group;
  cell* owner;
  /// A failure is on its way to the supervisor's own supervisor.
  bool escalates = false;
};

}  // namespace actors::detail
