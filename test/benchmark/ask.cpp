// ask: an actor awaits 1,000,000 asks, one after another, of an actor that
// lives beside it, as its child.
// ask_timeout: the same with a timeout of 1 s given.
#include <chrono>
#include <stdexcept>

#include "workload.hpp"

namespace {

using namespace std::chrono_literals;

struct next {
  using reply_type = int;
  int after;
};

actors::task<> successor(actors::context<next> self) {
  co_await self.serve([](next n) { return n.after + 1; });
}

actors::task<double> ask(actors::context<> self, int asks) {
  auto other = self.spawn(successor);
  co_await other.started();

  const workloads::stopwatch watch;
  int n = 0;
  while (n != asks) n = co_await other.ask(next{n});
  co_return watch.seconds();
}

actors::task<double> ask_timeout(actors::context<> self, int asks) {
  auto other = self.spawn(successor);
  co_await other.started();

  const workloads::stopwatch watch;
  int n = 0;
  while (n != asks) n = co_await other.ask(next{n}, 1s);
  co_return watch.seconds();
}

constexpr int asks = 1'000'000;

const bool ask_added = workloads::add(
    "ask", asks,
    [](actors::actor_system& system) { return system.run(ask, asks); });

const bool ask_timeout_added = workloads::add(
    "ask_timeout", asks,
    [](actors::actor_system& system) { return system.run(ask_timeout, asks); });

}  // namespace
