// `system.subscribe` and `system.publish`.
#include "actors/publish.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "system_core.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::any_actor_ref;
using actors::context;
using actors::simulation;
using actors::task;
using support::contains;
using support::counted;
using support::each_system;
using support::message_of;

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};
struct quote {
  std::string name;
  int price;
};
struct other {};
struct fall {};
using quotes = std::vector<int>;

/// Keeps the prices it hears of.
task<> reader(context<quote> self, quotes* to) {
  co_await self.serve([to](const quote& q) { to->push_back(q.price); });
}
task<> idle(context<quote> self) {
  while (co_await self.receive([](quote) {})) {
  }
}

template <class F>
void seeds(F&& f, int count = support::sanitized ? 20 : 100) {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(count);
       ++seed) {
    CAPTURE(seed);
    f(seed);
  }
}

std::size_t subscribers(actor_system& system) {
  return system.core().subscriptions().count(typeid(quote));
}

}  // namespace

TEST_SUITE("publish") {
  TEST_CASE("each subscriber of a type gets a copy, in the publisher's order") {
    seeds([](std::uint64_t seed) {
      quotes one, two;
      simulation sim{seed};
      CHECK(sim.system().publish(quote{"a", 0}) == 0);
      auto a = sim.system().spawn(reader, &one);
      auto b = sim.system().spawn(reader, &two);
      (void)sim.system().subscribe<quote>(a);
      (void)sim.system().subscribe<quote>(b);
      CHECK(sim.system().publish(quote{"a", 1}) == 2);
      CHECK(sim.system().publish<quote>("b", 2) == 2);
      const quote third{"c", 3};
      CHECK(sim.system().publish(third) == 2);
      CHECK(sim.system().publish(other{}) == 0);
      sim.run_until_idle();
      CHECK(one == quotes{1, 2, 3});
      CHECK(two == quotes{1, 2, 3});
    });
  }

  TEST_CASE("a filter chooses; a second subscription replaces it") {
    quotes one;
    simulation sim{1};
    auto a = sim.system().spawn(reader, &one);
    const auto number = sim.system().subscribe<quote>(
        a, [](const quote& q) { return q.price > 10; });
    CHECK(sim.system().publish(quote{"a", 5}) == 0);
    CHECK(sim.system().publish(quote{"a", 15}) == 1);
    CHECK(sim.system().subscribe<quote>(any_actor_ref{a}, [](const quote& q) {
      return q.price < 10;
    }) == number);
    CHECK(sim.system().publish(quote{"a", 6}) == 1);
    CHECK(sim.system().publish(quote{"a", 16}) == 0);
    sim.run_until_idle();
    CHECK(one == quotes{15, 6});
    CHECK(subscribers(sim.system()) == 1);
  }

  TEST_CASE("a filter that throws is false, and the log says so") {
    support::log_lines lines;
    quotes one, two;
    actors::simulation_options options;
    options.system.log = lines.sink();
    simulation sim{options};
    auto a = sim.system().spawn(reader, &one);
    auto b = sim.system().spawn({.name = "b"}, reader, &two);
    (void)sim.system().subscribe<quote>(
        b, [](const quote&) -> bool { throw crash{"no idea"}; });
    (void)sim.system().subscribe<quote>(a);
    CHECK(sim.system().publish(quote{"a", 1}) == 1);
    sim.run_until_idle();
    CHECK(one == quotes{1});
    CHECK(two.empty());
    CHECK(contains(lines.find("filter"), "/user/b"));
    CHECK(contains(lines.find("filter"), "no idea"));
  }

  TEST_CASE("who has unsubscribed gets no more") {
    quotes one, two;
    simulation sim{1};
    auto a = sim.system().spawn(reader, &one);
    auto b = sim.system().spawn(reader, &two);
    const auto first = sim.system().subscribe<quote>(a);
    const auto second = sim.system().subscribe<quote>(b);
    CHECK(first != second);
    const auto events = sim.system().on_event([](const auto&) {});
    CHECK(events != first);
    sim.system().unsubscribe(first);
    sim.system().unsubscribe(first);
    sim.system().unsubscribe(0);
    sim.system().unsubscribe(second + 1000);
    CHECK(sim.system().publish(quote{"a", 1}) == 1);
    sim.run_until_idle();
    CHECK(one.empty());
    CHECK(two == quotes{1});
    // And again.
    CHECK(sim.system().subscribe<quote>(a) != first);
    CHECK(sim.system().publish(quote{"a", 2}) == 2);
  }

  TEST_CASE("a ref that takes no such message is refused") {
    simulation sim{1};
    auto a = sim.system().spawn({.name = "a"}, idle);
    CHECK(contains(message_of<std::invalid_argument>([&] {
                     (void)sim.system().subscribe<other>(any_actor_ref{a});
                   }),
                   "/user/a does not take "));
    CHECK_THROWS_AS((void)sim.system().subscribe<quote>(actor_ref<quote>{}),
                    std::invalid_argument);
    CHECK_THROWS_AS((void)sim.system().subscribe<quote>(any_actor_ref{}),
                    std::invalid_argument);
  }

  TEST_CASE("those that have ended leave by themselves") {
    std::atomic<int> alive{0};
    simulation sim{1};
    for (int i = 0; i != 100; ++i) {
      auto a = sim.system().spawn(idle);
      const counted weight{alive};
      (void)sim.system().subscribe<quote>(
          a, [weight](const quote&) { return true; });
      a.stop();
      (void)sim.run(a.stopped());
    }
    CHECK(subscribers(sim.system()) == 1);
    CHECK(alive == 1);
    const auto before = sim.system().dead_letter_count();
    CHECK(sim.system().publish(quote{"a", 1}) == 0);
    CHECK(sim.system().dead_letter_count() == before);
    CHECK(subscribers(sim.system()) == 0);
    CHECK(alive == 0);
  }

  TEST_CASE("a subscriber stays one when it is restarted") {
    quotes one;
    simulation sim{1};
    auto a = sim.system().spawn([&one](context<quote, fall> self) -> task<> {
      co_await self.serve([&one](quote q) { one.push_back(q.price); },
                          [](fall) { throw crash{"fall"}; });
    });
    (void)sim.system().subscribe<quote>(a);
    sim.expect_failure<crash>(a);
    a.tell(fall{});
    sim.run_until_idle();
    CHECK(sim.system().publish(quote{"a", 1}) == 1);
    sim.run_until_idle();
    CHECK(one == quotes{1});
  }

  TEST_CASE("a copy that throws comes out of publish") {
    struct moody {
      int copies = 0;
      moody() = default;
      moody(moody&&) = default;
      moody(const moody& m) : copies{m.copies + 1} {
        if (copies > 0) throw crash{"no copy"};
      }
    };
    simulation sim{1};
    auto a = sim.system().spawn([](context<moody> self) -> task<> {
      co_await self.serve([](const moody&) {});
    });
    (void)sim.system().subscribe<moody>(a);
    CHECK_THROWS_AS((void)sim.system().publish(moody{}), crash);
  }

  TEST_CASE("a subscriber may subscribe, publish and unsubscribe itself") {
    seeds([](std::uint64_t seed) {
      int heard = 0;
      simulation sim{seed};
      auto body = [&heard](context<quote> self) -> task<> {
        const auto number = self.system().subscribe<quote>(self.ref());
        while (auto q = co_await self.receive()) {
          if (++heard == 3) self.system().unsubscribe(number);
          (void)self.system().publish(quote{"again", q->price + 1});
        }
      };
      auto a = sim.system().spawn(body);
      sim.run_until_idle();
      (void)sim.system().publish(quote{"a", 1});
      sim.run_until_idle();
      CHECK(heard == 3);
    });
  }

  TEST_CASE("a system that has ended keeps no subscriber") {
    std::atomic<int> alive{0};
    each_system([&](actor_system& system) {
      auto a = system.spawn(idle);
      const counted weight{alive};
      (void)system.subscribe<quote>(a, [weight](const quote&) { return true; });
      (void)system.async_terminate().get();
      CHECK(system.publish(quote{"a", 1}) == 0);
      (void)system.subscribe<quote>(a, [weight](const quote&) { return true; });
      CHECK(subscribers(system) == 0);
    });
    CHECK(alive == 0);
  }

  TEST_CASE("publishers, subscribers and ends on many threads") {
    each_system([](actor_system& system) {
      const int rounds = support::sanitized ? 50 : 500;
      struct log {
        std::atomic<int> wrong{0}, heard{0};
      } seen;
      const auto listener = [&seen](context<quote> self) -> task<> {
        std::vector<int> last(8, -1);
        co_await self.serve([&](const quote& q) {
          int& before = last[static_cast<std::size_t>(q.name[0] - 'a')];
          if (q.price <= before) ++seen.wrong;
          before = q.price;
          ++seen.heard;
        });
      };
      auto steady = system.spawn(listener);
      (void)system.subscribe<quote>(steady);
      std::vector<std::thread> threads;
      for (char who = 'a'; who != 'c'; ++who)
        threads.emplace_back([&, who] {
          for (int i = 0; i != rounds; ++i)
            (void)system.publish(quote{std::string(1, who), i});
        });
      threads.emplace_back([&] {
        for (int i = 0; i != rounds / 5; ++i) {
          auto a = system.spawn(listener);
          const auto number = system.subscribe<quote>(
              a, [](const quote& q) { return q.price % 2 == 0; });
          if (i % 3 == 0) a.kill();
          if (i % 3 == 1) system.unsubscribe(number);
          if (i % 3 == 2) a.drain();
        }
      });
      for (auto& t : threads) t.join();
      steady.drain();
      (void)steady.stopped().get();
      CHECK(seen.wrong == 0);
      CHECK(seen.heard >= 2 * rounds);
    });
  }
}
