// ask_asio: an asio::awaitable on a user's io_context asks an actor 1,000,000
// times, one ask after another. The actor is a guest on the same io_context.
// Beside it what one round trip through such a loop costs at least:
// asio::post, awaited.
#include <actors/asio.hpp>
#include <future>

#include "workload.hpp"

namespace {

struct next {
  using reply_type = int;
  int after;
};

actors::task<> successor(actors::context<next> self) {
  co_await self.serve([](next n) { return n.after + 1; });
}

asio::awaitable<double> ask(actors::actor_ref<next> other, int asks) {
  co_await other.started()(asio::use_awaitable);

  const workloads::stopwatch watch;
  int n = 0;
  while (n != asks) n = co_await other.ask<next>(n)(asio::use_awaitable);
  co_return watch.seconds();
}

asio::awaitable<double> post(asio::io_context& io, int round_trips) {
  const workloads::stopwatch watch;
  for (int i = 0; i != round_trips; ++i)
    co_await asio::post(io, asio::use_awaitable);
  co_return watch.seconds();
}

constexpr int asks = 1'000'000;

double ask_as_guest() {
  asio::io_context io{1};
  actors::actor_system system{io};
  auto other = system.spawn(successor);
  auto seconds = asio::co_spawn(io, ask(other, asks), asio::use_future);
  io.run();
  return seconds.get();
}

double post_only() {
  asio::io_context io{1};
  auto seconds = asio::co_spawn(io, post(io, asks), asio::use_future);
  io.run();
  return seconds.get();
}

const bool ask_added = workloads::add("ask_asio/guest/1", asks, ask_as_guest);
const bool post_added = workloads::add("ask_asio/asio/1", asks, post_only);

}  // namespace
