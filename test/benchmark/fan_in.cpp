// fan_in: 100 producers send 50,000 messages each to one counter, 100 a turn:
// each tells itself to go on. Producers and counter are dealt out to the
// threads.
#include <vector>

#include "workload.hpp"

namespace {

constexpr int producers = 100;
constexpr int messages_each = 50'000;
constexpr int messages_a_turn = 100;
constexpr int messages = producers * messages_each;

struct done {};
struct go_on {};

actors::task<> counter(actors::context<int> self,
                       actors::actor_ref<done> referee) {
  int sum = 0;
  co_await self.serve([&](int n) {
    sum += n;
    if (sum == messages) referee.tell(done{});
  });
}

actors::task<> producer(actors::context<go_on> self,
                        actors::actor_ref<int> sum) {
  int left = messages_each;
  co_await self.serve([&](go_on) {
    for (int i = 0; i != messages_a_turn; ++i) sum.tell(1);
    left -= messages_a_turn;
    if (left != 0) self.ref().tell(go_on{});
  });
}

actors::task<double> fan_in(actors::context<done> self) {
  const auto in_turn = actors::placement::round_robin();
  auto sum = self.spawn({.placement = in_turn}, counter, self.ref());
  std::vector<actors::actor_ref<go_on>> all;
  for (int i = 0; i != producers; ++i)
    all.push_back(self.spawn({.placement = in_turn}, producer, sum));
  for (auto& p : all) co_await p.started();

  const workloads::stopwatch watch;
  for (auto& p : all) p.tell(go_on{});
  co_await self.receive([](done) {});
  co_return watch.seconds();
}

const bool added = workloads::add(
    "fan_in", messages,
    [](actors::actor_system& system) { return system.run(fan_in); });

}  // namespace
