// The table of faults: where it throws x directive x strategy, each cell over
// seeds, and in each cell all that is promised about a failure.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using actors::any_actor_ref;
using actors::context;
using actors::dead_letter;
using actors::directive;
using actors::errc;
using actors::exit_reason;
using actors::failures;
using actors::lifecycle_event;
using actors::on;
using actors::simulation;
using actors::task;
using support::counted;

// --- the three lists ---------------------------------------------------------

enum class place {
  // In the first start.
  factory,
  before_ready,
  object_constructor,
  object_pre_start,
  before_ready_after_timer,
  // In the start of a second incarnation.
  factory_again,
  copy_again,
  before_ready_again,
  object_constructor_again,
  object_post_restart,
  object_pre_start_again,
  before_ready_after_timer_again,
  // In a handler.
  receive_plain,
  serve_plain,
  receive_timer,
  serve_timer,
  receive_ask,
  serve_ask,
  receive_timeout,
  serve_timeout,
  receive_concurrent,
  serve_concurrent,
  object_plain,
  object_timer,
  object_ask,
  // In the body.
  body,
  body_with_message,
  // Elsewhere.
  child_task,
  child_task_beside_handler,
  object_child_task,
  object_child_task_beside_handler,
  own_child,
  own_child_beside_handler,
  own_policy,
  own_policy_in_handler_of_serve,
  injected,
  injected_in_handler,
  injected_beside_handlers,
  end_of_list,
};

constexpr std::array place_names{"factory",
                                 "before ready",
                                 "object: constructor",
                                 "object: pre_start",
                                 "before ready, after a timer",
                                 "factory again",
                                 "copy again",
                                 "before ready again",
                                 "object: constructor again",
                                 "object: post_restart",
                                 "object: pre_start again",
                                 "before ready, after a timer, again",
                                 "receive, plain",
                                 "serve, plain",
                                 "receive, timer",
                                 "serve, timer",
                                 "receive, ask",
                                 "serve, ask",
                                 "receive, timeout",
                                 "serve, timeout",
                                 "receive, concurrent",
                                 "serve, concurrent",
                                 "object: receive, plain",
                                 "object: receive, timer",
                                 "object: receive, ask",
                                 "body",
                                 "body, with message",
                                 "child task",
                                 "child task beside a handler",
                                 "object: child task",
                                 "object: child task beside a handler",
                                 "own child",
                                 "own child beside a handler",
                                 "own policy",
                                 "own policy, in a handler of serve",
                                 "injected",
                                 "injected in a handler",
                                 "injected beside concurrent handlers"};
static_assert(place_names.size() ==
              static_cast<std::size_t>(place::end_of_list));

/// `by_default`: a strategy without `decide`.
enum class choice { restart, resume, stop, escalate, by_default };

enum class plan { one_for_one, one_for_all, rest_for_one, by_hand, hand_group };

constexpr std::array choices{choice::restart, choice::resume, choice::stop,
                             choice::escalate, choice::by_default};

bool at_first_start(place p) { return p <= place::before_ready_after_timer; }
bool in_restart(place p) {
  return p >= place::factory_again &&
         p <= place::before_ready_after_timer_again;
}
/// It is an object of a class.
bool object(place p) {
  switch (p) {
    case place::object_constructor:
    case place::object_pre_start:
    case place::object_constructor_again:
    case place::object_post_restart:
    case place::object_pre_start_again:
    case place::object_plain:
    case place::object_timer:
    case place::object_ask:
    case place::object_child_task:
    case place::object_child_task_beside_handler:
      return true;
    default:
      return false;
  }
}
/// The exception leaves a handler that `serve` runs.
bool resumable(place p) {
  return p == place::object_plain || p == place::object_timer ||
         p == place::object_ask || p == place::serve_plain ||
         p == place::serve_timer || p == place::serve_ask ||
         p == place::serve_timeout;
}
bool serves(place p) {
  return resumable(p) || p == place::serve_concurrent ||
         p == place::own_policy_in_handler_of_serve;
}
bool concurrent(place p) {
  return p == place::receive_concurrent || p == place::serve_concurrent ||
         p == place::injected_beside_handlers;
}
/// Its handlers are coroutines.
bool awaits(place p) {
  switch (p) {
    case place::receive_timer:
    case place::serve_timer:
    case place::receive_ask:
    case place::serve_ask:
    case place::object_timer:
    case place::object_ask:
    case place::child_task_beside_handler:
    case place::object_child_task_beside_handler:
    case place::own_child_beside_handler:
    case place::own_policy_in_handler_of_serve:
    case place::injected_in_handler:
      return true;
    default:
      return concurrent(p);
  }
}
/// The message that it is about, or that made it fail the first time, is in
/// hand when it fails.
bool in_hand(place p) {
  return (awaits(p) || in_restart(p) || p == place::receive_plain ||
          p == place::serve_plain || p == place::object_plain ||
          p == place::body_with_message);
}
/// Of several in hand none is the one that it is about.
bool names_message(place p) {
  return in_hand(p) && p != place::injected_beside_handlers;
}
/// Of the last failure: those in a start are about no message.
bool about_message(place p) { return names_message(p) && !in_restart(p); }
/// The test makes it fail.
bool injected(place p) {
  return p == place::injected || p == place::injected_in_handler ||
         p == place::injected_beside_handlers;
}
/// What is told after the message that makes it fail is handled before it
/// does: the message has ended, or is handled beside others.
bool others_first(place p) {
  return concurrent(p) || p == place::receive_timeout ||
         p == place::serve_timeout || p == place::child_task ||
         p == place::object_child_task || p == place::own_child ||
         p == place::own_policy || p == place::injected;
}
bool has_child(place p) {
  return p == place::own_child || p == place::own_child_beside_handler ||
         p == place::own_policy || p == place::own_policy_in_handler_of_serve;
}
bool policy_throws(place p) {
  return p == place::own_policy || p == place::own_policy_in_handler_of_serve;
}

// --- the actors --------------------------------------------------------------

/// What fails in the table.
struct fault : std::runtime_error {
  fault() : runtime_error{"fault"} {}
};
/// What fails before it, for the sake of a restart.
struct prelude : std::runtime_error {
  prelude() : runtime_error{"prelude"} {}
};
struct policy_bug : std::runtime_error {
  policy_bug() : runtime_error{"policy_bug"} {}
};

struct note {
  int value;
};
struct answer {
  int incarnation = 0;
  int sum = 0;
};
struct state {
  using reply_type = answer;
};
/// Both make it fail; their handlers take one by reference, one by value.
struct kept {
  using reply_type = int;
  explicit kept(std::atomic<int>& alive) : counts{alive} {}
  counted counts;
};
struct moved {
  using reply_type = int;
  explicit moved(std::atomic<int>& alive) : counts{alive} {}
  counted counts;
};
struct hit {};
struct ping {
  using reply_type = int;
};

using child_self = context<note, state, kept, moved>;
using child_ref = actors::actor_ref<note, state, kept, moved>;

/// How an ask has ended.
struct outcome {
  bool ended = false;
  std::error_code error;
  answer value;
  actors::time_point at;
};

struct happening {
  std::string who;
  lifecycle_event event;
  actors::time_point at;
};

struct told_end {
  std::string who;
  exit_reason why;
  int alive;
};

/// One cell of the table, in one seed.
struct world {
  world(place p, plan s, choice c) : at{p}, strategy{s}, what{c} {}

  place at;
  plan strategy;
  choice what;
  simulation* sim = nullptr;
  /// Faults that are still to be thrown.
  int trips = 1;
  bool armed = false;
  bool preluded = false;
  int supervisors = 0;
  /// Objects that went without a last word.
  int silent = 0;
  std::atomic<int> alive{0};
  std::map<std::string, int> live;
  std::map<std::string, int> born;
  int most_live = 0;
  /// By name, value and incarnation.
  std::vector<std::tuple<std::string, int, int>> notes;
  std::map<std::string, std::vector<child_ref>> refs;
  std::vector<happening> events;
  std::vector<dead_letter> letters;
  std::vector<told_end> ends;
  std::vector<std::string> policy_saw;
  /// Who goes down and up.
  std::vector<std::string> order;
  actors::actor_ref<ping> echo;
  outcome asked, pending, of_a, of_c;

  bool trip() {
    if (trips == 0) return false;
    --trips;
    return true;
  }
  /// What the handler of the message does.
  int strike() {
    if (in_restart(at)) {
      if (!std::exchange(preluded, true)) throw prelude{};
    } else if (trip()) {
      throw fault{};
    }
    return 1;
  }
};

class incarnation {
 public:
  incarnation(world& w, std::string name)
      : world_{w}, name_{std::move(name)}, counts_{w.alive} {
    number = ++world_.born[name_];
    world_.most_live = std::max(world_.most_live, ++world_.live[name_]);
    say(" up", "acboss");
  }
  incarnation(const incarnation&) = delete;
  incarnation& operator=(const incarnation&) = delete;
  ~incarnation() {
    --world_.live[name_];
    say(" down", "ac");
  }

  int number;

 private:
  /// b may fail before its body begins; see there.
  void say(const char* what, const char* of) {
    if (support::contains(of, name_) && name_ != "b")
      world_.order.push_back(name_ + what);
  }

  world& world_;
  std::string name_;
  counted counts_;
};

/// An argument that cannot be copied when the world says so.
class fragile {
 public:
  explicit fragile(world* w) : world_{w} {}
  fragile(fragile&&) noexcept = default;
  fragile& operator=(fragile&&) = delete;
  fragile(const fragile& other) : world_{other.world_} {
    world& w = *world_;
    if (w.at == place::copy_again && w.born["b"] > 0 && w.trip()) throw fault{};
  }

 private:
  world* world_;
};

task<> grandchild(context<hit> self, world* w) {
  const incarnation here{*w, "d"};
  const auto on_hit = [w](hit) {
    if (w->trip()) throw fault{};
  };
  while (co_await self.receive(on_hit)) {
  }
}

task<> bad_policy(failures failures) {
  const auto failure = co_await failures.next();
  if (failure) throw policy_bug{};
}

task<> failing_task(context<> self, world* w) {
  const counted frame{w->alive};
  co_await self.sleep_for(1ms);
  if (w->trip()) throw fault{};
}

/// What a handler awaits.
task<int> act(context<>& self, world* w, actors::actor_ref<hit> child) {
  const counted frame{w->alive};
  switch (w->at) {
    case place::receive_ask:
    case place::serve_ask:
    case place::object_ask:
      (void)co_await w->echo.ask<ping>();
      break;
    case place::child_task_beside_handler:
    case place::object_child_task_beside_handler:
      (void)self.spawn_task(failing_task, w);
      co_await self.sleep_for(10ms);
      break;
    case place::own_child_beside_handler:
    case place::own_policy_in_handler_of_serve:
      child.tell(hit{});
      co_await self.sleep_for(10ms);
      break;
    case place::injected_in_handler:
    case place::injected_beside_handlers:
      co_await self.sleep_for(10ms);
      break;
    default:
      co_await self.sleep_for(1ms);
      break;
  }
  co_return w->strike();
}

/// What a handler does that awaits nothing.
int act_plainly(context<>& self, world* w, actors::actor_ref<hit> child) {
  switch (w->at) {
    case place::body:
    case place::receive_timeout:
    case place::serve_timeout:
      w->armed = true;
      return 1;
    case place::child_task:
    case place::object_child_task:
      (void)self.spawn_task(failing_task, w);
      return 1;
    case place::own_child:
    case place::own_policy:
      child.tell(hit{});
      return 1;
    case place::injected:
      return 1;
    default:
      return w->strike();
  }
}

task<> faulty_body(child_self self, world* w) {
  const incarnation here{*w, "b"};
  const int number = here.number;
  int sum = 0;
  const bool again = number > 1;
  if (w->at == place::before_ready ||
      (w->at == place::before_ready_again && again)) {
    if (w->trip()) throw fault{};
  }
  if (w->at == place::before_ready_after_timer ||
      (w->at == place::before_ready_after_timer_again && again)) {
    co_await self.sleep_for(1ms);
    if (w->trip()) throw fault{};
  }
  actors::actor_ref<hit> child;
  if (has_child(w->at)) {
    if (policy_throws(w->at))
      self.supervise(bad_policy);
    else
      self.supervise(
          actors::one_for_one{.decide = {on<fault>(directive::escalate)}});
    child = self.spawn({.name = "d"}, grandchild, w);
    if (w->trips != 0) w->sim->expect_failure<fault>(child);
  }

  const auto on_note = [&](note n) {
    sum += n.value;
    w->notes.emplace_back("b", n.value, number);
  };
  const auto on_state = [&](state) { return answer{number, sum}; };
  const auto plain_kept = [&](const kept&) {
    return act_plainly(self, w, child);
  };
  const auto plain_moved = [&](moved) { return act_plainly(self, w, child); };
  const auto task_kept = [&](const kept&) -> task<int> {
    const counted frame{w->alive};
    co_return co_await act(self, w, child);
  };
  const auto task_moved = [&](moved) -> task<int> {
    const counted frame{w->alive};
    co_return co_await act(self, w, child);
  };
  const auto beside_kept = actors::concurrent(task_kept);
  const auto beside_moved = actors::concurrent(task_moved);
  const auto on_time = [&] {
    if (std::exchange(w->armed, false) && w->trip()) throw fault{};
  };

  const bool loop = serves(w->at);
  if (w->at == place::body_with_message) {
    while (auto m = co_await self.receive()) {
      if (auto* n = std::get_if<note>(&*m)) {
        on_note(*n);
      } else if (std::holds_alternative<state>(*m)) {
        self.reply(answer{number, sum});
      } else if (w->trip()) {
        throw fault{};
      }
    }
  } else if (concurrent(w->at)) {
    if (loop)
      co_await self.serve(on_note, on_state, beside_kept, beside_moved);
    else
      while (
          co_await self.receive(on_note, on_state, beside_kept, beside_moved)) {
      }
  } else if (awaits(w->at)) {
    if (loop)
      co_await self.serve(on_note, on_state, task_kept, task_moved);
    else
      while (co_await self.receive(on_note, on_state, task_kept, task_moved)) {
      }
  } else if (w->at == place::receive_timeout) {
    auto late = actors::after(400ms, on_time);
    while (co_await self.receive(on_note, on_state, plain_kept, plain_moved,
                                 late)) {
    }
  } else if (w->at == place::serve_timeout) {
    auto late = actors::after(400ms, on_time);
    co_await self.serve(on_note, on_state, plain_kept, plain_moved, late);
  } else if (loop) {
    co_await self.serve(on_note, on_state, plain_kept, plain_moved);
  } else {
    while (co_await self.receive(on_note, on_state, plain_kept, plain_moved)) {
      if (w->at == place::body && std::exchange(w->armed, false) && w->trip())
        throw fault{};
    }
  }
}

/// The same as an object. It is there for its last word, unless it has failed
/// in its start.
template <bool Awaits>
class faulty_object : public actors::actor<note, state, kept, moved> {
 public:
  faulty_object(world* w, fragile) : world_{w}, here_{*w, "b"} {
    if (w->at == place::object_constructor ||
        (w->at == place::object_constructor_again && again()))
      throw_once();
  }
  ~faulty_object() {
    if (started_ && !spoken_) ++world_->silent;
  }

  void receive(note n) {
    sum_ += n.value;
    world_->notes.emplace_back("b", n.value, here_.number);
  }
  answer receive(state) { return {here_.number, sum_}; }
  auto receive(const kept&) { return strike(); }
  auto receive(moved) { return strike(); }

  void post_restart(std::exception_ptr e) {
    CHECK(again());
    // Those that go down with it have not failed.
    CHECK((!e ||
           support::contains("fault prelude", support::message_of_error(e))));
    if (world_->at == place::object_post_restart) throw_once();
  }
  task<> pre_start() {
    if (world_->at == place::object_pre_start ||
        (world_->at == place::object_pre_start_again && again())) {
      co_await self().sleep_for(1ms);
      throw_once();
    }
    started_ = true;
  }
  void pre_restart(std::exception_ptr) { spoken_ = true; }
  void post_stop() { spoken_ = true; }

 private:
  bool again() const { return here_.number > 1; }
  void throw_once() {
    if (world_->trip()) throw fault{};
  }
  auto strike() {
    if constexpr (Awaits)
      return strike_later();
    else
      return act_plainly(self(), world_, {});
  }
  task<int> strike_later() {
    const counted frame{world_->alive};
    co_return co_await act(self(), world_, {});
  }

  world* world_;
  incarnation here_;
  int sum_ = 0;
  bool started_ = false;
  bool spoken_ = false;
};

/// No coroutine.
task<> faulty(child_self self, world* w, fragile) {
  const bool now = w->at == place::factory ||
                   (w->at == place::factory_again && w->born["b"] > 0);
  if (now && w->trip()) throw fault{};
  return faulty_body(std::move(self), w);
}

task<> sibling(child_self self, world* w, std::string name) {
  const incarnation here{*w, name};
  int sum = 0;
  const auto on_note = [&](note n) {
    sum += n.value;
    w->notes.emplace_back(name, n.value, here.number);
  };
  const auto on_state = [&](state) { return answer{here.number, sum}; };
  const auto on_kept = [](const kept&) { return 0; };
  const auto on_moved = [](const moved&) { return 0; };
  while (co_await self.receive(on_note, on_state, on_kept, on_moved)) {
  }
}

task<> echo(context<ping> self) {
  const auto on_ping = [](ping) { return 1; };
  while (co_await self.receive(on_ping)) {
  }
}

task<> ask_state(context<> self, child_ref whom, outcome* to) {
  try {
    to->value = co_await whom.ask<state>();
  } catch (const std::system_error& e) {
    to->error = e.code();
  }
  to->at = self.now();
  to->ended = true;
}

task<> ask_to_fail(context<> self, world* w, child_ref whom, bool by_value) {
  try {
    if (by_value)
      (void)co_await whom.ask<moved>(w->alive);
    else
      (void)co_await whom.ask<kept>(w->alive);
  } catch (const std::system_error& e) {
    w->asked.error = e.code();
  }
  w->asked.at = self.now();
  w->asked.ended = true;
}

task<> watcher(context<actors::ended> self, world* w, any_actor_ref whom) {
  self.watch(whom);
  const auto on_end = [w](const actors::ended& e) {
    w->ends.push_back({e.who.path(), e.why, w->live["b"]});
  };
  while (co_await self.receive(on_end)) {
  }
}

/// A policy that does as it is told, and says what it was given.
struct by_hand {
  world* w;

  task<> operator()(failures failures) const {
    const auto all = [](const any_actor_ref&) { return true; };
    while (auto failure = co_await failures.next()) {
      std::string saw = failure->is<fault>()     ? "fault"
                        : failure->is<prelude>() ? "prelude"
                                                 : "?";
      if (failure->is<actors::initialization_error>()) saw += " initial";
      if (failure->resumable()) saw += " resumable";
      if (failure->message_type()) saw += " message";
      saw += " " + std::to_string(failure->count(10s));
      w->policy_saw.push_back(saw);
      CHECK(failure->child() == w->refs["b"].back());
      CHECK(failure->restartable());
      const auto siblings = failure->siblings();
      CHECK(std::count_if(siblings.begin(), siblings.end(), all) ==
            static_cast<std::ptrdiff_t>(siblings.size()));
      if (failure->is<prelude>()) {
        restart(*failure);
        continue;
      }
      switch (w->what) {
        case choice::restart:
        case choice::by_default:
          restart(*failure);
          break;
        case choice::resume:
          failure->resume();
          break;
        case choice::stop:
          failure->stop();
          break;
        case choice::escalate:
          failure->escalate();
          break;
      }
    }
  }

  void restart(actors::failure& failure) const {
    if (w->strategy == plan::hand_group)
      failure.restart(failure.siblings());
    else
      failure.restart();
  }
};

template <class Strategy>
void supervise_by(context<>& self, choice what) {
  Strategy s;
  switch (what) {
    case choice::restart:
      s.decide = {on<fault>(directive::restart)};
      break;
    case choice::resume:
      s.decide = {on<fault>(directive::resume)};
      break;
    case choice::stop:
      s.decide = {on<fault>(directive::stop)};
      break;
    case choice::escalate:
      s.decide = {on<fault>(directive::escalate)};
      break;
    case choice::by_default:
      break;
  }
  self.supervise(s);
}

task<> boss(context<> self, world* w) {
  const incarnation here{*w, "boss"};
  const bool first = ++w->supervisors == 1;
  switch (w->strategy) {
    case plan::one_for_one:
      supervise_by<actors::one_for_one>(self, w->what);
      break;
    case plan::one_for_all:
      supervise_by<actors::one_for_all>(self, w->what);
      break;
    case plan::rest_for_one:
      supervise_by<actors::rest_for_one>(self, w->what);
      break;
    case plan::by_hand:
    case plan::hand_group:
      self.supervise(by_hand{w});
      break;
  }
  const auto a = self.spawn({.name = "a"}, sibling, w, std::string{"a"});
  w->refs["a"].push_back(a);
  co_await a.started();
  child_ref b;
  if (!object(w->at))
    b = self.spawn({.name = "b"}, faulty, w, fragile{w});
  else if (awaits(w->at))
    b = self.spawn<faulty_object<true>>({.name = "b"}, w, fragile{w});
  else
    b = self.spawn<faulty_object<false>>({.name = "b"}, w, fragile{w});
  w->refs["b"].push_back(b);
  if (first) {
    if (in_restart(w->at)) w->sim->expect_failure<prelude>(b);
    w->sim->expect_failure<fault>(b);
    b.tell(note{1});
    (void)self.system().spawn(watcher, w, any_actor_ref{b});
    if (at_first_start(w->at))
      (void)self.system().spawn_once(ask_state, b, &w->pending);
  }
  w->refs["c"].push_back(
      self.spawn({.name = "c"}, sibling, w, std::string{"c"}));
  co_await self.until_stop();
}

// --- what is expected --------------------------------------------------------

/// What the directive comes to there.
choice effective(const world& w) {
  if (w.what == choice::by_default)
    return at_first_start(w.at) ? choice::stop : choice::restart;
  if (w.what == choice::resume)
    return resumable(w.at) ? choice::resume : choice::restart;
  return w.what;
}

/// Who is restarted with b.
std::string group_of(const world& w, bool for_prelude) {
  switch (w.strategy) {
    case plan::one_for_one:
    case plan::by_hand:
      return "b";
    case plan::one_for_all:
      return "abc";
    case plan::rest_for_one:
      return "bc";
    case plan::hand_group:
      // By hand `resume` says nothing of the others.
      return for_prelude || w.what != choice::resume ? "abc" : "b";
  }
  return "";
}

bool in(const std::string& group, const char* who) {
  return support::contains(group, who);
}

using lines = std::vector<std::string>;
using kind = lifecycle_event::kind;

std::string in_short(const happening& h) {
  const lifecycle_event& e = h.event;
  switch (e.what) {
    case kind::started:
      return "started";
    case kind::restarted:
      return "restarted " + std::to_string(e.restarts);
    case kind::failed: {
      std::string text = "failed " + support::message_of_error(e.error) + ", ";
      text += to_string(e.decision);
      if (e.instead_of_resume) text += " instead of resume";
      return text;
    }
    case kind::stopped:
      return "stopped " + support::message_of_error(e.why.error());
    default:
      return std::string{to_string(e.what)};
  }
}

lines events_of(const world& w, const std::string& path) {
  lines all;
  for (const happening& h : w.events)
    if (h.who == path && h.event.what != kind::dead_letter)
      all.push_back(in_short(h));
  return all;
}

lines expected_of_b(const world& w) {
  lines all{"started"};
  int restarts = 0;
  const auto restarted = [&] {
    all.push_back("restarted " + std::to_string(++restarts));
  };
  if (in_restart(w.at)) {
    all.push_back("failed prelude, restart");
    restarted();
  }
  switch (effective(w)) {
    case choice::restart:
      all.push_back(w.what == choice::resume
                        ? "failed fault, restart instead of resume"
                        : "failed fault, restart");
      restarted();
      break;
    case choice::resume:
      all.push_back("failed fault, resume");
      break;
    case choice::stop:
      all.push_back("failed fault, stop");
      all.push_back("stopped fault");
      break;
    default:
      all.push_back("failed fault, escalate");
      all.push_back("stopped fault");
      all.push_back("started");
      break;
  }
  return all;
}

/// How often a sibling was restarted by the prelude and the fault.
int restarts_of(const world& w, const char* who) {
  int n = in_restart(w.at) && in(group_of(w, true), who) ? 1 : 0;
  if (effective(w) == choice::restart && in(group_of(w, false), who)) ++n;
  // c was down when b failed again, and is started once.
  if (n == 2 && *who == 'c') n = 1;
  return n;
}

/// The order in which who goes down and up, b's falls left out: a failed
/// incarnation has gone before.
lines expected_order(const world& w) {
  lines all;
  const auto falls = [&](const std::string& group, bool c_is_up) {
    if (in(group, "c") && c_is_up) all.push_back("c down");
    if (in(group, "a")) all.push_back("a down");
  };
  if (in_restart(w.at)) {
    const std::string first = group_of(w, true);
    falls(first, true);
    if (in(first, "a")) all.push_back("a up");
    all.push_back("b up");
    const std::string second = group_of(w, false);
    const bool c_is_up = !in(first, "c");
    switch (effective(w)) {
      case choice::restart:
        // If the second group leaves c out, that of before goes on with it.
        falls(second, c_is_up);
        if (in(second, "a")) all.push_back("a up");
        all.push_back("b up");
        if (in(second, "c") || !c_is_up) all.push_back("c up");
        return all;
      case choice::stop:
        if (!c_is_up) all.push_back("c up");
        return all;
      default:
        if (c_is_up) all.push_back("c down");
        all.push_back("a down");
        break;
    }
  } else if (effective(w) == choice::restart) {
    const std::string group = group_of(w, false);
    falls(group, true);
    for (const char* who : {"a", "b", "c"})
      if (in(group, who)) all.push_back(std::string{who} + " up");
    return all;
  } else if (effective(w) == choice::escalate) {
    all.push_back("c down");
    all.push_back("a down");
  }
  if (effective(w) == choice::escalate) {
    for (const char* who : {"boss", "a", "c"})
      all.push_back(std::string{who} + " up");
  }
  return all;
}

// --- one cell ----------------------------------------------------------------

std::string say(const world& w) {
  std::string text;
  for (const happening& h : w.events)
    text += "\n    " + h.who + ": " + in_short(h);
  return text;
}

bool name_is(const dead_letter& d, bool by_value) {
  return *d.type == (by_value ? typeid(moved) : typeid(kept));
}

/// `variant`: bit 0, whether the message is told or asked; bit 1, whether it
/// is taken by value.
void run_cell(world& w, std::uint64_t seed) {
  const bool told = seed % 2 == 0;
  const bool by_value = seed / 2 % 2 == 0;
  const bool first_start = at_first_start(w.at);
  const choice what = effective(w);
  {
    simulation sim{seed};
    w.sim = &sim;
    const auto on_event = [&](const lifecycle_event& e) {
      if (e.what == kind::restarted && e.who.path() == "/user/boss/b")
        w.order.push_back("b up");
      if (e.letter) w.letters.push_back(*e.letter);
      happening h{e.who.path(), e, sim.now()};
      h.event.letter.reset();
      w.events.push_back(std::move(h));
    };
    (void)sim.system().on_event(on_event);
    w.echo = sim.spawn({.name = "echo"}, echo);
    const auto sender = sim.spawn({.name = "sender"}, echo);
    const auto top = sim.spawn({.name = "boss"}, boss, &w);
    if (what == choice::escalate) sim.expect_failure<fault>(top);
    if (first_start)
      sim.advance(1s);
    else
      sim.run_until_idle();

    const child_ref a = w.refs["a"].front();
    const child_ref b = w.refs["b"].front();
    const child_ref c = w.refs["c"].empty() ? child_ref{} : w.refs["c"].front();
    any_actor_ref asker;
    if (!first_start) {
      w.order.clear();
      a.tell(note{1});
      c.tell(note{1});
      if (!told)
        asker = sim.spawn({.name = "asker"}, ask_to_fail, &w, b, by_value);
      else if (by_value)
        b.tell(moved{w.alive}, sender);
      else
        b.tell(kept{w.alive}, sender);
      // Only now, behind the message: from another sender it might come first.
      if (told) b.tell(note{2});
      (void)sim.spawn(ask_state, b, &w.pending);
      (void)sim.spawn(ask_state, a, &w.of_a);
      (void)sim.spawn(ask_state, c, &w.of_c);
      if (injected(w.at)) {
        sim.run_until_idle();
        CHECK(w.trip());
        sim.inject(b, fault{});
      }
      sim.advance(1s);
    }
    INFO(say(w));
    REQUIRE(w.trips == 0);

    // Who was started how often, and what was said of it.
    const std::string at = "/user/boss/";
    const lines of_b = events_of(w, at + "b");
    CHECK(of_b == expected_of_b(w));
    if (what == choice::escalate) {
      const lines of_boss = events_of(w, "/user/boss");
      CHECK(of_boss ==
            lines{"started", "failed fault, restart", "restarted 1"});
      CHECK(w.refs["b"].size() == 2);
    } else {
      CHECK(events_of(w, "/user/boss") == lines{"started"});
      CHECK(w.refs["b"].size() == 1);
      for (const char* who : {"a", "c"}) {
        const lines of = events_of(w, at + who);
        CHECK(std::count(of.begin(), of.end(), "started") == 1);
        // One that has not begun yet is started, and not restarted.
        const int events = static_cast<int>(of.size());
        const int all = 1 + restarts_of(w, who);
        const bool may_begin_late = first_start && *who == 'c';
        CHECK((events == all || (may_begin_late && events == 1)));
        CHECK(w.live[who] == 1);
      }
    }
    CHECK(w.most_live == 1);
    CHECK(w.live["boss"] == 1);
    CHECK(w.live["b"] == (what == choice::stop ? 0 : 1));
    CHECK(w.refs["b"].back().path() == "/user/boss/b");

    // In which order; before the trouble nobody promises one.
    if (!first_start) CHECK(w.order == expected_order(w));

    // What is said of the failure.
    const auto failed =
        std::find_if(w.events.begin(), w.events.end(), [&](const happening& h) {
          return h.who == at + "b" && h.event.what == kind::failed;
        });
    REQUIRE(failed != w.events.end());
    const std::type_info* const type = failed->event.message;
    CHECK((type != nullptr) == names_message(w.at));
    if (type) CHECK(*type == (by_value ? typeid(moved) : typeid(kept)));

    // The asker of the failing message is told at once, and nobody else is.
    if (!first_start && !told) {
      CHECK(w.asked.ended);
      if (in_hand(w.at)) {
        CHECK(w.asked.error == errc::actor_failed);
        CHECK(w.asked.at == failed->at);
      } else {
        CHECK(!w.asked.error);
      }
    }
    CHECK(w.pending.ended);
    const bool ends = what == choice::stop || what == choice::escalate;
    if (w.pending.error) {
      CHECK(ends);
      CHECK(w.pending.error == errc::actor_stopped);
    } else if (first_start) {
      CHECK(!ends);
    }
    if (!first_start) {
      CHECK(w.of_a.ended);
      CHECK(w.of_c.ended);
      if (what != choice::escalate) {
        CHECK(!w.of_a.error);
        CHECK(!w.of_c.error);
      }
    }

    // Messages: each handled once, by the right incarnation, or a dead letter.
    const auto handled = [&](const char* who, int value) {
      lines by;
      for (const auto& [name, v, number] : w.notes)
        if (name == who && v == value) by.push_back(std::to_string(number));
      return by;
    };
    const auto undelivered = [&](const any_actor_ref& to) {
      return std::count_if(
          w.letters.begin(), w.letters.end(), [&](const dead_letter& d) {
            return *d.type == typeid(note) && d.recipient == to &&
                   d.why == dead_letter::reason::actor_stopped;
          });
    };
    const int last = w.born["b"];
    std::ptrdiff_t left = 0;
    if (first_start) {
      if (ends) {
        CHECK(handled("b", 1).empty());
        ++left;
      } else {
        CHECK(handled("b", 1) == lines{std::to_string(last)});
      }
    } else {
      CHECK(handled("b", 1) == lines{"1"});
      if (told) {
        if (others_first(w.at)) {
          CHECK(handled("b", 2) == lines{"1"});
        } else if (ends) {
          CHECK(handled("b", 2).empty());
          ++left;
        } else {
          CHECK(handled("b", 2) == lines{std::to_string(last)});
        }
      }
      if (what != choice::escalate) {
        CHECK(handled("a", 1).size() == 1);
        CHECK(handled("c", 1).size() == 1);
      }
    }
    CHECK(undelivered(b) == left);

    // The failing message.
    std::vector<dead_letter> failing;
    for (const dead_letter& d : w.letters)
      if (d.why == dead_letter::reason::failed && *d.type != typeid(hit))
        failing.push_back(d);
    CHECK(failing.size() == (in_hand(w.at) ? 1 : 0));
    for (const dead_letter& d : failing) {
      CHECK(name_is(d, by_value));
      CHECK(d.recipient == b);
      if (told)
        CHECK(d.sender == sender);
      else
        CHECK(d.sender == asker);
      const bool there =
          by_value ? d.get<moved>() != nullptr : d.get<kept>() != nullptr;
      CHECK(there == (!by_value && w.at != place::body_with_message));
    }
    failing.clear();
    w.letters.clear();

    // What it is like afterwards.
    outcome now;
    (void)sim.spawn(ask_state, b, &now);
    sim.run_until_idle();
    b.tell(note{4});
    sim.run_until_idle();
    CHECK(now.ended);
    if (ends) {
      CHECK(now.error == errc::actor_stopped);
      CHECK(w.letters.size() == 1);
      const auto why = sim.run(b.stopped());
      CHECK(why == exit_reason::failed);
      CHECK(support::message_of_error(why.error()) == "fault");
      REQUIRE(w.ends.size() == 1);
      CHECK(w.ends[0].who == "/user/boss/b");
      CHECK(w.ends[0].why == exit_reason::failed);
      if (what == choice::stop) CHECK(w.ends[0].alive == 0);
    } else {
      CHECK(!now.error);
      CHECK(now.value.incarnation == last);
      CHECK(w.letters.empty());
      CHECK(w.ends.empty());
      CHECK(handled("b", 4).size() == 1);
    }
    if (first_start && ends)
      CHECK_THROWS_AS(sim.run(b.started()), fault);
    else
      CHECK_NOTHROW(sim.run(b.started()));
    if (what == choice::escalate) {
      outcome fresh;
      (void)sim.spawn(ask_state, w.refs["b"].back(), &fresh);
      sim.run_until_idle();
      CHECK(fresh.ended);
      CHECK(!fresh.error);
      CHECK(fresh.value.sum == 0);
      CHECK(fresh.value.incarnation == last);
      for (const char* who : {"a", "c"})
        if (w.refs[who].size() == 2) {
          const auto why = sim.run(w.refs[who].front().stopped());
          CHECK((why == exit_reason::normal || why == exit_reason::killed));
        }
    } else if (what == choice::resume) {
      CHECK(last == 1);
      CHECK(now.value.sum == 1 + (told ? 2 : 0));
    } else if (what == choice::restart) {
      // State does not survive: what this incarnation has handled, no more.
      int sum = 0;
      for (const auto& [name, value, number] : w.notes)
        if (name == "b" && number == last && value != 4) sum += value;
      CHECK(now.value.sum == sum);
    }
    if (w.strategy == plan::by_hand || w.strategy == plan::hand_group) {
      lines saw;
      if (in_restart(w.at))
        saw.push_back(object(w.at) ? "prelude resumable message 1"
                                   : "prelude message 1");
      std::string text = "fault";
      if (first_start) text += " initial";
      if (resumable(w.at)) text += " resumable";
      if (about_message(w.at)) text += " message";
      saw.push_back(text + (in_restart(w.at) ? " 2" : " 1"));
      CHECK(w.policy_saw == saw);
    }
    sim.check();
    sim.terminate();
    w.events.clear();
  }
  CHECK(w.alive == 0);
  CHECK(w.silent == 0);
  for (const auto& [name, live] : w.live) CHECK(live == 0);
}

void run_table(plan strategy, int seeds = support::sanitized ? 3 : 10) {
  for (int p = 0; p != static_cast<int>(place::end_of_list); ++p) {
    for (const choice what : choices) {
      const bool hand =
          strategy == plan::by_hand || strategy == plan::hand_group;
      if (what == choice::by_default && hand) continue;
      for (int seed = 1; seed <= seeds; ++seed) {
        world w{static_cast<place>(p), strategy, what};
        INFO("at: " << std::string{place_names[static_cast<std::size_t>(p)]}
                    << ", directive " << static_cast<int>(what) << ", seed "
                    << seed);
        run_cell(w, static_cast<std::uint64_t>(seed));
      }
    }
  }
}

}  // namespace

TEST_SUITE("faults") {
  TEST_CASE("every fault under one_for_one") { run_table(plan::one_for_one); }
  TEST_CASE("every fault under one_for_all") { run_table(plan::one_for_all); }
  TEST_CASE("every fault under rest_for_one") { run_table(plan::rest_for_one); }
  TEST_CASE("every fault under a policy by hand") { run_table(plan::by_hand); }
  TEST_CASE("every fault under a policy by hand that restarts all") {
    run_table(plan::hand_group);
  }
}
