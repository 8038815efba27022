// The Python package `actors` 0.5, row by row and example by example: what it
// could, and what its documentation shows, works here.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/fmt.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::any_actor_ref;
using actors::context;
using actors::directive;
using actors::errc;
using actors::exit_reason;
using actors::on;
using actors::simulation;
using actors::task;
using support::error_of;

/// What the examples print. Any thread.
class printer {
 public:
  void print(std::string line) {
    const std::lock_guard lock{mutex_};
    lines_.push_back(std::move(line));
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock{mutex_};
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};
using lines = std::vector<std::string>;

// --- The actors of its documentation -----------------------------------------

/// "To create an actor, extend the Actor base class and implement receive."
class greeter : public actors::actor<std::string> {
 public:
  explicit greeter(printer& out, std::string_view format = "Hello %s")
      : out_{&out}, format_{format} {}

  void receive(std::string name) {
    std::string text = format_;
    out_->print(text.replace(text.find("%s"), 2, name));
  }

 private:
  printer* out_;
  std::string format_;
};

struct question {
  using reply_type = std::string;
  std::string text;
};
struct crash {};
struct crashed : std::runtime_error {
  crashed() : runtime_error{"as told"} {}
};

/// Says which of its hooks are called.
class hooked : public actors::actor<std::string, crash> {
 public:
  explicit hooked(printer& out) : out_{&out} { out_->print("made"); }
  ~hooked() { out_->print("gone"); }

  void pre_start() { out_->print("pre_start"); }
  task<> post_stop() {
    co_await self().sleep_for(1s);
    out_->print("post_stop");
  }
  void pre_restart(std::exception_ptr) { out_->print("pre_restart"); }
  void post_restart(std::exception_ptr) { out_->print("post_restart"); }

  void receive(std::string text) { out_->print(std::move(text)); }
  void receive(crash) { throw crashed{}; }

 private:
  printer* out_;
};

/// A parent that spawns one child and gives it what it is told.
class parent : public actors::actor<std::string, crash> {
 public:
  parent(printer& out, directive what) {
    self().supervise(actors::one_for_one{.decide = {on<crashed>(what)}});
    child_ = self().spawn<hooked>({.name = "child"}, std::ref(out));
  }
  void receive(std::string text) { child_.tell(std::move(text)); }
  void receive(crash c) { child_.tell(c); }

 private:
  actor_ref<std::string, crash> child_;
};

}  // namespace

TEST_SUITE("seed") {
  // --- Quick start -----------------------------------------------------------

  TEST_CASE("Hello world!") {
    printer out;
    for (int i = 0; i != 100; ++i) {
      actors::actor_system system{support::quiet(2)};
      auto hello = system.spawn<greeter>(std::ref(out));
      hello.tell<std::string>("world");
    }
    CHECK(out.lines() == lines(100, "Hello world"));
  }

  // --- Creating the actor system ---------------------------------------------

  TEST_CASE("with ActorSystem() as system: the block's end drains") {
    std::atomic<int> handled = 0;
    {
      actors::actor_system system{support::quiet(2)};
      auto counter = system.spawn([&](context<int> self) -> task<> {
        co_await self.serve([&](int) { ++handled; });
      });
      for (int i = 0; i != 1000; ++i) counter.tell(i);
    }
    CHECK(handled == 1000);
  }

  TEST_CASE("system.terminate(): all actors are stopped, and it blocks") {
    std::atomic<int> alive = 0;
    actors::actor_system system{support::quiet(2)};
    for (int i = 0; i != 10; ++i)
      system.spawn([&](context<> self) -> task<> {
        const support::counted me{alive};
        self.spawn([&alive](context<> child) -> task<> {
          const support::counted it{alive};
          co_await child.until_stop();
        });
        co_await self.until_stop();
      });
    system.terminate();
    CHECK(alive == 0);
  }

  TEST_CASE("system.terminate() from inside an actor does not deadlock") {
    actors::actor_system system{support::quiet(1)};
    system.spawn([](context<> self) -> task<> {
      self.system().terminate();
      co_await self.until_stop();
    });
    system.wait();
  }

  // --- Creating actors -------------------------------------------------------

  TEST_CASE("class Greeter(Actor) with receive(message)") {
    printer out;
    simulation sim;
    auto g = sim.system().spawn<greeter>(std::ref(out));
    g.tell<std::string>("world");
    sim.run_until_idle();
    CHECK(out.lines() == lines{"Hello world"});
  }

  TEST_CASE("actor_of(partial(Greeter, format)): constructor arguments") {
    printer out;
    simulation sim;
    auto g = sim.system().spawn<greeter>(std::ref(out), "Hello %s!");
    g.tell<std::string>("world");
    sim.run_until_idle();
    CHECK(out.lines() == lines{"Hello world!"});
  }

  TEST_CASE("actor_of(behaviour=function)") {
    printer out;
    simulation sim;
    auto g = sim.spawn([&](context<std::string> self) -> task<> {
      co_await self.serve([&](std::string s) { out.print(std::move(s)); });
    });
    g.tell<std::string>("called");
    sim.run_until_idle();
    CHECK(out.lines() == lines{"called"});
  }

  TEST_CASE("self.context.actor_of(Child): a supervised child") {
    printer out;
    simulation sim;
    auto top = sim.system().spawn<parent>({.name = "parent"}, std::ref(out),
                                          directive::restart);
    top.tell<std::string>("hello");
    sim.run_until_idle();
    CHECK(out.lines() == lines{"made", "pre_start", "hello"});
    const auto all = sim.run(sim.system().snapshot());
    bool found = false;
    for (const auto& a : all) found |= a.path == "/user/parent/child";
    CHECK(found);
  }

  TEST_CASE("hooks: pre_start, post_stop, pre_restart, post_restart") {
    const auto scenario = [](simulation& sim) {
      printer out;
      const auto top = sim.system().spawn<parent>(
          {.name = "parent"}, std::ref(out), directive::restart);
      sim.run(top.started());
      const auto child =
          sim.system().find<std::string, crash>("/user/parent/child");
      sim.expect_failure<crashed>(child);
      top.tell<std::string>("one");
      top.tell(crash{});
      top.tell<std::string>("two");
      sim.run_until_idle();
      top.stop();
      sim.run(top.stopped());
      CHECK(out.lines() == lines{"made", "pre_start", "one", "pre_restart",
                                 "gone", "made", "post_restart", "pre_start",
                                 "two", "post_stop", "gone"});
    };
    actors::explore({.seeds = 50}, scenario);
  }

  // --- Sending messages ------------------------------------------------------

  TEST_CASE("ref.tell(message), ref.tell(message, sender); ref == ref") {
    printer out;
    simulation sim;
    auto g = sim.spawn({.name = "g"}, [&](context<int> self) -> task<> {
      co_await self.serve([&](int n) {
        out.print(fmt::format("{} from {}", n, self.sender()));
      });
    });
    auto probe = sim.probe<int>("sender");
    g.tell(1);
    g.tell(2, probe.ref());
    sim.run_until_idle();
    CHECK(out.lines() == lines{"1 from (null)", "2 from /user/sender"});

    auto same = g;
    CHECK(g == same);
    CHECK(g != probe.ref());
    CHECK((g < probe.ref()) != (probe.ref() < g));
    std::unordered_set<actor_ref<int>> refs{g, same, probe.ref()};
    CHECK(refs.size() == 2);
    CHECK(fmt::format("{}", g) == "/user/g");
  }

  TEST_CASE("ask(ref, message): a future, reply.get(timeout)") {
    actors::actor_system system{support::quiet(2)};
    auto g = system.spawn([](context<question> self) -> task<> {
      co_await self.serve([](question q) { return q.text + " Hi!"; });
    });
    auto reply = g.ask<question>("Hello?");
    CHECK(reply.get() == "Hello? Hi!");
    auto patient = g.ask<question>("Hello?");
    CHECK(patient.get(10s) == "Hello? Hi!");
  }

  TEST_CASE("ask(ref, message): to a dead, failing or silent actor it ends") {
    actors::actor_system system{support::quiet(2)};
    auto dead = system.spawn([](context<question>) -> task<> { co_return; });
    (void)dead.stopped().get();
    CHECK(error_of([&] { return dead.ask<question>("?").get(); }) ==
          errc::actor_stopped);
    auto failing = system.spawn([](context<question> self) -> task<> {
      co_await self.serve([](question) -> std::string { throw crashed{}; });
    });
    CHECK(error_of([&] { return failing.ask<question>("?").get(); }) ==
          errc::actor_failed);
    auto silent = system.spawn(
        [](context<question> self) -> task<> { co_await self.until_stop(); });
    CHECK(error_of([&] { return silent.ask<question>("?").get(1ms); }) ==
          errc::timed_out);
  }

  // --- Replying --------------------------------------------------------------

  TEST_CASE("self.sender.tell(…): \"Hi there!\"") {
    class polite : public actors::actor<std::string> {
     public:
      void receive(std::string message) {
        if (message.starts_with("Hello"))
          self().sender().tell(std::string{"Hi there!"});
      }
    };
    simulation sim;
    auto probe = sim.probe<std::string>();
    auto g = sim.system().spawn<polite>();
    g.tell<std::string>(std::string{"Hello!"}, probe.ref());
    CHECK(probe.expect<std::string>() == "Hi there!");
    g.tell<std::string>(std::string{"Bye!"}, probe.ref());
    probe.expect_nothing();
  }

  // --- Supervision and fault tolerance ---------------------------------------

  TEST_CASE("supervisor_strategy(exception): Directive.Restart, by default") {
    printer out;
    simulation sim;
    auto a = sim.system().spawn<hooked>(std::ref(out));
    sim.expect_failure<crashed>(a);
    a.tell(crash{});
    a.tell<std::string>("again");
    sim.run_until_idle();
    CHECK(out.lines() == lines{"made", "pre_start", "pre_restart", "gone",
                               "made", "post_restart", "pre_start", "again"});
  }

  TEST_CASE("supervisor_strategy(exception): Directive.Stop") {
    printer out;
    simulation sim;
    auto top = sim.system().spawn<parent>({.name = "parent"}, std::ref(out),
                                          directive::stop);
    sim.run(top.started());
    auto child = sim.system().find<std::string, crash>("/user/parent/child");
    sim.expect_failure<crashed>(child);
    top.tell(crash{});
    CHECK(sim.run(child.stopped()) == exit_reason::failed);
    CHECK(out.lines() == lines{"made", "pre_start", "post_stop", "gone"});
  }

  TEST_CASE("supervisor_strategy(exception): Directive.Resume does not hang") {
    printer out;
    simulation sim;
    auto top = sim.system().spawn<parent>({.name = "parent"}, std::ref(out),
                                          directive::resume);
    sim.run(top.started());
    auto child = sim.system().find<std::string, crash>("/user/parent/child");
    sim.expect_failure<crashed>(child);
    top.tell(crash{});
    top.tell<std::string>("still here");
    sim.run_until_idle();
    CHECK(out.lines() == lines{"made", "pre_start", "still here"});
  }

  TEST_CASE("supervisor_strategy(exception): one that raises does not hang") {
    printer out;
    simulation sim;
    any_actor_ref top;
    top = sim.spawn(
        {.name = "parent", .restart = actors::restart_policy::never},
        [&](context<> self) -> task<> {
          self.supervise(actors::one_for_one{
              .decide = [](const actors::failure&) -> std::optional<directive> {
                throw std::logic_error{"?"};
              }});
          auto child = self.spawn<hooked>(std::ref(out));
          sim.expect_failure<crashed>(child);
          child.tell(crash{});
          co_await self.until_stop();
        });
    sim.expect_failure<std::exception>(top);
    CHECK(sim.run(top.stopped()) == exit_reason::failed);
  }

  TEST_CASE("ActorInitializationError: stop") {
    class stillborn : public actors::actor<int> {
     public:
      stillborn() { throw crashed{}; }
      void receive(int) {}
    };
    simulation sim;
    auto a = sim.system().spawn<stillborn>();
    sim.expect_failure<crashed>(a);
    CHECK(sim.run(a.stopped()) == exit_reason::failed);
  }

  TEST_CASE(
      "context.parent, context.self_ref, context.system, context.stop()") {
    bool right = false;
    simulation sim;
    auto top = sim.spawn({.name = "top"}, [&](context<> self) -> task<> {
      auto child = self.spawn([&](context<int> me) -> task<> {
        right = me.parent().path() == "/user/top" &&
                me.ref().path() == me.path() &&
                &me.system().core() == &sim.system().core();
        me.stop();
        co_await me.until_stop();
      });
      CHECK(co_await child.stopped() == exit_reason::normal);
    });
    sim.run(top.stopped());
    CHECK(right);
  }

  TEST_CASE("a restart stops the children first, then the hooks run") {
    class father : public actors::actor<crash> {
     public:
      explicit father(printer& out) : out_{&out} {}
      void pre_start() {
        out_->print("pre_start");
        self().spawn([out = out_](context<> child) -> task<> {
          co_await child.until_stop();
          out->print("child ended");
        });
      }
      void pre_restart(std::exception_ptr) { out_->print("pre_restart"); }
      void receive(crash) { throw crashed{}; }

     private:
      printer* out_;
    };
    printer out;
    simulation sim;
    auto a = sim.system().spawn<father>(std::ref(out));
    sim.run(a.started());
    sim.run_until_idle();
    sim.expect_failure<crashed>(a);
    a.tell(crash{});
    sim.run_until_idle();
    CHECK(out.lines() ==
          lines{"pre_start", "child ended", "pre_restart", "pre_start"});
  }

  TEST_CASE("system messages go before user messages") {
    const auto scenario = [](simulation& sim) {
      int handled = 0;
      auto a = sim.spawn([&](context<int> self) -> task<> {
        co_await self.serve([&](int) { ++handled; });
      });
      sim.run(a.started());
      for (int i = 0; i != 100; ++i) a.tell(i);
      a.stop();
      sim.run(a.stopped());
      CHECK(handled == 0);
      CHECK(sim.system().dead_letter_count() == 100);
    };
    actors::explore({.seeds = 50}, scenario);
  }

  TEST_CASE("a suspended mailbox still takes system messages") {
    // Suspended by a failure that its supervisor has not decided.
    simulation sim;
    actor_ref<crash> child;
    sim.spawn([&](context<> self) -> task<> {
      self.supervise([](actors::failures failures) -> task<> {
        auto failure = co_await failures.next();
        while (co_await failures.next()) {
        }
      });
      child = self.spawn([](context<crash> me) -> task<> {
        co_await me.serve([](crash) { throw crashed{}; });
      });
      co_await self.until_stop();
    });
    sim.run_until_idle();
    sim.expect_failure<crashed>(child);
    child.tell(crash{});
    child.tell(crash{});
    sim.run_until_idle();
    child.stop();
    CHECK(sim.run(child.stopped()) == exit_reason::failed);
  }

  TEST_CASE("`throughput` messages a run, then others have their turn") {
    std::vector<char> order;
    actors::system_options options = support::quiet(1);
    options.throughput = 10;
    {
      actors::actor_system system{options};
      system.run([&](context<> self) -> task<> {
        const auto body = [&](context<char> me) -> task<> {
          co_await me.serve([&](char c) { order.push_back(c); });
        };
        auto a = self.spawn(body);
        auto b = self.spawn(body);
        co_await a.started();
        co_await b.started();
        for (int i = 0; i != 100; ++i) {
          a.tell('a');
          b.tell('b');
        }
        a.drain();
        b.drain();
        co_await a.stopped();
        co_await b.stopped();
      });
    }
    REQUIRE(order.size() == 200);
    std::size_t row = 1, longest = 1;
    for (std::size_t i = 1; i != order.size(); ++i) {
      row = order[i] == order[i - 1] ? row + 1 : 1;
      longest = std::max(longest, row);
    }
    CHECK(longest <= 20);  // one may have ended while the other begins
  }

  TEST_CASE("stop: children, then post_stop, then the parent is told") {
    printer out;
    simulation sim;
    class middle : public actors::actor<int> {
     public:
      explicit middle(printer& p) : out_{&p} {}
      void pre_start() {
        self().spawn([out = out_](context<> child) -> task<> {
          co_await child.until_stop();
          co_await child.sleep_for(1s);
          out->print("child");
        });
      }
      void post_stop() { out_->print("post_stop"); }
      void receive(int) {}

     private:
      printer* out_;
    };
    sim.run([&](context<actors::ended> self) -> task<> {
      auto m = self.spawn<middle>(std::ref(out));
      self.watch(m);
      co_await m.started();
      m.stop();
      for (int i = 0; i != 3; ++i) m.tell(i);
      co_await self.receive([&](const actors::ended&) { out.print("told"); });
    });
    CHECK(out.lines() == lines{"child", "post_stop", "told"});
    CHECK(sim.system().dead_letter_count() == 3);
  }

  TEST_CASE("system.dead_letters: DeadLetter(message, sender, recipient)") {
    std::vector<actors::dead_letter> letters;
    printer log;
    actors::system_options options;
    options.log = [&](std::string_view line) { log.print(std::string{line}); };
    {
      actors::simulation_options sim_options;
      sim_options.system = options;
      simulation sim{sim_options};
      sim.system().on_dead_letter(
          [&](const actors::dead_letter& d) { letters.push_back(d); });
      auto probe = sim.probe<int>("sender");
      auto gone = sim.spawn({.name = "gone"},
                            [](context<int>) -> task<> { co_return; });
      sim.run(gone.stopped());
      gone.tell(7, probe.ref());
      REQUIRE(letters.size() == 1);
      REQUIRE(letters[0].get<int>());
      CHECK(*letters[0].get<int>() == 7);
      CHECK(letters[0].sender == any_actor_ref{probe.ref()});
      CHECK(letters[0].recipient == any_actor_ref{gone});
      CHECK(letters[0].why == actors::dead_letter::reason::actor_stopped);
      letters.clear();
    }
    bool logged = false;
    for (const auto& line : log.lines())
      logged |= support::contains(line, "/user/gone");
    CHECK(logged);
  }

  // --- Dispatchers -----------------------------------------------------------

  TEST_CASE("Dispatcher(Executor(n)), PinnedDispatcher: for one actor") {
    const auto where = [](context<> self) -> task<> {
      (void)self;
      co_return;
    };
    (void)where;
    struct which {
      using reply_type = std::thread::id;
    };
    const auto body = [](context<which> self) -> task<> {
      co_await self.serve([](which) { return std::this_thread::get_id(); });
    };
    actors::system_options options = support::quiet(1);
    options.pools = {{.name = "db", .threads = 1}};
    actors::actor_system system{options};
    auto usual = system.spawn(body);
    auto pooled =
        system.spawn({.dispatcher = actors::dispatcher::named("db")}, body);
    auto alone = system.spawn({.dispatcher = actors::pinned()}, body);
    const auto a = usual.ask<which>().get();
    const auto b = pooled.ask<which>().get();
    const auto c = alone.ask<which>().get();
    CHECK(a != b);
    CHECK(b != c);
    CHECK(a != c);
    CHECK(alone.ask<which>().get() == c);
  }

  TEST_CASE("ActorSystem(system_dispatcher=…)") {
    for (const auto& d : {actors::dispatcher::pool(),
                          actors::dispatcher::shared(), actors::pinned()}) {
      printer out;
      {
        actors::system_options options = support::quiet(1);
        options.dispatcher = d;
        actors::actor_system system{options};
        auto g = system.spawn<greeter>(std::ref(out));
        g.tell<std::string>("world");
      }
      CHECK(out.lines() == lines{"Hello world"});
    }
  }

  // --- Utilities -------------------------------------------------------------

  TEST_CASE("utils.proxy: as_proxy(ref).method(args)") {
    struct counter {
      int total = 0;
      int add(int n) { return total += n; }
    };
    simulation sim;
    auto c = actors::proxy<counter>(sim.system());
    CHECK(sim.run(c.call(&counter::add, 5)) == 5);
    c.tell(&counter::add, 1);
    CHECK(sim.run(c.call(&counter::add, 1)) == 7);
  }

  TEST_CASE("utils.AsyncCountDownLatch") {
    simulation sim;
    actors::count_down_latch latch{sim.system(), 3};
    for (int i = 0; i != 3; ++i)
      sim.spawn([latch](context<>) -> task<> {
        latch.count_down();
        co_return;
      });
    sim.run(latch.wait());
    CHECK(latch.count() == 0);
  }
}
