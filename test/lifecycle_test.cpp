// The stream of events: which, of whom, in which order, to whom; and the log,
// which is one of its subscribers.
#include "actors/lifecycle.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "events.hpp"
#include "support.hpp"
#include "system_core.hpp"

/// Named, so that its name can be read in a line.
namespace life {

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};
struct note {
  std::string text;
};
struct go {};
struct get {
  std::string key;
  using reply_type = int;
};

}  // namespace life

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::any_actor_ref;
using actors::context;
using actors::dead_letter;
using actors::directive;
using actors::exit_reason;
using actors::lifecycle_event;
using actors::one_for_all;
using actors::one_for_one;
using actors::restart_policy;
using actors::simulation;
using actors::simulation_options;
using actors::task;
using life::crash;
using life::get;
using life::go;
using life::note;
using support::contains;
using support::error_of;
using support::message_of_error;
using support::stuck;
using kind = lifecycle_event::kind;
using texts = std::vector<std::string>;

template <class F>
void seeds(F&& f, int count = 100) {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(count);
       ++seed) {
    CAPTURE(seed);
    f(seed);
  }
}

/// Keeps the events of a simulation, which is declared after it.
struct record {
  std::vector<lifecycle_event> all;

  std::uint64_t attach(simulation& sim) {
    return sim.system().on_event(
        [this](const lifecycle_event& e) { all.push_back(e); });
  }
  /// Those of one actor; dead letters are not in its life.
  std::vector<lifecycle_event> of(const any_actor_ref& who) const {
    std::vector<lifecycle_event> its;
    for (const auto& e : all)
      if (e.who == who && e.what != kind::dead_letter) its.push_back(e);
    return its;
  }
  std::vector<kind> kinds_of(const any_actor_ref& who) const {
    std::vector<kind> kinds;
    for (const auto& e : of(who)) kinds.push_back(e.what);
    return kinds;
  }
  std::vector<lifecycle_event> letters() const {
    std::vector<lifecycle_event> its;
    for (const auto& e : all)
      if (e.what == kind::dead_letter) its.push_back(e);
    return its;
  }
};
using kinds = std::vector<kind>;

/// Ends by go, fails by a note.
task<> worker(context<go, note> self) {
  bool on = true;
  while (co_await self.receive([&](go) { on = false; },
                               [](const note& n) { throw crash{n.text}; })) {
    if (!on) break;
  }
}
/// The same in a loop of the runtime's.
task<> server(context<go, note> self) {
  co_await self.serve([&](go) { self.stop(); },
                      [](const note& n) { throw crash{n.text}; });
}

using worker_ref = actor_ref<go, note>;

/// A supervisor with one child.
template <class Policy>
auto boss(Policy policy, task<> (*body)(context<go, note>), worker_ref* child,
          actors::spawn_options options = {}) {
  return [=](context<go> self) -> task<> {
    self.supervise(policy);
    *child = self.spawn(options, body);
    co_await self.until_stop();
  };
}

template <class E>
bool is(const std::exception_ptr& error) {
  return actors::detail::holds<E>(error);
}

}  // namespace

TEST_SUITE("lifecycle") {
  // --- which events, and in which order --------------------------------------

  TEST_CASE("a life: started, failed, restarted, failed, restarted, stopped") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      auto ref = sim.spawn(worker);
      sim.expect_failure<crash>(ref, 2);
      ref.tell<note>("one");
      ref.tell<note>("two");
      ref.tell(go{});
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      const auto its = r.of(ref);
      REQUIRE(r.kinds_of(ref) == kinds{kind::started, kind::failed,
                                       kind::restarted, kind::failed,
                                       kind::restarted, kind::stopped});
      REQUIRE(message_of_error(its[1].error) == "one");
      REQUIRE(message_of_error(its[3].error) == "two");
      for (const int i : {1, 3}) {
        const auto& e = its[static_cast<std::size_t>(i)];
        REQUIRE(e.decision == directive::restart);
        REQUIRE(e.message);
        REQUIRE(*e.message == typeid(note));
        REQUIRE(e.delay == actors::duration::zero());
        REQUIRE(!e.instead_of_resume);
      }
      REQUIRE(its[2].restarts == 1);
      REQUIRE(its[4].restarts == 2);
      REQUIRE(its[5].why == exit_reason::normal);
    });
  }

  TEST_CASE("a failure says what was decided, and for when") {
    seeds(
        [](std::uint64_t seed) {
          for (const auto d : {directive::restart, directive::resume,
                               directive::stop, directive::escalate}) {
            CAPTURE(static_cast<int>(d));
            record r;
            worker_ref child;
            simulation sim{seed};
            r.attach(sim);
            auto top = sim.spawn(
                boss(one_for_one{.backoff = {.min = 20ms, .max = 20ms},
                                 .decide = {actors::on<crash>(d)}},
                     server, &child));
            sim.run_until_idle();
            sim.expect_failure<crash>(child);
            if (d == directive::escalate) sim.expect_failure<crash>(top);
            const worker_ref first = child;
            first.tell<note>("once");
            sim.advance(1s);
            const auto its = r.of(first);
            REQUIRE(its.size() >= 2);
            REQUIRE(its[1].what == kind::failed);
            REQUIRE(its[1].decision == d);
            REQUIRE(!its[1].instead_of_resume);
            REQUIRE(its[1].delay == (d == directive::restart
                                         ? actors::duration{20ms}
                                         : actors::duration::zero()));
            switch (d) {
              case directive::restart:
                REQUIRE(r.kinds_of(first) ==
                        kinds{kind::started, kind::failed, kind::restarted});
                break;
              case directive::resume:
                REQUIRE(r.kinds_of(first) ==
                        kinds{kind::started, kind::failed});
                break;
              case directive::stop:
                REQUIRE(r.kinds_of(first) ==
                        kinds{kind::started, kind::failed, kind::stopped});
                REQUIRE(its[2].why == exit_reason::failed);
                REQUIRE(message_of_error(its[2].why.error()) == "once");
                break;
              case directive::escalate: {
                REQUIRE(r.kinds_of(first) ==
                        kinds{kind::started, kind::failed, kind::stopped});
                REQUIRE(r.kinds_of(top) ==
                        kinds{kind::started, kind::failed, kind::restarted});
                // The child's before the supervisor's, of the same error.
                const auto at = [&](const any_actor_ref& who) {
                  return std::find_if(
                      r.all.begin(), r.all.end(), [&](const auto& e) {
                        return e.what == kind::failed && e.who == who;
                      });
                };
                REQUIRE(at(first) < at(top));
                REQUIRE(message_of_error(at(top)->error) == "once");
                REQUIRE(!at(top)->message);
                break;
              }
            }
          }
        },
        50);
  }

  TEST_CASE("resume where only serve could is a restart, and says so") {
    seeds([](std::uint64_t seed) {
      record r;
      worker_ref child;
      simulation sim{seed};
      r.attach(sim);
      sim.spawn(
          boss(one_for_one{.decide = {actors::on<crash>(directive::resume)}},
               worker, &child));
      sim.run_until_idle();
      sim.expect_failure<crash>(child);
      child.tell<note>("once");
      sim.run_until_idle();
      const auto its = r.of(child);
      REQUIRE(r.kinds_of(child) ==
              kinds{kind::started, kind::failed, kind::restarted});
      REQUIRE(its[1].instead_of_resume);
      REQUIRE(its[1].decision == directive::restart);
      REQUIRE(contains(its[1].to_string(), "only serve() could be resumed"));
    });
  }

  TEST_CASE("a failure without a message in hand names none") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      auto ref = sim.spawn([](context<note> self) -> task<> {
        co_await self.receive([](const note&) {});
        self.spawn_task([](context<> me) -> task<> {
          co_await me.sleep_for(1s);
          throw crash{"in a task"};
        });
        co_await self.until_stop();
      });
      sim.expect_failure<crash>(ref);
      ref.tell<note>("handled");
      sim.advance(2s);
      const auto its = r.of(ref);
      REQUIRE(r.kinds_of(ref) ==
              kinds{kind::started, kind::failed, kind::restarted});
      REQUIRE(message_of_error(its[1].error) == "in a task");
    });
  }

  TEST_CASE("a child that is not restarted is stopped, whatever is decided") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      auto ref = sim.spawn({.restart = restart_policy::never}, worker);
      sim.expect_failure<crash>(ref);
      ref.tell<note>("once");
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      const auto its = r.of(ref);
      REQUIRE(r.kinds_of(ref) ==
              kinds{kind::started, kind::failed, kind::stopped});
      REQUIRE(its[1].decision == directive::stop);
    });
  }

  TEST_CASE("a start that fails: started, failed, stopped") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      auto ref = sim.spawn([](context<note> self) -> task<> {
        (void)self;
        throw crash{"no file"};
        co_return;
      });
      sim.expect_failure<crash>(ref);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      REQUIRE(r.kinds_of(ref) ==
              kinds{kind::started, kind::failed, kind::stopped});
      REQUIRE(r.of(ref)[1].decision == directive::stop);
    });
  }

  TEST_CASE("a permanent actor that returns has failed, by actor_returned") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      auto ref = sim.spawn({.restart = restart_policy::permanent}, worker);
      sim.expect_failure<actors::actor_returned>(ref);
      ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(r.kinds_of(ref) ==
              kinds{kind::started, kind::failed, kind::restarted});
      REQUIRE(is<actors::actor_returned>(r.of(ref)[1].error));
    });
  }

  TEST_CASE("a failure while stopping is reported, then the end") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      auto ref = sim.spawn([](context<> self) -> task<> {
        co_await self.until_stop();
        throw crash{"in the cleanup"};
      });
      sim.run(ref.started());
      sim.expect_failure<crash>(ref);
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      const auto its = r.of(ref);
      REQUIRE(r.kinds_of(ref) ==
              kinds{kind::started, kind::failed, kind::stopped});
      REQUIRE(its[1].decision == directive::stop);
      REQUIRE(message_of_error(its[1].error) == "in the cleanup");
    });
  }

  TEST_CASE("restarted with others, an actor has not failed") {
    seeds([](std::uint64_t seed) {
      record r;
      std::vector<worker_ref> refs;
      simulation sim{seed};
      r.attach(sim);
      sim.spawn([&](context<> self) -> task<> {
        self.supervise(one_for_all{});
        for (int i = 0; i != 3; ++i) refs.push_back(self.spawn(worker));
        co_await self.until_stop();
      });
      sim.run_until_idle();
      sim.expect_failure<crash>(refs[1]);
      refs[1].tell<note>("once");
      sim.run_until_idle();
      REQUIRE(r.kinds_of(refs[0]) == kinds{kind::started, kind::restarted});
      REQUIRE(r.kinds_of(refs[1]) ==
              kinds{kind::started, kind::failed, kind::restarted});
      REQUIRE(r.kinds_of(refs[2]) == kinds{kind::started, kind::restarted});
    });
  }

  TEST_CASE("what ends is told with its reason, children before parents") {
    seeds([](std::uint64_t seed) {
      record r;
      worker_ref child;
      simulation sim{seed};
      r.attach(sim);
      auto top = sim.spawn(boss(one_for_one{}, worker, &child));
      sim.run_until_idle();
      seed % 2 ? top.stop() : top.kill();
      sim.run(top.stopped());
      REQUIRE(r.kinds_of(child) == kinds{kind::started, kind::stopped});
      REQUIRE(r.kinds_of(top) == kinds{kind::started, kind::stopped});
      texts ends;
      for (const auto& e : r.all)
        if (e.what == kind::stopped &&
            (e.who == child || e.who == any_actor_ref{top}))
          ends.push_back(e.to_string());
      const std::string how = seed % 2 ? " ended: normal" : " ended: killed";
      REQUIRE(ends == texts{child.path() + how, top.path() + how});
    });
  }

  TEST_CASE("an end never comes before the failure that it follows") {
    // Asked to end while its supervisor thinks about it, or before it has
    // heard of it.
    seeds([](std::uint64_t seed) {
      record r;
      worker_ref child;
      simulation sim{seed};
      r.attach(sim);
      sim.spawn(boss(one_for_one{}, worker, &child));
      sim.run_until_idle();
      sim.expect_failure<crash>(child);
      child.tell<note>("once");
      for (std::uint64_t i = 0; i != seed % 7; ++i) sim.step();
      seed % 2 ? child.stop() : child.kill();
      sim.run(child.stopped());
      sim.run_until_idle();
      const auto its = r.kinds_of(child);
      REQUIRE(its.front() == kind::started);
      REQUIRE(its.back() == kind::stopped);
      REQUIRE(std::count(its.begin(), its.end(), kind::stopped) == 1);
    });
  }

  TEST_CASE("who subscribes late hears of what comes then") {
    record r;
    simulation sim;
    auto ref = sim.spawn(worker);
    sim.run(ref.started());
    r.attach(sim);
    ref.stop();
    sim.run(ref.stopped());
    CHECK(r.kinds_of(ref) == kinds{kind::stopped});
  }

  // --- late and abandoned ----------------------------------------------------

  TEST_CASE("late names message, place and queue, then the end comes") {
    seeds(
        [](std::uint64_t seed) {
          record r;
          std::uint_least32_t line = 0;
          simulation sim{seed};
          r.attach(sim);
          auto ref = sim.spawn({.name = "slow", .stop_timeout = 2s},
                               [&](context<note, go> self) -> task<> {
                                 while (co_await self.receive(
                                     [&](const note&) -> task<> {
                                       line = __LINE__ + 1;
                                       co_await self.sleep_for(1h);
                                     },
                                     [](go) {})) {
                                 }
                               });
          ref.tell<note>("in hand");
          for (int i = 0; i != 3; ++i) ref.tell(go{});
          sim.run_until_idle();
          ref.stop();
          sim.run(ref.stopped());
          const auto its = r.of(ref);
          REQUIRE(r.kinds_of(ref) ==
                  kinds{kind::started, kind::late, kind::stopped});
          REQUIRE(its[1].message);
          REQUIRE(*its[1].message == typeid(note));
          REQUIRE(contains(its[1].where.file_name(), "lifecycle_test.cpp"));
          REQUIRE(its[1].where.line() == line);
          REQUIRE(its[1].queued == 3);
          REQUIRE(its[2].why == exit_reason::killed);
          REQUIRE(its[1].to_string() ==
                  "/user/slow: a stop takes too long, at " +
                      std::string{its[1].where.file_name()} + ':' +
                      std::to_string(line) +
                      ", with a life::note in hand, 3 messages left over");
        },
        20);
  }

  TEST_CASE("abandoned names message, place and queue, then the end comes") {
    seeds(
        [](std::uint64_t seed) {
          record r;
          std::uint_least32_t line = 0;
          stuck* hangs = nullptr;
          simulation sim{seed};
          r.attach(sim);
          auto ref = sim.spawn({.name = "lost", .stop_timeout = 2s},
                               [&](context<note, go> self) -> task<> {
                                 while (co_await self.receive(
                                     [&](const note&) -> task<> {
                                       stuck op{&hangs};
                                       line = __LINE__ + 1;
                                       co_await op;
                                     },
                                     [](go) {})) {
                                 }
                               });
          ref.tell<note>("in hand");
          ref.tell(go{});
          sim.run_until_idle();
          ref.stop();
          REQUIRE(sim.run(ref.stopped()) == exit_reason::abandoned);
          const auto its = r.of(ref);
          REQUIRE(r.kinds_of(ref) == kinds{kind::started, kind::late,
                                           kind::abandoned, kind::stopped});
          for (const std::size_t i : {1u, 2u}) {
            REQUIRE(its[i].message);
            REQUIRE(*its[i].message == typeid(note));
            REQUIRE(its[i].where.line() == line);
            REQUIRE(its[i].queued == 1);
          }
          REQUIRE(its[2].to_string() ==
                  "/user/lost: a kill takes too long, at " +
                      std::string{its[2].where.file_name()} + ':' +
                      std::to_string(line) +
                      ", with a life::note in hand, 1 message left over; "
                      "nobody waits for it any more");
          REQUIRE(its[3].why == exit_reason::abandoned);
          hangs->complete();
          sim.run_until_idle();
          REQUIRE(r.of(ref).size() == 4);
        },
        20);
  }

  // --- dead letters ----------------------------------------------------------

  TEST_CASE("a dead letter is an event of its recipient") {
    record r;
    simulation sim;
    r.attach(sim);
    auto ref = sim.spawn({.name = "gone"}, worker);
    auto sender = sim.probe<note>("sender");
    ref.stop();
    sim.run(ref.stopped());
    ref.tell(note{"late"}, sender.ref());
    const auto letters = r.letters();
    REQUIRE(letters.size() == 1);
    CHECK(letters[0].who == ref);
    REQUIRE(letters[0].letter);
    CHECK(letters[0].letter->why == dead_letter::reason::actor_stopped);
    CHECK(letters[0].letter->sender == sender.ref());
    REQUIRE(letters[0].letter->get<note>());
    CHECK(letters[0].letter->get<note>()->text == "late");
    CHECK(!letters[0].letter->get<go>());
    CHECK(letters[0].to_string() ==
          "dead letter: life::note to /user/gone from /user/sender, which has "
          "ended");
  }

  TEST_CASE("a failing message taken by reference is there to be read") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      const auto check = [&](auto body, const std::string* value) {
        const std::size_t before = r.letters().size();
        auto ref = sim.spawn(body);
        auto sender = sim.probe<note>();
        sim.expect_failure<crash>(ref);
        ref.tell(note{"a text that is too long to be kept in place"},
                 sender.ref());
        sim.run_until_idle();
        const auto letters = r.letters();
        REQUIRE(letters.size() == before + 1);
        const dead_letter& d = *letters.back().letter;
        REQUIRE(d.why == dead_letter::reason::failed);
        REQUIRE(*d.type == typeid(note));
        REQUIRE(d.recipient == ref);
        REQUIRE(d.sender == sender.ref());
        REQUIRE((d.get<note>() != nullptr) == (value != nullptr));
        if (value) REQUIRE(d.get<note>()->text == *value);
        REQUIRE(contains(d.to_string(), "which failed by it"));
      };
      const std::string whole = "a text that is too long to be kept in place";
      const std::string changed = "changed";
      check(
          [](context<note> self) -> task<> {
            while (
                co_await self.receive([](const note&) { throw crash{""}; })) {
            }
          },
          &whole);
      check(
          [](context<note> self) -> task<> {
            while (co_await self.receive([](note& n) {
              n.text = "changed";
              throw crash{""};
            })) {
            }
          },
          &changed);
      check(
          [](context<note> self) -> task<> {
            while (co_await self.receive([](note) { throw crash{""}; })) {
            }
          },
          nullptr);
      // In the runtime's loop; after an await; one message type of several.
      check(
          [](context<note> self) -> task<> {
            co_await self.serve([](const note&) { throw crash{""}; });
          },
          &whole);
      check(
          [](context<note, go> self) -> task<> {
            co_await self.serve([](const note&) { throw crash{""}; },
                                [](go) {});
          },
          &whole);
      check(
          [](context<note, go> self) -> task<> {
            while (co_await self.receive(
                [&](const note&) -> task<> {
                  co_await self.sleep_for(0s);
                  throw crash{""};
                },
                [](go) {})) {
            }
          },
          &whole);
      check(
          [](context<note, go> self) -> task<> {
            while (co_await self.receive(
                [&](note) -> task<> {
                  co_await self.sleep_for(0s);
                  throw crash{""};
                },
                [](go) {})) {
            }
          },
          nullptr);
      check(
          [](context<note, go> self) -> task<> {
            auto slow = [&](const note&) -> task<> {
              co_await self.sleep_for(0s);
              throw crash{""};
            };
            auto handler = actors::concurrent(slow);
            while (co_await self.receive(handler, [](go) {})) {
            }
          },
          &whole);
      // Given to the body, it has been moved.
      check(
          [](context<note> self) -> task<> {
            auto n = co_await self.receive();
            if (n) throw crash{""};
          },
          nullptr);
    });
  }

  TEST_CASE("a question by which its actor fails is a dead letter, too") {
    seeds([](std::uint64_t seed) {
      record r;
      simulation sim{seed};
      r.attach(sim);
      auto by_ref = sim.spawn([](context<get> self) -> task<> {
        while (co_await self.receive(
            [](const get& g) -> int { throw crash{g.key}; })) {
        }
      });
      auto by_value = sim.spawn([](context<get> self) -> task<> {
        while (
            co_await self.receive([](get g) -> int { throw crash{g.key}; })) {
        }
      });
      sim.expect_failure<crash>(by_ref);
      sim.expect_failure<crash>(by_value);
      REQUIRE(error_of([&] { return sim.run(by_ref.ask<get>("a key")); }) ==
              actors::errc::actor_failed);
      REQUIRE(error_of([&] { return sim.run(by_value.ask<get>("a key")); }) ==
              actors::errc::actor_failed);
      sim.run_until_idle();
      const auto letters = r.letters();
      REQUIRE(letters.size() == 2);
      REQUIRE(letters[0].letter->why == dead_letter::reason::failed);
      REQUIRE(letters[0].letter->get<get>());
      REQUIRE(letters[0].letter->get<get>()->key == "a key");
      REQUIRE(letters[0].letter->recipient == by_ref);
      REQUIRE(letters[1].letter->why == dead_letter::reason::failed);
      REQUIRE(!letters[1].letter->get<get>());
      REQUIRE(*letters[1].letter->type == typeid(get));
      REQUIRE(sim.system().dead_letter_count() == 2);
    });
  }

  TEST_CASE("a dead letter keeps its message as long as it is kept") {
    std::atomic<int> alive{0};
    {
      struct heavy {
        support::counted weight;
      };
      dead_letter kept;
      {
        simulation sim;
        sim.system().on_dead_letter([&](const dead_letter& d) { kept = d; });
        auto ref = sim.spawn([](context<heavy> self) -> task<> {
          while (co_await self.receive([](const heavy&) { throw crash{""}; })) {
          }
        });
        sim.expect_failure<crash>(ref);
        ref.tell(heavy{support::counted{alive}});
        sim.run_until_idle();
        CHECK(alive == 1);
        REQUIRE(kept.get<heavy>());
      }
      CHECK(alive == 1);
    }
    CHECK(alive == 0);
  }

  // --- subscribers -----------------------------------------------------------

  TEST_CASE("an actor may subscribe, and hears of all but itself") {
    seeds([](std::uint64_t seed) {
      std::vector<lifecycle_event> heard;
      simulation sim{seed};
      auto reader = sim.spawn([&](context<lifecycle_event, go> self) -> task<> {
        while (co_await self.receive(
            [&](const lifecycle_event& e) { heard.push_back(e); },
            [](go) { throw crash{"the reader"}; })) {
        }
      });
      sim.system().on_event(reader);
      auto ref = sim.spawn({.name = "other"}, worker);
      sim.expect_failure<crash>(ref);
      sim.expect_failure<crash>(reader);
      ref.tell<note>("once");
      sim.run_until_idle();
      reader.tell(go{});  // a failure, a dead letter and a restart of its own
      sim.run_until_idle();
      ref.tell(go{});
      sim.run_until_idle();
      kinds its;
      for (const auto& e : heard) {
        REQUIRE(e.who != any_actor_ref{reader});
        if (e.who == ref && e.what != kind::dead_letter) its.push_back(e.what);
      }
      REQUIRE(its == kinds{kind::started, kind::failed, kind::restarted,
                           kind::stopped});
    });
  }

  TEST_CASE("an actor that fails by each event does not go on for ever") {
    seeds([](std::uint64_t seed) {
      int heard = 0;
      simulation sim{seed};
      auto reader = sim.spawn([&](context<lifecycle_event> self) -> task<> {
        while (co_await self.receive([&](const lifecycle_event&) {
          ++heard;
          throw crash{"cannot bear it"};
        })) {
        }
      });
      sim.run(reader.started());
      sim.run_until_idle();
      sim.system().on_event(reader);
      sim.expect_failure<crash>(reader, 2);
      auto ref = sim.spawn(worker);
      sim.run_until_idle();
      ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(heard == 2);  // started, stopped
      sim.check();
    });
  }

  TEST_CASE("a subscription ends by its number, others stay") {
    record one, two;
    simulation sim;
    const auto number = one.attach(sim);
    two.attach(sim);
    auto reader = sim.probe<lifecycle_event>();
    const auto actors_number = sim.system().on_event(reader.ref());
    sim.system().unsubscribe(number);
    sim.system().unsubscribe(actors_number);
    sim.system().unsubscribe(4711);
    auto ref = sim.spawn(worker);
    ref.stop();
    sim.run(ref.stopped());
    CHECK(one.all.empty());
    CHECK(two.kinds_of(ref).back() == kind::stopped);
    reader.expect_nothing();
  }

  TEST_CASE("a subscriber that has ended leaves by itself") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const auto& events = sim.system().core().events();
      auto reader = sim.spawn([](context<lifecycle_event> self) -> task<> {
        while (co_await self.receive([](const lifecycle_event&) {})) {
        }
      });
      auto letters = sim.spawn([](context<dead_letter> self) -> task<> {
        while (co_await self.receive([](const dead_letter&) {})) {
        }
      });
      sim.system().on_event(reader);
      sim.system().on_dead_letter(letters);
      REQUIRE(events.wanted(kind::started));
      REQUIRE(events.wanted(kind::dead_letter));
      seed % 2 ? reader.stop() : reader.kill();
      letters.stop();
      sim.run(reader.stopped());
      sim.run(letters.stopped());
      reader.tell(lifecycle_event{});  // finds out
      sim.spawn(worker);
      sim.run_until_idle();
      REQUIRE(!events.wanted(kind::started));
      REQUIRE(!events.wanted(kind::dead_letter));
      // Its own dead letter, and no more.
      REQUIRE(sim.system().dead_letter_count() == 1);
    });
  }

  TEST_CASE("a subscriber that throws harms nobody") {
    record before, after;
    simulation sim;
    before.attach(sim);
    int thrown = 0;
    sim.system().on_event([&](const lifecycle_event&) {
      ++thrown;
      throw crash{"a bad subscriber"};
    });
    sim.system().on_dead_letter(
        [&](const dead_letter&) { throw crash{"another"}; });
    after.attach(sim);
    auto ref = sim.spawn(worker);
    sim.expect_failure<crash>(ref);
    ref.tell<note>("once");
    ref.tell(go{});
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(thrown >= 4);
    const kinds whole{kind::started, kind::failed, kind::restarted,
                      kind::stopped};
    CHECK(before.kinds_of(ref) == whole);
    CHECK(after.kinds_of(ref) == whole);
    CHECK(before.letters().size() == 1);
    CHECK(after.letters().size() == 1);
  }

  TEST_CASE("a subscriber may subscribe, end subscriptions, spawn and tell") {
    record inner;
    simulation sim;
    auto probe = sim.probe<note>();
    std::uint64_t own = 0;
    own = sim.system().on_event([&](const lifecycle_event& e) {
      if (e.what != kind::started) return;
      sim.system().unsubscribe(own);
      inner.attach(sim);
      sim.spawn(worker).stop();
      probe.ref().tell(note{"heard"});
    });
    sim.spawn(worker);
    CHECK(probe.expect<note>().text == "heard");
    sim.run_until_idle();
    CHECK(!inner.all.empty());
  }

  // --- the log ---------------------------------------------------------------

  TEST_CASE("the log has what went wrong, a line each, and nothing else") {
    support::log_lines log;
    stuck* hangs = nullptr;
    simulation sim{simulation_options{.system = {.log = log.sink()}}};
    auto ref = sim.spawn({.name = "bad"}, worker);
    sim.expect_failure<crash>(ref);
    sim.run_until_idle();
    CHECK(log.size() == 0);
    ref.tell<note>("boom");
    sim.run_until_idle();
    CHECK(log.find("/user/bad failed") ==
          "/user/bad failed on a life::note: life::crash: boom; restarted");
    CHECK(log.find("dead letter") ==
          "dead letter: life::note to /user/bad, which failed by it");
    CHECK(log.size() == 2);
    auto lost = sim.spawn(
        {.name = "lost"},
        [](context<> self, stuck** to) -> task<> {
          (void)self;
          stuck op{to};
          co_await op;
        },
        &hangs);
    sim.run_until_idle();
    lost.stop();
    sim.run(lost.stopped());
    CHECK(contains(log.find("a stop takes too long"), "/user/lost"));
    CHECK(contains(log.find("a kill takes too long"), "/user/lost"));
    CHECK(log.size() == 4);
    ref.tell(go{});
    sim.run(ref.stopped());
    CHECK(log.size() == 4);
    hangs->complete();
  }

  TEST_CASE("failures are logged at a limited rate; subscribers get all") {
    support::log_lines log;
    record r;
    simulation sim{simulation_options{
        .system = {
            .log = log.sink(),
            .dead_letters_logged_per_second = 0,
            .failures_logged_per_second = 3,
            .supervision = one_for_one{.max_restarts = actors::unlimited}}}};
    r.attach(sim);
    auto ref = sim.spawn(worker);
    sim.expect_failure<crash>(ref, 200);
    for (int i = 0; i != 200; ++i) ref.tell<note>("again");
    sim.run_until_idle();
    // A second that ends while this runs gives three more, and a line.
    CHECK(log.size() >= 3);
    CHECK(log.size() < 40);
    CHECK(log.find("dead letter") == "");
    const auto its = r.kinds_of(ref);
    CHECK(std::count(its.begin(), its.end(), kind::failed) == 200);
    CHECK(r.letters().size() == 200);
  }

  TEST_CASE("what the log has left out it counts, in the next second") {
    support::log_lines log;
    simulation sim{simulation_options{
        .system = {
            .log = log.sink(),
            .dead_letters_logged_per_second = 1,
            .failures_logged_per_second = 1,
            .supervision = one_for_one{.max_restarts = actors::unlimited}}}};
    auto ref = sim.spawn(worker);
    // Seconds of the log are real.
    while (log.find("more failures, not logged").empty() ||
           log.find("more dead letters, not logged").empty()) {
      sim.expect_failure<crash>(ref);
      ref.tell<note>("again");
      sim.run_until_idle();
    }
  }

  TEST_CASE("an empty function is silence, and nobody listens") {
    actors::system_options options;
    options.log.emplace();
    simulation sim{simulation_options{.system = options}};
    for (const auto k :
         {kind::started, kind::failed, kind::restarted, kind::stopped,
          kind::late, kind::abandoned, kind::dead_letter})
      CHECK(!sim.system().core().events().wanted(k));
  }

  TEST_CASE("a log that throws harms nobody") {
    record r;
    simulation sim{simulation_options{
        .system = {.log = [](std::string_view) { throw crash{"the disk"}; }}}};
    r.attach(sim);
    auto ref = sim.spawn(worker);
    sim.expect_failure<crash>(ref);
    ref.tell<note>("once");
    ref.tell(go{});
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(r.kinds_of(ref) ==
          kinds{kind::started, kind::failed, kind::restarted, kind::stopped});
  }

  // --- lines -----------------------------------------------------------------

  TEST_CASE("each kind has a name and a line") {
    simulation sim;
    lifecycle_event e;
    e.who = sim.spawn({.name = "bank"}, worker);
    CHECK(to_string(kind::started) == "started");
    CHECK(e.to_string() == "/user/bank started");

    e.what = kind::failed;
    e.error = std::make_exception_ptr(crash{"boom"});
    e.decision = directive::stop;
    CHECK(to_string(kind::failed) == "failed");
    CHECK(e.to_string() == "/user/bank failed: life::crash: boom; stopped");
    e.message = &typeid(note);
    e.decision = directive::escalate;
    CHECK(e.to_string() ==
          "/user/bank failed on a life::note: life::crash: boom; escalated");
    e.decision = directive::resume;
    CHECK(contains(e.to_string(), "; resumed"));
    e.decision = directive::restart;
    CHECK(contains(e.to_string(), "; restarted"));
    e.delay = 1500us;
    CHECK(contains(e.to_string(), "; restarted in 2 ms"));
    e.instead_of_resume = true;
    CHECK(contains(e.to_string(), "because only serve() could be resumed"));

    e.what = kind::restarted;
    e.restarts = 7;
    CHECK(to_string(kind::restarted) == "restarted");
    CHECK(e.to_string() == "/user/bank restarted, number 7");

    e.what = kind::stopped;
    CHECK(to_string(kind::stopped) == "stopped");
    CHECK(e.to_string() == "/user/bank ended: normal");
    e.why = exit_reason{e.error};
    CHECK(e.to_string() == "/user/bank ended: failed: life::crash: boom");

    e.what = kind::late;
    e.message = nullptr;
    e.queued = 1;
    CHECK(to_string(kind::late) == "late");
    CHECK(e.to_string() ==
          "/user/bank: a stop takes too long, 1 message left over");
    e.what = kind::abandoned;
    e.queued = 0;
    e.message = &typeid(note);
    CHECK(to_string(kind::abandoned) == "abandoned");
    CHECK(e.to_string() ==
          "/user/bank: a kill takes too long, with a life::note in hand, 0 "
          "messages left over; nobody waits for it any more");

    lifecycle_event letter;
    letter.what = kind::dead_letter;
    letter.letter = dead_letter{
        &typeid(note), dead_letter::reason::no_recipient, {}, {}, nullptr};
    CHECK(to_string(kind::dead_letter) == "dead letter");
    CHECK(letter.to_string() == letter.letter->to_string());

    CHECK(to_string(directive::restart) == "restart");
    CHECK(to_string(directive::resume) == "resume");
    CHECK(to_string(directive::stop) == "stop");
    CHECK(to_string(directive::escalate) == "escalate");
  }

  // --- threads ---------------------------------------------------------------

  TEST_CASE("on threads the events of each actor come in their order") {
    struct ledger {
      std::mutex mutex;
      std::map<std::string, kinds> lives;
      std::atomic<int> letters{0};
    };
    constexpr int crowd = 20;
    const int crashes = support::sanitized ? 20 : 100;
    const auto scenario = [&](actor_system& system, ledger& l) {
      system.on_event([&](const lifecycle_event& e) {
        if (e.what == kind::dead_letter) {
          // Readers that have ended leave events unread.
          if (*e.letter->type == typeid(note)) ++l.letters;
          return;
        }
        std::lock_guard lock{l.mutex};
        l.lives[e.who.path()].push_back(e.what);
      });
      std::vector<worker_ref> refs;
      for (int i = 0; i != crowd; ++i)
        refs.push_back(system.spawn({.name = "w" + std::to_string(i)}, worker));
      // Others come and go, and with them their subscriptions.
      std::thread subscribers{[&] {
        for (int i = 0; i != 50; ++i) {
          const auto reader =
              system.spawn([](context<lifecycle_event> self) -> task<> {
                while (co_await self.receive([](const lifecycle_event&) {})) {
                }
              });
          const auto number = system.on_event(reader);
          if (i % 2) system.unsubscribe(number);
          reader.stop();
        }
      }};
      for (int n = 0; n != crashes; ++n)
        for (const auto& ref : refs) ref.tell<note>("again");
      for (const auto& ref : refs) ref.tell(go{});
      for (const auto& ref : refs)
        CHECK(ref.stopped().get() == exit_reason::normal);
      subscribers.join();
    };
    const auto check = [&](ledger& l) {
      kinds whole{kind::started};
      for (int n = 0; n != crashes; ++n)
        whole.insert(whole.end(), {kind::failed, kind::restarted});
      whole.push_back(kind::stopped);
      for (int i = 0; i != crowd; ++i)
        REQUIRE(l.lives["/user/w" + std::to_string(i)] == whole);
      REQUIRE(l.letters == crowd * crashes);
    };
    const one_for_one always{.max_restarts = actors::unlimited};
    for (const auto& d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      ledger l;
      actors::system_options options = support::quiet(2);
      options.dispatcher = d;
      options.supervision = always;
      {
        actor_system system{options};
        scenario(system, l);
      }
      check(l);
    }
    ledger l;
    {
      asio::io_context io;
      auto work = asio::make_work_guard(io);
      std::thread one{[&] { io.run(); }};
      std::thread two{[&] { io.run(); }};
      actors::system_options options;
      options.log.emplace();
      options.supervision = always;
      {
        actor_system system{io, options};
        scenario(system, l);
        system.async_terminate().get();
      }
      work.reset();
      one.join();
      two.join();
    }
    check(l);
  }
}
