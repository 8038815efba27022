// `self.watch`: who is told of an end, of which, when, and what it costs.
#include "actors/ended.hpp"

#include <doctest/doctest.h>

#include <array>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
#include "cell.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::any_actor_ref;
using actors::context;
using actors::ended;
using actors::exit_reason;
using actors::restart_policy;
using actors::simulation;
using actors::task;
using support::at_exit;
using support::counted;
using support::each_system;
using support::stuck;
using texts = std::vector<std::string>;

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};
struct note {
  std::string text;
};
struct go {};
struct look_at {
  any_actor_ref who;
};
struct look_away {
  any_actor_ref who;
};
/// A message of the user's, instead of `ended`.
struct gone {
  int number;
};
/// One that is counted.
struct heavy {
  counted weight;
};

template <class F>
void seeds(F&& f, int count = 100) {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(count);
       ++seed) {
    CAPTURE(seed);
    f(seed);
  }
}

const actors::detail::cell_extras* extras_of(const any_actor_ref& ref) {
  return actors::detail::to_cell(*ref.cell().get()).extras_if_any();
}
/// While nothing runs.
bool has_watchers(const any_actor_ref& ref) {
  const auto* x = extras_of(ref);
  return x && x->watchers;
}
bool watches(const any_actor_ref& ref) {
  const auto* x = extras_of(ref);
  return x && !x->watching.empty();
}

using watcher_self = context<ended, note, gone, look_at, look_away, go>;
using watcher_ref = actor_ref<ended, note, gone, look_at, look_away, go>;

/// Watches whom it is told to, and writes down what it hears.
task<> watcher(watcher_self self, texts* log) {
  while (co_await self.receive(
      [&](const ended& e) { log->push_back(e.why.to_string()); },
      [&](const note& n) { log->push_back(n.text); },
      [&](gone g) { log->push_back("gone " + std::to_string(g.number)); },
      [&](const look_at& l) { self.watch(l.who); },
      [&](const look_away& l) { self.unwatch(l.who); },
      [](go) { throw crash{"told to"}; })) {
  }
}

task<> idle(context<go, note> self) {
  while (co_await self.receive([](go) {}, [](const note&) {})) {
  }
}

/// Ends when it is told to; fails by a note.
task<> mortal(context<go, note> self) {
  bool on = true;
  while (co_await self.receive([&](go) { on = false; },
                               [](const note& n) { throw crash{n.text}; })) {
    if (!on) break;
  }
}

/// What a watcher hears of an actor that failed with a `crash`.
std::string failed_with(const char* text) {
  return exit_reason{std::make_exception_ptr(crash{text})}.to_string();
}

/// How an actor ends, with what its watcher is told.
enum class way { returns, stop, drain, stop_itself, fails, kill, too_late };
constexpr std::array ways{way::returns,     way::stop,  way::drain,
                          way::stop_itself, way::fails, way::kill,
                          way::too_late};

std::string told_of(way w) {
  switch (w) {
    case way::fails:
      return failed_with("of all things");
    case way::kill:
    case way::too_late:
      return "killed";
    default:
      return "normal";
  }
}

/// Has a child, a cleanup and locals, and says when each of them has gone.
/// With its last words for `to` it ends.
task<> family(context<way> self, actor_ref<note> to, texts* log, counted) {
  at_exit locals{[log] { log->push_back("locals"); }};
  self.spawn(
      [](context<> me, texts* out) -> task<> {
        at_exit left{[out] { out->push_back("child"); }};
        co_await me.until_stop();
        co_await me.sleep_for(1s);
      },
      log);
  bool on = true;
  bool late = false;
  while (co_await self.receive([&](way w) {
    for (int i = 0; i != 3; ++i) to.tell(note{"last words"});
    if (w == way::fails) throw crash{"of all things"};
    if (w == way::returns) on = false;
    if (w == way::stop_itself) self.stop();
    if (w == way::too_late) late = true;
  })) {
    if (!on) break;
  }
  if (late) co_await self.sleep_for(1h);
  co_await self.sleep_for(1s);
}

}  // namespace

TEST_SUITE("watch") {
  // --- who is told of what ---------------------------------------------------

  TEST_CASE("each kind of end is told after the cleanup and the last words") {
    for (const way w : ways) {
      CAPTURE(static_cast<int>(w));
      seeds(
          [&](std::uint64_t seed) {
            std::atomic<int> alive{0};
            texts log, seen;
            std::size_t seen_before = 0;
            int left_over = -1;
            any_actor_ref was;
            simulation sim{seed};
            auto reader =
                sim.spawn([&](context<ended, note, look_at> self) -> task<> {
                  while (co_await self.receive(
                      [&](const ended& e) {
                        left_over = alive;
                        seen_before = seen.size();
                        was = e.who;
                        log.push_back(e.why.to_string());
                      },
                      [&](const note& n) { log.push_back(n.text); },
                      [&](const look_at& l) { self.watch(l.who); })) {
                  }
                });
            auto ref = sim.spawn(
                {.restart = restart_policy::never, .stop_timeout = 5s}, family,
                reader, &seen, counted{alive});
            reader.tell<look_at>(any_actor_ref{ref});
            sim.run_until_idle();
            if (w == way::fails) sim.expect_failure<crash>(ref);
            ref.tell(way{w});
            sim.run_until_idle();
            if (w == way::stop || w == way::too_late) ref.stop();
            if (w == way::drain) ref.drain();
            if (w == way::kill) ref.kill();
            sim.advance(10s);

            texts cleanup{"child", "locals"};
            // A body that ends first has its locals gone before its children;
            // a kill ends each on its own strand.
            const bool locals_first =
                w == way::returns || w == way::fails ||
                (w == way::kill && seen.front() == "locals");
            if (locals_first) std::swap(cleanup[0], cleanup[1]);
            REQUIRE(seen == cleanup);
            REQUIRE(seen_before == 2);
            REQUIRE(log == texts{"last words", "last words", "last words",
                                 told_of(w)});
            REQUIRE(was == ref);
            // The callable and its arguments have gone.
            REQUIRE(left_over == 0);
            REQUIRE(!has_watchers(ref));
            REQUIRE(!watches(reader));
          },
          20);
    }
  }

  TEST_CASE("an abandoned actor is told as such, and comes back to nobody") {
    seeds([](std::uint64_t seed) {
      texts log;
      std::atomic<int> alive{0};
      simulation sim{seed};
      stuck* hangs = nullptr;
      auto reader = sim.spawn(watcher, &log);
      auto ref = sim.spawn(
          [](context<> self, stuck** to, counted, watcher_ref out) -> task<> {
            out.tell(note{"last words"});
            (void)self;
            stuck op{to};
            co_await op;
          },
          &hangs, counted{alive}, reader);
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      ref.kill();
      sim.run_until_idle();
      REQUIRE(log == texts{"last words"});
      sim.advance(10s);
      REQUIRE(log == texts{"last words",
                           exit_reason{exit_reason::abandoned}.to_string()});
      hangs->complete();
      sim.run_until_idle();
      REQUIRE(log.size() == 2);
      REQUIRE(alive == 0);
    });
  }

  TEST_CASE("an actor that has ended before is told at once, as it ended") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto reader = sim.spawn(watcher, &log);
      auto one = sim.spawn(mortal);
      auto two = sim.spawn({.restart = restart_policy::never}, mortal);
      auto three = sim.spawn(mortal);
      sim.run_until_idle();
      sim.expect_failure<crash>(two);
      one.tell(go{});
      two.tell<note>("once");
      three.kill();
      sim.run_until_idle();
      const auto before = sim.now();
      for (const any_actor_ref& ref :
           {any_actor_ref{one}, any_actor_ref{two}, any_actor_ref{three}})
        reader.tell(look_at{ref});
      sim.run_until_idle();
      REQUIRE(log == texts{"normal", failed_with("once"), "killed"});
      REQUIRE(sim.now() == before);
      REQUIRE(!watches(reader));
    });
  }

  TEST_CASE("a null ref has ended, and never was") {
    texts log;
    simulation sim;
    auto reader = sim.spawn(watcher, &log);
    reader.tell(look_at{});
    reader.tell(look_away{});
    sim.run_until_idle();
    CHECK(log == texts{exit_reason{exit_reason::not_started}.to_string()});
    CHECK(!watches(reader));
  }

  TEST_CASE("one that never ran is told as not started") {
    texts log;
    simulation over;
    over.terminate();
    auto ref = over.spawn(idle);
    simulation sim;
    auto reader = sim.spawn(watcher, &log);
    reader.tell<look_at>(any_actor_ref{ref});
    sim.run_until_idle();
    CHECK(log == texts{exit_reason{exit_reason::not_started}.to_string()});
  }

  TEST_CASE("a start that fails is told as a failure, with its error") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto reader = sim.spawn(watcher, &log);
      auto ref = sim.spawn([](context<> self) -> task<> {
        (void)self;
        throw crash{"no database"};
        co_return;
      });
      // A factory is no coroutine.
      auto factory = [](context<>) -> task<> { throw crash{"no file"}; };
      auto other = sim.spawn(factory);
      sim.expect_failure<crash>(ref);
      sim.expect_failure<crash>(other);
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      REQUIRE(log == texts{failed_with("no database")});
      reader.tell<look_at>(any_actor_ref{other});
      sim.run_until_idle();
      REQUIRE(log == texts{failed_with("no database"), failed_with("no file")});
    });
  }

  TEST_CASE("one that is killed before it has run is told as killed") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto reader = sim.spawn(watcher, &log);
      auto ref = sim.spawn(idle);
      ref.kill();
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      REQUIRE(log == texts{"killed"});
    });
  }

  TEST_CASE("a message of the user's comes instead of ended") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto one = sim.spawn(mortal);
      auto two = sim.spawn(mortal);
      auto reader = sim.spawn([&](watcher_self self) -> task<> {
        self.watch(one, gone{1});
        const gone second{2};
        self.watch(two, second);
        co_await watcher(std::move(self), &log);
      });
      sim.run_until_idle();
      two.tell(go{});
      sim.run_until_idle();
      one.kill();
      sim.run_until_idle();
      REQUIRE(log == texts{"gone 2", "gone 1"});
      REQUIRE(!watches(reader));
    });
  }

  TEST_CASE("receive<ended> waits for the end of a child") {
    seeds([](std::uint64_t seed) {
      texts log;
      std::atomic<int> alive{0};
      simulation sim{seed};
      sim.run([&](context<ended, note> self) -> task<> {
        auto child = self.spawn(family, self.ref(), &log, counted{alive});
        self.watch(child);
        child.tell(way::returns);
        auto e = co_await self.receive<ended>();
        REQUIRE(e);
        CHECK(e->who == child);
        CHECK(e->why == exit_reason::normal);
        CHECK(log == texts{"locals", "child"});
        // The last words are where they were.
        for (int i = 0; i != 3; ++i) {
          auto n = co_await self.receive<note>();
          REQUIRE(n);
        }
      });
    });
  }

  // --- restarts --------------------------------------------------------------

  TEST_CASE("a restart of the watched is no end") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto reader = sim.spawn(watcher, &log);
      auto ref = sim.spawn(mortal);
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      sim.expect_failure<crash>(ref, 3);
      for (int i = 0; i != 3; ++i) ref.tell<note>("again");
      sim.run_until_idle();
      REQUIRE(log.empty());
      REQUIRE(has_watchers(ref));
      ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(log == texts{"normal"});
    });
  }

  TEST_CASE("a restart with backoff, stopped meanwhile, is told once") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{actors::simulation_options{
          .seed = seed,
          .system = {.supervision = actors::one_for_one{
                         .backoff = {.min = 1h, .max = 1h}}}}};
      auto reader = sim.spawn(watcher, &log);
      auto ref = sim.spawn(mortal);
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      sim.expect_failure<crash>(ref);
      ref.tell<note>("once");
      sim.advance(1s);
      REQUIRE(log.empty());
      ref.stop();
      sim.run_until_idle();
      REQUIRE(log.size() == 1);
      sim.advance(2h);
      REQUIRE(log.size() == 1);
    });
  }

  TEST_CASE("a restart of the watcher ends its watches") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto ref = sim.spawn(mortal);
      auto reader = sim.spawn(watcher, &log);
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      sim.expect_failure<crash>(reader);
      reader.tell(go{});
      sim.run_until_idle();
      REQUIRE(!has_watchers(ref));
      REQUIRE(!watches(reader));
      ref.tell(go{});
      reader.tell<note>("still here");
      sim.run_until_idle();
      REQUIRE(log == texts{"still here"});
      // It may watch anew.
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      REQUIRE(log == texts{"still here", "normal"});
    });
  }

  TEST_CASE("a restart of the watcher beside the end of the watched: once") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto ref = sim.spawn(mortal);
      auto reader = sim.spawn(watcher, &log);
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      sim.expect_failure<crash>(reader);
      reader.tell(go{});
      ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(log.size() <= 1);
      REQUIRE(!has_watchers(ref));
      REQUIRE(!watches(reader));
      sim.check();
    });
  }

  // --- unwatch ---------------------------------------------------------------

  TEST_CASE("after unwatch there is no message") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto ref = sim.spawn(mortal);
      auto reader = sim.spawn(watcher, &log);
      reader.tell<look_at>(any_actor_ref{ref});
      if (seed % 2) sim.run_until_idle();
      reader.tell<look_away>(any_actor_ref{ref});
      reader.tell<look_away>(any_actor_ref{ref});  // nothing to end
      sim.run_until_idle();
      REQUIRE(!has_watchers(ref));
      ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(log.empty());
    });
  }

  TEST_CASE("an unwatch that the end has beaten may be too late, not more") {
    seeds([](std::uint64_t seed) {
      std::atomic<int> alive{0};
      int told = 0;
      simulation sim{seed};
      auto ref = sim.spawn(mortal);
      auto reader =
          sim.spawn([&](context<heavy, look_at, look_away> self) -> task<> {
            while (co_await self.receive(
                [&](const heavy&) { ++told; },
                [&](const look_at& l) {
                  self.watch(l.who, heavy{counted{alive}});
                },
                [&](const look_away& l) { self.unwatch(l.who); })) {
            }
          });
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      ref.tell(go{});
      reader.tell<look_away>(any_actor_ref{ref});
      sim.run_until_idle();
      REQUIRE(told <= 1);
      REQUIRE(alive == 0);
    });
  }

  TEST_CASE("watched, unwatched, watched again: one message") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto ref = sim.spawn(mortal);
      auto reader = sim.spawn(watcher, &log);
      for (int i = 0; i != 5; ++i) {
        reader.tell<look_at>(any_actor_ref{ref});
        reader.tell<look_away>(any_actor_ref{ref});
        if (seed % 3 == 0) sim.step();
      }
      reader.tell<look_at>(any_actor_ref{ref});
      sim.run_until_idle();
      ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(log == texts{"normal"});
      REQUIRE(!watches(reader));
    });
  }

  TEST_CASE("watched twice is told once, by the newer message") {
    seeds([](std::uint64_t seed) {
      std::atomic<int> alive{0};
      texts log;
      simulation sim{seed};
      auto ref = sim.spawn(mortal);
      auto other = sim.spawn(mortal);
      auto reader = sim.spawn([&](context<ended, gone, heavy> self) -> task<> {
        self.watch(ref, heavy{counted{alive}});
        self.watch(ref);
        self.watch(ref, gone{7});
        self.watch(other, gone{8});
        self.watch(other);
        while (co_await self.receive(
            [&](const ended& e) { log.push_back(e.why.to_string()); },
            [&](gone g) { log.push_back(std::to_string(g.number)); },
            [&](const heavy&) { log.push_back("heavy"); })) {
        }
      });
      sim.run_until_idle();
      ref.tell(go{});
      sim.run_until_idle();
      other.kill();
      sim.run_until_idle();
      REQUIRE(log == texts{"7", "killed"});
      REQUIRE(alive == 0);
      REQUIRE(!watches(reader));
    });
  }

  // --- ends of the watcher ---------------------------------------------------

  TEST_CASE("a watcher that ends first leaves nothing behind") {
    for (const way w : ways) {
      CAPTURE(static_cast<int>(w));
      seeds(
          [&](std::uint64_t seed) {
            std::atomic<int> alive{0};
            simulation sim{seed};
            auto ref = sim.spawn(idle);
            auto reader = sim.spawn(
                {.restart = restart_policy::never},
                [&](context<heavy, way> self, any_actor_ref who) -> task<> {
                  self.watch(who, heavy{counted{alive}});
                  bool on = true;
                  while (
                      co_await self.receive([](const heavy&) { FAIL("told"); },
                                            [&](way how) {
                                              if (how == way::returns)
                                                on = false;
                                              if (how == way::stop_itself)
                                                self.stop();
                                              if (how == way::fails)
                                                throw crash{""};
                                            })) {
                    if (!on) break;
                  }
                  if (w == way::too_late) co_await self.sleep_for(1h);
                },
                any_actor_ref{ref});
            if (seed % 2) sim.run_until_idle();
            if (w == way::fails) sim.expect_failure<crash>(reader);
            if (w == way::stop || w == way::too_late)
              reader.stop();
            else if (w == way::drain)
              reader.drain();
            else if (w == way::kill)
              reader.kill();
            else
              reader.tell(way{w});
            sim.run(reader.stopped());
            sim.run_until_idle();
            REQUIRE(alive == 0);
            REQUIRE(!has_watchers(ref));
            ref.stop();
            sim.run(ref.stopped());
          },
          20);
    }
  }

  TEST_CASE("both end at once: nothing is left of the watch") {
    seeds([](std::uint64_t seed) {
      std::atomic<int> alive{0};
      any_actor_ref kept[2];
      {
        simulation sim{seed};
        auto ref = sim.spawn(mortal);
        auto reader = sim.spawn(
            [&](context<heavy> self, any_actor_ref who) -> task<> {
              self.watch(who, heavy{counted{alive}});
              while (co_await self.receive([](const heavy&) {})) {
              }
            },
            any_actor_ref{ref});
        kept[0] = ref;
        kept[1] = reader;
        if (seed % 2) sim.run_until_idle();
        ref.stop();
        reader.stop();
        if (seed % 3 == 0) ref.kill();
        if (seed % 5 == 0) reader.kill();
      }
      REQUIRE(alive == 0);
      REQUIRE(!has_watchers(kept[0]));
      REQUIRE(!watches(kept[1]));
    });
  }

  TEST_CASE("two that watch each other: the one left is told") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto a = sim.spawn(watcher, &log);
      auto b = sim.spawn(watcher, &log);
      a.tell<look_at>(any_actor_ref{b});
      b.tell<look_at>(any_actor_ref{a});
      sim.run_until_idle();
      a.kill();
      sim.run_until_idle();
      REQUIRE(log == texts{"killed"});
      REQUIRE(!has_watchers(b));
      b.stop();
      REQUIRE(sim.run(b.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"killed"});
    });
  }

  TEST_CASE("two that watch each other may end at once") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto a = sim.spawn(watcher, &log);
      auto b = sim.spawn(watcher, &log);
      a.tell<look_at>(any_actor_ref{b});
      b.tell<look_at>(any_actor_ref{a});
      if (seed % 2) sim.run_until_idle();
      a.stop();
      b.stop();
      sim.run(a.stopped());
      sim.run(b.stopped());
      REQUIRE(log.size() <= 1);
    });
  }

  TEST_CASE("parent and child may watch each other") {
    seeds([](std::uint64_t seed) {
      texts log;
      simulation sim{seed};
      auto parent = sim.spawn([&](watcher_self self) -> task<> {
        auto child = self.spawn(watcher, &log);
        self.watch(child);
        child.tell<look_at>(self.any_ref());
        co_await watcher(std::move(self), &log);
      });
      sim.run_until_idle();
      parent.stop();
      REQUIRE(sim.run(parent.stopped()) == exit_reason::normal);
      REQUIRE(log.empty());  // both have stopped to listen
    });
  }

  TEST_CASE("an actor that watches itself ends as any other") {
    seeds([](std::uint64_t seed) {
      std::atomic<int> alive{0};
      simulation sim{seed};
      auto ref = sim.spawn([&](context<heavy, go, note> self) -> task<> {
        self.watch(self.any_ref(), heavy{counted{alive}});
        bool on = true;
        while (co_await self.receive(
            [](const heavy&) { FAIL("told"); }, [&](go) { on = false; },
            [](const note& n) { throw crash{n.text}; })) {
          if (!on) break;
        }
      });
      if (seed % 2) sim.run_until_idle();
      sim.expect_failure<crash>(ref);
      ref.tell<note>("restarts");
      sim.run_until_idle();
      REQUIRE(alive == 1);  // the new incarnation's
      seed % 3 ? ref.tell(go{}) : ref.kill();
      sim.run(ref.stopped());
      sim.run_until_idle();
      REQUIRE(alive == 0);
      REQUIRE(!has_watchers(ref));
    });
  }

  // --- many ------------------------------------------------------------------

  TEST_CASE("an actor watched and unwatched 100,000 times does not grow") {
    std::atomic<int> alive{0};
    int most = 0;
    simulation sim{actors::simulation_options{.max_steps = 10'000'000}};
    auto ref = sim.spawn(idle);
    auto reader = sim.spawn([&](context<heavy, go> self) -> task<> {
      for (int i = 0; i != 100'000; ++i) {
        self.watch(ref, heavy{counted{alive}});
        if (alive > most) most = alive;
        if (i % 2) self.watch(ref, heavy{counted{alive}});
        self.unwatch(ref);
        if (i % 1000 == 0) {
          co_await self.sleep_for(1ms);
          CHECK(!has_watchers(ref));
        }
      }
      while (co_await self.receive([](const heavy&) { FAIL("told"); },
                                   [](go) {})) {
      }
    });
    sim.run(reader.started());
    sim.run_until_idle();
    CHECK(most <= 2 * 1000);  // what is on its way
    CHECK(alive == 0);
    CHECK(!has_watchers(ref));
    CHECK(!watches(reader));
    ref.stop();
    sim.run(ref.stopped());
  }

  TEST_CASE("watchers that come and go leave no trace in one that stays") {
    simulation sim;
    auto ref = sim.spawn(idle);
    for (int i = 0; i != 2'000; ++i) {
      auto passer = sim.spawn(
          [](context<ended> self, any_actor_ref who) -> task<> {
            self.watch(who);
            co_await self.sleep_for(1ms);
          },
          any_actor_ref{ref});
      sim.run(passer.stopped());
      sim.run_until_idle();
      REQUIRE(!has_watchers(ref));
    }
  }

  TEST_CASE("10,000 watchers are told, each once") {
    constexpr int all = 10'000;
    std::vector<int> told(all);
    simulation sim{actors::simulation_options{.max_steps = 10'000'000}};
    auto ref = sim.spawn(mortal);
    for (int i = 0; i != all; ++i)
      sim.spawn(
          [](context<gone> self, any_actor_ref who, int number,
             std::vector<int>* to) -> task<> {
            self.watch(who, gone{number});
            while (co_await self.receive(
                [&](gone g) { ++(*to)[static_cast<std::size_t>(g.number)]; })) {
            }
          },
          any_actor_ref{ref}, i, &told);
    sim.run_until_idle();
    ref.tell(go{});
    sim.run_until_idle();
    for (int n : told) REQUIRE(n == 1);
    CHECK(!has_watchers(ref));
  }

  TEST_CASE("one that watches 10,000 is told of each") {
    constexpr int all = 10'000;
    int told = 0;
    simulation sim{actors::simulation_options{.max_steps = 10'000'000}};
    std::vector<any_actor_ref> refs;
    for (int i = 0; i != all; ++i) refs.push_back(sim.spawn(idle));
    auto reader = sim.spawn([&](context<ended> self) -> task<> {
      for (const any_actor_ref& ref : refs) self.watch(ref);
      while (co_await self.receive([&](const ended&) { ++told; })) {
      }
    });
    sim.run(reader.started());
    sim.run_until_idle();
    for (const any_actor_ref& ref : refs) ref.stop();
    sim.run_until_idle();
    CHECK(told == all);
    CHECK(!watches(reader));
  }

  // --- threads ---------------------------------------------------------------

  TEST_CASE("on threads, the end comes after what was told before") {
    const int rounds = support::sanitized ? 50 : 300;
    each_system([&](actor_system& system) {
      struct ready {};
      support::flag done;
      std::atomic<int> wrong{0};
      auto reader =
          system.spawn([&](context<ended, int, ready> self) -> task<> {
            int next = 0;
            int left = rounds;
            const auto start = [&] {
              auto ref = self.system().spawn(
                  {.placement = actors::placement::round_robin()},
                  [](context<> me, actor_ref<int> to) -> task<> {
                    for (int i = 0; i != 20; ++i) to.tell(i);
                    (void)me;
                    co_return;
                  },
                  actor_ref<int>{self.ref()});
              self.watch(ref);
            };
            start();
            while (co_await self.receive(
                [&](const ended& e) {
                  if (next != 20 || e.why != exit_reason::normal) ++wrong;
                  next = 0;
                  if (--left == 0)
                    done.set();
                  else
                    start();
                },
                [&](int i) {
                  if (i != next++) ++wrong;
                },
                [](ready) {})) {
            }
          });
      done.wait();
      CHECK(wrong == 0);
      reader.stop();
      reader.stopped().get();
    });
  }

  TEST_CASE("on threads, ends, watches and unwatches race: each told once") {
    const int rounds = support::sanitized ? 30 : 150;
    constexpr std::size_t watched = 8;
    each_system([&](actor_system& system) {
      for (int round = 0; round != rounds; ++round) {
        std::vector<actor_ref<go, note>> refs;
        for (std::size_t i = 0; i != watched; ++i)
          refs.push_back(
              system.spawn({.restart = restart_policy::never}, mortal));
        std::atomic<int> alive{0};
        std::array<std::atomic<int>, watched> told{};
        support::flag all_told;
        // One that stays, one that looks away again, one that ends.
        auto stays = system.spawn([&](context<gone> self) -> task<> {
          int left = watched;
          for (std::size_t i = 0; i != watched; ++i)
            self.watch(refs[i], gone{static_cast<int>(i)});
          while (co_await self.receive([&](gone g) {
            ++told[static_cast<std::size_t>(g.number)];
            if (--left == 0) all_told.set();
          })) {
          }
        });
        std::atomic<int> too_often{0};
        auto fickle = system.spawn([&](context<heavy, gone> self) -> task<> {
          int heard = 0;
          for (const auto& ref : refs) self.watch(ref, heavy{counted{alive}});
          for (const auto& ref : refs) self.unwatch(ref);
          for (std::size_t i = 0; i != watched; i += 2) {
            self.watch(refs[i], heavy{counted{alive}});
            co_await self.sleep_for(1us);
            self.unwatch(refs[i]);
          }
          while (co_await self.receive(
              [&](const heavy&) {
                // Each watch may have been told before it ended.
                if (++heard > static_cast<int>(watched * 3 / 2)) ++too_often;
              },
              [](gone) {})) {
          }
        });
        auto short_lived = system.spawn([&](context<heavy> self) -> task<> {
          for (const auto& ref : refs) self.watch(ref, heavy{counted{alive}});
          co_await self.sleep_for(1us);
        });
        std::vector<std::thread> threads;
        for (unsigned t = 0; t != 2; ++t)
          threads.emplace_back([&, t] {
            for (std::size_t i = 0; i != watched; ++i) {
              switch ((t + i + static_cast<unsigned>(round)) % 4) {
                case 0:
                  refs[i].stop();
                  break;
                case 1:
                  refs[i].kill();
                  break;
                case 2:
                  refs[i].tell<note>("fails");
                  break;
                default:
                  refs[i].tell(go{});
                  break;
              }
            }
          });
        for (auto& t : threads) t.join();
        all_told.wait();
        for (const any_actor_ref& ref :
             {any_actor_ref{stays}, any_actor_ref{fickle},
              any_actor_ref{short_lived}}) {
          ref.stop();
          ref.stopped().get();
        }
        for (const auto& n : told) REQUIRE(n == 1);
        REQUIRE(too_often == 0);
        for (const auto& ref : refs) ref.stopped().get();
      }
    });
  }

  TEST_CASE("a watch across systems is told, whichever of them ends") {
    const int rounds = support::sanitized ? 20 : 100;
    for (int round = 0; round != rounds; ++round) {
      std::atomic<int> alive{0};
      std::atomic<int> told{0};
      support::flag heard;
      {
        std::optional<actor_system> one{std::in_place, support::quiet(1)};
        std::optional<actor_system> two{std::in_place, support::quiet(1)};
        auto there = two->spawn(idle);
        auto here = one->spawn(
            [&](context<heavy> self, any_actor_ref who) -> task<> {
              self.watch(who, heavy{counted{alive}});
              while (co_await self.receive([&](const heavy&) {
                ++told;
                heard.set();
              })) {
              }
            },
            any_actor_ref{there});
        if (round % 4 < 2) here.started().get();
        if (round % 2) {
          two.reset();
          heard.wait();
        } else {
          one.reset();
          two.reset();
        }
      }
      REQUIRE(told == round % 2);
      REQUIRE(alive == 0);
    }
  }

  TEST_CASE("a loop that is destroyed with its actors tells their watchers") {
    std::atomic<int> alive{0};
    support::flag heard;
    actor_system mine{support::quiet(1)};
    {
      asio::io_context io;
      actor_system guest{io};
      auto there = guest.spawn(idle);
      io.poll();
      auto here = mine.spawn(
          [&](context<heavy, ended> self, any_actor_ref who) -> task<> {
            self.watch(who);
            self.ready();
            while (co_await self.receive([](const heavy&) {},
                                         [&](const ended& e) {
                                           CHECK(e.why == exit_reason::killed);
                                           heard.set();
                                         })) {
            }
          },
          any_actor_ref{there});
      here.started().get();
      io.restart();
      io.poll();
      // And one that lives there and watches here.
      guest.spawn(
          [&](context<heavy> self, any_actor_ref who) -> task<> {
            self.watch(who, heavy{counted{alive}});
            co_await self.until_stop();
          },
          any_actor_ref{here});
      io.restart();
      io.poll();
      CHECK(alive == 1);
    }
    heard.wait();
    mine.terminate();
    CHECK(alive == 0);
  }
}
