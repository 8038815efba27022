// ping_pong: two actors, 1,000,000 round trips of an int; ping_pong/class: the
// same as objects of classes.
// pairs: 1,000 such pairs, 1,000 round trips each.
//
// A pair's second actor is a child of its first and so lives beside it, as
// placement puts it; the pairs are dealt out to the threads. In
// ping_pong/cross the two live on two threads.
#include <utility>
#include <vector>

#include "workload.hpp"

namespace {

struct done {};

actors::task<> pong(actors::context<int> self, actors::actor_ref<int> ping) {
  co_await self.serve([&](int n) { ping.tell(n - 1); });
}

actors::task<> ping(actors::context<int> self, actors::actor_ref<done> referee,
                    actors::placement where) {
  auto other = self.spawn({.placement = where}, pong, self.ref());
  co_await self.serve([&](int n) {
    if (n == 0)
      referee.tell(done{});
    else
      other.tell(n);
  });
}

class pong_object : public actors::actor<int> {
 public:
  explicit pong_object(actors::actor_ref<int> ping) : ping_{std::move(ping)} {}
  void receive(int n) { ping_.tell(n - 1); }

 private:
  actors::actor_ref<int> ping_;
};

class ping_object : public actors::actor<int> {
 public:
  explicit ping_object(actors::actor_ref<done> referee)
      : referee_{std::move(referee)},
        other_{self().spawn<pong_object>(self().ref())} {}
  void receive(int n) {
    if (n == 0)
      referee_.tell(done{});
    else
      other_.tell(n);
  }

 private:
  actors::actor_ref<done> referee_;
  actors::actor_ref<int> other_;
};

actors::task<double> play_objects(actors::context<done> self, int round_trips) {
  auto player = self.spawn<ping_object>(self.ref());
  co_await player.started();

  const workloads::stopwatch watch;
  player.tell(round_trips);
  co_await self.receive([](done) {});
  co_return watch.seconds();
}

actors::task<double> play(actors::context<done> self, int pairs,
                          int round_trips, actors::placement pings,
                          actors::placement pongs) {
  std::vector<actors::actor_ref<int>> players;
  for (int i = 0; i != pairs; ++i)
    players.push_back(
        self.spawn({.placement = pings}, ping, self.ref(), pongs));
  for (auto& p : players) co_await p.started();

  const workloads::stopwatch watch;
  for (auto& p : players) p.tell(round_trips);
  for (int i = 0; i != pairs; ++i) co_await self.receive([](done) {});
  co_return watch.seconds();
}

constexpr double messages = 2e6;

const bool ping_pong =
    workloads::add("ping_pong", messages, [](actors::actor_system& system) {
      return system.run(play, 1, 1'000'000, actors::placement{},
                        actors::placement{});
    });

const bool ping_pong_class = workloads::add(
    "ping_pong/class", messages, [](actors::actor_system& system) {
      return system.run(play_objects, 1'000'000);
    });

const bool ping_pong_cross = workloads::add(
    "ping_pong/cross/2", messages,
    {.threads = 2, .dispatcher = actors::dispatcher::pool()},
    [](actors::actor_system& system) {
      return system.run(play, 1, 1'000'000, actors::placement::on(0),
                        actors::placement::on(1));
    });

const bool pairs =
    workloads::add("pairs", messages, [](actors::actor_system& system) {
      return system.run(play, 1'000, 1'000, actors::placement::round_robin(),
                        actors::placement{});
    });

}  // namespace
