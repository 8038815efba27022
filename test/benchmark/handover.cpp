// handover: what it costs now to hand a cache line from one core to another.
// Figures of two threads compare only where this one is the same.
#include <pthread.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "workload.hpp"

namespace workloads {

namespace {

constexpr int round_trips = 100'000;

std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cores;
  for (int i = 0; i != CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) cores.push_back(i);
  return cores;
}

void pin_this_thread(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

void wait_for(const std::atomic<int>& turn, int mine) {
  while (turn.load(std::memory_order_acquire) != mine) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }
}

}  // namespace

double hand_over() {
  const std::vector<int> cores = allowed_cores();
  if (cores.size() < 2) return 0;

  alignas(64) std::atomic<int> turn{-1};
  double seconds = 0;
  std::thread there{[&] {
    pin_this_thread(cores[1]);
    turn.store(0, std::memory_order_release);
    for (int i = 0; i != round_trips; ++i) {
      wait_for(turn, 1);
      turn.store(0, std::memory_order_release);
    }
  }};
  std::thread here{[&] {
    pin_this_thread(cores[0]);
    wait_for(turn, 0);
    const stopwatch watch;
    for (int i = 0; i != round_trips; ++i) {
      turn.store(1, std::memory_order_release);
      wait_for(turn, 0);
    }
    seconds = watch.seconds();
  }};
  there.join();
  here.join();
  return seconds * 1e9 / (2.0 * round_trips);
}

namespace {

void handover(benchmark::State& state) {
  for (auto _ : state) state.counters["ns"] = hand_over();
}
BENCHMARK(handover)->Unit(benchmark::kMillisecond);

/// How quick the machine is just now: one `new` and one `delete`.
void new_delete(benchmark::State& state) {
  constexpr int count = 10'000'000;
  for (auto _ : state) {
    const stopwatch watch;
    for (int i = 0; i != count; ++i) {
      auto* p = new std::array<int, 8>;
      benchmark::DoNotOptimize(p);
      delete p;
    }
    state.counters["ns"] = watch.seconds() * 1e9 / count;
  }
}
BENCHMARK(new_delete)->Unit(benchmark::kMillisecond);

}  // namespace

}  // namespace workloads
