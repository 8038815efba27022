// flood: an actor sends 5,000,000 messages to a counter in one go, then asks
// it for the total. On two threads the counter lives on the other one.
#include "workload.hpp"

namespace {

struct total {
  using reply_type = int;
};

actors::task<> counter(actors::context<int, total> self) {
  int sum = 0;
  co_await self.serve([&](int n) { sum += n; }, [&](total) { return sum; });
}

actors::task<double> flood(actors::context<> self, int messages) {
  auto sum =
      self.spawn({.placement = actors::placement::round_robin()}, counter);
  co_await sum.started();

  const workloads::stopwatch watch;
  for (int i = 0; i != messages; ++i) sum.tell(1);
  if (co_await sum.ask<total>() != messages)
    throw std::logic_error("the counter has lost messages");
  co_return watch.seconds();
}

constexpr int messages = 5'000'000;

const bool added = workloads::add(
    "flood", messages,
    [](actors::actor_system& system) { return system.run(flood, messages); });

}  // namespace
