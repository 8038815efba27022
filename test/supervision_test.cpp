#include "actors/supervision.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using actors::context;
using actors::directive;
using actors::errc;
using actors::exit_reason;
using actors::failures;
using actors::one_for_all;
using actors::one_for_one;
using actors::rest_for_one;
using actors::restart_policy;
using actors::simulation;
using actors::task;
using support::contains;
using support::error_of;
using texts = std::vector<std::string>;

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};
struct db_lost : std::runtime_error {
  using runtime_error::runtime_error;
};

/// Adds up; fails on a negative number.
struct add {
  int value;
};
struct total {
  using reply_type = int;
};
struct incarnation {
  using reply_type = int;
};

void take(int& sum, add a) {
  if (a.value == -2) throw db_lost{"the database"};
  if (a.value < 0) throw crash{"negative"};
  sum += a.value;
}

using counter_self = context<add, total, incarnation>;
using counter_ref = actors::actor_ref<add, total, incarnation>;

task<> counter(counter_self self, std::shared_ptr<int> born) {
  int sum = 0;
  const int number = ++*born;
  while (co_await self.receive([&](add a) { take(sum, a); },
                               [&](total) { return sum; },
                               [&](incarnation) { return number; })) {
  }
}

/// The same in a loop of the runtime's.
task<> server(counter_self self, std::shared_ptr<int> born) {
  int sum = 0;
  const int number = ++*born;
  co_await self.serve([&](const add& a) { take(sum, a); },
                      [&](total) { return sum; },
                      [&](incarnation) { return number; });
}

std::shared_ptr<int> none() { return std::make_shared<int>(0); }

template <class F>
void seeds(F&& f, int count = 100) {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(count);
       ++seed) {
    CAPTURE(seed);
    f(seed);
  }
}

struct spawn_one {
  using reply_type = counter_ref;
};

/// A supervisor with whatever policy.
template <class Policy>
auto boss(Policy policy, bool serves = false) {
  return [policy, serves](context<spawn_one> self) -> task<> {
    self.supervise(policy);
    const auto body = serves ? server : counter;
    while (co_await self.receive(
        [&](spawn_one) { return self.spawn(body, none()); })) {
    }
  };
}

}  // namespace

TEST_SUITE("supervision") {
  TEST_CASE("an actor that fails is restarted: same ref, mailbox, new state") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn({.name = "sum"}, counter, none());
      sim.expect_failure<crash>(ref);
      ref.tell(add{5});
      CHECK(sim.run(ref.ask<total>()) == 5);
      ref.tell(add{-1});
      ref.tell(add{7});
      REQUIRE(sim.run(ref.ask<total>()) == 7);
      REQUIRE(sim.run(ref.ask<incarnation>()) == 2);
      REQUIRE(ref.path() == "/user/sum");
      REQUIRE(sim.system().dead_letter_count() == 1);
      sim.check();
    });
  }

  TEST_CASE("the asker of the failing message is told, others are answered") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      struct boom {
        using reply_type = int;
      };
      auto ref = sim.spawn([](context<boom, total> self) -> task<> {
        while (co_await self.receive([](boom) -> int { throw crash{"boom"}; },
                                     [](total) { return 3; })) {
        }
      });
      sim.expect_failure<crash>(ref);
      REQUIRE(error_of([&] { return sim.run(ref.template ask<boom>()); }) ==
              errc::actor_failed);
      REQUIRE(sim.run(ref.template ask<total>()) == 3);
    });
  }

  TEST_CASE("resume keeps the state of what serve() runs") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto parent = sim.spawn(boss(
          one_for_one{.decide = {actors::on<crash>(directive::resume)}}, true));
      auto ref = sim.run(parent.ask<spawn_one>());
      sim.expect_failure<crash>(ref);
      ref.tell(add{5});
      ref.tell(add{-1});
      ref.tell(add{7});
      REQUIRE(sim.run(ref.ask<total>()) == 12);
      REQUIRE(sim.run(ref.ask<incarnation>()) == 1);
    });
  }

  TEST_CASE("resume counts as restart where the body owns the loop") {
    simulation sim;
    std::vector<std::string> said;
    sim.system().on_event([&](const actors::lifecycle_event& e) {
      if (e.what == actors::lifecycle_event::kind::failed) {
        CHECK(e.instead_of_resume);
        CHECK(e.decision == directive::restart);
        said.push_back(e.to_string());
      }
    });
    auto parent = sim.spawn(boss(
        one_for_one{.decide = {actors::on<crash>(directive::resume)}}, false));
    auto ref = sim.run(parent.ask<spawn_one>());
    sim.expect_failure<crash>(ref);
    ref.tell(add{5});
    ref.tell(add{-1});
    ref.tell(add{7});
    CHECK(sim.run(ref.ask<total>()) == 7);
    REQUIRE(said.size() == 1);
    CHECK(contains(said.front(), "only serve() could be resumed"));
  }

  TEST_CASE("stop ends it, failed, and its mailbox with it") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto parent = sim.spawn(
          boss(one_for_one{.decide = {actors::on<crash>(directive::stop)}}));
      auto ref = sim.run(parent.ask<spawn_one>());
      sim.expect_failure<crash>(ref);
      ref.tell(add{-1});
      auto error = error_of([&] { return sim.run(ref.ask<total>()); });
      REQUIRE(error == errc::actor_stopped);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
    });
  }

  TEST_CASE("escalate makes the supervisor fail, and its supervisor decides") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto parent = sim.spawn(boss(
          one_for_one{.decide = {actors::on<db_lost>(directive::escalate)}}));
      auto ref = sim.run(parent.ask<spawn_one>());
      sim.expect_failure<db_lost>(ref);
      sim.expect_failure<db_lost>(parent);
      ref.tell(add{-2});
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      auto again = sim.run(parent.ask<spawn_one>());
      again.tell(add{3});
      REQUIRE(sim.run(again.ask<total>()) == 3);
    });
  }

  TEST_CASE("a policy by hand") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto parent = sim.spawn(boss([](failures failures) -> task<> {
        while (auto failure = co_await failures.next()) {
          if (failure->is<crash>())
            failure->restart();
          else if (failure->is<db_lost>())
            failure->escalate();
          else
            failure->stop();
        }
      }));
      auto ref = sim.run(parent.ask<spawn_one>());
      sim.expect_failure<crash>(ref, 3);
      for (int i = 0; i != 3; ++i) ref.tell(add{-1});
      REQUIRE(sim.run(ref.ask<incarnation>()) == 4);
      sim.expect_failure<db_lost>(ref);
      sim.expect_failure<db_lost>(parent);
      ref.tell(add{-2});
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
    });
  }

  TEST_CASE("the eleventh failure within ten seconds escalates") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto parent = sim.spawn(boss(one_for_one{}));
      auto ref = sim.run(parent.ask<spawn_one>());
      sim.expect_failure<crash>(ref, 11);
      sim.expect_failure<crash>(parent);
      for (int i = 0; i != 10; ++i) ref.tell(add{-1});
      REQUIRE(sim.run(ref.ask<incarnation>()) == 11);
      ref.tell(add{-1});
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      sim.check();
    });
  }

  TEST_CASE("a failure at the top ends the system, and wait() throws it") {
    support::log_lines lines;
    actors::actor_system system{{.threads = 2, .log = lines.sink()}};
    auto ref = system.spawn(counter, none());
    for (int i = 0; i != 11; ++i) ref.tell(add{-1});
    CHECK_THROWS_AS(system.wait(), crash);
    CHECK(ref.stopped().get() == exit_reason::failed);
    CHECK(!lines.find("escalated to the top").empty());
  }

  TEST_CASE("one_for_all restarts all, in order") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      struct poke {};
      const auto child = [&log](context<poke> self,
                                std::string name) -> task<> {
        log.push_back(name + " up");
        const auto h = [](poke) { throw crash{"poked"}; };
        while (co_await self.receive(h)) {
        }
        log.push_back(name + " down");
      };
      std::vector<actors::actor_ref<poke>> refs;
      auto parent = sim.spawn([&](context<> self) -> task<> {
        self.supervise(one_for_all{});
        for (const char* name : {"a", "b", "c"})
          refs.push_back(self.spawn(child, std::string{name}));
        co_await self.until_stop();
      });
      sim.run_until_idle();
      REQUIRE(refs.size() == 3);
      std::sort(log.begin(), log.end());
      REQUIRE(log == texts{"a up", "b up", "c up"});
      log.clear();
      sim.expect_failure<crash>(refs[1]);
      refs[1].tell(poke{});
      sim.run_until_idle();
      REQUIRE(log == texts{"c down", "a down", "a up", "b up", "c up"});
      log.clear();
      parent.stop();
      sim.run(parent.stopped());
      REQUIRE(log == texts{"c down", "b down", "a down"});
    });
  }

  TEST_CASE("a group restart awaits no answer owed below the one that failed") {
    struct question {
      using reply_type = int;
    };
    struct poke {};
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const auto silent = [](context<question> self) -> task<> {
        actors::reply_to<int> kept;
        const auto keep = [&](question, actors::reply_to<int> reply) {
          kept = std::move(reply);
        };
        co_await self.serve(keep);
      };
      const auto base = [silent](context<poke, question> self) -> task<> {
        auto below = self.spawn(silent);
        const auto fails = [](poke) { throw crash{"poked"}; };
        const auto hand_on = [&](question q) { self.forward(below, q); };
        while (co_await self.receive(fails, hand_on)) {
        }
      };
      int asked = 0;
      const auto above = [&asked](context<poke> self,
                                  actors::actor_ref<question> below) -> task<> {
        const auto ask = [&](poke) -> task<> {
          ++asked;
          (void)co_await actors::as_result(below.ask<question>());
        };
        while (co_await self.receive(ask)) {
        }
      };
      actors::actor_ref<poke, question> first;
      actors::actor_ref<poke> second;
      const auto boss = [&](context<> self) -> task<> {
        self.supervise(one_for_all{});
        first = self.spawn(base);
        second = self.spawn(above, first);
        co_await self.until_stop();
      };
      (void)sim.spawn(boss);
      sim.run_until_idle();
      second.tell(poke{});
      sim.run_until_idle();
      REQUIRE(asked == 1);
      sim.expect_failure<crash>(first);
      first.tell(poke{});
      second.tell(poke{});
      sim.run_until_idle();  // no time passes: nobody is late
      REQUIRE(asked == 2);
    });
  }
}
