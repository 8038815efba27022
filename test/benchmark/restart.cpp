// restart: a child throws on a message and is restarted by `one_for_one`
// without backoff, 100,000 times. Its supervisor tells it the next message when
// it has begun again.
// throw_catch: what C++ takes for a throw alone.
#include <stdexcept>
#include <string>

#include "workload.hpp"

namespace {

struct crash {};
struct begun {};

[[gnu::noinline]] void fail() { throw std::runtime_error{"crash"}; }

actors::task<> child(actors::context<crash> self,
                     actors::actor_ref<begun> parent) {
  parent.tell(begun{});
  while (co_await self.receive([](crash) { fail(); })) {
  }
}

actors::task<double> supervisor(actors::context<begun> self, int cycles) {
  self.supervise(actors::one_for_one{.max_restarts = actors::unlimited});
  auto fragile = self.spawn(child, self.ref());
  co_await self.receive([](begun) {});

  const workloads::stopwatch watch;
  for (int i = 0; i != cycles; ++i) {
    fragile.tell(crash{});
    co_await self.receive([](begun) {});
  }
  co_return watch.seconds();
}

constexpr int cycles = 100'000;

bool add(const std::string& name, actors::dispatcher dispatcher,
         std::size_t threads) {
  // A log of 100,000 failures would be what is measured.
  return workloads::add(
      "restart/" + name + "/" + std::to_string(threads), cycles,
      {.threads = threads, .dispatcher = dispatcher, .log = nullptr},
      [](actors::actor_system& system) {
        return system.run(supervisor, cycles);
      });
}

const bool added = add("pool", actors::dispatcher::pool(), 1) &&
                   add("pool", actors::dispatcher::pool(), 2) &&
                   add("shared", actors::dispatcher::shared(), 1) &&
                   add("shared", actors::dispatcher::shared(), 2);

void throw_catch(benchmark::State& state) {
  for (auto _ : state) {
    const workloads::stopwatch watch;
    for (int i = 0; i != cycles; ++i) {
      try {
        fail();
      } catch (const std::runtime_error& e) {
        benchmark::DoNotOptimize(e.what());
      }
    }
    state.counters["ns"] = watch.seconds() * 1e9 / cycles;
  }
}
BENCHMARK(throw_catch)->Unit(benchmark::kMillisecond);

}  // namespace
