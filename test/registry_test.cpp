// Names that are taken, and actors found by their paths.
#include "actors/registry.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
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
using actors::errc;
using actors::simulation;
using actors::task;
using support::contains;
using support::counted;
using support::each_system;
using support::error_of;
using support::flag;
using support::message_of;

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};
struct add {
  int n;
};
struct total {
  using reply_type = int;
};
struct other {};
struct go {};
struct fall {};

task<> counter(context<add, total> self) {
  int sum = 0;
  co_await self.serve([&](add a) { sum += a.n; }, [&](total) { return sum; });
}
task<> idle(context<> self) { co_await self.until_stop(); }
task<> crasher(context<fall> self) {
  co_await self.serve([](fall) { throw crash{"fall"}; });
}

template <class F>
void seeds(F&& f, int count = support::sanitized ? 20 : 100) {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(count);
       ++seed) {
    CAPTURE(seed);
    f(seed);
  }
}

}  // namespace

TEST_SUITE("registry") {
  // --- names ----------------------------------------------------------------

  TEST_CASE("a name that a living sibling has is taken") {
    simulation sim{1};
    auto first = sim.system().spawn({.name = "log"}, idle);
    try {
      (void)sim.system().spawn({.name = "log"}, idle);
      FAIL("nothing was thrown");
    } catch (const actors::actor_error& e) {
      CHECK(e.code() == errc::name_taken);
      CHECK(e.code() == std::errc::address_in_use);
      CHECK(contains(e.what(), "an actor lives at /user/log already"));
    }
    sim.run_until_idle();
    CHECK(sim.system().find("/user/log") == any_actor_ref{first});
    // Elsewhere it is free.
    auto parent = sim.system().spawn([](context<> self) -> task<> {
      (void)self.spawn({.name = "log"}, idle);
      CHECK(error_of([&] { (void)self.spawn({.name = "log"}, idle); }) ==
            errc::name_taken);
      CHECK(self.children().size() == 1);
      co_await self.until_stop();
    });
    sim.run_until_idle();
    CHECK(sim.system().find(parent.path() + "/log"));
  }

  TEST_CASE("what a refused spawn was given is destroyed, and nothing starts") {
    std::atomic<int> alive{0};
    int started = 0;
    {
      simulation sim{1};
      auto keeper = [&started](context<>, counted) -> task<> {
        ++started;
        co_return;
      };
      (void)sim.system().spawn({.name = "one"}, idle);
      const counted weight{alive};
      CHECK_THROWS_AS((void)sim.system().spawn({.name = "one"}, keeper, weight),
                      actors::actor_error);
      CHECK(alive == 1);
      sim.run_until_idle();
    }
    CHECK(started == 0);
    CHECK(alive == 0);
  }

  TEST_CASE("a name may contain no '/', nor begin with '$'") {
    simulation sim{1};
    const auto spawn = [&](std::string name) {
      return message_of<std::invalid_argument>(
          [&] { (void)sim.system().spawn({.name = name}, idle); });
    };
    CHECK(contains(spawn("a/b"), "may not contain '/': \"a/b\""));
    CHECK(contains(spawn("$1"), "may not begin with '$': \"$1\""));
    CHECK(spawn("a$") == "");
  }

  TEST_CASE("the name of a spawn that could not copy its arguments is free") {
    struct uncopyable {
      uncopyable() = default;
      uncopyable(const uncopyable&) { throw crash{"no copy"}; }
    };
    simulation sim{1};
    const uncopyable u;
    CHECK_THROWS_AS((void)sim.system().spawn(
                        {.name = "one"},
                        [](context<> self, uncopyable) -> task<> {
                          co_await self.until_stop();
                        },
                        u),
                    crash);
    CHECK_FALSE(sim.system().find("/user/one"));
    CHECK(sim.system().spawn({.name = "one"}, idle));
  }

  TEST_CASE("a name is free when stopped() tells of the end, or a watch") {
    each_system([](actor_system& system) {
      for (int i = 0; i != 50; ++i) {
        auto a = system.spawn({.name = "one"}, idle);
        i % 2 ? a.stop() : a.kill();
        (void)a.stopped().get();
      }
      auto done = system.spawn_once([](context<actors::ended> self) -> task<> {
        for (int i = 0; i != 50; ++i) {
          auto a = self.spawn({.name = "one"}, idle);
          self.watch(a);
          a.stop();
          (void)co_await self.receive();
          CHECK_FALSE(self.system().find(a.path()));
        }
      });
      CHECK(done.stopped().get() == actors::exit_reason::normal);
    });
  }

  TEST_CASE("a name is kept across restarts") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto a = sim.system().spawn({.name = "one"}, crasher);
      sim.expect_failure<crash>(a);
      a.tell(fall{});
      for (;;) {
        CHECK(sim.system().find<fall>("/user/one") == a);
        CHECK(error_of([&] {
                (void)sim.system().spawn({.name = "one"}, idle);
              }) == errc::name_taken);
        if (!sim.step()) break;
      }
      sim.run(a.started());
      a.stop();
      (void)sim.run(a.stopped());
      CHECK_FALSE(sim.system().find("/user/one"));
    });
  }

  TEST_CASE("of threads that race for a name exactly one wins") {
    each_system([](actor_system& system) {
      for (int round = 0; round != 20; ++round) {
        const std::string name = "n" + std::to_string(round);
        std::atomic<int> won{0}, lost{0};
        std::vector<std::thread> threads;
        for (int t = 0; t != 4; ++t)
          threads.emplace_back([&] {
            try {
              (void)system.spawn({.name = name}, counter);
              ++won;
            } catch (const actors::actor_error& e) {
              if (e.code() == errc::name_taken) ++lost;
            }
            // The winner may not be through with its spawn.
            system.wait_for<add>("/user/" + name).get().tell(add{1});
          });
        for (auto& t : threads) t.join();
        CHECK(won == 1);
        CHECK(lost == 3);
        CHECK(system.find<total>("/user/" + name).ask<total>().get() == 4);
      }
    });
  }

  TEST_CASE("a name is free on a system that has ended") {
    actor_system system{support::quiet()};
    system.terminate();
    for (int i = 0; i != 3; ++i) {
      auto a = system.spawn({.name = "one"}, idle);
      CHECK(a.stopped().get() == actors::exit_reason::not_started);
      CHECK_FALSE(system.find("/user/one"));
    }
  }

  TEST_CASE("what has ended is not kept by its name") {
    std::atomic<int> alive{0};
    simulation sim{1};
    for (int i = 0; i != 10; ++i) {
      auto a = sim.system().spawn(
          {.name = "one"},
          [](context<> self, counted) -> task<> { co_await self.until_stop(); },
          counted{alive});
      a.kill();
      (void)sim.run(a.stopped());
      CHECK(alive == 0);
    }
  }

  // --- find -----------------------------------------------------------------

  TEST_CASE("find gives a typed handle, to whoever lives there") {
    simulation sim{1};
    CHECK_FALSE(sim.system().find<add>("/user/counter"));
    auto a = sim.system().spawn({.name = "counter"}, counter);
    actor_ref<total, add> both = sim.system().find<total, add>("/user/counter");
    CHECK(both == actor_ref<total, add>{a});
    sim.system().find<add>("/user/counter").tell(add{3});
    CHECK(sim.run(both.ask<total>()) == 3);
    CHECK(sim.system().find("/user") == sim.system().user());
  }

  TEST_CASE("find refuses one that does not take the messages") {
    simulation sim{1};
    (void)sim.system().spawn({.name = "counter"}, counter);
    const std::string text = message_of<std::invalid_argument>(
        [&] { (void)sim.system().find<add, other>("/user/counter"); });
    CHECK(contains(text, "the actor at /user/counter does not take "));
    CHECK(contains(text, "other"));
  }

  TEST_CASE("a path that is none is refused") {
    simulation sim{1};
    for (const char* path :
         {"", "/", "user", "/usr/a", "/user/", "/user/a/", "/user//a", "/users",
          "user/a", "/user/$1", "/user/a/$2"}) {
      CAPTURE(path);
      CHECK_THROWS_AS((void)sim.system().find(path), std::invalid_argument);
      CHECK_THROWS_AS((void)sim.system().wait_for<add>(path),
                      std::invalid_argument);
    }
    CHECK(contains(message_of([&] { (void)sim.system().find("/user/$1"); }),
                   "only actors with a name are found"));
    CHECK_FALSE(sim.system().find("/user/$1/log"));
  }

  TEST_CASE("one with a name is found below one without") {
    simulation sim{1};
    auto parent = sim.system().spawn([](context<> self) -> task<> {
      (void)self.spawn({.name = "log"}, counter);
      co_await self.until_stop();
    });
    sim.run_until_idle();
    CHECK(parent.path() == "/user/$1");
    CHECK(sim.system().find<add>("/user/$1/log"));
  }

  TEST_CASE("an actor finds itself as soon as it runs") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      any_actor_ref found;
      auto a =
          sim.system().spawn({.name = "one"}, [&](context<> self) -> task<> {
            found = self.system().find(self.path());
            co_await self.until_stop();
          });
      sim.run(a.started());
      CHECK(found == any_actor_ref{a});
    });
  }

  TEST_CASE("who is found while it is spawned may be told, asked and stopped") {
    each_system([](actor_system& system) {
      std::atomic<bool> over{false};
      std::atomic<int> found{0};
      std::thread finder{[&] {
        while (!over) {
          auto a = system.find<add, total>("/user/one");
          if (!a) continue;
          ++found;
          a.tell(add{1});
          (void)error_of([&] { (void)a.ask<total>().get(); });
          a.stop();
        }
      }};
      for (int i = 0; i != (support::sanitized ? 50 : 300); ++i) {
        auto a = system.spawn({.name = "one"}, counter);
        (void)a.stopped().get();
      }
      over = true;
      finder.join();
      CHECK(found > 0);
    });
  }

  // --- wait_for -------------------------------------------------------------

  TEST_CASE("wait_for is ready at once when somebody is there") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto a = sim.system().spawn({.name = "one"}, counter);
      CHECK(sim.run(sim.system().wait_for<add>("/user/one")) ==
            actor_ref<add>{a});
      CHECK(sim.run(sim.system().wait_for("/user/one")) == any_actor_ref{a});
    });
  }

  TEST_CASE("wait_for waits until somebody is there") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<int> sums;
      const auto waits = [&](context<> self) -> task<> {
        auto a = co_await self.system().wait_for<add, total>("/user/a/b");
        a.tell(add{1});
        sums.push_back(co_await a.ask<total>());
      };
      for (int i = 0; i != 3; ++i) (void)sim.system().spawn(waits);
      (void)sim.system().spawn({.name = "a"}, [](context<> self) -> task<> {
        co_await self.sleep_for(1s);
        (void)self.spawn({.name = "b"}, counter);
        co_await self.until_stop();
      });
      sim.advance(999ms);
      CHECK(sums.empty());
      sim.advance(1ms);
      CHECK(sums.size() == 3);
    });
  }

  TEST_CASE("wait_for ends with an error for one of other messages") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const auto ask = [&] {
        return message_of<std::invalid_argument>([&] {
          (void)sim.run(sim.system().wait_for<other>("/user/one").within(1s));
        });
      };
      (void)sim.system().spawn([](context<> self) -> task<> {
        co_await self.sleep_for(500ms);
        (void)self.system().spawn({.name = "one"}, counter);
        co_await self.until_stop();
      });
      CHECK(contains(ask(), "the actor at /user/one does not take "));
      CHECK(contains(ask(), "the actor at /user/one does not take "));
      CHECK(sim.system().find("/user/one"));
    });
  }

  TEST_CASE("wait_for has a timeout, and is cancelled by a stop") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      CHECK(error_of([&] {
              (void)sim.run(sim.system().wait_for("/user/one").within(1s));
            }) == errc::timed_out);
      std::error_code ended;
      auto a = sim.system().spawn([&](context<> self) -> task<> {
        const auto found =
            co_await actors::as_result(self.system().wait_for("/user/one"));
        ended = found.error();
      });
      sim.run_until_idle();
      a.stop();
      (void)sim.run(a.stopped());
      CHECK(ended == asio::error::operation_aborted);
      auto killed = sim.system().spawn([](context<> self) -> task<> {
        (void)co_await self.system().wait_for("/user/one");
      });
      sim.run_until_idle();
      killed.kill();
      (void)sim.run(killed.stopped());
      // Those that gave up are no harm.
      (void)sim.system().spawn({.name = "one"}, idle);
      sim.run_until_idle();
    });
  }

  TEST_CASE("wait_for ends when the system ends") {
    each_system([](actor_system& system) {
      std::vector<std::future<any_actor_ref>> waiting;
      for (int i = 0; i != 10; ++i)
        waiting.push_back(
            system.wait_for("/user/n" + std::to_string(i))(asio::use_future));
      system.async_terminate().get();
      for (auto& f : waiting)
        CHECK(error_of([&] { (void)f.get(); }) == errc::actor_stopped);
      CHECK(error_of([&] { (void)system.wait_for("/user/one").get(); }) ==
            errc::actor_stopped);
    });
  }

  TEST_CASE("wait_for gives an error to a token, too") {
    each_system([](actor_system& system) {
      (void)system.spawn({.name = "one"}, counter);
      std::promise<std::string> said;
      system.wait_for<other>("/user/one")(
          [&](std::error_code e, actor_ref<other> who) {
            said.set_value(e && !who ? "refused" : "found");
          });
      CHECK(said.get_future().get() == "refused");
      CHECK(system.wait_for<add>("/user/one").get());
    });
  }

  TEST_CASE("waits that gave up do not add up") {
    simulation sim{1};
    for (int i = 0; i != 1000; ++i)
      CHECK(error_of([&] {
              (void)sim.run(sim.system()
                                .wait_for("/user/n" + std::to_string(i))
                                .within(1ms));
            }) == errc::timed_out);
    CHECK(sim.system().core().names().waiting_count() <= 32);
  }

  TEST_CASE("waits and spawns race on threads") {
    each_system([](actor_system& system) {
      const int rounds = support::sanitized ? 30 : 200;
      std::vector<std::thread> threads;
      std::atomic<int> found{0};
      for (int t = 0; t != 2; ++t)
        threads.emplace_back([&] {
          for (int i = 0; i != rounds; ++i) {
            const std::string path = "/user/n" + std::to_string(i);
            if (system.wait_for<add>(path).get()) ++found;
          }
        });
      threads.emplace_back([&] {
        for (int i = 0; i != rounds; ++i)
          (void)system.spawn({.name = "n" + std::to_string(i)}, counter);
      });
      for (auto& t : threads) t.join();
      CHECK(found == 2 * rounds);
    });
  }

  TEST_CASE("a guest whose io_context goes ends the waits") {
    std::promise<std::error_code> ended;
    {
      asio::io_context io;
      actors::system_options options;
      options.log.emplace();
      actor_system system{io, options};
      (void)system.spawn({.name = "there"}, idle);
      system.wait_for("/user/one")(
          asio::bind_executor(asio::system_executor{},
                              [&](std::error_code e, const any_actor_ref&) {
                                ended.set_value(e);
                              }));
      io.poll();
      CHECK(system.find("/user/there"));
    }
    CHECK(ended.get_future().get() == errc::actor_stopped);
  }
}
