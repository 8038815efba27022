// `system.snapshot()`: what each actor is doing, told to whoever asks.
#include "actors/snapshot.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "cell.hpp"
#include "support.hpp"
#include "systems.hpp"

/// Named, so that its name can be read in a line.
namespace seen {

struct note {
  std::string text;
};
struct go {};
struct get {
  using reply_type = int;
};

}  // namespace seen

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_snapshot;
using actors::actor_system;
using actors::any_actor_ref;
using actors::context;
using actors::simulation;
using actors::simulation_options;
using actors::task;
using seen::get;
using seen::go;
using seen::note;
using support::contains;
using support::each_system;
using support::error_of;
using support::stuck;
using snapshots = std::vector<actor_snapshot>;
using state = actor_snapshot::state;
using texts = std::vector<std::string>;

struct crash : std::runtime_error {
  using runtime_error::runtime_error;
};

template <class F>
void seeds(F&& f, int count = 100) {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(count);
       ++seed) {
    CAPTURE(seed);
    f(seed);
  }
}

/// The entry of one actor; there is to be just one.
actor_snapshot of(const snapshots& all, const any_actor_ref& who) {
  REQUIRE(std::count_if(all.begin(), all.end(),
                        [&](const auto& s) { return s.who == who; }) == 1);
  return *std::find_if(all.begin(), all.end(),
                       [&](const auto& s) { return s.who == who; });
}
actor_snapshot look_at(simulation& sim, const any_actor_ref& who) {
  return of(sim.run(sim.system().snapshot()), who);
}

/// All there are, but those of the test kit.
texts paths_of(const snapshots& all) {
  texts paths;
  for (const auto& s : all)
    if (!contains(s.path, "/run-")) paths.push_back(s.path);
  return paths;
}

bool is_at(const actor_snapshot& s, std::uint_least32_t line) {
  return contains(s.where.file_name(), "snapshot_test.cpp") &&
         s.where.line() == line;
}

std::atomic<std::uint_least32_t> worker_line = 0;

task<> worker(context<go, note, get> self) {
  const auto fail = [](const note& n) { throw crash{n.text}; };
  worker_line = __LINE__ + 1;
  while (co_await self.receive([](go) {}, fail, [](get) { return 1; })) {
  }
}

task<> leaf(context<> self) { co_await self.until_stop(); }

task<> parent_of_three(context<> self) {
  for (const char* name : {"z", "a", "m"}) self.spawn({.name = name}, leaf);
  co_await self.until_stop();
}

/// An operation that does something while the actor is about to sleep, and
/// never ends by itself.
template <class F>
class meanwhile : public actors::detail::awaitable_base,
                  private actors::detail::wait {
 public:
  using value_type = void;
  explicit meanwhile(F& f) : f_{&f} {}
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    auto& fiber = frame.promise().current();
    waiter = frame;
    cancel = [](wait&, actors::detail::fiber&,
                actors::detail::cancellation) noexcept { return true; };
    fiber.waiting = this;
    (*f_)();
  }
  void await_resume() const noexcept {}

 private:
  F* f_;
};

}  // namespace

TEST_SUITE("snapshot") {
  // --- who is listed ---------------------------------------------------------

  TEST_CASE("a system without actors has its guardian") {
    simulation sim;
    sim.run_until_idle();
    const auto all = sim.run(sim.system().snapshot());
    REQUIRE(paths_of(all) == texts{"/user"});
    CHECK(all.front().who == sim.system().user());
    CHECK(all.front().now == state::running);
    // The one that runs the question is a child, too.
    CHECK(all.front().children == all.size() - 1);
  }

  TEST_CASE("parents come before their children, in the order of their start") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      sim.spawn({.name = "one"}, leaf);
      sim.run_until_idle();
      sim.spawn({.name = "two"}, [](context<> self) -> task<> {
        self.spawn({.name = "y"}, parent_of_three);
        self.spawn({.name = "x"}, parent_of_three);
        co_await self.until_stop();
      });
      sim.run_until_idle();
      sim.spawn({.name = "three"}, parent_of_three);
      sim.run_until_idle();
      const auto all = sim.run(sim.system().snapshot());
      REQUIRE(paths_of(all) ==
              texts{"/user", "/user/one", "/user/two", "/user/two/y",
                    "/user/two/y/z", "/user/two/y/a", "/user/two/y/m",
                    "/user/two/x", "/user/two/x/z", "/user/two/x/a",
                    "/user/two/x/m", "/user/three", "/user/three/z",
                    "/user/three/a", "/user/three/m"});
      for (const auto& s : all) {
        REQUIRE(s.now == state::running);
        REQUIRE(s.who.path() == s.path);
        if (s.path == "/user/two") REQUIRE(s.children == 2);
        if (s.path == "/user/three") REQUIRE(s.children == 3);
        if (s.path == "/user/one") REQUIRE(s.children == 0);
      }
    });
  }

  TEST_CASE("who has ended is not listed any more") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn({.name = "gone"}, parent_of_three);
      sim.spawn({.name = "here"}, leaf);
      sim.run_until_idle();
      ref.stop();
      sim.run(ref.stopped());
      sim.run_until_idle();
      REQUIRE(paths_of(sim.run(sim.system().snapshot())) ==
              texts{"/user", "/user/here"});
    });
  }

  // --- what is said of one ---------------------------------------------------

  TEST_CASE("one that waits for messages: where, and how many it has taken") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref =
          sim.spawn({.name = "idle", .throughput = 1 + seed % 5}, worker);
      sim.run_until_idle();
      auto s = look_at(sim, ref);
      REQUIRE(s.now == state::running);
      REQUIRE(s.path == "/user/idle");
      REQUIRE(is_at(s, worker_line));
      REQUIRE(!s.message);
      REQUIRE(s.queued == 0);
      REQUIRE(s.tasks == 0);
      REQUIRE(s.children == 0);
      REQUIRE(s.restarts == 0);
      REQUIRE(s.handled == 0);
      for (int i = 0; i != 17; ++i) ref.tell(go{});
      REQUIRE(sim.run(ref.ask<get>()) == 1);
      REQUIRE(look_at(sim, ref).handled == 18);
      for (int i = 0; i != 9; ++i) ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(look_at(sim, ref).handled == 27);
      REQUIRE(look_at(sim, ref).handled == 27);
    });
  }

  TEST_CASE("messages are counted however they are taken") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const actors::spawn_options options{.throughput = 1 + seed % 5};
      std::vector<actor_ref<go, note>> refs;
      // In the runtime's loop, one by one, and picked out; telling itself, too.
      refs.push_back(sim.spawn(options, [](context<go, note> self) -> task<> {
        co_await self.serve([](go) {}, [](const note&) {});
      }));
      refs.push_back(sim.spawn(options, [](context<go, note> self) -> task<> {
        for (bool on = true; on;) {
          auto m = co_await self.receive();
          on = m.has_value();
        }
      }));
      refs.push_back(sim.spawn(options, [](context<go, note> self) -> task<> {
        for (bool on = true; on;) {
          on = co_await self.receive<note>([](const note&) {});
          if (on) on = co_await self.receive<go>([](go) {});
        }
      }));
      refs.push_back(sim.spawn(options, [](context<go, note> self) -> task<> {
        while (co_await self.receive(
            [&](go) -> task<> { co_await self.sleep_for(0s); },
            [](const note&) {}, actors::after(1h, [] {}))) {
        }
      }));
      for (const auto& ref : refs) {
        for (int i = 0; i != 10; ++i) {
          ref.tell(go{});
          ref.tell<note>("");
        }
        sim.run_until_idle();
        REQUIRE(look_at(sim, ref).handled == 20);
        REQUIRE(look_at(sim, ref).queued == 0);
      }
      int left = 30;
      auto self_teller = sim.spawn(options, [&](context<go> self) -> task<> {
        self.ref().tell(go{});
        while (co_await self.receive([&](go) {
          if (--left > 0) self.ref().tell(go{});
        })) {
        }
      });
      sim.run_until_idle();
      REQUIRE(look_at(sim, self_teller).handled == 30);
    });
  }

  TEST_CASE("one in a handler: its message, the innermost await, the queue") {
    seeds([](std::uint64_t seed) {
      std::uint_least32_t line = 0;
      simulation sim{seed};
      const auto inner = [&line](context<>& self) -> task<> {
        line = __LINE__ + 1;
        co_await self.sleep_for(1h);
      };
      auto ref = sim.spawn([&](context<go, note, get> self) -> task<> {
        while (co_await self.receive(
            [&](const note&) -> task<> { co_await inner(self); }, [](go) {},
            [](get) { return 1; })) {
        }
      });
      ref.tell(go{});
      ref.tell<note>("in hand");
      for (int i = 0; i != 5; ++i) ref.tell(go{});
      ref.tell(get{});
      sim.run_until_idle();
      const auto s = look_at(sim, ref);
      REQUIRE(s.now == state::running);
      REQUIRE(s.message);
      REQUIRE(*s.message == typeid(note));
      REQUIRE(is_at(s, line));
      REQUIRE(s.queued == 6);
      REQUIRE(s.handled == 2);
      REQUIRE(s.to_string() ==
              "/user/$1: running, with a seen::note in hand, "
              "at " +
                  std::string{s.where.file_name()} + ':' +
                  std::to_string(line) + ", 6 queued, 2 taken, 0 restarts");
    });
  }

  TEST_CASE("one that hangs in an ask, in operations awaited at once") {
    seeds([](std::uint64_t seed) {
      std::uint_least32_t first = 0, second = 0, asking = 0;
      simulation sim{seed};
      auto oracle = sim.probe<get>();
      auto both = sim.spawn([&](context<go> self) -> task<> {
        const auto one = [&](context<>& me) -> task<> {
          first = __LINE__ + 1;
          co_await me.sleep_for(1h);
        };
        const auto two = [&](context<>& me) -> task<> {
          second = __LINE__ + 1;
          co_await me.sleep_for(2h);
        };
        auto a = one(self);
        auto b = two(self);
        co_await actors::when_all(std::move(a), std::move(b));
      });
      auto asker = sim.spawn([&](context<go> self) -> task<> {
        (void)self;
        asking = __LINE__ + 1;
        co_await oracle.ref().ask<get>();
      });
      sim.run_until_idle();
      const auto s = look_at(sim, both);
      const bool in_one_of_them = is_at(s, first) || is_at(s, second);
      REQUIRE(in_one_of_them);
      REQUIRE(is_at(look_at(sim, asker), asking));
      oracle.expect<get>().reply(1);
    });
  }

  TEST_CASE("tasks that have not ended are counted") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([](context<go> self) -> task<> {
        for (const auto d : {1s, 2s, 3s})
          self.spawn_task(
              [](context<> me, actors::duration how_long) -> task<> {
                co_await me.sleep_for(how_long);
              },
              actors::duration{d});
        auto slow = [&](go) -> task<> { co_await self.sleep_for(5s); };
        auto beside = actors::concurrent(slow);
        while (co_await self.receive(beside)) {
        }
      });
      sim.run_until_idle();
      REQUIRE(look_at(sim, ref).tasks == 3);
      ref.tell(go{});
      ref.tell(go{});
      sim.run_until_idle();
      REQUIRE(look_at(sim, ref).tasks == 5);
      REQUIRE(look_at(sim, ref).handled == 2);
      sim.advance(2500ms);
      REQUIRE(look_at(sim, ref).tasks == 3);
      sim.advance(10s);
      REQUIRE(look_at(sim, ref).tasks == 0);
    });
  }

  TEST_CASE("restarts are counted, and messages over all incarnations") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn({.throughput = 1 + seed % 3}, worker);
      sim.expect_failure<crash>(ref, 3);
      for (int i = 0; i != 3; ++i) {
        ref.tell(go{});
        ref.tell<note>("once more");
      }
      ref.tell(go{});
      sim.run_until_idle();
      const auto s = look_at(sim, ref);
      REQUIRE(s.now == state::running);
      REQUIRE(s.restarts == 3);
      REQUIRE(s.handled == 7);
      REQUIRE(s.queued == 0);
      REQUIRE(contains(s.to_string(), "7 taken, 3 restarts"));
    });
  }

  // --- states ----------------------------------------------------------------

  TEST_CASE("starting: it has not been ready yet") {
    seeds([](std::uint64_t seed) {
      std::uint_least32_t line = 0;
      simulation sim{seed};
      auto ref = sim.spawn([&](context<go> self) -> task<> {
        line = __LINE__ + 1;
        co_await self.sleep_for(1h);
        co_await self.receive([](go) {});
      });
      ref.tell(go{});
      sim.run_until_idle();
      const auto s = look_at(sim, ref);
      REQUIRE(s.now == state::starting);
      REQUIRE(is_at(s, line));
      REQUIRE(s.queued == 1);
      REQUIRE(s.handled == 0);
    });
  }

  TEST_CASE("an actor that says that it is ready is running") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([&](context<go> self) -> task<> {
        self.ready();
        co_await self.sleep_for(1h);
      });
      auto none = sim.spawn(
          [&](context<> self) -> task<> { co_await self.sleep_for(1h); });
      sim.run_until_idle();
      REQUIRE(look_at(sim, ref).now == state::running);
      REQUIRE(look_at(sim, none).now == state::running);
    });
  }

  TEST_CASE("failed: its supervisor has not decided; restarting: not yet up") {
    seeds([](std::uint64_t seed) {
      actor_ref<go, note, get> child;
      simulation sim{seed};
      sim.spawn([&](context<> self) -> task<> {
        self.supervise([&](actors::failures failures) -> task<> {
          while (auto failure = co_await failures.next()) {
            co_await self.sleep_for(1s);  // thinks about it
            failure->restart(1s);
          }
        });
        child = self.spawn(worker);
        co_await self.until_stop();
      });
      sim.run_until_idle();
      sim.expect_failure<crash>(child);
      child.tell<note>("once");
      child.tell(go{});
      child.tell(go{});
      sim.run_until_idle();
      auto s = look_at(sim, child);
      REQUIRE(s.now == state::failed);
      REQUIRE(s.queued == 2);
      REQUIRE(s.restarts == 0);
      sim.advance(1500ms);
      s = look_at(sim, child);
      REQUIRE(s.now == state::restarting);
      REQUIRE(s.queued == 2);
      sim.advance(1s);
      s = look_at(sim, child);
      REQUIRE(s.now == state::running);
      REQUIRE(s.restarts == 1);
      REQUIRE(s.queued == 0);
      REQUIRE(s.handled == 3);
    });
  }

  TEST_CASE("failed in serve, where it may be resumed") {
    seeds([](std::uint64_t seed) {
      actor_ref<note> child;
      simulation sim{seed};
      sim.spawn([&](context<> self) -> task<> {
        self.supervise([&](actors::failures failures) -> task<> {
          while (auto failure = co_await failures.next()) {
            co_await self.sleep_for(1s);
            failure->resume();
          }
        });
        child = self.spawn([](context<note> me) -> task<> {
          co_await me.serve([](const note& n) { throw crash{n.text}; });
        });
        co_await self.until_stop();
      });
      sim.run_until_idle();
      sim.expect_failure<crash>(child);
      child.tell<note>("once");
      sim.run_until_idle();
      REQUIRE(look_at(sim, child).now == state::failed);
      sim.advance(2s);
      REQUIRE(look_at(sim, child).now == state::running);
      REQUIRE(look_at(sim, child).restarts == 0);
    });
  }

  TEST_CASE("restarting with others: the old incarnation is in its cleanup") {
    seeds([](std::uint64_t seed) {
      std::uint_least32_t line = 0;
      actor_ref<go, note, get> bad;
      actor_ref<go> other;
      simulation sim{seed};
      sim.spawn([&](context<> self) -> task<> {
        self.supervise(actors::one_for_all{});
        bad = self.spawn(worker);
        other = self.spawn([&](context<go> me) -> task<> {
          while (co_await me.receive([](go) {})) {
          }
          line = __LINE__ + 1;
          co_await me.sleep_for(1s);
        });
        co_await self.until_stop();
      });
      sim.run_until_idle();
      sim.expect_failure<crash>(bad);
      bad.tell<note>("once");
      sim.run_until_idle();
      const auto s = look_at(sim, other);
      REQUIRE(s.now == state::restarting);
      REQUIRE(is_at(s, line));
      sim.advance(2s);
      REQUIRE(look_at(sim, other).now == state::running);
      REQUIRE(look_at(sim, other).restarts == 1);
      REQUIRE(look_at(sim, bad).restarts == 1);
    });
  }

  TEST_CASE("stopping: in the handler, for its children, in the cleanup") {
    seeds([](std::uint64_t seed) {
      std::uint_least32_t line = 0;
      simulation sim{seed};
      auto ref = sim.spawn([&](context<go> self) -> task<> {
        self.spawn({.name = "child"}, [](context<> me) -> task<> {
          co_await me.until_stop();
          co_await me.sleep_for(1s);
        });
        while (co_await self.receive(
            [&](go) -> task<> { co_await self.sleep_for(1s); })) {
        }
        line = __LINE__ + 1;
        co_await self.sleep_for(1s);
      });
      ref.tell(go{});
      sim.run_until_idle();
      ref.stop();
      sim.run_until_idle();
      auto all = sim.run(sim.system().snapshot());
      auto s = of(all, ref);
      REQUIRE(s.now == state::stopping);
      REQUIRE(s.message);
      REQUIRE(*s.message == typeid(go));
      REQUIRE(s.children == 1);
      sim.advance(1500ms);  // waits for its child
      all = sim.run(sim.system().snapshot());
      REQUIRE(of(all, ref).now == state::stopping);
      REQUIRE(!of(all, ref).message);
      for (const auto& child : all)
        if (contains(child.path, "/child"))
          REQUIRE(child.now == state::stopping);
      sim.advance(1s);  // cleans up
      s = look_at(sim, ref);
      REQUIRE(s.now == state::stopping);
      REQUIRE(is_at(s, line));
      REQUIRE(s.children == 0);
    });
  }

  TEST_CASE("stopping: killed, and hangs; abandoned: nobody waits for it") {
    seeds([](std::uint64_t seed) {
      stuck* hangs = nullptr;
      std::uint_least32_t line = 0;
      simulation sim{seed};
      auto ref = sim.spawn([&](context<go> self) -> task<> {
        (void)self;
        stuck op{&hangs};
        line = __LINE__ + 1;
        co_await op;
      });
      sim.run_until_idle();
      ref.kill();
      sim.run_until_idle();
      const auto s = look_at(sim, ref);
      REQUIRE(s.now == state::stopping);
      REQUIRE(is_at(s, line));
      sim.advance(2s);
      const auto all = sim.run(sim.system().snapshot());
      REQUIRE(paths_of(all) == texts{"/user"});
      hangs->complete();
    });
  }

  TEST_CASE("draining: still at work, and ending") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([&](context<go> self) -> task<> {
        while (co_await self.receive(
            [&](go) -> task<> { co_await self.sleep_for(1s); })) {
        }
      });
      for (int i = 0; i != 3; ++i) ref.tell(go{});
      sim.run_until_idle();
      ref.drain();
      sim.run_until_idle();
      const auto s = look_at(sim, ref);
      REQUIRE(s.now == state::stopping);
      REQUIRE(s.message);
      REQUIRE(s.queued == 2);
    });
  }

  // --- who asks --------------------------------------------------------------

  TEST_CASE("an actor that asks is in the list, with the message in hand") {
    seeds([](std::uint64_t seed) {
      std::uint_least32_t line = 0;
      snapshots all;
      simulation sim{seed};
      auto ref = sim.spawn([&](context<go> self) -> task<> {
        while (co_await self.receive([&](go) -> task<> {
          line = __LINE__ + 1;
          all = co_await self.system().snapshot();
        })) {
        }
      });
      ref.tell(go{});
      ref.tell(go{});
      sim.run_until_idle();
      const auto s = of(all, ref);
      REQUIRE(s.now == state::running);
      REQUIRE(s.message);
      REQUIRE(*s.message == typeid(go));
      REQUIRE(is_at(s, line));
      REQUIRE(s.handled == 2);
    });
  }

  TEST_CASE("a negative patience is a mistake that is told") {
    simulation sim;
    CHECK_THROWS_AS((void)sim.system().snapshot(-1s), std::invalid_argument);
  }

  TEST_CASE("an asker that leaves harms nobody") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      sim.spawn(parent_of_three);
      auto asker = sim.spawn([](context<go> self) -> task<> {
        for (;;) (void)co_await self.system().snapshot();
      });
      for (std::uint64_t i = 0; i != seed; ++i) sim.step();
      asker.kill();
      sim.run(asker.stopped());
      REQUIRE(sim.run(sim.system().snapshot()).size() >= 5);
    });
  }

  TEST_CASE("a snapshot while its system ends comes to an end") {
    seeds([](std::uint64_t seed) {
      std::optional<bool> got;
      {
        simulation sim{seed};
        sim.spawn(parent_of_three);
        sim.run_until_idle();
        sim.system().snapshot()(
            [&](std::error_code e, const snapshots&) { got = !e; });
        for (std::uint64_t i = 0; i != seed % 20; ++i) sim.step();
        sim.terminate();
        sim.run_until_idle();
      }
      REQUIRE(got.has_value());
    });
  }

  TEST_CASE("a message that comes beside a look is not left lying there") {
    // Between the look into an empty mailbox and the sleep: a message, and
    // somebody who looks at the actor.
    seeds([](std::uint64_t seed) {
      int taken = 0;
      simulation sim{seed};
      auto ref = sim.spawn([&](context<go> self) -> task<> {
        auto tell = [&] {
          std::thread{[&] {
            self.ref().tell(go{});
            (void)actors::detail::send_order(
                self.cell(),
                [](actors::detail::cell& c, actors::detail::cell*) noexcept {
                  (void)c.snapshot();
                },
                nullptr);
          }}.join();
        };
        meanwhile op{tell};
        const auto take = [&](go) { ++taken; };
        auto next = self.receive(take);
        co_await actors::when_any(next, op);
        co_await self.until_stop();
      });
      sim.run_until_idle();
      REQUIRE(taken == 1);
    });
  }

  // --- threads ---------------------------------------------------------------

  TEST_CASE("get() on a plain thread, on each kind of system") {
    each_system([](actor_system& system) {
      auto one = system.spawn({.name = "one"}, parent_of_three);
      one.started().get();
      auto two = system.spawn({.name = "two"}, worker);
      for (int i = 0; i != 1000; ++i) two.tell(go{});
      CHECK(two.ask<get>().get() == 1);
      const auto all = system.snapshot(1min).get();
      CHECK(paths_of(all) == texts{"/user", "/user/one", "/user/one/z",
                                   "/user/one/a", "/user/one/m", "/user/two"});
      CHECK(of(all, two).handled == 1001);
      CHECK(of(all, two).queued == 0);
      for (const auto& s : all) CHECK(s.now != state::busy);
    });
  }

  TEST_CASE("an asio::awaitable, a callback and a future of a guest's") {
    asio::io_context io;
    actors::system_options options;
    options.log.emplace();
    actor_system system{io, options};
    auto ref = system.spawn({.name = "one"}, worker);
    texts awaited, called;
    auto client = [&]() -> asio::awaitable<void> {
      ref.tell(go{});
      const snapshots all = co_await system.snapshot()(asio::use_awaitable);
      awaited = paths_of(all);
      system.snapshot()([&](std::error_code e, const snapshots& s) {
        CHECK(!e);
        called = paths_of(s);
        system.terminate();
      });
    };
    asio::co_spawn(io, client, asio::detached);
    auto later = system.snapshot()(asio::use_future);
    io.run();
    CHECK(awaited == texts{"/user", "/user/one"});
    CHECK(called == awaited);
    CHECK(!later.get().empty());
  }

  TEST_CASE("when its system has ended the list is empty") {
    actor_system system{support::quiet(2)};
    system.spawn(worker);
    system.terminate();
    CHECK(system.snapshot().get().empty());
    simulation sim;
    sim.terminate();
    std::optional<std::size_t> size;
    sim.system().snapshot()(
        [&](std::error_code, const snapshots& s) { size = s.size(); });
    sim.run_until_idle();
    CHECK(size == 0u);
    asio::io_context io;
    actor_system guest{io};
    guest.terminate();
    io.run();
    io.restart();
    auto none = guest.snapshot()(asio::use_future);
    io.run();
    CHECK(none.get().empty());
  }

  TEST_CASE("one that does not come back from its code is busy") {
    // Not on the thread of the guardian, which answers.
    for (const auto& d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      CAPTURE(static_cast<int>(d.which()));
      support::flag blocked, go_on;
      actors::system_options options = support::quiet(2);
      options.dispatcher = d;
      actor_system system{options};
      auto idle = system.spawn(
          {.name = "idle", .placement = actors::placement::on(0)}, worker);
      auto ref =
          system.spawn({.name = "busy", .placement = actors::placement::on(1)},
                       [&](context<go> self) -> task<> {
                         self.spawn({.name = "child"}, leaf);
                         while (co_await self.receive([&](go) {
                           blocked.set();
                           go_on.wait();
                         })) {
                         }
                       });
      ref.tell(go{});
      idle.tell(go{});
      idle.ask<get>().get();
      blocked.wait();
      const auto all = system.snapshot(1s).get();
      const auto s = of(all, ref);
      CHECK(s.now == state::busy);
      CHECK(s.path == "/user/busy");
      CHECK(s.where.line() == 0);
      CHECK(!s.message);
      CHECK(s.to_string() == "/user/busy: busy");
      CHECK(of(all, idle).now == state::running);
      CHECK(of(all, idle).handled == 2);
      go_on.set();
      const auto again = system.snapshot(1min).get();
      CHECK(of(again, ref).now == state::running);
      CHECK(of(again, ref).handled == 1);
      CHECK(of(again, ref).children == 1);
    }
  }

  // With dispatcher::pool the guardian's own thread may be the one that does
  // not come back, and is with the first actor that a system spawns.
  TEST_CASE("one that holds the thread of the guardian is no hang") {
    support::flag blocked, go_on;
    actor_system system{support::quiet(2)};
    auto ref =
        system.spawn({.name = "busy", .placement = actors::placement::on(0)},
                     [&](context<go> self) -> task<> {
                       while (co_await self.receive([&](go) {
                         blocked.set();
                         go_on.wait();
                       })) {
                       }
                     });
    support::at_exit come_back{[&] { go_on.set(); }};
    ref.tell(go{});
    blocked.wait();
    CHECK(support::error_of([&] { return system.snapshot(20ms).get(); }) ==
          actors::errc::timed_out);
  }

  TEST_CASE("a loop that is destroyed under a snapshot takes it with it") {
    for (int steps = 0; steps != 20; ++steps)
      for (const bool system_first : {false, true}) {
        CAPTURE(steps);
        std::atomic<int> alive{0};
        {
          auto io = std::make_unique<asio::io_context>();
          actors::system_options options;
          options.log.emplace();
          auto system = std::make_unique<actor_system>(*io, options);
          system->spawn(parent_of_three);
          system->spawn(worker);
          if (steps % 2) io->poll();
          for (int i = 0; i != 3; ++i)
            system->snapshot()([kept = support::counted{alive}](
                                   std::error_code, const snapshots&) {});
          io->restart();
          for (int i = 0; i != steps; ++i) io->poll_one();
          if (system_first) system.reset();
          io.reset();
        }
        REQUIRE(alive == 0);
      }
  }

  TEST_CASE("many at once, under load, from several threads") {
    const int rounds = support::sanitized ? 30 : 200;
    each_system([&](actor_system& system) {
      constexpr int crowd = 8;
      std::atomic<bool> on{true};
      std::atomic<std::uint64_t> told{0};
      std::vector<actor_ref<go, note, get>> refs;
      for (int i = 0; i != crowd; ++i) refs.push_back(system.spawn(worker));
      const auto family = [](context<> self) -> task<> {
        for (;;) {
          auto child = self.spawn(parent_of_three);
          co_await self.sleep_for(10us);
          child.stop();
          co_await child.stopped();
        }
      };
      auto restless = system.spawn(family);
      std::vector<std::thread> threads;
      threads.emplace_back([&] {
        while (on) {
          for (const auto& ref : refs) {
            for (int i = 0; i != 10; ++i) ref.tell(go{});
            told += 10;
          }
          // As fast as they are handled, or the queue is all there is.
          for (const auto& ref : refs) (void)ref.ask<get>().get();
          told += crowd;
        }
      });
      std::vector<std::thread> lookers;
      for (int t = 0; t != 3; ++t)
        lookers.emplace_back([&] {
          for (int i = 0; i != rounds; ++i) {
            const auto all = system.snapshot().get();
            REQUIRE(!all.empty());
            REQUIRE(all.front().path == "/user");
            for (const auto& ref : refs) (void)of(all, ref);
          }
        });
      auto actor = system.spawn([&](context<go> self) -> task<> {
        for (int i = 0; i != rounds; ++i) {
          const snapshots all = co_await self.system().snapshot();
          if (all.empty()) co_return;
        }
      });
      for (auto& t : lookers) t.join();
      actor.stopped().get();
      on = false;
      for (auto& t : threads) t.join();
      // Nobody has lost a message by it.
      std::uint64_t handled = 0;
      const auto all = system.snapshot(1min).get();
      for (const auto& ref : refs) handled += of(all, ref).handled;
      CHECK(handled == told);
      restless.kill();
    });
  }

  // --- lines -----------------------------------------------------------------

  TEST_CASE("each state has a name") {
    CHECK(to_string(state::starting) == "starting");
    CHECK(to_string(state::running) == "running");
    CHECK(to_string(state::failed) == "failed");
    CHECK(to_string(state::restarting) == "restarting");
    CHECK(to_string(state::stopping) == "stopping");
    CHECK(to_string(state::busy) == "busy");
    actor_snapshot s;
    s.path = "/user/a";
    CHECK(s.to_string() == "/user/a: busy");
    s.now = state::starting;
    CHECK(s.to_string() == "/user/a: starting, 0 queued, 0 taken, 0 restarts");
  }
}
