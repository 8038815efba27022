// spawn: an actor makes 1,000,000 actors one after another and tells each
// something; each takes it and ends.
//
// In `spawn` the spawner does so in one go, so that on one thread all of them
// are alive at once; in `spawn_yield` it gives others their turn after every
// 100, as a server does that spawns an actor a connection. `spawn/pool/2x` has
// a spawner on each of two threads, and half of the actors each.
//
// The last act of an actor counts down a latch: no message, so nothing is
// measured that the workload does not have. Then the spawner is stopped. It
// ends when it has seen the end of all its children, and the clock stops when
// it has ended.
#include <deque>
#include <functional>
#include <latch>
#include <vector>

#include "workload.hpp"

namespace {

constexpr int actors_made = 1'000'000;

actors::task<> short_lived(actors::context<int> self, std::latch& ended) {
  co_await self.receive([](int) {});
  ended.count_down();
}

actors::task<> spawner(actors::context<> self, int count, int turn,
                       std::latch& ended) {
  for (int i = 1; i <= count; ++i) {
    self.spawn(short_lived, std::ref(ended)).tell(i);
    if (i % turn == 0) co_await self.sleep_for({});
  }
  co_await self.until_stop();
}

double make_actors(actors::actor_system& system, int spawners, int turn) {
  const int each = actors_made / spawners;
  std::deque<std::latch> ended;  // one a spawner, as a latch is a cache line
  std::vector<actors::actor_ref<>> refs;

  const workloads::stopwatch watch;
  for (int i = 0; i != spawners; ++i)
    refs.push_back(
        system.spawn(spawner, each, turn, std::ref(ended.emplace_back(each))));
  for (auto& latch : ended) latch.wait();
  for (auto& ref : refs) ref.stop();
  for (auto& ref : refs) ref.stopped().get();
  return watch.seconds();
}

constexpr int one_go = actors_made;

const bool spawn =
    workloads::add("spawn", actors_made, [](actors::actor_system& system) {
      return make_actors(system, 1, one_go);
    });

const bool spawn_on_each_thread =
    workloads::add("spawn/pool/2x", actors_made,
                   {.threads = 2, .dispatcher = actors::dispatcher::pool()},
                   [](actors::actor_system& system) {
                     return make_actors(system, 2, one_go);
                   });

const bool spawn_yield = workloads::add(
    "spawn_yield", actors_made,
    [](actors::actor_system& system) { return make_actors(system, 1, 100); });

const bool spawn_yield_on_each_thread = workloads::add(
    "spawn_yield/pool/2x", actors_made,
    {.threads = 2, .dispatcher = actors::dispatcher::pool()},
    [](actors::actor_system& system) { return make_actors(system, 2, 100); });

}  // namespace
