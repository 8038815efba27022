#include "actors/actor.hpp"

#include <doctest/doctest.h>

#include <any>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::context;
using actors::dead_letter;
using actors::directive;
using actors::duration;
using actors::errc;
using actors::exit_reason;
using actors::lifecycle_event;
using actors::one_for_all;
using actors::one_for_one;
using actors::simulation;
using actors::task;
using support::error_of;
using support::message_of;
using support::message_of_error;
using texts = std::vector<std::string>;

// --- how receive takes its messages ------------------------------------------

struct how_many {
  using reply_type = int;
};

class greeter : public actors::actor<std::string, how_many> {
 public:
  explicit greeter(std::string format) : format_{std::move(format)} {}
  void receive(std::string name) { said_.push_back(format_ + name); }
  int receive(how_many) { return static_cast<int>(said_.size()); }

 private:
  std::string format_;
  texts said_;
};

template <int N>
struct question_of {
  using reply_type = std::string;
  std::unique_ptr<int> owned = std::make_unique<int>(N);
};

class many_ways
    : public actors::actor<question_of<0>, question_of<1>, question_of<2>,
                           question_of<3>, question_of<4>, question_of<5>,
                           question_of<6>, question_of<7>, question_of<8>> {
 public:
  using text = std::string;
  text receive(question_of<0> q) { return "value " + of(*q.owned); }
  text receive(question_of<1>& q) { return "reference " + of(*q.owned); }
  text receive(const question_of<2>& q) const {
    return "const " + of(*q.owned);
  }
  text receive(question_of<3>&& q) noexcept { return "moved " + of(*q.owned); }
  actors::result<text> receive(const question_of<4>& q) {
    if (*q.owned == 4) return std::make_error_code(std::errc::io_error);
    return text{};
  }
  task<text> receive(question_of<5> q) {
    co_await self().sleep_for(1ms);
    co_return "task " + of(*q.owned);
  }
  void receive(const question_of<6>& q, actors::reply_to<text> reply) {
    reply.reply("slot " + of(*q.owned));
  }
  task<> receive(question_of<7>& q, actors::reply_to<text> reply) {
    co_await self().sleep_for(1ms);
    reply.reply("slot in a task " + of(*q.owned));
  }
  template <class M>
  text receive(const M& q) const {
    return "template " + of(*q.owned);
  }

 private:
  static text of(int n) { return std::to_string(n); }
};

/// An `int` overload for a declared `short`, and other near misses.
struct converting : actors::actor<short> {
  void receive(int);
};
struct converting_from_text : actors::actor<const char*> {
  void receive(std::string);
};
struct anything_goes : actors::actor<int> {
  void receive(const std::any&);
};
struct any_message : actors::actor<std::any> {
  void receive(std::any);
};
struct private_receive : actors::actor<int> {
 private:
  void receive(int);
};
template <class A, class M>
constexpr bool takes = !std::is_void_v<actors::detail::receive_style_t<A, M>>;

static_assert(!takes<converting, short>);
static_assert(takes<converting, int>);
static_assert(!takes<converting_from_text, const char*>);
static_assert(!takes<anything_goes, int>);
static_assert(takes<any_message, std::any>);
static_assert(!takes<private_receive, int>);

struct hears {
  int heard = 0;
  void receive(int n) { heard += n; }
};
class inheriting : public actors::actor<int, how_many>, public hears {
 public:
  using hears::receive;
  int receive(how_many) { return heard; }
};

// --- an object that writes down what happens to it ---------------------------

struct crash : std::runtime_error {
  explicit crash(const std::string& what = "crash") : runtime_error{what} {}
};

/// What a test wants of an object, and learns of it. Outlives the simulation.
struct story {
  texts log;
  int births = 0;
  int alive = 0;
  actors::any_actor_ref child;
  using step = std::function<void(context<>&, int incarnation)>;
  using long_step = std::function<task<>(context<>&, int incarnation)>;
  step constructor, destructor;
  long_step pre_start, post_stop, pre_restart, post_restart;

  void say(std::string what) { log.push_back(std::move(what)); }
};

/// Does something in `receive`.
struct act {
  std::function<void(context<>&)> f;
};
struct act_long {
  std::function<task<>(context<>&)> f;
};
/// Which incarnation it is.
struct number {
  using reply_type = int;
};
struct ask_act {
  using reply_type = int;
  explicit ask_act(std::function<int(context<>&)> g) : f{std::move(g)} {}
  std::function<int(context<>&)> f;
};
struct ask_long {
  using reply_type = int;
  explicit ask_long(std::function<task<int>(context<>&)> g) : f{std::move(g)} {}
  std::function<task<int>(context<>&)> f;
};

/// `Plain`: none of its overloads is a coroutine.
template <bool Plain, class... More>
class hero : public actors::actor<act, number, ask_act, More...> {
 public:
  explicit hero(story* s) : story_{s} {
    CHECK(++s->alive == 1);
    number_ = ++s->births;
    s->say("constructor");
    if (s->constructor) s->constructor(this->self(), number_);
  }
  ~hero() {
    if (story_->destructor) story_->destructor(this->self(), number_);
    story_->say("destructor");
    --story_->alive;
  }

  void receive(const act& a) { a.f(this->self()); }
  int receive(number) { return number_; }
  int receive(const ask_act& a) { return a.f(this->self()); }

  task<> pre_start() { return tell("pre_start", story_->pre_start); }
  task<> post_stop() { return tell("post_stop", story_->post_stop); }
  task<> pre_restart(std::exception_ptr e) {
    return tell("pre_restart " + (e ? message_of_error(e) : "null"),
                story_->pre_restart);
  }
  task<> post_restart(std::exception_ptr e) {
    return tell("post_restart " + (e ? message_of_error(e) : "null"),
                story_->post_restart);
  }

 protected:
  story* story_;
  int number_;

 private:
  task<> tell(std::string what, const story::long_step& step) {
    story_->say(what);
    if (!step) co_return;
    co_await step(this->self(), number_);
    story_->say(what.substr(0, what.find(' ')) + " ended");
  }
};

using plain_hero = hero<true>;
class long_hero : public hero<false, act_long, ask_long> {
 public:
  using hero::hero;
  using hero::receive;
  task<> receive(const act_long& a) { return a.f(self()); }
  task<int> receive(const ask_long& a) { return a.f(self()); }
};
using long_ref = actors::actor_ref<act, number, ask_act, act_long, ask_long>;

act throwing(const std::string& what = "crash") {
  return {[what](context<>&) { throw crash{what}; }};
}

/// A child that takes its time to end.
task<> slow_child(context<> self, story* s, duration cleanup) {
  const support::at_exit end{[s] { s->say("child"); }};
  co_await self.until_stop();
  if (cleanup > duration{}) co_await self.sleep_for(cleanup);
}
/// A child task that has to be told.
task<> beside(context<> self, story* s) {
  const support::at_exit end{[s] { s->say("child task"); }};
  co_await self.sleep_for(1h);
}
task<> failing_task(context<> self, duration after, std::string what) {
  co_await self.sleep_for(after);
  throw crash{what};
}

task<> slow_answer(context<number> self) {
  const auto answer = [&](number) -> task<int> {
    co_await self.sleep_for(10ms);
    co_return 1;
  };
  while (co_await self.receive(answer)) {
  }
}

/// Tells the test when an actor has ended.
task<> watcher(context<actors::ended> self, story* s,
               actors::any_actor_ref whom) {
  self.watch(whom);
  const auto on_end = [s](const actors::ended&) { s->say("watcher"); };
  while (co_await self.receive(on_end)) {
  }
}

/// A supervisor with a strategy, and the actors that a test has it spawn.
struct with_self {
  using reply_type = void;
  explicit with_self(std::function<void(context<>&)> g) : f{std::move(g)} {}
  std::function<void(context<>&)> f;
};
task<> boss(context<with_self> self) {
  while (co_await self.receive([&](const with_self& w) { w.f(self); })) {
  }
}

/// A story of one hero below a boss, in one seed.
struct stage {
  explicit stage(simulation& s) : sim{s} { b = sim.spawn(boss); }

  void tell_boss(std::function<void(context<>&)> f) {
    sim.run(b.ask<with_self>(std::move(f)));
  }
  template <class Policy>
  void supervise(Policy p) {
    tell_boss([p](context<>& self) { self.supervise(p); });
  }
  long_ref hero_of(story& s, actors::spawn_options options = {}) {
    long_ref ref;
    tell_boss(
        [&](context<>& self) { ref = self.spawn<long_hero>(options, &s); });
    sim.run(ref.started());
    return ref;
  }

  simulation& sim;
  actors::actor_ref<with_self> b;
};

// --- any order of events -----------------------------------------------------

/// What is known of all objects of one actor, on any thread.
struct ledger {
  std::atomic<int> born{0}, died{0}, alive{0}, replaced{0}, stopped{0};
  /// What no object may see: which check has found it.
  std::atomic<int> wrong{0};
};

struct poke {
  int what;
};

/// Sees to it that it is called in the order that is promised.
class survivor : public actors::actor<poke, number> {
  enum class phase { made, renewed, started, over };

 public:
  explicit survivor(ledger* l) : ledger_{l}, number_{++l->born} {
    check(1, ++l->alive == 1);
  }
  ~survivor() {
    check(2, --ledger_->alive == 0);
    ++ledger_->died;
  }

  task<> receive(poke p) {
    check(3, phase_ == phase::started);
    switch (p.what % 6) {
      case 1:
        throw crash{};
      case 2:
        co_await self().sleep_for(1ms);
        break;
      case 3:
        co_await self().sleep_for(1ms);
        throw crash{};
      case 4:
        (void)self().spawn_task(failing_task, duration{p.what * 1000}, "task");
        break;
      case 5:
        (void)self().spawn(idle_child);
        break;
      default:
        break;
    }
  }
  int receive(number) { return number_; }

  void post_restart(std::exception_ptr) {
    check(4, phase_ == phase::made);
    phase_ = phase::renewed;
  }
  task<> pre_start() {
    // The first object may come after a failure of the start before it.
    check(5, phase_ == phase::renewed || number_ == 1);
    if (number_ % 3 == 0) co_await self().sleep_for(1ms);
    if (number_ % 7 == 0) throw crash{};
    phase_ = phase::started;
  }
  task<> pre_restart(std::exception_ptr) {
    check(6, std::exchange(phase_, phase::over) == phase::started);
    check(7, self().children().empty());
    ++ledger_->replaced;
    if (number_ % 2 == 0) co_await self().sleep_for(1ms);
    if (number_ % 5 == 0) throw crash{};
  }
  task<> post_stop() {
    check(8, std::exchange(phase_, phase::over) == phase::started);
    check(9, self().children().empty());
    ++ledger_->stopped;
    co_await self().sleep_for(1ms);
  }

 private:
  static task<> idle_child(context<> self) {
    co_await self.until_stop();
    co_await self.sleep_for(1ms);
  }
  void check(int which, bool right) {
    if (!right) ledger_->wrong = which;
  }

  ledger* ledger_;
  int number_;
  phase phase_ = phase::made;
};

constexpr int seeds = support::sanitized ? 30 : 200;

}  // namespace

TEST_SUITE("actor") {
  TEST_CASE("a class is an actor: receive, arguments, questions") {
    simulation sim{1};
    auto g = sim.spawn<greeter>("Hello ");
    static_assert(
        std::is_same_v<decltype(g), actors::actor_ref<std::string, how_many>>);
    g.tell<std::string>("world");
    CHECK(sim.run(g.ask<how_many>()) == 1);
    auto named = sim.spawn<greeter>({.name = "g"}, "Hello ");
    CHECK(named.path() == "/user/g");
  }

  TEST_CASE("receive takes its message by value, by reference, with the slot") {
    simulation sim{1};
    auto a = sim.spawn<many_ways>();
    CHECK(sim.run(a.ask<question_of<0>>()) == "value 0");
    CHECK(sim.run(a.ask<question_of<1>>()) == "reference 1");
    CHECK(sim.run(a.ask<question_of<2>>()) == "const 2");
    CHECK(sim.run(a.ask<question_of<3>>()) == "moved 3");
    CHECK(error_of([&] { (void)sim.run(a.ask<question_of<4>>()); }) ==
          std::errc::io_error);
    CHECK(sim.run(a.ask<question_of<5>>()) == "task 5");
    CHECK(sim.run(a.ask<question_of<6>>()) == "slot 6");
    CHECK(sim.run(a.ask<question_of<7>>()) == "slot in a task 7");
    CHECK(sim.run(a.ask<question_of<8>>()) == "template 8");
  }

  TEST_CASE("receive may be a base's, brought in by a using-declaration") {
    simulation sim{1};
    auto a = sim.spawn<inheriting>();
    a.tell(3);
    CHECK(sim.run(a.ask<how_many>()) == 3);
  }

  TEST_CASE("an object is made by spawn and by nobody else") {
    CHECK(support::contains(
        message_of<std::logic_error>([] { greeter{"Hello "}; }), "spawn<A>"));
    simulation sim{1};
    struct nested : actors::actor<how_many> {
      greeter inner{"Hello "};
      int receive(how_many) { return 1; }
    };
    auto a = sim.spawn<nested>();
    sim.expect_failure<std::logic_error>(a);
    CHECK_THROWS_AS(sim.run(a.started()), std::logic_error);
    // A member that could be one, too, but comes too late.
    struct shy : actors::actor<how_many> {
      int receive(how_many) {
        return message_of<std::logic_error>([] { greeter{""}; }) != "";
      }
    };
    CHECK(sim.run(sim.spawn<shy>().ask<how_many>()) == 1);
  }

  TEST_CASE("self is there in the constructor and in member initialisers") {
    struct early : actors::actor<how_many> {
      explicit early(std::vector<std::string>* to) {
        to->push_back(path);
        to->push_back(self().path());
        CHECK(self().ref());
      }
      int receive(how_many) { return 1; }
      std::string path = self().path();
    };
    texts paths;
    simulation sim{1};
    auto a = sim.spawn<early>({.name = "e"}, &paths);
    CHECK(sim.run(a.ask<how_many>()) == 1);
    CHECK(paths == texts{"/user/e", "/user/e"});
  }

  TEST_CASE("each incarnation is made of copies; a reference to one is good") {
    struct keeper : actors::actor<act, how_many> {
      explicit keeper(const std::string& t) : text{t} {}
      void receive(const act& a) { a.f(self()); }
      int receive(how_many) { return static_cast<int>(text.size()); }
      const std::string& text;  // the runtime's copy
    };
    simulation sim{1};
    std::string text(100, 'x');
    auto a = sim.spawn<keeper>(text);
    text.clear();
    CHECK(sim.run(a.ask<how_many>()) == 100);
    sim.expect_failure<crash>(a);
    a.tell(throwing());
    CHECK(sim.run(a.ask<how_many>()) == 100);
  }

  TEST_CASE("spawn_once moves arguments in") {
    struct owner : actors::actor<act, how_many> {
      explicit owner(std::unique_ptr<int> p) : value{std::move(p)} {}
      void receive(const act& a) { a.f(self()); }
      int receive(how_many) { return *value; }
      std::unique_ptr<int> value;
    };
    simulation sim{1};
    auto a = sim.spawn_once<owner>(std::make_unique<int>(7));
    CHECK(sim.run(a.ask<how_many>()) == 7);
    sim.expect_failure<crash>(a);
    a.tell(throwing());
    CHECK(sim.run(a.stopped()) == exit_reason::failed);
  }

  TEST_CASE("an actor without messages") {
    struct quiet : actors::actor<> {
      explicit quiet(story* s) : story_{s} {}
      task<> pre_start() {
        co_await self().sleep_for(1ms);
        story_->say("pre_start");
      }
      void post_stop() { story_->say("post_stop"); }
      story* story_;
    };
    story s;
    simulation sim{1};
    auto a = sim.spawn<quiet>(&s);
    sim.run(a.started());
    CHECK(s.log == texts{"pre_start"});
    a.stop();
    CHECK(sim.run(a.stopped()) == exit_reason::normal);
    CHECK(s.log == texts{"pre_start", "post_stop"});
  }

  // --- hooks -----------------------------------------------------------------

  TEST_CASE("a start and a stop: each hook in its place") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.pre_start = s.post_stop = [](context<>& self, int) -> task<> {
        co_await self.sleep_for(1ms);
      };
      stage on{sim};
      long_ref h;
      on.tell_boss([&](context<>& self) {
        h = self.spawn<long_hero>(&s);
        h.tell(act{[&](context<>&) { s.say("first message"); }});
      });
      sim.run(h.started());
      CHECK(s.log[2] == "pre_start ended");
      (void)sim.spawn(watcher, &s, actors::any_actor_ref{h});
      sim.run_until_idle();
      h.tell(act_long{[&](context<>& self) -> task<> {
        (void)self.spawn(slow_child, &s, 5ms);
        (void)self.spawn_task(beside, &s);
        co_await self.sleep_for(5ms);
        s.say("message");
      }});
      sim.advance(1ms);
      h.stop();
      CHECK(sim.run(h.stopped()) == exit_reason::normal);
      sim.run_until_idle();
      CHECK(s.log == texts{"constructor", "pre_start", "pre_start ended",
                           "first message", "message", "child task", "child",
                           "post_stop", "post_stop ended", "destructor",
                           "watcher"});
      sim.terminate();
    });
  }

  TEST_CASE("a restart: children, pre_restart, another object, its hooks") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.pre_start = s.post_stop = s.pre_restart = s.post_restart =
          [](context<>& self, int) -> task<> { co_await self.sleep_for(1ms); };
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      h.tell(act{[&](context<>& self) {
        (void)self.spawn(slow_child, &s, 5ms);
        (void)self.spawn_task(beside, &s);
      }});
      sim.run_until_idle();
      s.log.clear();
      h.tell(throwing());
      h.tell(act{[&](context<>&) { s.say("next message"); }});
      CHECK(sim.run(h.ask<number>()) == 2);
      CHECK(s.log == texts{"child task", "child", "pre_restart crash",
                           "pre_restart ended", "destructor", "constructor",
                           "post_restart crash", "post_restart ended",
                           "pre_start", "pre_start ended", "next message"});
      h.stop();
      (void)sim.run(h.stopped());
      CHECK(s.log.back() == "destructor");
      CHECK(s.births == 2);
      sim.check();
      sim.terminate();
    });
  }

  TEST_CASE("one that is restarted with others is told null") {
    actors::explore(seeds, [](simulation& sim) {
      story failing, sibling;
      stage on{sim};
      on.supervise(one_for_all{});
      const long_ref a = on.hero_of(sibling);
      const long_ref b = on.hero_of(failing);
      sim.expect_failure<crash>(b);
      sibling.log.clear();
      failing.log.clear();
      b.tell(throwing());
      CHECK(sim.run(b.ask<number>()) == 2);
      CHECK(sim.run(a.ask<number>()) == 2);
      CHECK(failing.log == texts{"pre_restart crash", "destructor",
                                 "constructor", "post_restart crash",
                                 "pre_start"});
      CHECK(sibling.log == texts{"pre_restart null", "destructor",
                                 "constructor", "post_restart null",
                                 "pre_start"});
      sim.terminate();
    });
  }

  TEST_CASE("after a failure that ends it, post_stop, when children are gone") {
    for (const directive d : {directive::stop, directive::escalate}) {
      actors::explore(seeds, [d](simulation& sim) {
        story s;
        s.post_stop = [](context<>& self, int) -> task<> {
          co_await self.sleep_for(1ms);
        };
        stage on{sim};
        on.supervise(one_for_one{.decide = {actors::on<crash>(d)}});
        const long_ref h = on.hero_of(s);
        sim.expect_failure<crash>(h);
        if (d == directive::escalate) sim.expect_failure<crash>(on.b);
        h.tell(act{[&](context<>& self) {
          (void)self.spawn(slow_child, &s, 5ms);
          (void)self.spawn_task(beside, &s);
        }});
        sim.run_until_idle();
        s.log.clear();
        h.tell(throwing());
        const auto why = sim.run(h.stopped());
        CHECK(why == exit_reason::failed);
        CHECK(message_of_error(why.error()) == "crash");
        CHECK(s.log == texts{"child task", "child", "post_stop",
                             "post_stop ended", "destructor"});
        sim.terminate();
      });
    }
  }

  TEST_CASE("resume keeps the object") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      stage on{sim};
      on.supervise(
          one_for_one{.decide = {actors::on<crash>(directive::resume)}});
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h, 2);
      h.tell(throwing());
      h.tell(act_long{[](context<>& self) -> task<> {
        co_await self.sleep_for(1ms);
        throw crash{};
      }});
      CHECK(sim.run(h.ask<number>()) == 1);
      h.stop();
      (void)sim.run(h.stopped());
      CHECK(s.log ==
            texts{"constructor", "pre_start", "post_stop", "destructor"});
      sim.terminate();
    });
    actors::explore(seeds, [](simulation& sim) {
      story s;
      stage on{sim};
      on.supervise(
          one_for_one{.decide = {actors::on<crash>(directive::resume)}});
      actors::actor_ref<act, number> h;
      on.tell_boss([&](context<>& self) { h = self.spawn<plain_hero>(&s); });
      sim.expect_failure<crash>(h, 2);
      h.tell(throwing());
      h.tell(throwing());
      CHECK(sim.run(h.ask<number>()) == 1);
      h.stop();
      CHECK(sim.run(h.stopped()) == exit_reason::normal);
      CHECK(s.log ==
            texts{"constructor", "pre_start", "post_stop", "destructor"});
      sim.terminate();
    });
  }

  TEST_CASE("a kill calls no hook, in no phase") {
    // In which phase it is killed.
    for (int phase = 0; phase != 5; ++phase) {
      CAPTURE(phase);
      actors::explore(seeds / 4, [phase](simulation& sim) {
        story s;
        const auto wait = [](context<>& self, int) -> task<> {
          co_await self.sleep_for(1h);
        };
        if (phase == 1) s.pre_restart = wait;
        if (phase == 2) s.post_stop = wait;
        if (phase == 3) s.post_restart = wait;
        stage on{sim};
        const long_ref h = on.hero_of(s, {.stop_timeout = 2h});
        const texts born = s.log;
        texts after;
        switch (phase) {
          case 0:
            h.tell(act_long{[](context<>& self) -> task<> {
              co_await self.sleep_for(1h);
            }});
            break;
          case 1:
          case 3:
            sim.expect_failure<crash>(h);
            h.tell(throwing());
            after = {"pre_restart crash"};
            if (phase == 3) {
              after.push_back("destructor");
              after.push_back("constructor");
              after.push_back("post_restart crash");
            }
            break;
          case 2:
            h.stop();
            after = {"post_stop"};
            break;
          case 4:  // held, nobody decides
            on.supervise([](actors::failures f) -> task<> {
              auto first = co_await f.next();
              (void)co_await f.next();
            });
            sim.expect_failure<crash>(h);
            h.tell(throwing());
            break;
        }
        sim.run_until_idle();
        h.kill();
        const auto why = sim.run(h.stopped());
        CHECK(why == (phase == 1 || phase == 4 ? exit_reason::failed
                                               : exit_reason::killed));
        after.insert(after.begin(), born.begin(), born.end());
        after.push_back("destructor");
        CHECK(s.log == after);
        CHECK(s.alive == 0);
        sim.terminate();
      });
    }
  }

  TEST_CASE("a constructor or a pre_start that throws: no hook after it") {
    for (const bool constructor : {true, false}) {
      for (const bool again : {false, true}) {
        CAPTURE(constructor);
        CAPTURE(again);
        actors::explore(seeds / 2, [=](simulation& sim) {
          story s;
          const int which = again ? 2 : 1;
          if (constructor)
            s.constructor = [&](context<>&, int n) {
              if (n != which) return;
              --s.alive;  // no destructor runs
              throw crash{"start"};
            };
          else
            s.pre_start = [=](context<>& self, int n) -> task<> {
              co_await self.sleep_for(1ms);
              if (n == which) throw crash{"start"};
            };
          stage on{sim};
          long_ref h;
          on.tell_boss([&](context<>& self) {
            h = self.spawn<long_hero>(&s);
            if (!again) sim.expect_failure<crash>(h);
          });
          if (!again) {
            CHECK_THROWS_AS(sim.run(h.started()), crash);
            CHECK(sim.run(h.stopped()) == exit_reason::failed);
            CHECK(s.log == (constructor ? texts{"constructor"}
                                        : texts{"constructor", "pre_start",
                                                "destructor"}));
          } else {
            sim.run(h.started());
            sim.expect_failure<crash>(h, 2);
            s.log.clear();
            h.tell(throwing());
            CHECK(sim.run(h.ask<number>()) == 3);
            texts expected{"pre_restart crash", "destructor", "constructor"};
            if (!constructor)
              for (const char* t :
                   {"post_restart crash", "pre_start", "destructor"})
                expected.emplace_back(t);
            for (const char* t :
                 {"constructor", "post_restart start", "pre_start"})
              expected.emplace_back(t);
            if (!constructor) expected.emplace_back("pre_start ended");
            CHECK(s.log == expected);
          }
          sim.terminate();
        });
      }
    }
  }

  TEST_CASE("hooks that throw") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.pre_restart = [](context<>& self, int) -> task<> {
        co_await self.sleep_for(1ms);
        throw crash{"in pre_restart"};
      };
      s.post_restart = [](context<>&, int n) -> task<> {
        if (n == 2) throw crash{"in post_restart"};
        co_return;
      };
      s.post_stop = [](context<>&, int) -> task<> {
        throw crash{"in post_stop"};
        co_return;
      };
      texts failures;
      (void)sim.system().on_event([&](const lifecycle_event& e) {
        if (e.what == lifecycle_event::kind::failed)
          failures.push_back(message_of_error(e.error));
      });
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h, 4);
      s.log.clear();
      h.tell(throwing());
      CHECK(sim.run(h.ask<number>()) == 3);
      CHECK(s.log == texts{"pre_restart crash", "destructor", "constructor",
                           "post_restart crash", "destructor", "constructor",
                           "post_restart in post_restart", "post_restart ended",
                           "pre_start"});
      h.stop();
      const auto why = sim.run(h.stopped());
      CHECK(why == exit_reason::failed);
      CHECK(message_of_error(why.error()) == "in post_stop");
      CHECK(failures == texts{"crash", "in pre_restart", "in post_restart",
                              "in post_stop"});
      sim.check();
      sim.terminate();
    });
  }

  TEST_CASE("of two failures the first is why it ended") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.post_stop = [](context<>& self, int) -> task<> {
        (void)self.spawn_task(failing_task, 1ms, "in a task of post_stop");
        co_await self.sleep_for(2ms);
        throw crash{"in post_stop"};
      };
      stage on{sim};
      on.supervise(one_for_one{.decide = {actors::on<crash>(directive::stop)}});
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h, 3);
      h.tell(throwing());
      CHECK(message_of_error(sim.run(h.stopped()).error()) == "crash");
      sim.check();
      sim.terminate();
    });
  }

  // --- failures of what runs beside ------------------------------------------

  TEST_CASE("a child task that fails: the handler is told, the object too") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      s.log.clear();
      std::vector<dead_letter::reason> letters;
      (void)sim.system().on_dead_letter([&](const dead_letter& d) {
        CHECK(*d.type == typeid(ask_long));
        letters.push_back(d.why);
      });
      std::optional<std::error_code> told;
      (void)sim.spawn_once(
          [&](context<> self, long_ref whom) -> task<> {
            auto r = co_await actors::as_result(
                whom.ask<ask_long>([&](context<>& in) -> task<int> {
                  (void)in.spawn_task(failing_task, 5ms, "task");
                  bool aborted = false;
                  try {
                    co_await in.sleep_for(1h);
                  } catch (const std::system_error&) {
                    aborted = true;
                  }
                  co_await in.sleep_for(1s);
                  CHECK(told.has_value());  // before the cleanup ends
                  s.say("handler ended");
                  if (aborted) throw crash{"second"};
                  co_return 1;
                }));
            told = r.error();
            (void)self;
          },
          h);
      sim.expect_failure<crash>(h);  // the handler's own
      sim.advance(1ms);
      CHECK(sim.run(h.ask<number>()) == 2);
      CHECK(told == errc::actor_failed);
      CHECK(s.log == texts{"handler ended", "pre_restart task", "destructor",
                           "constructor", "post_restart task", "pre_start"});
      CHECK(letters ==
            std::vector<dead_letter::reason>{dead_letter::reason::failed});
      sim.check();
      sim.terminate();
    });
  }

  TEST_CASE("a child task fails while it waits: one failure, and the words") {
    for (const bool plain : {true, false}) {
      actors::explore(seeds, [plain](simulation& sim) {
        story s;
        stage on{sim};
        actors::actor_ref<act, number> h;
        on.tell_boss([&](context<>& self) {
          if (plain)
            h = self.spawn<plain_hero>(&s);
          else
            h = self.spawn<long_hero>(&s);
        });
        sim.run(h.started());
        sim.expect_failure<crash>(h);
        s.log.clear();
        h.tell(act{[](context<>& self) {
          (void)self.spawn_task(failing_task, 1ms, "task");
        }});
        sim.advance(10ms);
        CHECK(sim.run(h.ask<number>()) == 2);
        CHECK(s.log == texts{"pre_restart task", "destructor", "constructor",
                             "post_restart task", "pre_start"});
        sim.check();
        sim.terminate();
      });
    }
  }

  TEST_CASE("what fails again while it is held is restarted and not resumed") {
    for (const bool plain : {true, false}) {
      actors::explore(seeds, [plain](simulation& sim) {
        story s;
        stage on{sim};
        const auto clock = sim.spawn(slow_answer);
        on.supervise([clock](actors::failures f) -> task<> {
          while (auto first = co_await f.next()) {
            (void)co_await clock.ask<number>();
            first->resume();
          }
        });
        actors::actor_ref<act, number> h;
        on.tell_boss([&](context<>& self) {
          if (plain)
            h = self.spawn<plain_hero>(&s);
          else
            h = self.spawn<long_hero>(&s);
        });
        sim.run(h.started());
        texts decided;
        (void)sim.system().on_event([&](const lifecycle_event& e) {
          if (e.what == lifecycle_event::kind::failed)
            decided.push_back(message_of_error(e.error) + " " +
                              std::string{to_string(e.decision)});
        });
        sim.expect_failure<crash>(h, 2);
        h.tell(act{[](context<>& self) {
          (void)self.spawn_task(failing_task, 2ms, "task");
        }});
        h.tell(throwing());
        sim.run_until_idle();
        CHECK(sim.run(h.ask<number>()) == 2);
        CHECK(decided == texts{"task stop", "crash restart"});
        CHECK(s.births == 2);
        sim.check();
        sim.terminate();
      });
    }
  }

  TEST_CASE("a reply slot that the failed object keeps: actor_failed") {
    struct slow : actors::actor<number, act> {
      void receive(number, actors::reply_to<int> r) { kept = std::move(r); }
      void receive(const act& a) { a.f(self()); }
      actors::reply_to<int> kept;
    };
    actors::explore(seeds, [](simulation& sim) {
      auto a = sim.spawn<slow>();
      sim.expect_failure<crash>(a);
      std::error_code told;
      (void)sim.spawn_once(
          [&](context<>, actors::actor_ref<number, act> whom) -> task<> {
            auto r = co_await actors::as_result(whom.ask<number>());
            told = r.error();
          },
          a);
      sim.run_until_idle();
      a.tell(throwing());
      sim.run_until_idle();
      CHECK(told == errc::actor_failed);
      sim.terminate();
    });
  }

  // --- ends ------------------------------------------------------------------

  TEST_CASE("what throws while it is drained: post_stop, and it has failed") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      s.log.clear();
      const bool awaits = sim.seed() % 2 == 0;
      if (awaits)
        h.tell(act_long{[](context<>& self) -> task<> {
          co_await self.sleep_for(1ms);
          throw crash{};
        }});
      else
        h.tell(throwing());
      h.tell(act{[&](context<>&) { s.say("not handled"); }});
      h.drain();
      CHECK(sim.run(h.stopped()) == exit_reason::failed);
      CHECK(s.log == texts{"post_stop", "destructor"});
      CHECK(sim.system().dead_letter_count() == 2);
      sim.check();
      sim.terminate();
    });
  }

  TEST_CASE("a plain receive throws while it is drained") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      auto h = sim.spawn<plain_hero>(&s);
      sim.run(h.started());
      sim.expect_failure<crash>(h);
      s.log.clear();
      h.tell(act{[&](context<>&) { s.say("handled"); }});
      h.tell(throwing());
      h.tell(act{[&](context<>&) { s.say("not handled"); }});
      h.drain();
      CHECK(sim.run(h.stopped()) == exit_reason::failed);
      CHECK(s.log == texts{"handled", "post_stop", "destructor"});
      sim.check();
      sim.terminate();
    });
  }

  TEST_CASE("a stop of one that is held calls post_stop") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      stage on{sim};
      on.supervise([](actors::failures f) -> task<> {
        auto first = co_await f.next();
        (void)co_await f.next();
      });
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      s.log.clear();
      h.tell(throwing());
      sim.run_until_idle();
      CHECK(s.log.empty());
      h.stop();
      CHECK(sim.run(h.stopped()) == exit_reason::failed);
      CHECK(s.log == texts{"post_stop", "destructor"});
      sim.terminate();
    });
  }

  TEST_CASE("a stop in pre_restart ends it there; one before has post_stop") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.pre_restart = [](context<>& self, int) -> task<> {
        co_await self.sleep_for(10ms);
      };
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      h.tell(act{
          [&](context<>& self) { (void)self.spawn(slow_child, &s, 10ms); }});
      sim.run_until_idle();
      s.log.clear();
      h.tell(throwing());
      sim.run_until_idle();
      const bool early = sim.seed() % 2 == 0;
      sim.advance(early ? 5ms : 15ms);
      h.stop();
      CHECK(sim.run(h.stopped()) == exit_reason::failed);
      CHECK(s.log == (early ? texts{"child", "post_stop", "destructor"}
                            : texts{"child", "pre_restart crash",
                                    "pre_restart ended", "destructor"}));
      sim.terminate();
    });
  }

  TEST_CASE("self.stop in the constructor and in each hook") {
    for (int where = 0; where != 5; ++where) {
      CAPTURE(where);
      actors::explore(seeds / 4, [where](simulation& sim) {
        story s;
        const auto stop = [](context<>& self, int) -> task<> {
          self.stop();
          co_return;
        };
        if (where == 0)
          s.constructor = [](context<>& self, int) { self.stop(); };
        if (where == 1) s.pre_start = stop;
        if (where == 2) s.pre_restart = stop;
        if (where == 3) s.post_restart = stop;
        if (where == 4) s.post_stop = stop;
        stage on{sim};
        long_ref h;
        on.tell_boss([&](context<>& self) { h = self.spawn<long_hero>(&s); });
        sim.run_until_idle();
        if (where >= 2) {
          if (where < 4) {
            sim.expect_failure<crash>(h);
            h.tell(throwing());
          } else {
            h.stop();
          }
        }
        const auto why = sim.run(h.stopped());
        CHECK(why == (where == 2 ? exit_reason::failed : exit_reason::normal));
        CHECK(s.log[s.log.size() - 1] == "destructor");
        if (where < 2 || where == 3)
          CHECK(s.log[s.log.size() - 2] == "post_stop");
        if (where == 2) CHECK(s.log[s.log.size() - 2] == "pre_restart ended");
        CHECK(s.alive == 0);
        sim.terminate();
      });
    }
  }

  TEST_CASE("a hook that hangs: its time is up, and no hook follows") {
    for (int where = 0; where != 3; ++where) {
      CAPTURE(where);
      actors::explore(seeds / 4, [where](simulation& sim) {
        story s;
        const auto hang = [](context<>& self, int n) -> task<> {
          if (n == 1) co_await self.sleep_for(1h);
        };
        s.pre_restart = s.post_stop = hang;
        int late = 0;
        (void)sim.system().on_event([&](const lifecycle_event& e) {
          if (e.what == lifecycle_event::kind::late) ++late;
        });
        stage on{sim};
        const long_ref h = on.hero_of(s, {.stop_timeout = 1s});
        if (where != 1) sim.expect_failure<crash>(h);
        s.log.clear();
        if (where == 2)  // nor after a handler that does not hear
          h.tell(act_long{[](context<>& self) -> task<> {
            (void)self.spawn_task(failing_task, 1ms, "task");
            try {
              co_await self.sleep_for(1h);
            } catch (const std::system_error&) {
            }
            co_await self.sleep_for(1h);
          }});
        if (where == 0) h.tell(throwing());
        if (where == 1) {
          h.stop();
          CHECK(sim.run(h.stopped()) == exit_reason::killed);
          CHECK(s.log == texts{"post_stop", "destructor"});
        } else {
          CHECK(sim.run(h.ask<number>()) == 2);
          const std::string what = where == 0 ? "crash" : "task";
          texts expected{"destructor", "constructor", "post_restart " + what,
                         "pre_start"};
          if (where == 0)
            expected.insert(expected.begin(), "pre_restart crash");
          CHECK(s.log == expected);
        }
        CHECK(late == 1);
        sim.terminate();
      });
    }
  }

  TEST_CASE("a stop in pre_start cancels what it awaits, and nothing follows") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.pre_start = [](context<>& self, int) -> task<> {
        co_await self.sleep_for(1h);
      };
      auto h = sim.spawn<long_hero>(&s);
      sim.advance(1ms);
      h.stop();
      CHECK(sim.run(h.stopped()) == exit_reason::normal);
      CHECK(error_of([&] { sim.run(h.started()); }) == errc::actor_stopped);
      CHECK(s.log == texts{"constructor", "pre_start", "destructor"});
      sim.terminate();
    });
  }

  TEST_CASE("a child task fails during pre_start: a failure of the start") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.pre_start = [](context<>& self, int) -> task<> {
        (void)self.spawn_task(failing_task, 1ms, "task");
        co_await self.sleep_for(1h);
      };
      auto h = sim.spawn<long_hero>(&s);
      sim.expect_failure<crash>(h);
      CHECK(sim.run(h.stopped()) == exit_reason::failed);
      CHECK(s.log == texts{"constructor", "pre_start", "destructor"});
      sim.terminate();
    });
  }

  TEST_CASE("asks, sleeps, children and child tasks in hooks") {
    actors::explore(seeds, [](simulation& sim) {
      story s, others;
      auto other = sim.spawn<plain_hero>(&others);
      int tasks = 0;
      const auto busy = [&](context<>& self, int) -> task<> {
        CHECK(co_await other.ask<number>() == 1);
        auto t = self.spawn_task([&tasks](context<> in) -> task<> {
          co_await in.sleep_for(1ms);
          ++tasks;
        });
        co_await t;
      };
      const auto busy_with_child = [&](context<>& self, int n) -> task<> {
        (void)self.spawn(slow_child, &others, 1ms);
        co_await busy(self, n);
      };
      const auto busy_at_end = [&](context<>& self, int n) -> task<> {
        CHECK(error_of([&] { (void)self.spawn(slow_child, &others, 1ms); }) ==
              errc::actor_stopped);
        co_await busy(self, n);
      };
      s.constructor = [&](context<>& self, int) {
        (void)self.spawn(slow_child, &others, 1ms);
        (void)self.spawn_task([&tasks]() -> task<> {
          ++tasks;
          co_return;
        });
      };
      s.pre_start = s.post_restart = busy_with_child;
      s.post_stop = s.pre_restart = busy_at_end;
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      h.tell(throwing());
      CHECK(sim.run(h.ask<number>()) == 2);
      h.stop();
      CHECK(sim.run(h.stopped()) == exit_reason::normal);
      CHECK(tasks == 7);
      CHECK(s.log.back() == "destructor");
      sim.check();
      sim.terminate();
    });
  }

  TEST_CASE("a supervisor that fails stops the object below it") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(on.b);
      if (sim.seed() % 2 == 0) {  // also one that is held
        on.supervise([](actors::failures f) -> task<> {
          auto first = co_await f.next();
          (void)co_await f.next();
        });
        sim.expect_failure<crash>(h);
        h.tell(throwing());
        sim.run_until_idle();
      }
      s.log.clear();
      sim.inject(on.b, crash{"boss"});
      (void)sim.run(h.stopped());
      CHECK(s.log == texts{"post_stop", "destructor"});
      sim.terminate();
    });
  }

  TEST_CASE(
      "an object as a supervisor: its policy, and what comes from below") {
    struct chief : actors::actor<act, number> {
      explicit chief(story* s) : story_{s}, number_{++s->births} {
        self().supervise(
            one_for_one{.decide = {actors::on<crash>(directive::escalate)}});
        s->child = child = self().spawn<plain_hero>(&below);
      }
      ~chief() { story_->say("destructor"); }
      void receive(const act& a) { child.tell(a); }
      int receive(number) { return number_; }
      void pre_restart(std::exception_ptr e) {
        story_->say("pre_restart " + message_of_error(e));
        for (const auto& line : below.log) story_->say("child " + line);
      }
      void post_stop() { story_->say("post_stop"); }
      story* story_;
      story below;
      int number_;
      actors::actor_ref<act, number> child;
    };
    actors::explore(seeds, [](simulation& sim) {
      story s;
      auto c = sim.spawn<chief>(&s);
      sim.run(c.started());
      sim.expect_failure<crash>(c);
      sim.expect_failure<crash>(s.child);
      c.tell(throwing());
      sim.run_until_idle();
      CHECK(sim.run(c.ask<number>()) == 2);
      CHECK(s.log == texts{"pre_restart crash", "child constructor",
                           "child pre_start", "child post_stop",
                           "child destructor", "destructor"});
      sim.check();
      sim.terminate();
    });
  }

  TEST_CASE("the system ends while pre_restart waits") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      s.pre_restart = [](context<>& self, int) -> task<> {
        co_await self.sleep_for(10ms);
      };
      stage on{sim};
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      h.tell(throwing());
      sim.advance(5ms);
      sim.terminate();
      CHECK(s.log == texts{"constructor", "pre_start", "pre_restart crash",
                           "pre_restart ended", "destructor"});
    });
  }

  TEST_CASE("between two incarnations there is no object to speak to") {
    actors::explore(seeds, [](simulation& sim) {
      story s;
      stage on{sim};
      on.supervise(one_for_one{.backoff = {.min = 1s, .max = 1s}});
      const long_ref h = on.hero_of(s);
      sim.expect_failure<crash>(h);
      s.log.clear();
      h.tell(throwing());
      sim.advance(500ms);
      CHECK(s.log == texts{"pre_restart crash", "destructor"});
      const bool kill = sim.seed() % 2 == 0;
      kill ? h.kill() : h.stop();
      CHECK(sim.run(h.stopped()) == exit_reason::failed);
      CHECK(s.log.size() == 2);
      sim.terminate();
    });
  }

  TEST_CASE("without hooks a class is restarted and stopped as any other") {
    actors::explore(seeds, [](simulation& sim) {
      auto g = sim.spawn<inheriting>();
      g.tell(1);
      sim.run_until_idle();
      sim.expect_failure<crash>(g);
      sim.inject(g, crash{});
      sim.run_until_idle();
      CHECK(sim.run(g.ask<how_many>()) == 0);
      g.stop();
      CHECK(sim.run(g.stopped()) == exit_reason::normal);
      sim.terminate();
    });
  }

  TEST_CASE("a permanent object that was stopped has ended") {
    story s;
    simulation sim{1};
    auto h = sim.spawn<plain_hero>(
        {.restart = actors::restart_policy::permanent}, &s);
    sim.run(h.started());
    h.stop();
    CHECK(sim.run(h.stopped()) == exit_reason::normal);
  }

  TEST_CASE("whatever comes when, hooks come in their order") {
    actors::explore(5 * seeds, [](simulation& sim) {
      const auto l = std::make_shared<ledger>();
      std::mt19937_64 chance{sim.seed()};
      const auto one_of = [&](std::uint64_t n) { return chance() % n; };
      stage on{sim};
      const directive directives[]{directive::restart, directive::resume,
                                   directive::stop, directive::escalate};
      const auto decide = directives[one_of(8) < 6 ? one_of(2) : one_of(4)];
      const duration backoff = one_of(2) ? duration{1ms} : duration{};
      if (one_of(2))
        on.supervise(one_for_one{.max_restarts = 1000,
                                 .backoff = {.min = backoff, .max = backoff},
                                 .decide = {actors::on<crash>(decide)}});
      else
        on.supervise(one_for_all{.max_restarts = 1000,
                                 .backoff = {.min = backoff, .max = backoff},
                                 .decide = {actors::on<crash>(decide)}});
      const auto other = std::make_shared<ledger>();
      actors::actor_ref<poke, number> a, b;
      on.tell_boss([&](context<>& self) {
        a = self.spawn<survivor>({.stop_timeout = 1s}, l.get());
        b = self.spawn<survivor>({.stop_timeout = 1s}, other.get());
      });
      // Nobody knows how often they are going to fail.
      const auto calmly = [](auto f) {
        for (int i = 0; i != 1000; ++i) {
          try {
            (void)f();
            return;
          } catch (const actors::simulation_error&) {
          }
        }
        FAIL("it hangs");
      };
      for (int i = 0; i != 30; ++i) {
        auto& whom = one_of(4) ? a : b;
        switch (one_of(40)) {
          case 0:
            whom.stop();
            break;
          case 1:
            whom.drain();
            break;
          case 2:
            whom.kill();
            break;
          case 3:
            try {
              sim.inject(whom, crash{"injected"});
            } catch (const actors::simulation_error&) {  // it has ended
            }
            break;
          case 4:
          case 5: {
            const duration by{static_cast<long>(one_of(2'000'000))};
            calmly([&] { sim.advance(by); });
            break;
          }
          default:
            if (one_of(2))
              whom.tell(poke{static_cast<int>(one_of(1000))});
            else
              calmly([&] { return sim.step(); });
            break;
        }
      }
      if (one_of(3) == 0)
        a.kill();
      else
        a.stop();
      calmly([&] { return sim.run(a.stopped()); });
      b.stop();
      calmly([&] { return sim.run(b.stopped()); });
      for (const auto* all : {l.get(), other.get()}) {
        CHECK(all->wrong.load() == 0);
        CHECK(all->alive == 0);
        CHECK(all->born == all->died);
        CHECK(all->stopped <= 1);
        CHECK(all->replaced + all->stopped <= all->born);
      }
      calmly([&] { sim.terminate(); });
    });
  }

  TEST_CASE("on threads: hooks come in their order, one object at a time") {
    support::each_system([](actors::actor_system& system) {
      ledger l;
      auto top = system.spawn(boss);
      actors::actor_ref<poke, number> a;
      top.ask<with_self>([&](context<>& self) {
           self.supervise(one_for_one{.max_restarts = actors::unlimited});
           a = self.spawn<survivor>(&l);
         })
          .get();
      const auto storm = [&](unsigned seed) {
        std::mt19937_64 chance{seed};
        for (int i = 0; i != 300; ++i) {
          a.tell(poke{static_cast<int>(chance() % 1000)});
          if (chance() % 64 == 0) {
            const auto n = actors::as_result(a.ask<number>());
            (void)n;
          }
        }
      };
      std::thread one{storm, 1u}, two{storm, 2u};
      one.join();
      two.join();
      CHECK(a.ask<number>().get() >= 1);
      a.stop();
      const auto why = a.stopped().get();
      CHECK((why == exit_reason::normal || why == exit_reason::failed));
      CHECK(l.wrong.load() == 0);
      CHECK(l.alive == 0);
      CHECK(l.born == l.died);
      CHECK(l.stopped <= 1);
    });
  }

  TEST_CASE("on threads: a kill at any time leaves nothing") {
    support::each_system([](actors::actor_system& system) {
      ledger l;
      for (int i = 0; i != 50; ++i) {
        auto a = system.spawn<survivor>(&l);
        for (int k = 0; k != 5; ++k) a.tell(poke{i + k});
        if (i % 2)
          a.kill();
        else
          a.stop();
        (void)a.stopped().get();
        CHECK(l.alive == 0);
        l.born = l.died = 0;
      }
      CHECK(l.wrong.load() == 0);
    });
  }
}
