// actors_benchmark: see README.md.
#include <vector>

#include "workload.hpp"

namespace workloads {

namespace {

struct dispatcher_name {
  const char* name;
  actors::dispatcher dispatcher;
};
constexpr dispatcher_name dispatchers[] = {
    {"pool", actors::dispatcher::pool()},
    {"shared", actors::dispatcher::shared()}};

/// The time of a workload is the wall time that it measured itself. Google
/// Benchmark's own ways to say so, `UseRealTime` and `UseManualTime`, would
/// change the benchmarks' names, so the rate is a plain counter here.
void set_rate(benchmark::State& state, double items, double seconds) {
  const double all = items * static_cast<double>(state.iterations());
  state.counters["items_per_second"] = all / seconds;
  state.counters["ns"] = seconds * 1e9 / all;
}

void measure(benchmark::State& state, double items,
             const actors::system_options& options, const run& workload) {
  // What two threads cost depends on what a cache line costs in that minute.
  const bool threads = options.threads > 1;
  const double before = threads ? hand_over() : 0;
  double seconds = 0;
  {
    actors::actor_system system{options};
    for (auto _ : state) seconds += workload(system);
  }
  set_rate(state, items, seconds);
  if (threads) {
    state.counters["handover_before"] = before;
    state.counters["handover_after"] = hand_over();
  }
}

template <class F>
void for_each_system(const std::string& name, const F& f) {
  for (const auto& d : dispatchers)
    for (std::size_t threads : {1, 2})
      f(name + "/" + d.name + "/" + std::to_string(threads),
        actors::system_options{.threads = threads, .dispatcher = d.dispatcher});
}

}  // namespace

bool add(const std::string& name, double items,
         const actors::system_options& options, const run& workload) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    measure(state, items, options, workload);
  })->Unit(benchmark::kMillisecond);
  return true;
}

bool add(const std::string& name, double items, const run& workload) {
  for_each_system(name, [&](const std::string& full, const auto& options) {
    add(full, items, options, workload);
  });
  return true;
}

bool add(const std::string& name, double items,
         const std::function<double()>& workload) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    double seconds = 0;
    for (auto _ : state) seconds += workload();
    set_rate(state, items, seconds);
  })->Unit(benchmark::kMillisecond);
  return true;
}

bool add_memory(const std::string& name, double items, const run& workload) {
  for_each_system(name, [&](const std::string& full, const auto& options) {
    benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& state) {
      actors::actor_system system{options};
      const stopwatch watch;
      for (auto _ : state) state.counters["bytes_per_actor"] = workload(system);
      set_rate(state, items, watch.seconds());
    })->Unit(benchmark::kMillisecond);
  });
  return true;
}

}  // namespace workloads

int main(int argc, char** argv) {
  // One iteration is the whole workload, and enough. What the user says about
  // it comes later and wins.
  char once[] = "--benchmark_min_time=0";
  std::vector<char*> args(argv, argv + argc);
  args.insert(args.begin() + (argc > 0 ? 1 : 0), once);
  int count = static_cast<int>(args.size());
  args.push_back(nullptr);

  benchmark::Initialize(&count, args.data());
  if (benchmark::ReportUnrecognizedArguments(count, args.data())) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
