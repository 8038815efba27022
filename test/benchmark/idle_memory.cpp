// idle_memory: what 1,000,000 actors take that wait in their first receive:
// the process's resident memory after them less that before. The refs to them
// are not counted: their memory is resident before. The spawner gives others
// their turn after every 100, so that a burst of starts is not counted either.
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "workload.hpp"

namespace {

double resident_bytes() {
  std::ifstream statm{"/proc/self/statm"};
  long total = 0;
  long resident = 0;
  if (!(statm >> total >> resident))
    throw std::runtime_error("/proc/self/statm cannot be read");
  return static_cast<double>(resident) *
         static_cast<double>(sysconf(_SC_PAGESIZE));
}

actors::task<> idle(actors::context<int> self) {
  co_await self.receive([](int) {});
}

actors::task<double> make_idle(actors::context<> self, int count) {
  std::vector<actors::actor_ref<int>> all(count);
#if defined(__GLIBC__)
  malloc_trim(0);  // what earlier benchmarks have freed is not there for ours
#endif
  const double before = resident_bytes();
  for (int i = 0; i != count; ++i) {
    all[i] = self.spawn(idle);
    if (i % 100 == 99) co_await self.sleep_for({});
  }
  for (auto& ref : all) co_await ref.started();
  co_return (resident_bytes() - before) / count;
}

constexpr int count = 1'000'000;

const bool added = workloads::add_memory(
    "idle_memory", count,
    [](actors::actor_system& system) { return system.run(make_idle, count); });

}  // namespace
