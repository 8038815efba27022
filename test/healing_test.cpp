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

  TEST_CASE("a start that fails in a restart counts in the window") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.max_restarts = 3, .within = 5s});
      const auto l = new_life();
      l->refusals = 100;
      const auto a = t.add("a", l);
      t.sim.expect_failure<refused>(a, 3);
      t.sim.expect_failure<refused>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("a failed: restart") == 3);
      REQUIRE(t.log.count("a failed: escalate") == 1);
      REQUIRE(t.log.count("boss restarted") == 1);
      REQUIRE(l->born == 4);
      t.sim.check();
    });
  }

  TEST_CASE("a database that refuses ten reconnects, then accepts") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.backoff = {.min = 100ms, .max = 10s}});
      const auto l = new_life();
      l->refusals = 10;
      const auto a = t.add("db", l);
      t.sim.expect_failure<refused>(a, 10);
      t.log.clear();
      t.fail(a);
      int done = 0;
      for (int i = 0; i != 5; ++i) a.tell(act{[&] { ++done; }});
      REQUIRE(t.number_of(a) == 12);
      REQUIRE(done == 5);
      REQUIRE(t.log.count("db restarted") == 11);
      // 0.1 + 0.2 + … + 6.4, then 10 s each.
      REQUIRE(t.log.at("db restarted").back() == 12700ms + 4 * 10s);
      REQUIRE(t.log.count("boss restarted") == 0);
      t.sim.check();
    });
  }

  TEST_CASE("a database that refuses the first connect ends, unless told not") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      const auto l = new_life();
      const auto refuse = [&, n = 0]() mutable {
        if (++n <= 10) throw refused{};
      };
      l->at_start = refuse;
      t.in([&](context<>& self) {
        const auto ref = self.spawn({.name = "db"}, worker, l);
        t.sim.expect_failure<refused>(ref);
      });
      t.sim.advance(1min);
      REQUIRE(l->born == 1);
      REQUIRE(t.log.count("db failed: stop") == 1);

      t.supervise(one_for_one{
          .backoff = {.min = 1s, .max = 2s},
          .decide = {on<actors::initialization_error>(directive::restart)}});
      const auto again = new_life();
      again->at_start = refuse;
      worker_ref db;
      t.in([&](context<>& self) {
        db = self.spawn({.name = "db2"}, worker, again);
        t.sim.expect_failure<refused>(db, 10);
      });
      REQUIRE(t.number_of(db) == 11);
      t.sim.check();
    });
  }

  // --- limits ----------------------------------------------------------------

  TEST_CASE("a crash every within/max_restarts lives for ever") {
    seeds(
        [](std::uint64_t seed) {
          tree t{seed};
          t.supervise(one_for_one{.max_restarts = 10, .within = 10s});
          const auto a = t.add("a");
          for (int i = 0; i != 200; ++i) {
            t.fail(a);
            t.sim.advance(1s);
          }
          REQUIRE(t.number_of(a) == 201);
          REQUIRE(t.log.count("boss failed: restart") == 0);
        },
        5);
  }

  TEST_CASE("a crash that comes slightly quicker escalates the eleventh") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.max_restarts = 10, .within = 10s});
      const auto a = t.add("a");
      for (int i = 0; i != 10; ++i) {
        t.fail(a);
        t.sim.advance(999ms);
      }
      REQUIRE(t.number_of(a) == 11);
      t.sim.expect_failure<crash>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("a failed: escalate") == 1);
      REQUIRE(t.log.count("boss restarted") == 1);
    });
  }

  TEST_CASE("the window slides: ten crashes in its last second are no more") {
    // Of a window that starts anew every ten seconds these are in two.
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.max_restarts = 10, .within = 10s});
      const auto a = t.add("a");
      t.sim.advance(9s);
      for (int i = 0; i != 6; ++i) t.fail(a);
      t.sim.advance(2s);
      for (int i = 0; i != 4; ++i) t.fail(a);
      REQUIRE(t.number_of(a) == 11);
      t.sim.expect_failure<crash>(t.top);
      t.fail(a);
      REQUIRE(t.log.count("boss restarted") == 1);
    });
  }

  TEST_CASE("the limit is the supervisor's, or each child's by per_child") {
    seeds([](std::uint64_t seed) {
      for (const bool per_child : {false, true}) {
        CAPTURE(per_child);
        tree t{seed};
        t.supervise(one_for_one{.max_restarts = 2, .per_child = per_child});
        const auto a = t.add("a");
        const auto b = t.add("b");
        t.fail(a);
        t.fail(b);
        if (per_child) {
          t.fail(a);
          t.fail(b);
        }
        REQUIRE(t.log.count("boss restarted") == 0);
        t.sim.expect_failure<crash>(t.top);
        t.fail(b);
        REQUIRE(t.log.count("b failed: escalate") == 1);
        REQUIRE(t.log.count("boss restarted") == 1);
      }
    });
  }

  TEST_CASE("a limit of 0 escalates the first failure") {
    tree t{1};
    t.supervise(one_for_one{.max_restarts = 0});
    const auto a = t.add("a");
    t.sim.expect_failure<crash>(t.top);
    t.fail(a);
    CHECK(t.log.count("a failed: escalate") == 1);
  }

  TEST_CASE("the restart of a group counts once") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_all{.max_restarts = 3, .within = 10s});
      const auto a = t.add("a");
      const auto b = t.add("b");
      const auto c = t.add("c");
      for (int i = 0; i != 3; ++i) t.fail(b);
      REQUIRE(t.number_of(a) == 4);
      REQUIRE(t.number_of(c) == 4);
      REQUIRE(t.log.count("boss restarted") == 0);
      t.sim.expect_failure<crash>(t.top);
      t.fail(c);
      REQUIRE(t.log.count("boss restarted") == 1);
    });
  }

  TEST_CASE("resumed and stopped failures count for no limit") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.max_restarts = 1,
                              .decide = {on<refused>(directive::stop)}});
      const auto l = new_life();
      for (int i = 0; i != 20; ++i) {
        const auto a = t.add("a");
        t.sim.expect_failure<refused>(a);
        a.tell(act{[] { throw refused{}; }});
        t.sim.run_until_idle();
      }
      const auto b = t.add("b");
      t.fail(b);
      REQUIRE(t.number_of(b) == 2);
      REQUIRE(t.log.count("boss restarted") == 0);
    });
  }

  // --- backoff ---------------------------------------------------------------

  TEST_CASE("the delays of a backoff double, up to max") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.max_restarts = actors::unlimited,
                              .backoff = {.min = 100ms, .max = 800ms}});
      const auto l = new_life();
      l->refusals = 5;
      const auto a = t.add("a", l);
      t.sim.expect_failure<refused>(a, 5);
      t.log.clear();
      t.fail(a);
      t.sim.advance(1h);
      REQUIRE(t.log.at("a restarted") == std::vector<duration>{100ms, 300ms,
                                                               700ms, 1500ms,
                                                               2300ms, 3100ms});
    });
  }

  TEST_CASE("a backoff begins anew after (min + max) / 2 without a failure") {
    seeds([](std::uint64_t seed) {
      for (const bool quiet : {false, true}) {
        CAPTURE(quiet);
        tree t{seed};
        t.supervise(one_for_one{.max_restarts = actors::unlimited,
                                .backoff = {.min = 100ms, .max = 800ms}});
        const auto a = t.add("a");
        t.fail(a);
        t.sim.advance(100ms);
        t.fail(a);
        t.sim.advance(200ms);
        REQUIRE(t.log.count("a restarted") == 2);
        t.sim.advance(quiet ? 450ms : 449ms);
        t.log.clear();
        t.fail(a);
        t.sim.advance(1h);
        REQUIRE(t.log.at("a restarted") ==
                std::vector<duration>{quiet ? 100ms : 400ms});
      }
    });
  }

  TEST_CASE("a backoff without max does not grow; each child has its own") {
    tree t{1};
    t.supervise(one_for_one{.max_restarts = actors::unlimited,
                            .backoff = {.min = 100ms}});
    const auto l = new_life();
    l->refusals = 3;
    const auto a = t.add("a", l);
    const auto b = t.add("b");
    t.sim.expect_failure<refused>(a, 3);
    t.log.clear();
    t.fail(a);
    t.sim.advance(250ms);
    t.fail(b);
    t.sim.advance(1h);
    CHECK(t.log.at("a restarted") ==
          std::vector<duration>{100ms, 200ms, 300ms, 400ms});
    CHECK(t.log.at("b restarted") == std::vector<duration>{350ms});
  }

  TEST_CASE("jitter adds to a delay, within its bounds, by the seed") {
    duration least = duration::max();
    duration most{};
    const auto one = [&](std::uint64_t seed) {
      tree t{seed};
      t.supervise(
          one_for_one{.max_restarts = actors::unlimited,
                      .backoff = {.min = 100ms, .max = 200ms, .jitter = 0.5}});
      const auto l = new_life();
      l->refusals = 3;
      const auto a = t.add("a", l);
      t.sim.expect_failure<refused>(a, 3);
      t.log.clear();
      t.fail(a);
      t.sim.advance(1h);
      const auto at = t.log.at("a restarted");
      REQUIRE(at.size() == 4);
      CHECK(at[0] >= 100ms);
      CHECK(at[0] <= 150ms);
      for (std::size_t i = 1; i != 4; ++i) {
        CHECK(at[i] - at[i - 1] >= 200ms);
        CHECK(at[i] - at[i - 1] <= 300ms);
      }
      least = std::min(least, at[0]);
      most = std::max(most, at[0]);
      return at;
    };
    seeds([&](std::uint64_t seed) { REQUIRE(one(seed) == one(seed)); });
    CHECK(most - least > 10ms);
  }

  TEST_CASE("messages wait while it backs off, and asks with them") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.backoff = {.min = 1s}});
      const auto a = t.add("a");
      t.fail(a);
      int done = 0;
      a.tell(act{[&] { ++done; }});
      t.sim.advance(999ms);
      REQUIRE(done == 0);
      const auto before = t.sim.now();
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.sim.now() - before == 1ms);
      REQUIRE(done == 1);
      REQUIRE(t.sim.system().dead_letter_count() == 1);
    });
  }

  TEST_CASE("a second failure while another child backs off") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.backoff = {.min = 1s}});
      const auto a = t.add("a");
      const auto b = t.add("b");
      t.log.clear();
      t.fail(a);
      t.sim.advance(500ms);
      t.fail(b);
      t.sim.advance(1h);
      REQUIRE(t.log.at("a restarted") == std::vector<duration>{1s});
      REQUIRE(t.log.at("b restarted") == std::vector<duration>{1500ms});
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.number_of(b) == 2);
    });
  }

  TEST_CASE("a failure while a group backs off joins it") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(rest_for_one{.backoff = {.min = 1s}});
      const auto a = t.add("a");
      const auto b = t.add("b");
      const auto c = t.add("c");
      t.log.clear();
      t.fail(b);
      REQUIRE(t.log.count("a restarted") == 0);
      t.sim.advance(500ms);
      t.fail(a);
      t.sim.advance(1h);
      // All three, in order, and each of them once.
      REQUIRE(t.log.count("a restarted") == 1);
      REQUIRE(t.log.count("b restarted") == 1);
      REQUIRE(t.log.count("c restarted") == 1);
      REQUIRE(t.log.at("a restarted") == std::vector<duration>{1500ms});
      REQUIRE(t.log.at("c restarted") == std::vector<duration>{1500ms});
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.number_of(b) == 2);
      REQUIRE(t.number_of(c) == 2);
    });
  }

  TEST_CASE("a stop during backoff is final") {
    seeds([](std::uint64_t seed) {
      for (const bool drain : {false, true}) {
        CAPTURE(drain);
        tree t{seed};
        t.supervise(one_for_one{.backoff = {.min = 1s}});
        const auto l = new_life();
        const auto a = t.add("a", l, restart_policy::permanent);
        t.fail(a);
        t.sim.advance(500ms);
        int done = 0;
        a.tell(act{[&] { ++done; }});
        drain ? a.drain() : a.stop();
        const auto before = t.sim.now();
        (void)t.sim.run(a.stopped());
        REQUIRE(t.sim.now() == before);
        t.sim.advance(1h);
        REQUIRE(l->born == 1);
        REQUIRE(done == 0);
        REQUIRE(t.ended(a));
        REQUIRE(t.sim.system().dead_letter_count() == 2);
        REQUIRE(t.log.count("a stopped") == 1);
        REQUIRE(t.log.count("boss restarted") == 0);
      }
    });
  }

  TEST_CASE("a kill during backoff is final") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{.backoff = {.min = 1s}});
      const auto l = new_life();
      const auto a = t.add("a", l, restart_policy::permanent);
      t.fail(a);
      t.sim.advance(500ms);
      a.kill();
      const auto before = t.sim.now();
      REQUIRE(t.sim.run(a.stopped()) != exit_reason::normal);
      REQUIRE(t.sim.now() == before);
      t.sim.advance(1h);
      REQUIRE(l->born == 1);
      REQUIRE(t.ended(a));
    });
  }

  TEST_CASE("a supervisor's stop does not wait for the backoff of a child") {
    seeds([](std::uint64_t seed) {
      for (const bool group : {false, true}) {
        CAPTURE(group);
        tree t{seed};
        if (group)
          t.supervise(one_for_all{.backoff = {.min = 1h}});
        else
          t.supervise(one_for_one{.backoff = {.min = 1h}});
        const auto a = t.add("a");
        const auto b = t.add("b");
        t.fail(a);
        const auto before = t.sim.now();
        t.top.stop();
        REQUIRE(t.sim.run(t.top.stopped()) == exit_reason::normal);
        REQUIRE(t.sim.now() == before);
        REQUIRE(t.log.count("a stopped") == 1);
        REQUIRE(t.log.count("b stopped") == 1);
        REQUIRE(t.log.count("a restarted") == 0);
      }
    });
  }

  // --- groups ----------------------------------------------------------------

  TEST_CASE("a group restart leaves out a sibling that is dead already") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_all{});
      const auto a = t.add("a");
      const auto b = t.add("b");
      const auto c = t.add("c");
      a.stop();
      t.sim.run_until_idle();
      t.fail(b);
      REQUIRE(t.ended(a));
      REQUIRE(t.number_of(b) == 2);
      REQUIRE(t.number_of(c) == 2);
      t.fail(c);
      REQUIRE(t.number_of(b) == 3);
    });
  }

  TEST_CASE("a group may name the dead, strangers and nobody") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      std::vector<any_actor_ref> group;
      t.supervise([&](failures failures) -> task<> {
        while (auto f = co_await failures.next()) f->restart(group);
      });
      const auto a = t.add("a");
      const auto b = t.add("b");
      const auto c = t.add("c");
      const auto stranger = t.sim.spawn(worker, new_life());
      c.stop();
      t.sim.run_until_idle();
      group = {any_actor_ref{}, c, stranger, t.top, b, b};
      t.fail(a);
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.number_of(b) == 2);
      REQUIRE(t.number_of(stranger) == 1);
      REQUIRE(t.ended(c));
      REQUIRE(t.log.count("boss restarted") == 0);
    });
  }

  TEST_CASE("a sibling that is stopped in the middle of a group restart") {
    seeds([](std::uint64_t seed) {
      for (const bool kill : {false, true}) {
        for (const char victim : {'a', 'b', 'c'}) {
          CAPTURE(kill);
          CAPTURE(victim);
          tree t{seed};
          t.supervise(one_for_all{});
          const auto slow = new_life();
          slow->cleanup = 1s;
          const auto a = t.add("a");
          const auto b = t.add("b");
          const auto c = t.add("c", slow);
          t.fail(b);
          t.sim.advance(500ms);  // c is at its cleanup
          const auto& who = victim == 'a' ? a : victim == 'b' ? b : c;
          kill ? who.kill() : who.stop();
          t.sim.advance(10s);
          for (const auto* ref : {&a, &b, &c}) {
            if (*ref == who)
              REQUIRE(t.ended(*ref));
            else
              REQUIRE(t.number_of(*ref) == 2);
          }
          t.fail(a == who ? b : a);
          REQUIRE(t.log.count("boss restarted") == 0);
        }
      }
    });
  }

  TEST_CASE("a sibling that fails in the cleanup of a group restart") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_all{});
      const auto bad = new_life();
      bad->at_end = [] { throw refused{}; };
      const auto a = t.add("a");
      const auto b = t.add("b");
      const auto c = t.add("c", bad);
      t.sim.expect_failure<refused>(c);
      t.fail(b);
      bad->at_end = {};
      t.sim.run_until_idle();
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.number_of(b) == 2);
      REQUIRE(t.number_of(c) == 2);
      REQUIRE(t.log.count("boss restarted") == 0);
      t.sim.check();
    });
  }

  TEST_CASE("a sibling that ends while the group starts does not hang it") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_all{.decide = {on<refused>(directive::stop)}});
      const auto bad = new_life();
      bad->refusals = 1;
      const auto a = t.add("a", bad);
      const auto b = t.add("b");
      const auto c = t.add("c");
      t.sim.expect_failure<refused>(a);
      t.fail(b);
      REQUIRE(t.ended(a));
      REQUIRE(t.number_of(b) == 2);
      REQUIRE(t.number_of(c) == 2);
      t.sim.check();
    });
  }

  TEST_CASE("siblings that fail at once are restarted all the same") {
    seeds(
        [](std::uint64_t seed) {
          tree t{seed};
          t.supervise(one_for_all{});
          const auto a = t.add("a");
          const auto b = t.add("b");
          const auto c = t.add("c");
          for (const auto* ref : {&a, &b, &c}) {
            t.sim.expect_failure<crash>(*ref);
            ref->tell(act{fail});
          }
          t.sim.advance(1s);
          // A crash may wait in the mailbox of one that falls with the others.
          for (const auto* ref : {&a, &b, &c}) {
            REQUIRE(t.number_of(*ref) >= 2);
            REQUIRE(t.number_of(*ref) <= 4);
          }
          REQUIRE(t.log.count("boss restarted") == 0);
          REQUIRE(t.sim.system().dead_letter_count() == 3);
        },
        100);
  }

  TEST_CASE("a group starts in order, each when the one before is ready") {
    seeds([](std::uint64_t seed) {
      texts order;
      tree t{seed};
      t.supervise(one_for_all{});
      const auto slow = [&order](context<act> self,
                                 std::string name) -> task<> {
        order.push_back(name + " begins");
        co_await self.sleep_for(100ms);
        order.push_back(name + " ready");
        while (co_await self.receive([](const act& a) { a.f(); })) {
        }
        order.push_back(name + " asked to stop");
        co_await self.sleep_for(100ms);
        order.push_back(name + " ends");
      };
      std::vector<actors::actor_ref<act>> refs;
      t.in([&](context<>& self) {
        for (const char* name : {"a", "b", "c"})
          refs.push_back(self.spawn({.name = name}, slow, std::string{name}));
      });
      t.sim.advance(1s);
      order.clear();
      t.sim.expect_failure<crash>(refs[1]);
      refs[1].tell(act{fail});
      t.sim.advance(10s);
      REQUIRE(order == texts{"c asked to stop", "c ends", "a asked to stop",
                             "a ends", "a begins", "a ready", "b begins",
                             "b ready", "c begins", "c ready"});
    });
  }

  TEST_CASE("in a group restart a never child is stopped and not started") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_all{});
      const auto l = new_life();
      const auto a = t.add("a");
      const auto b = t.add("b", l, restart_policy::never);
      const auto c = t.add("c");
      t.fail(a);
      REQUIRE(t.ended(b));
      REQUIRE(l->born == 1);
      REQUIRE(t.sim.run(b.stopped()) == exit_reason::normal);
      REQUIRE(t.number_of(a) == 2);
      REQUIRE(t.number_of(c) == 2);
      // It ended in its turn.
      const texts& lines = t.log.lines;
      const auto of = [&](const char* line) {
        return std::find(lines.begin(), lines.end(), line);
      };
      REQUIRE(of("b stopped") < of("a restarted"));
    });
  }

  TEST_CASE("the failure of a never child restarts no group") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_all{.max_restarts = 1});
      const auto a = t.add("a");
      for (int i = 0; i != 5; ++i) {
        const auto b = t.add("b", new_life(), restart_policy::never);
        t.fail(b);
        REQUIRE(t.ended(b));
        REQUIRE(t.sim.run(b.stopped()) == exit_reason::failed);
      }
      REQUIRE(t.number_of(a) == 1);
      REQUIRE(t.log.count("b failed: stop") == 5);
      t.fail(a);
      REQUIRE(t.number_of(a) == 2);
    });
  }

  // --- restart policies ------------------------------------------------------

  TEST_CASE("permanent begins again after a return, transient does not") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{});
      const auto born = std::make_shared<int>(0);
      const auto leaves = [](context<act> self,
                             std::shared_ptr<int> b) -> task<> {
        ++*b;
        const auto once = [](const act&) {};
        (void)co_await self.receive(once);
      };
      actors::actor_ref<act> p, q, r;
      const auto not_again = std::make_shared<int>(0);
      t.in([&](context<>& self) {
        p = self.spawn({.restart = restart_policy::permanent}, leaves, born);
        q = self.spawn(leaves, not_again);
        r = self.spawn({.restart = restart_policy::never}, leaves, not_again);
      });
      t.sim.run_until_idle();
      t.sim.expect_failure<actors::actor_returned>(p, 2);
      for (int i = 0; i != 2; ++i) {
        p.tell(act{});
        t.sim.run_until_idle();
      }
      REQUIRE(*born == 3);
      q.tell(act{});
      r.tell(act{});
      REQUIRE(t.sim.run(q.stopped()) == exit_reason::normal);
      REQUIRE(t.sim.run(r.stopped()) == exit_reason::normal);
      REQUIRE(*not_again == 2);
      p.stop();
      REQUIRE(t.sim.run(p.stopped()) == exit_reason::normal);
      REQUIRE(*born == 3);
    });
  }

  TEST_CASE("a stop or a kill that somebody asked for is final for all") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{});
      for (const auto policy :
           {restart_policy::permanent, restart_policy::transient,
            restart_policy::never}) {
        for (int how = 0; how != 3; ++how) {
          const auto l = new_life();
          const auto a = t.add("a", l, policy);
          how == 0 ? a.stop() : how == 1 ? a.drain() : a.kill();
          t.sim.advance(1min);
          REQUIRE(t.ended(a));
          REQUIRE(l->born == 1);
        }
      }
    });
  }

  TEST_CASE("spawn_once is never restarted, and cannot be told to be") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{});
      const auto l = new_life();
      worker_ref ref;
      t.in([&](context<>& self) {
        for (const auto policy :
             {restart_policy::permanent, restart_policy::transient})
          CHECK_THROWS_AS(self.spawn_once({.restart = policy}, worker, l),
                          std::invalid_argument);
        ref = self.spawn_once({.name = "a"}, worker, l);
      });
      t.sim.run_until_idle();
      t.fail(ref);
      REQUIRE(t.ended(ref));
      REQUIRE(l->born == 1);
    });
  }

  TEST_CASE("eleven broken connections in ten seconds do not end the server") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      const auto log = t.add("log");
      for (int i = 0; i != 11; ++i) {
        worker_ref session;
        t.in([&](context<>& self) {
          session = self.spawn_once(worker, new_life());
        });
        t.fail(session);
        REQUIRE(t.sim.run(session.stopped()) == exit_reason::failed);
      }
      REQUIRE(t.log.count("boss failed: restart") == 0);
      REQUIRE(t.number_of(log) == 1);
      // Nor do those of the system itself.
      for (int i = 0; i != 11; ++i) {
        const auto session = t.sim.spawn_once(worker, new_life());
        t.fail(session);
      }
      REQUIRE(t.number_of(log) == 1);
    });
  }

  TEST_CASE("a failure while stopping is reported, not restarted") {
    seeds([](std::uint64_t seed) {
      tree t{seed};
      t.supervise(one_for_one{});
      const auto l = new_life();
      l->at_end = [] { throw refused{}; };
      const auto a = t.add("a", l, restart_policy::permanent);
      t.sim.expect_failure<refused>(a);
      a.stop();
      REQUIRE(t.sim.run(a.stopped()) == exit_reason::failed);
      REQUIRE(t.log.count("a failed: stop") == 1);
      REQUIRE(l->born == 1);
      t.sim.check();
    });
  }

  TEST_CASE("options out of range are std::invalid_argument, and say why") {
    tree t{1};
    t.in([](context<>& self) {
      const auto refuses = [&](auto strategy, const char* word) {
        const std::string why = message_of<std::invalid_argument>(
            [&] { return self.supervise(strategy), 0; });
        CAPTURE(why);
        CHECK(contains(why, word));
        CHECK(contains(why, " "));
      };
      refuses(one_for_one{.max_restarts = 1001}, "max_restarts");
      refuses(one_for_all{.within = 0s}, "within");
      refuses(one_for_one{.within = -1s}, "within");
      refuses(rest_for_one{.backoff = {.min = -1ms}}, "backoff");
      refuses(one_for_one{.backoff = {.max = -1ms}}, "backoff");
      refuses(one_for_one{.backoff = {.min = 2s, .max = 1s}}, "backoff");
      refuses(one_for_one{.backoff = {.min = 1s, .jitter = -0.1}}, "jitter");
      refuses(one_for_one{.backoff = {.min = 1s, .jitter = 1.1}}, "jitter");
      CHECK_NOTHROW(self.supervise(one_for_one{.max_restarts = 0}));
      CHECK_NOTHROW(self.supervise(one_for_one{.max_restarts = 1000}));
      CHECK_NOTHROW(
          self.supervise(one_for_one{.max_restarts = actors::unlimited}));
      CHECK_THROWS_AS(self.spawn({.stop_timeout = -1s}, worker, new_life()),
                      std::invalid_argument);
    });
  }
}
