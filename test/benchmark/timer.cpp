// timer: 1,000,000 timers started and cancelled, 10,000 at a time, then 100,000
// that fire.
#include <chrono>
#include <cstddef>
#include <vector>

#include "workload.hpp"

namespace {

using namespace std::chrono_literals;

struct tick {};

constexpr int cancelled = 1'000'000, at_a_time = 10'000, fired = 100'000;

actors::task<double> run(actors::context<tick> self) {
  const workloads::stopwatch watch;
  std::vector<actors::timer_handle> timers;
  timers.reserve(at_a_time);
  for (int started = 0; started != cancelled; started += at_a_time) {
    for (int i = 0; i != at_a_time; ++i)
      timers.push_back(self.send_after(1s + i * 1us, tick{}));
    for (auto& t : timers) t.cancel();
    timers.clear();
    co_await self.sleep_for(0s);  // others' turn
  }
  for (int i = 0; i != fired; ++i) (void)self.send_after(0ns, tick{});
  for (int i = 0; i != fired; ++i) co_await self.receive([](tick) {});
  co_return watch.seconds();
}

const bool added = workloads::add(
    "timer", cancelled + fired,
    [](actors::actor_system& system) { return system.run(run); });

}  // namespace
