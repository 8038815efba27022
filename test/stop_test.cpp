// Bounded stop: in which order a tree ends, how long that may take, and what
// is said of who is late.
#include "actors/exit_reason.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
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

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::any_actor_ref;
using actors::context;
using actors::duration;
using actors::exit_reason;
using actors::lifecycle_event;
using actors::restart_policy;
using actors::simulation;
using actors::simulation_options;
using actors::task;
using support::at_exit;
using support::contains;
using support::flag;
using support::stuck;
using kind = lifecycle_event::kind;
using texts = std::vector<std::string>;

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};
struct go {};
struct note {
  std::string text;
};

template <class F>
void seeds(F&& f, int count = 50) {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(count);
       ++seed) {
    CAPTURE(seed);
    f(seed);
  }
}

constexpr duration for_ever = 1h;

/// How an actor of a tree ends.
struct plan {
  std::string name;
  /// How long its cleanup takes.
  duration cleanup = {};
  /// None: not given.
  std::optional<duration> stop_timeout = {};
  std::vector<plan> children = {};
};

/// An actor and its children, and theirs.
task<> tree(context<go> self, plan p, texts* log) {
  for (const plan& child : p.children)
    self.spawn({.name = child.name, .stop_timeout = child.stop_timeout}, tree,
               child, log);
  co_await self.until_stop();
  log->push_back(p.name + " told");
  if (p.cleanup != duration::zero()) co_await self.sleep_for(p.cleanup);
  log->push_back(p.name + " done");
}

/// A simulation with a tree in it, and what is said of it.
struct forest {
  texts log;
  /// "NAME normal", in the order of the ends.
  texts ends;
  texts late;
  texts abandoned;
  simulation sim;
  actors::time_point before{};
  actor_ref<go> root;

  explicit forest(std::uint64_t seed, const plan& p)
      : sim{simulation_options{.seed = seed}} {
    sim.system().on_event([this](const lifecycle_event& e) {
      const std::string path = e.who.path();
      const std::string name = path.substr(path.rfind('/') + 1);
      if (name.starts_with("run-") || path == "/user") return;
      if (e.what == kind::stopped)
        ends.push_back(name + ' ' + e.why.to_string());
      if (e.what == kind::late) late.push_back(name);
      if (e.what == kind::abandoned) abandoned.push_back(name);
    });
    root = sim.spawn({.name = p.name, .stop_timeout = p.stop_timeout}, tree, p,
                     &log);
    sim.run_until_idle();
    before = sim.now();
  }
  /// How long it takes.
  duration stop() {
    root.stop();
    sim.run(root.stopped());
    return sim.now() - before;
  }
};

}  // namespace

TEST_SUITE("stop") {
  // --- order -----------------------------------------------------------------

  TEST_CASE("a tree ends from its last leaf, one after the other") {
    seeds([](std::uint64_t seed) {
      forest f{seed,
               {"root",
                1s,
                {},
                {{"a", 1s, {}, {{"a1", 1s}, {"a2", 1s}}},
                 {"b", 1s},
                 {"c", 1s, {}, {{"c1", 1s}}}}}};
      REQUIRE(f.stop() == 7s);
      REQUIRE(f.log == texts{"c1 told", "c1 done", "c told", "c done", "b told",
                             "b done", "a2 told", "a2 done", "a1 told",
                             "a1 done", "a told", "a done", "root told",
                             "root done"});
      REQUIRE(f.ends == texts{"c1 normal", "c normal", "b normal", "a2 normal",
                              "a1 normal", "a normal", "root normal"});
      REQUIRE(f.late.empty());
    });
  }

  TEST_CASE("1,000 children end in reverse order") {
    plan p{"root"};
    for (int i = 0; i != 1000; ++i) p.children.push_back({std::to_string(i)});
    forest f{1, p};
    f.stop();
    REQUIRE(f.ends.size() == 1001);
    for (std::size_t i = 0; i != 1000; ++i)
      REQUIRE(f.ends[i] == std::to_string(999 - i) + " normal");
  }

  TEST_CASE("one that ends by itself meanwhile, or fails, changes no order") {
    seeds([](std::uint64_t seed) {
      texts log;
      any_actor_ref bad;
      simulation sim{seed};
      auto root = sim.spawn([&](context<> self) -> task<> {
        const auto child = [&](context<go> me, std::string name) -> task<> {
          co_await me.until_stop();
          co_await me.sleep_for(1s);
          log.push_back(name);
          if (name == "c") throw crash{"in the cleanup"};
        };
        self.spawn(child, std::string{"a"});
        auto b = self.spawn(child, std::string{"b"});
        bad = self.spawn(child, std::string{"c"});
        self.spawn(child, std::string{"d"});
        (void)b;
        co_await self.until_stop();
        log.push_back("root");
      });
      sim.run_until_idle();
      sim.expect_failure<crash>(bad);
      root.stop();
      REQUIRE(sim.run(root.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"d", "c", "b", "a", "root"});
    });
  }

  // --- the group's deadline --------------------------------------------------

  TEST_CASE("children that take their time within the deadline are not late") {
    seeds([](std::uint64_t seed) {
      forest f{seed,
               {"root", {}, {}, {{"a", 2s, 7s}, {"b", 2s, 5s}, {"c", 2s, 3s}}}};
      REQUIRE(f.stop() == 6s);
      REQUIRE(f.late.empty());
      REQUIRE(f.ends ==
              texts{"c normal", "b normal", "a normal", "root normal"});
    });
  }

  TEST_CASE("a group has one deadline, the largest in it; the rest is killed") {
    seeds([](std::uint64_t seed) {
      forest f{
          seed,
          {"root",
           {},
           {},
           {{"a", for_ever, 1s}, {"b", for_ever, 3s}, {"c", for_ever, 2s}}}};
      // c is late by its own clock, b by the group's; a was not told yet.
      REQUIRE(f.stop() == 3s);
      REQUIRE(f.late == texts{"c", "b"});
      REQUIRE(f.log == texts{"c told", "b told", "root told", "root done"});
      REQUIRE(f.ends.size() == 4);
      REQUIRE(f.ends.front() == "c killed");
      REQUIRE(f.ends.back() == "root normal");
      std::sort(f.ends.begin() + 1, f.ends.begin() + 3);
      REQUIRE(f.ends[1] == "a killed");
      REQUIRE(f.ends[2] == "b killed");
    });
  }

  TEST_CASE("each within its own time, all together too slow: the last pay") {
    seeds([](std::uint64_t seed) {
      forest f{seed,
               {"root", {}, {}, {{"a", 2s, 5s}, {"b", 2s, 5s}, {"c", 2s, 5s}}}};
      REQUIRE(f.stop() == 5s);
      REQUIRE(f.late == texts{"a"});
      REQUIRE(f.ends ==
              texts{"c normal", "b normal", "a killed", "root normal"});
    });
  }

  TEST_CASE("the default is the system's, for each and for the group") {
    seeds([](std::uint64_t seed) {
      forest f{seed, {"root", {}, {}, {{"a", for_ever}, {"b", for_ever}}}};
      REQUIRE(f.stop() == 5s);
      // Its own clock and the group's at once: said once.
      REQUIRE(f.late == texts{"b"});
      REQUIRE(f.log == texts{"b told", "root told", "root done"});
    });
  }

  TEST_CASE("children whose body has ended first have the same deadline") {
    seeds([](std::uint64_t seed) {
      texts log;
      std::vector<any_actor_ref> refs;
      simulation sim{seed};
      auto root = sim.spawn([&](context<> self) -> task<> {
        for (const auto limit : {2s, 3s})
          refs.push_back(self.spawn({.stop_timeout = limit}, tree,
                                    plan{"leaf", for_ever}, &log));
        co_await self.sleep_for(1s);
      });
      sim.advance(500ms);
      const auto before = sim.now() + 500ms;
      REQUIRE(sim.run(root.stopped()) == exit_reason::normal);
      // The second for three seconds, which was all there was.
      REQUIRE(sim.now() - before == 3s);
      for (const auto& ref : refs)
        REQUIRE(sim.run(ref.stopped()) == exit_reason::killed);
    });
  }

  TEST_CASE("children of one that restarts have it, and no overlap") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      int alive = 0;
      int born = 0;
      auto root = sim.spawn([&](context<note> self) -> task<> {
        REQUIRE(alive == 0);
        ++born;
        self.spawn({.stop_timeout = 2s}, [&](context<> me) -> task<> {
          ++alive;
          at_exit gone{[&] { --alive; }};
          co_await me.until_stop();
          co_await me.sleep_for(for_ever);
        });
        while (
            co_await self.receive([](const note& n) { throw crash{n.text}; })) {
        }
      });
      sim.run_until_idle();
      sim.expect_failure<crash>(root);
      root.tell<note>("once");
      sim.advance(1900ms);
      REQUIRE(born == 1);
      REQUIRE(alive == 1);
      sim.advance(200ms);
      REQUIRE(born == 2);
      REQUIRE(alive == 1);
    });
  }

  // --- actors with children --------------------------------------------------

  TEST_CASE("an actor with children has the time that those need") {
    seeds([](std::uint64_t seed) {
      // More than the default of five seconds at each level.
      forest f{
          seed,
          {"root",
           {},
           {},
           {{"a", 1s, 20s}, {"m", {}, {}, {{"x", 8s, 20s}, {"y", 8s, 20s}}}}}};
      REQUIRE(f.stop() == 17s);
      REQUIRE(f.late.empty());
      REQUIRE(f.ends == texts{"y normal", "x normal", "m normal", "a normal",
                              "root normal"});
    });
  }

  TEST_CASE("a limit that it gives itself counts in its group") {
    seeds([](std::uint64_t seed) {
      forest f{seed, {"root", {}, {}, {{"m", {}, 2s, {{"x", for_ever, 10s}}}}}};
      REQUIRE(f.stop() == 2s);
      REQUIRE(f.late == texts{"m"});
      REQUIRE(f.log == texts{"x told", "root told", "root done"});
      REQUIRE(f.ends == texts{"x killed", "m killed", "root normal"});
    });
  }

  TEST_CASE("its own clock runs only while it is waited for itself") {
    seeds([](std::uint64_t seed) {
      for (const bool hangs : {false, true}) {
        CAPTURE(hangs);
        simulation sim{seed};
        auto ref =
            sim.spawn({.stop_timeout = 2s}, [&](context<go> self) -> task<> {
              self.spawn({.stop_timeout = 10s}, [](context<> me) -> task<> {
                co_await me.until_stop();
                co_await me.sleep_for(9s);
              });
              while (co_await self.receive(
                  [&](go) -> task<> { co_await self.sleep_for(500ms); })) {
              }
              co_await self.sleep_for(hangs ? for_ever : 1400ms);
            });
        ref.tell(go{});
        sim.run_until_idle();
        const auto before = sim.now();
        ref.stop();
        const exit_reason why = sim.run(ref.stopped());
        if (hangs) {
          REQUIRE(why == exit_reason::killed);
          REQUIRE(sim.now() - before > 10900ms);
          REQUIRE(sim.now() - before <= 11500ms);
        } else {
          REQUIRE(why == exit_reason::normal);
          REQUIRE(sim.now() - before == 10900ms);
        }
      }
    });
  }

  TEST_CASE("nested groups: the innermost is late, the others are not") {
    seeds([](std::uint64_t seed) {
      forest f{
          seed,
          {"root",
           1s,
           {},
           {{"a", 1s, {}, {{"b", 1s, {}, {{"c", 1s}, {"d", for_ever, 2s}}}}},
            {"e", 1s}}}};
      // e 1, d killed at 2, c 1, b 1, a 1, root 1.
      REQUIRE(f.stop() == 7s);
      REQUIRE(f.late == texts{"d"});
      REQUIRE(f.ends == texts{"e normal", "d killed", "c normal", "b normal",
                              "a normal", "root normal"});
    });
  }

  TEST_CASE("no time at all is a kill") {
    seeds([](std::uint64_t seed) {
      forest f{seed, {"root", 1s, 0s}};
      REQUIRE(f.stop() == 0s);
      REQUIRE(f.ends == texts{"root killed"});
    });
  }

  // --- what is said of who is late -------------------------------------------

  TEST_CASE("late in a child task: its place, and the message it works on") {
    seeds(
        [](std::uint64_t seed) {
          std::uint_least32_t line = 0;
          std::vector<lifecycle_event> late;
          simulation sim{seed};
          sim.system().on_event([&](const lifecycle_event& e) {
            if (e.what == kind::late) late.push_back(e);
          });
          auto ref = sim.spawn(
              {.name = "slow", .stop_timeout = 2s},
              [&](context<note, go> self) -> task<> {
                const auto deaf = [&](context<>& me) -> task<> {
                  for (;;) {  // does not listen
                    line = __LINE__ + 1;
                    auto r = co_await actors::as_result(me.sleep_for(1h));
                    (void)r;
                  }
                };
                const auto slow = [&](const note&) -> task<> {
                  co_await deaf(self);
                };
                auto beside = actors::concurrent(slow);
                while (co_await self.receive(beside, [](go) {})) {
                }
              });
          ref.tell<note>("in hand");
          sim.run_until_idle();
          ref.stop();
          REQUIRE(sim.run(ref.stopped()) == exit_reason::killed);
          REQUIRE(late.size() == 1);
          REQUIRE(late[0].who == ref);
          REQUIRE(late[0].message);
          REQUIRE(*late[0].message == typeid(note));
          REQUIRE(contains(late[0].where.file_name(), "stop_test.cpp"));
          REQUIRE(late[0].where.line() == line);  // the innermost
        },
        10);
  }

  TEST_CASE("late in a group: each is named with its own place and queue") {
    seeds(
        [](std::uint64_t seed) {
          std::uint_least32_t line = 0;
          std::vector<lifecycle_event> late;
          actor_ref<note, go> child;
          simulation sim{seed};
          sim.system().on_event([&](const lifecycle_event& e) {
            if (e.what == kind::late) late.push_back(e);
          });
          auto root =
              sim.spawn({.name = "root"}, [&](context<> self) -> task<> {
                child = self.spawn({.name = "slow", .stop_timeout = 2s},
                                   [&](context<note, go> me) -> task<> {
                                     while (co_await me.receive(
                                         [&](const note&) -> task<> {
                                           line = __LINE__ + 1;
                                           co_await me.sleep_for(for_ever);
                                         },
                                         [](go) {})) {
                                     }
                                   });
                co_await self.until_stop();
              });
          sim.run_until_idle();
          child.tell<note>("in hand");
          for (int i = 0; i != 4; ++i) child.tell(go{});
          sim.run_until_idle();
          root.stop();
          REQUIRE(sim.run(root.stopped()) == exit_reason::normal);
          REQUIRE(late.size() == 1);
          REQUIRE(late[0].who.path() == "/user/root/slow");
          REQUIRE(*late[0].message == typeid(note));
          REQUIRE(late[0].where.line() == line);
          REQUIRE(late[0].queued == 4);
          // They were dead letters by then, and so is nothing else.
          REQUIRE(sim.system().dead_letter_count() == 4);
        },
        20);
  }

  // --- kill, and abandoned ---------------------------------------------------

  TEST_CASE("stop, kill, abandoned: then the next child has its turn") {
    seeds([](std::uint64_t seed) {
      stuck* hangs = nullptr;
      texts log, said;
      any_actor_ref lost;
      simulation sim{seed};
      sim.system().on_event([&](const lifecycle_event& e) {
        if (e.who == lost && e.what != kind::started)
          said.emplace_back(to_string(e.what));
      });
      auto root = sim.spawn([&](context<> self) -> task<> {
        self.spawn(tree, plan{"a", 1s}, &log);
        lost = self.spawn(
            {.stop_timeout = 2s},
            [](context<> me, stuck** to) -> task<> {
              (void)me;
              stuck op{to};
              co_await op;
            },
            &hangs);
        co_await self.until_stop();
        log.push_back("root");
      });
      sim.run_until_idle();
      const auto before = sim.now();
      root.stop();
      REQUIRE(sim.run(root.stopped()) == exit_reason::normal);
      REQUIRE(sim.now() - before == 4s);  // 2 for the stop, 1 for the kill
      REQUIRE(sim.run(lost.stopped()) == exit_reason::abandoned);
      REQUIRE(said == texts{"late", "abandoned", "stopped"});
      REQUIRE(log == texts{"a told", "a done", "root"});
      hangs->complete();
    });
  }

  TEST_CASE("a kill that comes during a stop is not waited for in vain") {
    seeds([](std::uint64_t seed) {
      forest f{seed, {"root", {}, {}, {{"a", 1s}, {"b", for_ever, 1min}}}};
      f.root.stop();
      f.sim.advance(1s);
      REQUIRE(f.ends.empty());
      f.root.kill();
      REQUIRE(f.sim.run(f.root.stopped()) == exit_reason::killed);
      REQUIRE(f.sim.now() - f.before == 1s);
      REQUIRE(f.late.empty());
    });
  }

  TEST_CASE("terminate() of a simulation has the same bounds") {
    seeds([](std::uint64_t seed) {
      forest f{seed, {"root", {}, {}, {{"a", for_ever, 2s}}}};
      f.sim.terminate();
      REQUIRE(f.ends == texts{"a killed", "root normal"});
      REQUIRE(f.sim.now() - f.before == 2s);
    });
  }

  // --- threads ---------------------------------------------------------------

  TEST_CASE("terminate() says who never comes back, and ends") {
    const auto scenario = [](actor_system& system, support::log_lines& lines) {
      stuck* hangs = nullptr;
      std::atomic<bool> cleaned{false};
      flag ready;
      int line = 0;
      auto lost =
          system.spawn({.name = "lost"}, [&](context<note, go> self) -> task<> {
            while (co_await self.receive(
                [&](const note&) -> task<> {
                  stuck op{&hangs};
                  ready.set();
                  line = __LINE__ + 1;
                  co_await op;
                },
                [](go) {})) {
            }
          });
      lost.tell<note>("in hand");
      lost.tell(go{});
      ready.wait();
      // Told first, and cleans up.
      auto good = system.spawn([&](context<> self) -> task<> {
        co_await self.until_stop();
        co_await self.sleep_for(1us);
        cleaned = true;
      });
      good.started().get();
      system.async_terminate().get();
      CHECK(lost.stopped().get() == exit_reason::abandoned);
      CHECK(good.stopped().get() == exit_reason::normal);
      CHECK(cleaned);
      const std::string place = "stop_test.cpp:" + std::to_string(line);
      for (const char* what :
           {"a stop takes too long", "a kill takes too long"}) {
        const std::string said = lines.find(what);
        CHECK(contains(said, "/user/lost"));
        CHECK(contains(said, place));
        CHECK(contains(said, "note in hand"));
        CHECK(contains(said, "1 message left over"));
      }
      hangs->complete();
    };
    for (const auto& d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      support::log_lines lines;
      actor_system system{{.threads = 2,
                           .dispatcher = d,
                           .stop_timeout = 1s,
                           .kill_timeout = 20ms,
                           .log = lines.sink()}};
      scenario(system, lines);
      system.terminate();
    }
    support::log_lines lines;
    asio::io_context io;
    auto work = asio::make_work_guard(io);
    std::thread one{[&] { io.run(); }};
    std::thread two{[&] { io.run(); }};
    {
      actor_system system{
          io, {.stop_timeout = 1s, .kill_timeout = 20ms, .log = lines.sink()}};
      scenario(system, lines);
    }
    work.reset();
    one.join();
    two.join();
  }

  TEST_CASE("trees on threads end whole, whoever stops them, at any time") {
    const int rounds = support::sanitized ? 20 : 100;
    for (const auto& d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()})
      for (int round = 0; round != rounds; ++round) {
        std::atomic<int> alive{0};
        {
          actors::system_options options = support::quiet(2);
          options.dispatcher = d;
          actor_system system{options};
          struct grower {
            static task<> body(context<go> self, int depth,
                               support::counted weight) {
              for (int i = 0; depth != 0 && i != 3; ++i)
                self.spawn({.placement = actors::placement::round_robin()},
                           &grower::body, depth - 1, weight);
              co_await self.until_stop();
              co_await self.sleep_for(1us);
            }
          };
          auto root = system.spawn(&grower::body, 3, support::counted{alive});
          if (round % 2) root.started().get();
          std::thread other{[&] {
            if (round % 3 == 0) root.kill();
            if (round % 3 == 1) root.drain();
            root.stop();
          }};
          if (round % 5 == 0) system.terminate();
          root.stop();
          other.join();
          const exit_reason why = root.stopped().get();
          const bool good =
              why == exit_reason::normal || why == exit_reason::killed;
          REQUIRE(good);
          REQUIRE(alive == 0);
        }
      }
  }
}
