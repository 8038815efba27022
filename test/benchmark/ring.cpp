// ring: 503 actors pass one token on, 5,000,000 hops. The first makes the
// others, which live beside it.
#include "workload.hpp"

namespace {

constexpr int members = 503;
constexpr int hops = 5'000'000;

struct done {};

actors::task<> member(actors::context<int> self, actors::actor_ref<int> next,
                      actors::actor_ref<done> referee) {
  co_await self.serve([&](int left) {
    if (left == 0)
      referee.tell(done{});
    else
      next.tell(left - 1);
  });
}

actors::task<> first_member(actors::context<int> self,
                            actors::actor_ref<done> referee) {
  actors::actor_ref<int> next = self.ref();
  for (int i = 1; i != members; ++i) next = self.spawn(member, next, referee);
  co_await member(std::move(self), next, referee);
}

actors::task<double> ring(actors::context<done> self) {
  auto first = self.spawn(first_member, self.ref());
  co_await first.started();

  const workloads::stopwatch watch;
  first.tell(hops);
  co_await self.receive([](done) {});
  co_return watch.seconds();
}

const bool added = workloads::add(
    "ring", hops,
    [](actors::actor_system& system) { return system.run(ring); });

}  // namespace
