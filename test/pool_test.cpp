// Pools: several workers behind one ref, and how messages find one.
#include "actors/pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::any_actor_ref;
using actors::context;
using actors::errc;
using actors::exit_reason;
using actors::pool;
using actors::simulation;
using actors::task;
using support::contains;
using support::counted;
using support::each_system;
using support::error_of;
using support::message_of;
using texts = std::vector<std::string>;
namespace routing = actors::routing;

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};
/// Which worker has it, after so long.
struct job {
  using reply_type = std::string;
  std::string key;
  actors::duration takes = {};
};
struct note {
  int n;
};
struct fall {};
struct leave {};
struct setting {
  int value;
};
/// That can only be moved.
struct parcel {
  using reply_type = int;
  std::unique_ptr<int> what;
};

struct diary {
  texts lines;
  std::map<std::string, int> settings;
};

task<> worker(context<job, note, fall, leave, setting> self, diary* d) {
  const std::string path = self.path();
  const auto handle = [&](const job& j) -> task<std::string> {
    if (j.takes > 0s) co_await self.sleep_for(j.takes);
    co_return path.substr(path.rfind('/') + 1);
  };
  bool more = true;
  while (more) {
    bool leaves = false;
    more = co_await self.receive(
        handle,
        [&](note n) {
          d->lines.push_back(path.substr(path.rfind('/') + 1) + ":" +
                             std::to_string(n.n));
        },
        [](fall) { throw crash{"fall"}; }, [&](leave) { leaves = true; },
        [&](setting s) { d->settings[path] += s.value; });
    if (leaves) co_return;
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

/// They start in any order.
any_actor_ref first_of(const std::vector<any_actor_ref>& workers) {
  for (const auto& w : workers)
    if (w.path().ends_with("/$1")) return w;
  return {};
}

}  // namespace

TEST_SUITE("pool") {
  // --- routing --------------------------------------------------------------

  TEST_CASE("round_robin gives one worker after another its message") {
    seeds([](std::uint64_t seed) {
      diary d;
      simulation sim{seed};
      auto p = sim.system().spawn({.name = "p"}, pool(3), worker, &d);
      for (int i = 0; i != 6; ++i) p.tell(note{i});
      sim.run_until_idle();
      std::sort(d.lines.begin(), d.lines.end());
      CHECK(d.lines == texts{"$1:0", "$1:3", "$2:1", "$2:4", "$3:2", "$3:5"});
      CHECK(p.path() == "/user/p");
    });
  }

  TEST_CASE(
      "least_busy gives no more to one that is at work while others are "
      "free") {
    seeds([](std::uint64_t seed) {
      diary d;
      simulation sim{seed};
      auto p = sim.system().spawn(pool(3, routing::least_busy), worker, &d);
      std::vector<std::string> slow;
      const auto asks = [&](context<> self) -> task<> {
        (void)self;
        slow.push_back(co_await p.ask<job>("slow", 1h));
      };
      (void)sim.system().spawn(asks);
      sim.run_until_idle();
      for (int i = 0; i != 20; ++i) {
        p.tell(note{i});
        sim.run_until_idle();
      }
      sim.advance(1h);
      REQUIRE(slow.size() == 1);
      CHECK(d.lines.size() == 20);
      for (const auto& line : d.lines)
        CHECK_FALSE(contains(line, slow[0] + ":"));
    });
  }

  TEST_CASE(
      "least_busy shares what comes at once, and forgets what has ended") {
    seeds([](std::uint64_t seed) {
      diary d;
      simulation sim{seed};
      auto p = sim.system().spawn(pool(4, routing::least_busy), worker, &d);
      for (int round = 0; round != 3; ++round) {
        std::map<std::string, int> count;
        const auto asks = [&](context<> self) -> task<> {
          (void)self;
          ++count[co_await p.ask<job>("k", 1s)];
        };
        for (int i = 0; i != 8; ++i) (void)sim.system().spawn(asks);
        sim.advance(2s);
        CHECK(count.size() == 4);
        for (const auto& [who, n] : count) CHECK(n == 2);
      }
    });
  }

  TEST_CASE("consistent_hash gives the messages of one key to one worker") {
    seeds([](std::uint64_t seed) {
      diary d;
      simulation sim{seed};
      auto p = sim.system().spawn(
          pool(4, routing::consistent_hash(
                      &job::key, [](const note& n) { return n.n; },
                      [](const auto&) { return 0; })),
          worker, &d);
      std::map<std::string, std::string> at;
      std::set<std::string> used;
      for (int round = 0; round != 3; ++round)
        for (int k = 0; k != 20; ++k) {
          const std::string key = "k" + std::to_string(k);
          const std::string who = sim.run(p.ask<job>(key));
          used.insert(who);
          const auto [before, first] = at.emplace(key, who);
          if (!first) CHECK(before->second == who);
        }
      CHECK(used.size() == 4);
      for (int i = 0; i != 40; ++i) p.tell(note{i / 10});
      sim.run_until_idle();
      std::map<std::string, int> last;
      for (const auto& line : d.lines) ++last[line];
      CHECK(last.size() == 4);
    });
  }

  TEST_CASE(
      "a key keeps its worker after a restart, and others theirs after "
      "an end") {
    seeds([](std::uint64_t seed) {
      diary d;
      simulation sim{seed};
      std::vector<any_actor_ref> workers;
      const auto body = [&](context<job, fall> self) -> task<> {
        workers.push_back(self.any_ref());
        const std::string path = self.path();
        co_await self.serve([&](const job&) { return path; },
                            [](fall) { throw crash{"fall"}; });
      };
      auto p = sim.system().spawn(
          pool(4, routing::consistent_hash(&job::key,
                                           [](const fall&) { return 1; })),
          body);
      sim.run(p.started());
      std::map<std::string, std::string> at;
      for (int k = 0; k != 40; ++k) {
        const std::string key = std::to_string(k);
        at[key] = sim.run(p.ask<job>(key));
      }
      const auto all = workers;
      for (const auto& w : all) {
        sim.expect_failure<crash>(w);
        w.tell(fall{});
        sim.run_until_idle();
      }
      for (const auto& [key, who] : at) CHECK(sim.run(p.ask<job>(key)) == who);
      const any_actor_ref gone = workers[0];
      gone.stop();
      (void)sim.run(gone.stopped());
      for (const auto& [key, who] : at) {
        const std::string now = sim.run(p.ask<job>(key));
        CHECK((now == who) == (who != gone.path()));
      }
    });
  }

  TEST_CASE("a key that throws makes a dead letter of its message") {
    simulation sim{1};
    int letters = 0;
    (void)sim.system().on_dead_letter([&](const actors::dead_letter& l) {
      CHECK(l.why == actors::dead_letter::reason::failed);
      ++letters;
    });
    const auto body = [](context<note, parcel> self) -> task<> {
      co_await self.serve([](note) {}, [](const parcel&) { return 1; });
    };
    auto p = sim.system().spawn(
        pool(2, routing::consistent_hash(
                    [](const auto&) -> int { throw crash{"no key"}; })),
        body);
    p.tell(note{1});
    sim.run_until_idle();
    CHECK(letters == 1);
    CHECK(error_of([&] { (void)sim.run(p.ask<parcel>(nullptr)); }) ==
          errc::actor_failed);
    sim.run(p.started());
  }

  TEST_CASE("broadcast tells each worker a copy, with the sender") {
    seeds([](std::uint64_t seed) {
      std::vector<std::string> heard;
      int answers = 0;
      simulation sim{seed};
      const auto body = [&](context<setting> self) -> task<> {
        co_await self.serve([&](setting s) {
          heard.push_back(self.path() + ":" + std::to_string(s.value));
          self.sender().tell(note{s.value});
        });
      };
      const auto listens = [&](context<note> self) -> task<> {
        co_await self.serve([&](note) { ++answers; });
      };
      auto from = sim.system().spawn(listens);
      auto p =
          sim.system().spawn({.name = "p"}, pool(3, routing::broadcast), body);
      p.tell(setting{7}, from);
      sim.run_until_idle();
      std::sort(heard.begin(), heard.end());
      CHECK(heard == texts{"/user/p/$1:7", "/user/p/$2:7", "/user/p/$3:7"});
      CHECK(answers == 3);
    });
  }

  TEST_CASE("to_all sends some types to all workers, whatever the routing") {
    seeds([](std::uint64_t seed) {
      diary d;
      simulation sim{seed};
      auto p = sim.system().spawn(
          pool(3, routing::least_busy).to_all<setting>(), worker, &d);
      p.tell(note{1});
      p.tell(setting{5});
      sim.run_until_idle();
      CHECK(d.lines.size() == 1);
      CHECK(d.settings.size() == 3);
      for (const auto& [who, value] : d.settings) CHECK(value == 5);
    });
  }

  TEST_CASE("a copy that throws is a dead letter, and the pool goes on") {
    struct moody {
      int copies = 0;
      explicit moody(int c) : copies{c} {}
      moody(moody&&) = default;
      moody(const moody& m) : copies{m.copies} {
        if (copies > 0) throw crash{"no copy"};
      }
    };
    int heard = 0;
    simulation sim{1};
    const auto body = [&](context<moody> self) -> task<> {
      co_await self.serve([&](const moody&) { ++heard; });
    };
    auto p = sim.system().spawn(pool(3, routing::broadcast), body);
    const auto before = sim.system().dead_letter_count();
    p.tell<moody>(1);
    p.tell<moody>(0);
    sim.run_until_idle();
    CHECK(heard == 3);
    CHECK(sim.system().dead_letter_count() == before + 1);
  }

  TEST_CASE(
      "messages go on as they are: moved, never copied; the asker is "
      "answered") {
    const auto go = [](auto how) {
      seeds([&](std::uint64_t seed) {
        simulation sim{seed};
        any_actor_ref asked_by;
        const auto body = [&](context<parcel> self) -> task<> {
          co_await self.serve([&](parcel p) {
            asked_by = self.sender();
            return *p.what;
          });
        };
        auto p = sim.system().spawn(pool(2, how), body);
        int got = 0;
        auto asker = sim.system().spawn_once([&](context<> self) -> task<> {
          (void)self;
          got = co_await p.template ask<parcel>(std::make_unique<int>(42));
        });
        (void)sim.run(asker.stopped());
        CHECK(got == 42);
        CHECK(asked_by == any_actor_ref{asker});
      });
    };
    go(routing::round_robin);
    go(routing::least_busy);
    go(routing::consistent_hash([](const parcel& p) { return *p.what; }));
  }

  TEST_CASE("a slot taken, a forward and a late reply work behind a pool") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<actors::reply_to<int>> slots;
      const auto keeper = [&](context<parcel> self) -> task<> {
        co_await self.serve([&](const parcel&, actors::reply_to<int> slot) {
          slots.push_back(std::move(slot));
        });
      };
      auto inner = sim.system().spawn(pool(2, routing::least_busy), keeper);
      const auto hands_on = [&](context<parcel> self) -> task<> {
        co_await self.serve([&](parcel p) -> actors::task<int> {
          co_return co_await inner.ask<parcel>(std::move(p.what));
        });
      };
      auto outer = sim.system().spawn(pool(2, routing::least_busy), hands_on);
      std::vector<int> got;
      const auto asks = [&](context<> self) -> task<> {
        (void)self;
        got.push_back(co_await outer.ask<parcel>(std::make_unique<int>(1)));
      };
      (void)sim.system().spawn(asks);
      (void)sim.system().spawn(asks);
      sim.run_until_idle();
      REQUIRE(slots.size() == 2);
      CHECK(slots[0].reply(3));
      sim.run_until_idle();
      CHECK(got == std::vector<int>{3});
      CHECK(slots[1].reply(4));
      sim.run_until_idle();
      CHECK(got == std::vector<int>{3, 4});
    });
  }

  TEST_CASE("what goes to all is a dead letter when none takes it any more") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const auto body = [](context<note, fall> self) -> task<> {
        co_await self.serve([](note) {}, [&](fall) { self.stop(); });
        co_await self.sleep_for(1s);  // it is closed, and not over yet
      };
      auto p = sim.system().spawn(pool(1, routing::broadcast), body);
      sim.run(p.started());
      p.tell(fall{});
      sim.advance(1ms);
      p.tell(note{});
      sim.advance(1ms);
      CHECK(sim.system().dead_letter_count() == 1);
    });
  }

  TEST_CASE("who asks what has no key is told, whoever keeps the letter") {
    std::vector<actors::dead_letter> kept;
    simulation sim;
    sim.system().on_dead_letter(
        [&](const actors::dead_letter& d) { kept.push_back(d); });
    const auto body = [](context<parcel> self) -> task<> {
      co_await self.serve([](parcel) { return 1; });
    };
    const auto key = [](const parcel&) -> int { throw crash{"no key"}; };
    auto p = sim.system().spawn(pool(2, routing::consistent_hash(key)), body);
    CHECK(support::error_of([&] {
            return sim.run(p.ask<parcel>(std::make_unique<int>(1)));
          }) == actors::errc::actor_failed);
    CHECK(kept.size() == 1);
    kept.clear();
  }

  TEST_CASE("bad options of workers are refused by the pool's spawn") {
    actors::actor_system system{support::quiet(1)};
    const auto body = [](context<note> self) -> task<> {
      co_await self.until_stop();
    };
    const auto refused = [&](actors::spawn_options options) {
      return support::message_of<std::invalid_argument>([&] {
        return system.spawn({.name = "p"}, pool(2).workers(options), body);
      });
    };
    CHECK(support::contains(refused({.throughput = 0}), "throughput"));
    CHECK(support::contains(
        refused({.dispatcher = actors::dispatcher::named("typo")}), "typo"));
    CHECK(support::contains(refused({.mailbox = actors::mailbox{}.limit<int>(
                                         1, actors::overflow::fail)}),
                            "int"));
    CHECK_FALSE(system.find("/user/p"));
  }

  TEST_CASE("workers may be objects of a class") {
    class adder : public actors::actor<parcel, fall> {
     public:
      explicit adder(int more) : more_{more} {}
      int receive(parcel p) { return *p.what + more_; }
      void receive(fall) { throw crash{"fall"}; }

     private:
      int more_;
    };
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto p = sim.system().spawn<adder>({.name = "adders"},
                                         pool(3, routing::least_busy), 7);
      for (int i = 0; i != 9; ++i)
        CHECK(sim.run(p.ask<parcel>(std::make_unique<int>(i))) == i + 7);
      auto inner = sim.system().spawn<adder>(pool(2), 1);
      CHECK(sim.run(inner.ask<parcel>(std::make_unique<int>(1))) == 2);
    });
  }

  // --- life -----------------------------------------------------------------

  TEST_CASE("a worker that fails is started again, and keeps its mailbox") {
    seeds([](std::uint64_t seed) {
      std::vector<any_actor_ref> workers;
      int handled = 0;
      simulation sim{seed};
      const auto body = [&](context<note, fall> self) -> task<> {
        workers.push_back(self.any_ref());
        co_await self.serve([&](note) { ++handled; },
                            [](fall) { throw crash{"fall"}; });
      };
      auto p = sim.system().spawn(pool(2), body);
      sim.run(p.started());
      REQUIRE(workers.size() == 2);
      sim.expect_failure<crash>(first_of(workers));
      const std::string first = first_of(workers).path();
      p.tell(fall{});
      for (int i = 0; i != 11; ++i) p.tell(note{i});
      sim.run_until_idle();
      CHECK(handled == 11);
      CHECK(workers.size() == 3);
      CHECK(workers[2].path() == first);
    });
  }

  TEST_CASE("a worker that returns is started again") {
    seeds([](std::uint64_t seed) {
      diary d;
      simulation sim{seed};
      std::vector<any_actor_ref> workers;
      const auto body = [&](context<note, leave> self) -> task<> {
        workers.push_back(self.any_ref());
        bool leaves = false;
        bool more = true;
        while (more) {
          more =
              co_await self.receive([](note) {}, [&](leave) { leaves = true; });
          if (leaves) more = false;
        }
      };
      auto p = sim.system().spawn(pool(1), body);
      sim.run(p.started());
      sim.expect_failure<actors::actor_returned>(workers[0]);
      p.tell(leave{});
      p.tell(note{1});
      sim.run_until_idle();
      CHECK(workers.size() == 2);
    });
  }

  TEST_CASE("a worker that cannot start makes the pool fail to start") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      int made = 0;
      const auto body = [&](context<note> self) -> task<> {
        if (++made == 3) {
          sim.expect_failure<crash>(self.any_ref());
          throw crash{"the third"};
        }
        co_await self.serve([](note) {});
      };
      auto p = sim.system().spawn({.name = "p"}, pool(4), body);
      sim.expect_failure<crash>(p);
      CHECK(message_of<crash>([&] { sim.run(p.started()); }) == "the third");
      CHECK(sim.run(p.stopped()) == exit_reason::failed);
    });
  }

  TEST_CASE("too many restarts of one worker make the router fail") {
    simulation sim{1};
    std::vector<any_actor_ref> workers;
    const auto body = [&](context<fall> self) -> task<> {
      workers.push_back(self.any_ref());
      co_await self.serve([](fall) { throw crash{"fall"}; });
    };
    auto p = sim.system().spawn(
        pool(2, routing::round_robin, actors::one_for_one{.max_restarts = 1}),
        body);
    sim.run(p.started());
    REQUIRE(workers.size() == 2);
    sim.expect_failure<crash>(workers[0]);
    sim.expect_failure<crash>(workers[1]);
    sim.expect_failure<crash>(p);
    p.tell(fall{});
    p.tell(fall{});
    sim.run_until_idle();
    // Two, one again, and then two new ones.
    CHECK(workers.size() == 5);
    CHECK(workers[3] != workers[0]);
    p.stop();
    CHECK(sim.run(p.stopped()) == exit_reason::normal);
  }

  TEST_CASE("what the supervision of a pool says is done: one_for_all") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<any_actor_ref> workers;
      const auto body = [&](context<fall> self) -> task<> {
        workers.push_back(self.any_ref());
        co_await self.serve([](fall) { throw crash{"fall"}; });
      };
      auto p = sim.system().spawn(
          pool(3, routing::round_robin, actors::one_for_all{}), body);
      sim.run(p.started());
      sim.expect_failure<crash>(first_of(workers));
      p.tell(fall{});
      sim.run_until_idle();
      CHECK(workers.size() == 6);
    });
  }

  TEST_CASE(
      "a worker that was stopped gets no more; without any the pool "
      "ends") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<any_actor_ref> workers;
      int handled = 0;
      const auto body = [&](context<note, parcel> self) -> task<> {
        workers.push_back(self.any_ref());
        co_await self.serve([&](note) { ++handled; },
                            [](const parcel&) { return 1; });
      };
      auto p = sim.system().spawn(pool(3), body);
      sim.run(p.started());
      workers[1].stop();
      (void)sim.run(workers[1].stopped());
      for (int i = 0; i != 10; ++i) p.tell(note{i});
      sim.run_until_idle();
      CHECK(handled == 10);
      workers[0].stop();
      workers[2].kill();
      (void)sim.run(workers[0].stopped());
      workers[2].stop();
      CHECK(sim.run(p.stopped()) == exit_reason::normal);
      CHECK(error_of([&] { (void)sim.run(p.ask<parcel>(nullptr)); }) ==
            errc::actor_stopped);
    });
  }

  TEST_CASE(
      "a drain handles all that was told, a stop loses nothing silently") {
    seeds([](std::uint64_t seed) {
      for (const bool drain : {true, false}) {
        int handled = 0;
        simulation sim{seed};
        const auto body = [&](context<note> self) -> task<> {
          co_await self.serve([&](note) -> task<> {
            co_await self.sleep_for(1ms);
            ++handled;
          });
        };
        auto p = sim.system().spawn(pool(3, routing::least_busy), body);
        for (int i = 0; i != 100; ++i) p.tell(note{i});
        for (std::uint64_t i = 0; i != seed % 7; ++i) (void)sim.step();
        drain ? p.drain() : p.stop();
        CHECK(sim.run(p.stopped()) == exit_reason::normal);
        const auto lost = sim.system().dead_letter_count();
        CHECK(static_cast<std::uint64_t>(handled) + lost == 100);
        if (drain) CHECK(lost == 0);
      }
    });
  }

  TEST_CASE("a stop ends a drain that takes too long") {
    simulation sim{1};
    const auto body = [&](context<note> self) -> task<> {
      co_await self.serve([&](note) -> task<> { co_await self.sleep_for(1s); });
    };
    auto p = sim.system().spawn(pool(2), body);
    for (int i = 0; i != 10; ++i) p.tell(note{i});
    sim.run_until_idle();
    p.drain();
    sim.run_until_idle();
    p.stop();
    sim.advance(1s);
    CHECK(sim.run(p.stopped()) == exit_reason::normal);
    // One worker after the other is told.
    CHECK(sim.system().dead_letter_count() >= 6);
  }

  TEST_CASE("the end of a system drains its pools") {
    std::atomic<int> handled{0};
    {
      actor_system system{support::quiet()};
      auto p = system.spawn(pool(4), [&](context<note> self) -> task<> {
        co_await self.serve([&](note) { ++handled; });
      });
      for (int i = 0; i != 1000; ++i) p.tell(note{i});
    }
    CHECK(handled == 1000);
  }

  TEST_CASE("bad pools are refused, and nothing is left of them") {
    CHECK(contains(message_of<std::invalid_argument>([] { (void)pool(0); }),
                   "a pool has 1 to 1000000 workers, not 0"));
    CHECK_THROWS_AS((void)pool(1'000'001), std::invalid_argument);
    CHECK(contains(message_of<std::invalid_argument>(
                       [] { (void)pool(2).workers({.name = "w"}); }),
                   "numbered"));
    CHECK_THROWS_AS(
        (void)pool(2, routing::least_busy, actors::one_for_one{.within = -1s}),
        std::invalid_argument);
    simulation sim{1};
    diary d;
    auto one = sim.system().spawn({.name = "p"}, pool(2), worker, &d);
    CHECK(error_of([&] {
            (void)sim.system().spawn({.name = "p"}, pool(2), worker, &d);
          }) == errc::name_taken);
    sim.run_until_idle();
  }

  // --- threads --------------------------------------------------------------

  TEST_CASE(
      "workers are placed on the contexts in turn, and may be elsewhere") {
    std::mutex mutex;
    std::set<std::thread::id> threads;
    const auto body = [&](context<note> self) -> task<> {
      {
        const std::lock_guard lock{mutex};
        threads.insert(std::this_thread::get_id());
      }
      co_await self.serve([](note) {});
    };
    actor_system system{support::quiet(3)};
    auto p =
        system.spawn({.placement = actors::placement::on(0)}, pool(3), body);
    p.started().get();
    CHECK(threads.size() == 3);
    threads.clear();
    auto q = system.spawn(
        pool(3).workers({.placement = actors::placement::beside_parent()}),
        body);
    q.started().get();
    CHECK(threads.size() == 1);
  }

  TEST_CASE("many senders, askers and crashes on threads: nothing is lost") {
    each_system([](actor_system& system) {
      const int rounds = support::sanitized ? 100 : 1000;
      std::atomic<int> handled{0}, alive{0};
      const auto body = [&](context<note, parcel, fall> self,
                            counted) -> task<> {
        co_await self.serve([&](note) { ++handled; },
                            [&](const parcel& p) { return *p.what; },
                            [](fall) { throw crash{"fall"}; });
      };
      const auto storm = [&](auto how) {
        handled = 0;
        const auto before = system.dead_letter_count();
        auto p = system.spawn(
            pool(4, how,
                 actors::one_for_one{.max_restarts = actors::unlimited}),
            body, counted{alive});
        std::vector<std::thread> threads;
        std::atomic<int> wrong{0}, failed{0};
        for (int t = 0; t != 2; ++t)
          threads.emplace_back([&] {
            for (int i = 0; i != rounds; ++i) {
              p.tell(note{i});
              if (i % 50 == 7) p.tell(fall{});
              if (i % 5 == 0) {
                try {
                  if (p.template ask<parcel>(std::make_unique<int>(i)).get() !=
                      i)
                    ++wrong;
                } catch (const actors::actor_error&) {
                  ++failed;
                }
              }
            }
          });
        for (auto& t : threads) t.join();
        p.drain();
        (void)p.stopped().get();
        CHECK(wrong == 0);
        CHECK(failed == 0);
        CHECK(handled == 2 * rounds);
        // The messages by which workers failed.
        CHECK(system.dead_letter_count() - before ==
              static_cast<std::uint64_t>(2 * ((rounds + 42) / 50)));
      };
      storm(routing::round_robin);
      storm(routing::least_busy);
      storm(routing::consistent_hash([](const auto& m) {
        if constexpr (requires { m.n; })
          return m.n;
        else
          return 0;
      }));
      CHECK(alive == 0);
    });
  }

  TEST_CASE("a pool is stopped and killed while messages come") {
    each_system([](actor_system& system) {
      std::atomic<int> alive{0};
      for (int i = 0; i != (support::sanitized ? 10 : 50); ++i) {
        auto p = system.spawn(
            pool(3, routing::least_busy),
            [](context<parcel, note> self, counted) -> task<> {
              co_await self.serve([](const parcel& m) { return *m.what; },
                                  [](note) {});
            },
            counted{alive});
        std::atomic<int> ended{0};
        std::thread asker{[&] {
          for (int k = 0; k != 100; ++k) {
            p.tell(note{k});
            try {
              (void)p.ask<parcel>(std::make_unique<int>(k)).get();
            } catch (const actors::actor_error&) {
            }
            ++ended;
          }
        }};
        i % 2 ? p.stop() : p.kill();
        (void)p.stopped().get();
        asker.join();
        CHECK(ended == 100);
      }
      CHECK(alive == 0);
    });
  }
}
