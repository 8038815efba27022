// `count_down_latch`: who waits is told once, whoever counts, and never left.
#include "actors/count_down_latch.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::context;
using actors::count_down_latch;
using actors::errc;
using actors::simulation;
using actors::task;
using support::each_system;
using support::error_of;

task<> counter(context<int> self, count_down_latch latch) {
  co_await self.serve([&](int times) { latch.count_down(times); });
}

task<> waiter(context<>, count_down_latch latch, std::atomic<int>& through) {
  co_await latch.wait();
  ++through;
}

}  // namespace

TEST_SUITE("count_down_latch") {
  TEST_CASE("it opens when it has been counted down, for all who wait") {
    const auto scenario = [](simulation& sim) {
      std::atomic<int> through = 0;
      count_down_latch latch{sim.system(), 3};
      for (int i = 0; i != 4; ++i) sim.spawn(waiter, latch, std::ref(through));
      const auto a = sim.spawn(counter, latch);
      const auto b = sim.spawn(counter, latch);
      a.tell(1);
      a.tell(1);
      sim.run_until_idle();
      CHECK(through == 0);
      CHECK(latch.count() == 1);
      b.tell(1);
      sim.run_until_idle();
      CHECK(through == 4);
      CHECK(latch.count() == 0);
      sim.run(latch.wait());  // and stays open
    };
    actors::explore({.seeds = 100}, scenario);
  }

  TEST_CASE("with zero it is open, and it does not go below") {
    simulation sim;
    count_down_latch latch{sim.system(), 0};
    sim.run(latch.wait());
    latch.count_down(5);
    CHECK(latch.count() == 0);
  }

  TEST_CASE("more than is left opens it") {
    simulation sim;
    count_down_latch latch{sim.system(), 3};
    latch.count_down(7);
    CHECK(latch.count() == 0);
    sim.run(latch.wait());
  }

  TEST_CASE("a wait may time out, and others go on") {
    simulation sim;
    count_down_latch latch{sim.system(), 1};
    for (int i = 0; i != 100; ++i)
      CHECK(error_of([&] { sim.run(latch.wait().within(1ms)); }) ==
            errc::timed_out);
    latch.count_down();
    sim.run(latch.wait().within(1ms));
  }

  TEST_CASE("a stop ends the wait of an actor") {
    std::atomic<int> through = 0;
    simulation sim;
    count_down_latch latch{sim.system(), 1};
    const auto w = sim.spawn(waiter, latch, std::ref(through));
    sim.run_until_idle();
    w.stop();
    CHECK(sim.run(w.stopped()) == actors::exit_reason::normal);
    latch.count_down();
    sim.run_until_idle();
    CHECK(through == 0);
  }

  TEST_CASE("who waits when the last handle goes is told so") {
    std::optional<count_down_latch> latch;
    simulation sim;
    latch.emplace(sim.system(), 1);
    auto wait = latch->wait();
    CHECK(error_of([&] {
            sim.run([&](context<>) -> task<> {
              auto late = sim.spawn([&](context<>) -> task<> {
                latch.reset();
                co_return;
              });
              co_await wait;
            });
          }) == errc::no_reply);
  }

  TEST_CASE("any thread counts, any thread waits") {
    each_system([](actors::actor_system& system) {
      constexpr int threads = 4, times = 500;
      std::atomic<int> through = 0;
      count_down_latch latch{system, threads * times};
      std::vector<actors::any_actor_ref> waiters;
      for (int i = 0; i != 8; ++i)
        waiters.push_back(system.spawn(waiter, latch, std::ref(through)));
      std::vector<std::thread> counting;
      for (int i = 0; i != threads; ++i)
        counting.emplace_back([latch] {
          for (int k = 0; k != times; ++k) latch.count_down();
        });
      latch.wait().get();
      latch.wait()(asio::use_future).get();
      for (auto& t : counting) t.join();
      for (const auto& w : waiters) w.stopped().get();
      CHECK(through == 8);
    });
  }
}
