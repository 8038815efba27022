// Crashes that heal: the cases that went wrong elsewhere, one test each.
#include <doctest/doctest.h>

#include <algorithm>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
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
using actors::duration;
using actors::errc;
using actors::exit_reason;
using actors::failure;
using actors::failures;
using actors::lifecycle_event;
using actors::on;
using actors::one_for_all;
using actors::one_for_one;
using actors::rest_for_one;
using actors::restart_policy;
using actors::simulation;
using actors::task;
using support::contains;
using support::error_of;
using support::message_of;
using texts = std::vector<std::string>;

struct crash : std::runtime_error {
  crash() : runtime_error{"crash"} {}
};
struct refused : std::runtime_error {
  refused() : runtime_error{"refused"} {}
};
struct policy_bug : std::runtime_error {
  policy_bug() : runtime_error{"policy_bug"} {}
};

[[noreturn]] void fail() { throw crash{}; }

// --- actors that do what a test says -----------------------------------------

/// Does something in the actor's handler.
struct act {
  std::function<void()> f;
};
/// Which incarnation it is.
struct number {
  using reply_type = int;
};
using worker_ref = actors::actor_ref<act, number>;

/// What a test wants of a worker, and learns of it.
struct life {
  int born = 0;
  int alive = 0;
  /// How many starts are to fail, once it has begun for the first time.
  int refusals = 0;
  int done = 0;
  /// How long it takes to end, once it has been asked to.
  duration cleanup = {};
  /// Done in the cleanup.
  std::function<void()> at_end;
  /// Done before it is ready.
  std::function<void()> at_start;
};
using life_ptr = std::shared_ptr<life>;
life_ptr new_life() { return std::make_shared<life>(); }

task<> worker(context<act, number> self, life_ptr l) {
  ++l->alive;
  const support::at_exit end{[&] { --l->alive; }};
  CHECK(l->alive == 1);
  const int n = ++l->born;
  if (l->at_start) l->at_start();
  if (n > 1 && l->refusals > 0) {
    --l->refusals;
    throw refused{};
  }
  while (co_await self.receive(
      [&](const act& a) {
        a.f();
        ++l->done;
      },
      [&](number) { return n; })) {
  }
  if (l->cleanup != duration::zero()) co_await self.sleep_for(l->cleanup);
  if (l->at_end) l->at_end();
}

/// Does something on a supervisor's strand.
struct with_self {
  using reply_type = void;
  explicit with_self(std::function<void(context<>&)> g) : f{std::move(g)} {}
  std::function<void(context<>&)> f;
};
using boss_ref = actors::actor_ref<with_self>;

task<> boss(context<with_self> self) {
  while (co_await self.receive([&](const with_self& w) { w.f(self); })) {
  }
}

/// Writes down what happens to the actors below /user/boss, and when.
class journal {
 public:
  void begin(simulation& sim) {
    sim_ = &sim;
    start_ = sim.now();
    (void)sim.system().on_event([this](const lifecycle_event& e) {
      using kind = lifecycle_event::kind;
      if (e.what == kind::dead_letter) return;
      std::string who = e.who.path();
      if (!contains(who, "/user/boss")) return;
      who = who == "/user/boss" ? "boss" : who.substr(11);
      std::string line = who + " " + std::string{to_string(e.what)};
      if (e.what == kind::failed)
        line += ": " + std::string{to_string(e.decision)};
      lines.push_back(line);
      times.emplace_back(sim_->now() - start_, line);
    });
  }
  /// When that happened, each time.
  std::vector<duration> at(const std::string& line) const {
    std::vector<duration> found;
    for (const auto& [when, what] : times)
      if (what == line) found.push_back(when);
    return found;
  }
  long count(const std::string& line) const {
    return std::count(lines.begin(), lines.end(), line);
  }
  void clear() {
    lines.clear();
    times.clear();
    start_ = sim_->now();
  }

  texts lines;
  std::vector<std::pair<duration, std::string>> times;

 private:
  simulation* sim_ = nullptr;
  actors::time_point start_;
};

/// A supervisor in a simulation.
struct tree {
  explicit tree(std::uint64_t seed, actors::system_options options = {})
      : sim{{.seed = seed, .system = std::move(options)}} {
    log.begin(sim);
    top = sim.spawn({.name = "boss"}, boss);
  }

  /// Does it in the supervisor.
  void in(std::function<void(context<>&)> f) {
    sim.run(top.ask<with_self>(std::move(f)));
  }
  template <class Policy>
  void supervise(Policy policy) {
    in([&](context<>& self) { self.supervise(policy); });
  }
  worker_ref add(const std::string& name, life_ptr l = new_life(),
                 std::optional<restart_policy> restart = {}) {
    worker_ref ref;
    in([&](context<>& self) {
      ref = self.spawn({.name = name, .restart = restart}, worker, l);
    });
    sim.run_until_idle();
    return ref;
  }
  /// Makes it fail, and whatever comes of it at once.
  void fail(const worker_ref& ref) {
    sim.expect_failure<crash>(ref);
    ref.tell(act{::fail});
    sim.run_until_idle();
  }
  int number_of(const worker_ref& ref) { return sim.run(ref.ask<number>()); }
  bool ended(const worker_ref& ref) {
    return error_of([&] { return number_of(ref); }) == errc::actor_stopped;
  }

  /// It hears of the end of the simulation, too.
  journal log;
  simulation sim;
  boss_ref top;
};

template <class F>
void seeds(F&& f, int count = 20) {
  for (int seed = 1; seed <= count; ++seed) {
    CAPTURE(seed);
    f(static_cast<std::uint64_t>(seed));
  }
}

/// The failure that a policy has taken and not decided.
struct desk {
  std::optional<failure> kept;
  int taken = 0;
};

/// Takes failures, and leaves them to the test.
auto keeps_in(desk& d) {
  return [&d](failures failures) -> task<> {
    while (auto f = co_await failures.next()) {
      ++d.taken;
      d.kept.emplace(std::move(*f));
    }
  };
}

}  // namespace

TEST_SUITE("healing") {
  // --- policies that go wrong ------------------------------------------------

  TEST_CASE("a policy that throws escalates the failure it has in hand") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise([](failures failures) -> task<> {
        auto f = co_await failures.next();
        if (f) throw policy_bug{};
      });
      const auto a = t.add("a");
      t.sim.expect_failure<crash>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("a failed: escalate") == 1);
      REQUIRE(t.log.count("boss failed: restart") == 1);
      REQUIRE(t.log.count("boss restarted") == 1);
      REQUIRE(t.sim.run(a.stopped()) == exit_reason::failed);
      t.sim.check();
    });
  }

  TEST_CASE("a policy that throws later has decided what it has decided") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise([](failures failures) -> task<> {
        auto f = co_await failures.next();
        if (f) {
          f->stop();
          throw policy_bug{};
        }
      });
      const auto a = t.add("a");
      t.sim.expect_failure<policy_bug>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("a failed: stop") == 1);
      REQUIRE(t.log.count("a failed: escalate") == 0);
      REQUIRE(t.log.count("boss failed: restart") == 1);
      t.sim.check();
    });
  }

  TEST_CASE("a decide that throws escalates") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      const auto rule = [](const failure&) -> std::optional<directive> {
        throw policy_bug{};
      };
      t.supervise(one_for_one{.decide = rule});
      const auto a = t.add("a");
      t.sim.expect_failure<crash>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("a failed: escalate") == 1);
      REQUIRE(t.log.count("boss restarted") == 1);
      t.sim.check();
    });
  }

  TEST_CASE("of a policy that has returned all failures escalate") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise([](failures) -> task<> { co_return; });
      const auto a = t.add("a");
      t.sim.expect_failure<crash>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("a failed: escalate") == 1);
      REQUIRE(t.log.count("boss restarted") == 1);
      t.sim.check();
    });
  }

  TEST_CASE("a failure dropped undecided escalates") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise([](failures failures) -> task<> {
        while (co_await failures.next()) {
        }
      });
      const auto a = t.add("a");
      t.sim.expect_failure<crash>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("a failed: escalate") == 1);
      REQUIRE(t.log.count("boss restarted") == 1);
      t.sim.check();
    });
  }

  TEST_CASE("deciding twice is std::logic_error, and the first one counts") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      int refused = 0;
      t.supervise([&](failures failures) -> task<> {
        while (auto f = co_await failures.next()) {
          f->restart();
          const auto again = [&](auto&& decide) {
            try {
              decide();
            } catch (const std::logic_error&) {
              ++refused;
            }
          };
          again([&] { f->restart(); });
          again([&] { f->restart(f->siblings()); });
          again([&] { f->resume(); });
          again([&] { f->stop(); });
          again([&] { f->escalate(); });
        }
      });
      const auto a = t.add("a");
      t.fail(a);
      REQUIRE(refused == 5);
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.log.count("boss restarted") == 0);
    });
  }

  TEST_CASE("a negative delay is std::invalid_argument, and decides nothing") {
    tree t{1};
    int refused = 0;
    t.supervise([&](failures failures) -> task<> {
      while (auto f = co_await failures.next()) {
        CHECK_THROWS_AS(f->restart(-1ms), std::invalid_argument);
        CHECK_THROWS_AS(f->restart(f->siblings(), -1ms), std::invalid_argument);
        ++refused;
        f->stop();
      }
    });
    const auto a = t.add("a");
    t.fail(a);
    CHECK(refused == 1);
    CHECK(t.ended(a));
  }

  TEST_CASE("a failure kept in a variable is decided later") {
    seeds([](std::uint64_t seed) {
      desk d;
      tree t{seed};
      t.supervise(keeps_in(d));
      const auto a = t.add("a");
      const auto b = t.add("b");
      t.fail(a);
      t.sim.advance(1h);
      REQUIRE(d.taken == 1);
      REQUIRE(t.log.count("a restarted") == 0);
      REQUIRE(t.number_of(b) == 1);
      int done = 0;
      a.tell(act{[&] { ++done; }});
      t.in([&](context<>&) {
        CHECK(d.kept->is<crash>());
        CHECK(d.kept->child() == a);
        d.kept->restart();
        d.kept.reset();
      });
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(done == 1);
    });
  }

  TEST_CASE("a kept failure cannot be decided off the supervisor's strand") {
    desk d;
    tree t{1};
    t.supervise(keeps_in(d));
    const auto a = t.add("a");
    t.fail(a);
    REQUIRE(d.kept);
    CHECK_THROWS_AS(d.kept->restart(), std::logic_error);
    t.in([&](context<>&) { d.kept->restart(); });
    CHECK(t.number_of(a) == 2);
    d.kept.reset();
  }

  TEST_CASE("a kept failure of a child that was stopped decides nothing") {
    seeds([](std::uint64_t seed) {
      desk d;
      tree t{seed};
      t.supervise(keeps_in(d));
      const auto a = t.add("a");
      t.fail(a);
      a.stop();
      t.sim.run_until_idle();
      REQUIRE(t.ended(a));
      t.in([&](context<>&) {
        CHECK_NOTHROW(d.kept->escalate());
        CHECK_THROWS_AS(d.kept->escalate(), std::logic_error);
        d.kept.reset();
      });
      t.sim.run_until_idle();
      REQUIRE(t.log.count("boss restarted") == 0);
      REQUIRE(t.log.count("a restarted") == 0);
    });
  }

  TEST_CASE("a policy that replaces another gets what that has not decided") {
    seeds([](std::uint64_t seed) {
      desk d;
      tree t{seed};
      bool told = false;
      t.supervise([&](failures failures) -> task<> {
        auto f = co_await failures.next();
        // Another waits for it meanwhile, and it keeps this one to its end.
        const auto none = co_await failures.next();
        told = !none.has_value();
        (void)f;
      });
      const auto a = t.add("a");
      t.fail(a);
      REQUIRE(t.log.count("a failed: restart") == 0);
      t.supervise(one_for_one{});
      t.sim.run_until_idle();
      REQUIRE(told);
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.log.count("boss restarted") == 0);
    });
  }

  TEST_CASE("a policy that replaces another gets what waits for a decision") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      std::optional<failure> held;
      t.in([&](context<>& self) {
        self.supervise([&self, &held](failures failures) -> task<> {
          held = co_await failures.next();
          // Of b it does not hear while it is at work on this.
          co_await self.sleep_for(1h);
        });
      });
      const auto a = t.add("a");
      const auto b = t.add("b");
      t.fail(a);
      t.fail(b);
      REQUIRE(held);
      t.supervise(one_for_one{});
      t.sim.run_until_idle();
      REQUIRE(t.number_of(b) == 2);
      REQUIRE(t.log.count("a restarted") == 0);
      t.in([&](context<>&) { held.reset(); });
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.log.count("boss restarted") == 0);
    });
  }

  TEST_CASE("a supervisor that is killed while deciding takes all with it") {
    seeds([](std::uint64_t seed) {
      for (const bool stops : {false, true}) {
        CAPTURE(stops);
        tree t{seed};
        bool decided = false;
        t.in([&](context<>& self) {
          self.supervise([&self, &decided](failures failures) -> task<> {
            while (auto f = co_await failures.next()) {
              co_await self.sleep_for(1h);
              decided = true;
              f->restart();
            }
          });
        });
        const auto a = t.add("a");
        const auto b = t.add("b");
        t.fail(a);
        int done = 0;
        a.tell(act{[&] { ++done; }});
        if (stops)
          t.top.stop();
        else
          t.top.kill();
        t.sim.run_until_idle();
        REQUIRE(t.log.count("a stopped") == 1);
        REQUIRE(t.log.count("b stopped") == 1);
        REQUIRE(t.log.count("boss stopped") == 1);
        REQUIRE(t.log.count("a failed: stop") == 1);
        REQUIRE(t.sim.run(t.top.stopped()) ==
                (stops ? exit_reason::normal : exit_reason::killed));
        REQUIRE(t.sim.run(a.stopped()) == exit_reason::failed);
        REQUIRE(done == 0);
        REQUIRE(!decided);
        t.sim.check();
      }
    });
  }

  TEST_CASE("a supervisor that fails while it decides takes all with it") {
    seeds([](std::uint64_t seed) {
      desk d;
      tree t{seed};
      t.supervise(keeps_in(d));
      const auto a = t.add("a");
      t.fail(a);
      t.sim.expect_failure<crash>(t.top);
      t.sim.inject(t.top, crash{});
      t.sim.run_until_idle();
      REQUIRE(t.log.count("boss restarted") == 1);
      REQUIRE(t.sim.run(a.stopped()) == exit_reason::failed);
      // What the former incarnation left behind means nothing to this one.
      t.in([&](context<>&) {
        CHECK_NOTHROW(d.kept->restart());
        d.kept.reset();
      });
      t.sim.run_until_idle();
      REQUIRE(t.log.count("a restarted") == 0);
    });
  }

  // --- failures in a restart -------------------------------------------------

  TEST_CASE("a failure while restarting is tried again") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{});
      const auto l = new_life();
      l->refusals = 5;
      const auto a = t.add("a", l);
      t.sim.expect_failure<refused>(a, 5);
      int done = 0;
      t.fail(a);
      a.tell(act{[&] { ++done; }});
      REQUIRE(t.number_of(a) == 7);
      REQUIRE(done == 1);
      t.sim.check();
    });
  }
}
