/// What the workloads have in common: how one is registered and measured.
#pragma once

#include <benchmark/benchmark.h>

#include <actors/actors.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

namespace workloads {

/// Wall time since it was made.
class stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(clock::now() - start_).count();
  }

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point start_ = clock::now();
};

/// Runs a workload once and gives the seconds of its measured part, which
/// leaves out the making of the system and of the actors, where that is not
/// the point.
using run = std::function<double(actors::actor_system&)>;

/// Registers `NAME/pool/1`, `NAME/pool/2`, `NAME/shared/1`, `NAME/shared/2`.
bool add(const std::string& name, double items, const run& workload);
/// Registers one benchmark by its full name.
bool add(const std::string& name, double items,
         const actors::system_options& options, const run& workload);

/// As above, for a workload that makes what it needs: a guest on its own
/// `io_context`, say, or nothing of ours.
bool add(const std::string& name, double items,
         const std::function<double()>& workload);

/// As `add`, for a workload that gives the bytes each actor takes.
bool add_memory(const std::string& name, double items, const run& workload);

/// Nanoseconds that it takes now to hand a cache line from one core to
/// another, one way; 0 on a machine with a single core.
double hand_over();

}  // namespace workloads
