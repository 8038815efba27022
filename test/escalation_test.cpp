// Failures that go up, that come from outside, and that come in crowds.
#include <doctest/doctest.h>

#include <array>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using actors::any_actor_ref;
using actors::context;
using actors::directive;
using actors::errc;
using actors::exit_reason;
using actors::failures;
using actors::lifecycle_event;
using actors::on;
using actors::one_for_all;
using actors::one_for_one;
using actors::simulation;
using actors::task;
using actors::use_task;
using support::error_of;
using support::quiet;
using kind = lifecycle_event::kind;

struct crash : std::runtime_error {
  crash() : runtime_error{"crash"} {}
};

struct boom {};
struct slow_boom {};
struct count {};
struct total {
  using reply_type = int;
};
struct number {
  using reply_type = int;
};
struct child_of {
  using reply_type = any_actor_ref;
};

using worker_self = context<boom, number>;
using worker_ref = actors::actor_ref<boom, number>;

task<> worker(worker_self self, std::shared_ptr<std::atomic<int>> born) {
  const int n = ++*born;
  while (co_await self.receive([](boom) { throw crash{}; },
                               [&](number) { return n; })) {
  }
}

std::shared_ptr<std::atomic<int>> none() {
  return std::make_shared<std::atomic<int>>(0);
}

template <class F>
void seeds(F&& f, int last = 20) {
  for (int seed = 1; seed <= last; ++seed) {
    CAPTURE(seed);
    f(static_cast<std::uint64_t>(seed));
  }
}

/// Fails until its supervisor has had enough.
void exhaust(const worker_ref& ref) {
  for (int i = 0; i != 11; ++i) ref.tell(boom{});
}

enum class wait { timer, socket, ask };

/// Awaits something that fails, or after which it fails.
task<> await_and_fail(context<>& self, wait what, any_actor_ref) {
  switch (what) {
    case wait::timer:
      co_await self.sleep_for(5ms);
      throw crash{};
    case wait::socket: {
      asio::local::stream_protocol::socket ours{self.get_executor()};
      asio::local::stream_protocol::socket theirs{self.get_executor()};
      asio::local::connect_pair(ours, theirs);
      asio::write(theirs, asio::buffer("x", 1));
      theirs.close();
      std::array<char, 8> data;
      for (;;)
        (void)co_await ours.async_read_some(asio::buffer(data), use_task);
    }
    case wait::ask: {
      const worker_ref nobody;
      (void)co_await nobody.ask<number>();
    }
  }
}

using waiter_self = context<slow_boom, count, total>;

struct crowd {
  std::vector<worker_ref> refs;
  support::flag spawned;
};

template <class Strategy>
auto crowded(Strategy strategy, std::size_t size, crowd* c) {
  return [=](context<> self) -> task<> {
    self.supervise(strategy);
    if (c->refs.empty()) {
      for (std::size_t i = 0; i != size; ++i)
        c->refs.push_back(self.spawn(worker, none()));
      c->spawned.set();
    }
    co_await self.until_stop();
  };
}

// --- whatever happens --------------------------------------------------------

/// Chances, and what comes of them.
struct chaos {
  explicit chaos(std::uint64_t seed)
      : random{static_cast<std::uint32_t>(seed)} {}

  bool one_in(unsigned n) { return random() % n == 0; }

  std::minstd_rand random;
  std::atomic<int> alive{0};
  simulation* sim = nullptr;
  std::vector<worker_ref> refs;
  std::vector<std::shared_ptr<bool>> asks;
};

/// Starts and ends slowly at times, and fails at both.
task<> unsteady(worker_self self, chaos* c) {
  const support::counted frame{c->alive};
  if (c->one_in(3)) co_await self.sleep_for(100ms);
  if (c->one_in(10)) throw crash{};
  const auto fails = [&](boom) -> task<> {
    const support::counted inner{c->alive};
    if (c->one_in(2)) co_await self.sleep_for(10ms);
    throw crash{};
  };
  const auto answers = [](number) { return 1; };
  if (c->one_in(2))
    co_await self.serve(fails, answers);
  else
    while (co_await self.receive(fails, answers)) {
    }
  if (c->one_in(3)) co_await self.sleep_for(200ms);
  if (c->one_in(10)) throw crash{};
}

template <class Strategy>
void supervise_somehow(context<>& self, chaos* c) {
  Strategy s;
  s.max_restarts = c->one_in(3) ? 2 : 100;
  s.per_child = c->one_in(2);
  if (c->one_in(2)) s.backoff = {.min = 50ms, .max = 1s, .jitter = 0.5};
  s.decide = [c](const actors::failure&) -> std::optional<directive> {
    if (c->one_in(8)) return directive::stop;
    if (c->one_in(8)) return directive::resume;
    if (c->one_in(30)) return directive::escalate;
    if (c->one_in(60)) throw std::logic_error{"the policy"};
    return directive::restart;
  };
  self.supervise(s);
}

task<> unsteady_boss(context<> self, chaos* c) {
  const support::counted frame{c->alive};
  switch (c->random() % 3) {
    case 0:
      supervise_somehow<one_for_one>(self, c);
      break;
    case 1:
      supervise_somehow<one_for_all>(self, c);
      break;
    default:
      supervise_somehow<actors::rest_for_one>(self, c);
      break;
  }
  for (int i = 0; i != 4; ++i) {
    const auto policy = static_cast<actors::restart_policy>(c->random() % 3);
    c->refs.push_back(self.spawn({.restart = policy}, unsteady, c));
    c->sim->expect_failure<std::exception>(c->refs.back(), 200);
  }
  co_await self.until_stop();
}

task<> ask_number(context<>, worker_ref whom, std::shared_ptr<bool> ended) {
  try {
    (void)co_await whom.ask<number>();
  } catch (const std::system_error& e) {
    CHECK((e.code() == errc::actor_stopped || e.code() == errc::no_reply));
  }
  *ended = true;
}

void disturb(chaos& c, const any_actor_ref& top) {
  simulation& sim = *c.sim;
  const auto ref = c.refs[c.random() % c.refs.size()];
  switch (c.random() % 12) {
    case 0:
      ref.stop();
      break;
    case 1:
      ref.kill();
      break;
    case 2:
      ref.drain();
      break;
    case 3:
      sim.advance(std::chrono::milliseconds{c.random() % 300});
      break;
    case 4:
    case 5:
      c.asks.push_back(std::make_shared<bool>(false));
      (void)sim.spawn_once(ask_number, ref, c.asks.back());
      break;
    case 6:
      if (c.one_in(10)) sim.inject(top, crash{});
      break;
    default:
      // Among them the latest, who are alive.
      (c.one_in(2) ? ref : c.refs.back()).tell(boom{});
      break;
  }
  for (auto n = c.random() % 20; n != 0; --n) (void)sim.step();
}

}  // namespace

TEST_SUITE("escalation") {
  // --- at the root -----------------------------------------------------------

  TEST_CASE("a failure at the root ends all of the system") {
    seeds([](std::uint64_t seed) {
      std::vector<std::string> ends;
      simulation sim{seed};
      (void)sim.system().on_event([&](const lifecycle_event& e) {
        if (e.what == kind::stopped)
          ends.push_back(e.who.path() + ": " +
                         support::message_of_error(e.why.error()));
      });
      const auto ref = sim.spawn({.name = "a"}, worker, none());
      const auto other = sim.spawn({.name = "b"}, worker, none());
      sim.run_until_idle();
      sim.expect_failure<crash>(ref, 11);
      sim.expect_failure<crash>(sim.system().user());
      exhaust(ref);
      sim.run_until_idle();
      REQUIRE(ends == std::vector<std::string>{"/user/b: ", "/user/a: crash",
                                               "/user: crash"});
      const auto letters = sim.system().dead_letter_count();
      other.tell(boom{});
      sim.spawn(worker, none()).tell(boom{});
      REQUIRE(sim.system().dead_letter_count() == letters + 2);
      sim.check();
    });
  }

  TEST_CASE("a failure at the root is thrown by wait(), once all have ended") {
    for (const auto dispatcher :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      auto options = quiet();
      options.dispatcher = dispatcher;
      actors::actor_system system{options};
      const auto ref = system.spawn(worker, none());
      const auto other = system.spawn(worker, none());
      exhaust(ref);
      CHECK_THROWS_AS(system.wait(), crash);
      CHECK(ref.stopped().get() == exit_reason::failed);
      CHECK(other.stopped().get() == exit_reason::normal);
    }
  }

  TEST_CASE("a failure at the root comes out of a guest's io.run()") {
    asio::io_context io;
    actors::actor_system system{io, quiet()};
    const auto ref = system.spawn(worker, none());
    exhaust(ref);
    CHECK_THROWS_AS(io.run(), crash);
    io.restart();
    CHECK_NOTHROW(io.run());
    CHECK(error_of([&] {
            auto end = ref.ask(number{}, asio::use_future);
            io.restart();
            io.run();
            return end.get();
          }) == errc::actor_stopped);
  }

  TEST_CASE("a failure at the root is what run() throws") {
    actors::actor_system system{quiet()};
    const auto main = [&](context<> self) -> task<int> {
      exhaust(self.system().spawn(worker, none()));
      co_await self.sleep_for(1h);
      co_return 1;
    };
    CHECK_THROWS_AS(system.run(main), crash);
  }

  TEST_CASE("on_failure has the child stopped, and the system goes on") {
    seeds([](std::uint64_t seed) {
      std::vector<std::string> told;
      actors::system_options options;
      options.on_failure = [&](const any_actor_ref& child,
                               std::exception_ptr error) {
        told.push_back(child.path() + ": " + support::message_of_error(error));
      };
      simulation sim{{.seed = seed, .system = options}};
      const auto ref = sim.spawn({.name = "a"}, worker, none());
      const auto other = sim.spawn(worker, none());
      sim.expect_failure<crash>(ref, 11);
      exhaust(ref);
      const auto why = sim.run(ref.stopped());
      REQUIRE(why == exit_reason::failed);
      REQUIRE(support::message_of_error(why.error()) == "crash");
      REQUIRE(told == std::vector<std::string>{"/user/a: crash"});
      REQUIRE(sim.run(other.ask<number>()) == 1);
      sim.check();
    });
  }

  TEST_CASE("on_failure is told of the child of /user, also of one below") {
    seeds([](std::uint64_t seed) {
      std::vector<std::string> told;
      actors::system_options options;
      options.supervision =
          one_for_one{.decide = {on<crash>(directive::escalate)}};
      options.on_failure = [&](const any_actor_ref& child,
                               std::exception_ptr error) {
        told.push_back(child.path() + ": " + support::message_of_error(error));
      };
      simulation sim{{.seed = seed, .system = options}};
      worker_ref leaf;
      const auto top =
          sim.spawn({.name = "top"}, [&](context<> self) -> task<> {
            self.supervise(
                one_for_one{.decide = {on<crash>(directive::escalate)}});
            leaf = self.spawn(worker, none());
            sim.expect_failure<crash>(leaf);
            co_await self.until_stop();
          });
      sim.expect_failure<crash>(top);
      sim.run_until_idle();
      leaf.tell(boom{});
      REQUIRE(sim.run(top.stopped()) == exit_reason::failed);
      REQUIRE(told == std::vector<std::string>{"/user/top: crash"});
      sim.check();
    });
  }

  TEST_CASE("an on_failure that throws ends the system by the failure") {
    auto options = quiet();
    options.on_failure = [](const any_actor_ref&, std::exception_ptr) {
      throw std::logic_error{"the handler's own"};
    };
    actors::actor_system system{options};
    exhaust(system.spawn(worker, none()));
    CHECK_THROWS_AS(system.wait(), crash);
  }

  TEST_CASE("system_options.supervision decides about /user's children") {
    seeds([](std::uint64_t seed) {
      actors::system_options options;
      options.supervision = [](failures failures) -> task<> {
        while (auto f = co_await failures.next()) {
          if (f->count(1h) < 3)
            f->restart();
          else
            f->stop();
        }
      };
      simulation sim{{.seed = seed, .system = options}};
      const auto ref = sim.spawn(worker, none());
      const auto other = sim.spawn(worker, none());
      sim.expect_failure<crash>(ref, 3);
      for (int i = 0; i != 3; ++i) {
        REQUIRE(sim.run(ref.ask<number>()) == i + 1);
        ref.tell(boom{});
      }
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      REQUIRE(sim.run(other.ask<number>()) == 1);
    });
  }

  TEST_CASE("a supervision of the system's that throws ends the system") {
    auto options = quiet();
    options.supervision = [](failures failures) -> task<> {
      auto f = co_await failures.next();
      if (f) throw std::logic_error{"a bug"};
    };
    actors::actor_system system{options};
    system.spawn(worker, none()).tell(boom{});
    CHECK_THROWS_AS(system.wait(), crash);
  }

  // --- one level after another -----------------------------------------------

  TEST_CASE("a child that fails because its child escalated") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<worker_ref> leaves;
      any_actor_ref middle;
      int tops = 0;
      const auto mid = [&](context<> self) -> task<> {
        middle = self.any_ref();
        self.supervise(one_for_one{.max_restarts = 2});
        leaves.push_back(self.spawn({.name = "leaf"}, worker, none()));
        co_await self.until_stop();
      };
      const auto top =
          sim.spawn({.name = "top"}, [&](context<> self) -> task<> {
            ++tops;
            self.supervise(one_for_one{.max_restarts = 1});
            (void)self.spawn({.name = "mid"}, mid);
            co_await self.until_stop();
          });
      sim.run_until_idle();
      for (int round = 0; round != 2; ++round) {
        const auto leaf = leaves.back();
        const auto parent = middle;
        sim.expect_failure<crash>(leaf, 3);
        sim.expect_failure<crash>(parent);
        if (round == 1) sim.expect_failure<crash>(top);
        for (int i = 0; i != 3; ++i) {
          REQUIRE(sim.run(leaf.ask<number>()) == i + 1);
          leaf.tell(boom{});
        }
        REQUIRE(sim.run(leaf.stopped()) == exit_reason::failed);
        sim.run_until_idle();
        REQUIRE(leaves.size() == static_cast<std::size_t>(round) + 2);
        REQUIRE(leaves.back().path() == "/user/top/mid/leaf");
        REQUIRE(sim.run(leaves.back().ask<number>()) == 1);
        // By the same ref where it was restarted, by another below.
        REQUIRE((parent == middle) == (round == 0));
      }
      REQUIRE(tops == 2);
      sim.check();
    });
  }

  TEST_CASE("a supervisor that is stopped in the middle of a group restart") {
    seeds([](std::uint64_t seed) {
      for (const bool kill : {false, true}) {
        CAPTURE(kill);
        simulation sim{seed};
        std::vector<worker_ref> refs;
        std::vector<std::string> order;
        const auto slow = [&](worker_self self) -> task<> {
          while (co_await self.receive([](boom) { throw crash{}; },
                                       [](number) { return 1; })) {
          }
          co_await self.sleep_for(1s);
          order.push_back(self.path().substr(10));
        };
        const auto top =
            sim.spawn({.name = "top"}, [&](context<> self) -> task<> {
              self.supervise(one_for_all{});
              for (const char* name : {"a", "b", "c"})
                refs.push_back(self.spawn({.name = name}, slow));
              co_await self.until_stop();
            });
        sim.run_until_idle();
        sim.expect_failure<crash>(refs[0]);
        refs[0].tell(boom{});
        sim.advance(1500ms);  // b is at its cleanup
        kill ? top.kill() : top.stop();
        (void)sim.run(top.stopped());
        for (const auto& ref : refs)
          REQUIRE(sim.run(ref.stopped()) != exit_reason::not_started);
        if (kill)
          REQUIRE(order == std::vector<std::string>{"c"});
        else
          REQUIRE(order == std::vector<std::string>{"c", "b"});
        REQUIRE(refs.size() == 3);
      }
    });
  }

  // --- after an await --------------------------------------------------------

  TEST_CASE("a child that fails after an await of a timer, a socket, an ask") {
    for (const wait what : {wait::timer, wait::socket, wait::ask}) {
      for (const bool serves : {false, true}) {
        for (const auto then : {directive::restart, directive::resume,
                                directive::stop, directive::escalate}) {
          for (std::uint64_t seed = 1; seed <= 5; ++seed) {
            CAPTURE(static_cast<int>(what));
            CAPTURE(serves);
            CAPTURE(static_cast<int>(then));
            CAPTURE(seed);
            std::vector<std::string> said;
            simulation sim{seed};
            (void)sim.system().on_event([&](const lifecycle_event& e) {
              if (e.what == kind::failed && e.who.path() == "/user/top/child")
                said.push_back(std::string{to_string(e.decision)});
            });
            std::vector<actors::actor_ref<slow_boom, count, total>> refs;
            const auto child = [&](waiter_self self) -> task<> {
              int sum = 0;
              const auto fails = [&](const slow_boom&) -> task<> {
                co_await await_and_fail(self, what, {});
              };
              const auto counts = [&](count) { ++sum; };
              const auto gives = [&](total) { return sum; };
              if (serves)
                co_await self.serve(fails, counts, gives);
              else
                while (co_await self.receive(fails, counts, gives)) {
                }
            };
            const auto top =
                sim.spawn({.name = "top"}, [&](context<> self) -> task<> {
                  self.supervise(
                      one_for_one{.decide = {on<std::exception>(then)}});
                  refs.push_back(self.spawn({.name = "child"}, child));
                  co_await self.until_stop();
                });
            sim.run_until_idle();
            const auto ref = refs.front();
            sim.expect_failure(ref);
            if (then == directive::escalate) sim.expect_failure(top);
            for (int i = 0; i != 3; ++i) ref.tell(count{});
            ref.tell(slow_boom{});
            ref.tell(count{});
            if (then == directive::restart || then == directive::resume) {
              const bool kept = serves && then == directive::resume;
              REQUIRE(sim.run(ref.ask<total>()) == (kept ? 4 : 1));
              REQUIRE(said ==
                      std::vector<std::string>{kept ? "resume" : "restart"});
            } else {
              const auto why = sim.run(ref.stopped());
              REQUIRE(why == exit_reason::failed);
              REQUIRE(said ==
                      std::vector<std::string>{std::string{to_string(then)}});
              if (what == wait::ask)
                REQUIRE(error_of([&] {
                          std::rethrow_exception(why.error());
                          return 0;
                        }) == errc::actor_stopped);
              if (what == wait::socket)
                REQUIRE(error_of([&] {
                          std::rethrow_exception(why.error());
                          return 0;
                        }) == asio::error::eof);
            }
            if (then == directive::escalate) {
              sim.run_until_idle();
              REQUIRE(sim.run(refs.back().ask<total>()) == 0);
            }
            REQUIRE(sim.system().dead_letter_count() ==
                    (then == directive::restart || then == directive::resume
                         ? 1
                         : 2));
            sim.check();
          }
        }
      }
    }
  }

  // --- crowds ----------------------------------------------------------------

  TEST_CASE("10,000 children that fail at once are all restarted, once") {
    constexpr std::size_t size = 10'000;
    crowd c;
    std::atomic<std::size_t> restarted{0};
    actors::actor_system system{quiet()};
    (void)system.on_event([&](const lifecycle_event& e) {
      if (e.what == kind::restarted) ++restarted;
    });
    (void)system.spawn(
        crowded(one_for_one{.max_restarts = actors::unlimited}, size, &c));
    c.spawned.wait();
    for (const auto& ref : c.refs) ref.tell(boom{});
    std::size_t twice = 0;
    for (const auto& ref : c.refs)
      if (ref.ask<number>().get() == 2) ++twice;
    CHECK(twice == size);
    CHECK(restarted == size);
    CHECK(system.dead_letter_count() == size);
  }

  TEST_CASE("10,000 children that fail at once escalate once") {
    constexpr std::size_t size = 10'000;
    crowd c;
    std::atomic<int> restarted{0};
    std::atomic<std::size_t> ended{0};
    actors::actor_system system{quiet()};
    (void)system.on_event([&](const lifecycle_event& e) {
      if (e.what == kind::restarted && e.who.path() == "/user/top") ++restarted;
      if (e.what == kind::stopped) ++ended;
    });
    const auto top =
        system.spawn({.name = "top"}, crowded(one_for_one{}, size, &c));
    c.spawned.wait();
    for (const auto& ref : c.refs) ref.tell(boom{});
    for (const auto& ref : c.refs) (void)ref.stopped().get();
    CHECK(ended == size);
    top.stop();
    CHECK(top.stopped().get() == exit_reason::normal);
    CHECK(restarted <= 1);
  }

  TEST_CASE(
      "a group whose children all fail at once restarts, and counts, once") {
    seeds([](std::uint64_t seed) {
      crowd c;
      simulation sim{seed};
      const auto top = sim.spawn(
          {.name = "top"}, crowded(one_for_all{.max_restarts = 1}, 20, &c));
      sim.run_until_idle();
      // They have lost the same thing, in the same moment.
      for (const auto& ref : c.refs) {
        sim.expect_failure<crash>(ref);
        sim.inject(ref, crash{});
      }
      sim.run_until_idle();
      for (const auto& ref : c.refs) REQUIRE(sim.run(ref.ask<number>()) == 2);
      sim.check();
    });
  }

  TEST_CASE("groups that fail on many threads, all the time, come back") {
    for (const auto dispatcher :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      constexpr std::size_t size = 8;
      crowd c;
      auto options = quiet(3);
      options.dispatcher = dispatcher;
      actors::actor_system system{options};
      (void)system.spawn(
          crowded(one_for_all{.max_restarts = actors::unlimited}, size, &c));
      c.spawned.wait();
      const auto disturb = [&c] {
        for (std::size_t i = 0; i != 500; ++i) {
          c.refs[i % 3].tell(boom{});
          CHECK(c.refs[i % size].ask<number>().get() > 0);
          c.refs[size - 1 - i % size].tell(boom{});
        }
      };
      std::thread other{disturb};
      disturb();
      other.join();
      for (const auto& ref : c.refs) CHECK(ref.ask<number>().get() > 1);
    }
  }

  TEST_CASE("a crash loop without backoff leaves others of its thread alone") {
    for (const auto dispatcher :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      auto options = quiet(1);
      options.dispatcher = dispatcher;
      options.supervision = one_for_one{
          .max_restarts = actors::unlimited,
          .decide = {on<actors::initialization_error>(directive::restart)}};
      actors::actor_system system{options};
      std::atomic<std::uint64_t> starts{0};
      const auto other = system.spawn(worker, none());
      const auto loop = system.spawn([&](context<boom> self) -> task<> {
        ++starts;
        if (self.path().empty()) co_await self.until_stop();
        throw crash{};
      });
      for (int i = 0; i != 1'000; ++i) {
        REQUIRE(other.ask<number>().get() == 1);
        const auto before = starts.load();
        if (i % 100 == 0)
          while (starts == before) REQUIRE(other.ask<number>().get() == 1);
      }
      // And it can be stopped.
      loop.stop();
      (void)loop.stopped().get();
      REQUIRE(other.ask<number>().get() == 1);
    }
  }

  TEST_CASE("a crash loop without backoff does not keep a system from ending") {
    for (const bool terminate : {false, true}) {
      auto options = quiet(1);
      options.supervision = one_for_one{
          .max_restarts = actors::unlimited,
          .decide = {on<actors::initialization_error>(directive::restart)}};
      actors::actor_system system{options};
      support::flag begun;
      const auto loop = system.spawn([&](context<> self) -> task<> {
        begun.set();
        if (self.path().empty()) co_await self.until_stop();
        throw crash{};
      });
      begun.wait();
      if (terminate) {
        system.terminate();
        CHECK(loop.stopped().get() != exit_reason::not_started);
      }
    }
  }

  TEST_CASE("whatever happens, every ask ends and all is destroyed once") {
    seeds(
        [](std::uint64_t seed) {
          chaos c{seed};
          {
            actors::system_options options;
            options.supervision =
                one_for_one{.max_restarts = actors::unlimited};
            simulation sim{{.seed = seed, .system = options}};
            c.sim = &sim;
            const auto top = sim.spawn({.name = "top"}, unsteady_boss, &c);
            sim.expect_failure<std::exception>(top, 200);
            sim.run_until_idle();
            for (int i = 0; i != 60; ++i) disturb(c, top);
            sim.advance(1h);
            for (const auto& ended : c.asks) REQUIRE(*ended);
            // Who is alive answers.
            c.asks.clear();
            for (const auto& ref : c.refs) {
              c.asks.push_back(std::make_shared<bool>(false));
              (void)sim.spawn_once(ask_number, ref, c.asks.back());
            }
            sim.advance(1h);
            for (const auto& ended : c.asks) REQUIRE(*ended);
            c.one_in(2) ? top.stop() : top.kill();
            (void)sim.run(top.stopped());
            for (const auto& ref : c.refs) (void)sim.run(ref.stopped());
            // More was expected than has come.
            CHECK_THROWS_AS(sim.check(), actors::simulation_error);
          }
          REQUIRE(c.alive == 0);
        },
        support::sanitized ? 60 : 300);
  }
}
