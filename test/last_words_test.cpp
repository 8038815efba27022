// The table of faults goes on: a throw in the hooks that an object has at its
// end, `pre_restart` and `post_stop`, x directive x strategy. A last word that
// fails is reported, and changes nothing.
#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "actors/actors.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::context;
using actors::directive;
using actors::exit_reason;
using actors::failures;
using actors::on;
using actors::simulation;
using actors::task;

struct fault : std::runtime_error {
  fault() : runtime_error{"fault"} {}
};
struct bad_word : std::runtime_error {
  bad_word() : runtime_error{"bad word"} {}
};
struct crash {};
struct number {
  using reply_type = int;  // of its incarnation
};
using object_ref = actor_ref<crash, number>;

enum class hook { pre_restart, post_stop };
enum class plan { one_for_one, one_for_all, rest_for_one, by_hand, hand_group };
enum class choice { restart, resume, stop, escalate, by_default };

constexpr std::array plans{plan::one_for_one, plan::one_for_all,
                           plan::rest_for_one, plan::by_hand, plan::hand_group};
constexpr std::array choices{choice::restart, choice::resume, choice::stop,
                             choice::escalate, choice::by_default};

constexpr std::size_t count = 3;

/// One cell of the table.
struct world {
  hook at;
  bool awaits;
  plan strategy;
  choice what;
  std::array<object_ref, count> refs = {};
  std::array<int, count> born = {};
  std::array<int, count> alive = {};
  /// How often its hook has thrown.
  std::array<int, count> thrown = {};

  bool restarts() const {
    return what == choice::restart || what == choice::by_default;
  }
  /// Whether actor `i` is restarted when the second one fails.
  bool restarted(std::size_t i) const {
    if (!restarts()) return false;
    switch (strategy) {
      case plan::one_for_one:
      case plan::by_hand:
        return i == 1;
      case plan::rest_for_one:
        return i >= 1;
      default:
        return true;
    }
  }
};

class speaker : public actors::actor<crash, number> {
 public:
  speaker(world* w, std::size_t me) : world_{w}, me_{me} {
    ++w->born[me];
    ++w->alive[me];
  }
  ~speaker() { --world_->alive[me_]; }

  void receive(crash) { throw fault{}; }
  int receive(number) { return world_->born[me_]; }

  task<> pre_restart(std::exception_ptr) { return speak(hook::pre_restart); }
  void post_restart(std::exception_ptr e) {
    // Of those that go down with it nothing is told, whatever their own last
    // words were.
    CHECK(support::contains(support::message_of_error(e), "fault") ==
          (me_ == 1));
    CHECK(bool(e) == (me_ == 1));
  }
  task<> post_stop() { return speak(hook::post_stop); }

 private:
  task<> speak(hook which) {
    if (world_->at != which) co_return;
    if (world_->awaits) co_await self().sleep_for(10ms);
    ++world_->thrown[me_];
    throw bad_word{};
  }

  world* world_;
  std::size_t me_;
};

directive directive_of(choice what) {
  switch (what) {
    case choice::resume:
      return directive::resume;
    case choice::stop:
      return directive::stop;
    case choice::escalate:
      return directive::escalate;
    default:
      return directive::restart;
  }
}

task<> decide(failures failures, world* w) {
  while (auto failure = co_await failures.next()) {
    switch (w->what) {
      case choice::resume:
        failure->resume();
        break;
      case choice::stop:
        failure->stop();
        break;
      case choice::escalate:
        failure->escalate();
        break;
      default:
        if (w->strategy == plan::hand_group)
          failure->restart(failure->siblings());
        else
          failure->restart();
    }
  }
}

template <class Strategy>
void supervise(context<>& self, const world& w) {
  Strategy s{};
  if (w.what != choice::by_default)
    s.decide = {on<fault>(directive_of(w.what))};
  self.supervise(s);
}

task<> boss(context<> self, world* w) {
  switch (w->strategy) {
    case plan::one_for_one:
      supervise<actors::one_for_one>(self, *w);
      break;
    case plan::one_for_all:
      supervise<actors::one_for_all>(self, *w);
      break;
    case plan::rest_for_one:
      supervise<actors::rest_for_one>(self, *w);
      break;
    default:
      self.supervise([w](failures f) { return decide(std::move(f), w); });
  }
  for (std::size_t i = 0; i != count; ++i)
    w->refs[i] = self.spawn<speaker>(w, i);
  co_await self.until_stop();
}

void run_cell(world w, std::uint64_t seed) {
  const bool post = w.at == hook::post_stop;
  simulation sim{seed};
  const auto top =
      sim.spawn({.restart = actors::restart_policy::never}, boss, &w);
  sim.run_until_idle();

  // What is to fail, and how often: each has one last word, in its restart or
  // at its end.
  sim.expect_failure<fault>(w.refs[1]);
  if (w.what == choice::escalate) sim.expect_failure<fault>(top);
  for (std::size_t i = 0; i != count; ++i)
    if (post || w.restarted(i)) sim.expect_failure<bad_word>(w.refs[i]);

  w.refs[1].tell(crash{});
  sim.advance(1s);
  for (std::size_t i = 0; i != count; ++i) {
    const bool ended =
        w.what == choice::escalate || (w.what == choice::stop && i == 1);
    CHECK(w.born[i] == (w.restarted(i) ? 2 : 1));
    CHECK(w.alive[i] == (ended ? 0 : 1));
    if (!ended) {
      CHECK(sim.run(w.refs[i].ask<number>()) == w.born[i]);
      continue;
    }
    const exit_reason why = sim.run(w.refs[i].stopped());
    CHECK(why == (i == 1 || post ? exit_reason::failed : exit_reason::normal));
    // The first failure is the one that it has ended by.
    if (i == 1)
      CHECK(support::contains(support::message_of_error(why.error()), "fault"));
  }
  top.stop();
  CHECK(
      sim.run(top.stopped()) ==
      (w.what == choice::escalate ? exit_reason::failed : exit_reason::normal));
  sim.check();
  for (std::size_t i = 0; i != count; ++i) {
    CHECK(w.alive[i] == 0);
    CHECK(w.thrown[i] == (post || w.restarted(i) ? 1 : 0));
  }
}

}  // namespace

TEST_SUITE("last_words") {
  TEST_CASE("a last word that throws is reported, and all goes on as decided") {
    constexpr std::uint64_t seeds = support::sanitized ? 3 : 10;
    for (const hook at : {hook::pre_restart, hook::post_stop})
      for (const bool awaits : {false, true})
        for (const plan strategy : plans)
          for (const choice what : choices) {
            if (what == choice::by_default && strategy >= plan::by_hand)
              continue;
            for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
              INFO("hook " << static_cast<int>(at) << ", awaits " << awaits
                           << ", plan " << static_cast<int>(strategy)
                           << ", directive " << static_cast<int>(what)
                           << ", seed " << seed);
              run_cell({at, awaits, strategy, what}, seed);
            }
          }
  }
}
