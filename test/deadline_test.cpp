// What the asked actor sees of its asker's patience, and what its own asks
// inherit of it. Design 2.4, last paragraph.
#include "actors/shield.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::as_result;
using actors::context;
using actors::errc;
using actors::reply_to;
using actors::result;
using actors::shield;
using actors::simulation;
using actors::task;
using actors::time_point;
using actors::when_all;
using actors::with_timeout;
using support::error_of;

namespace {

struct ping {
  using reply_type = int;
};
struct note {};

std::error_code aborted() { return actors::detail::operation_aborted(); }

/// What an actor has seen while it handled a question.
struct seen {
  std::optional<time_point> deadline = {};
  /// How its own ask has ended, and when.
  std::error_code error = {};
  time_point at = {};
  bool cancelled = false;
  int questions = 0;
};

/// Thinks, asks the next one, and gives what that gives.
task<> hop(context<ping> self, actor_ref<ping> next, seen* saw,
           actors::duration thinks = 0s) {
  co_await self.serve([&](ping) -> task<result<int>> {
    ++saw->questions;
    saw->deadline = self.deadline();
    if (thinks != 0s) co_await self.sleep_for(thinks);
    auto answer = co_await as_result(next.ask<ping>());
    saw->error = answer.error();
    saw->at = self.now();
    saw->cancelled = self.cancelled();
    co_return answer;
  });
}
/// Thinks and answers, whether somebody waits or not.
task<> leaf(context<ping> self, seen* saw, actors::duration thinks) {
  co_await self.serve([&](ping) -> task<int> {
    ++saw->questions;
    saw->deadline = self.deadline();
    co_await self.sleep_for(thinks);
    saw->cancelled = self.cancelled();
    saw->at = self.now();
    co_return 42;
  });
}
/// Handles one question by `body`, and answers 7.
template <class F>
actor_ref<ping> asked(simulation& sim, F body) {
  return sim.spawn_once(
      [](context<ping> self, F handle) -> task<> {
        co_await self.receive([&](ping) -> task<int> {
          co_await handle(self);
          co_return 7;
        });
      },
      body);
}
task<int> ask_on(actor_ref<ping> next) {
  const int value = co_await next.ask<ping>();
  co_return value;
}
task<> ask_twice(actor_ref<ping> whom, std::vector<int>* to) {
  to->push_back(co_await whom.ask<ping>());
  to->push_back(co_await whom.ask<ping>());
}
task<> throwing() {
  throw std::runtime_error{"thrown"};
  co_return;
}
/// Asks once, for itself.
task<> client(context<> self, actor_ref<ping> whom, std::error_code* to) {
  auto answer = co_await as_result(whom.ask<ping>());
  *to = answer.error();
  co_await self.until_stop();
}

}  // namespace

TEST_SUITE("deadline") {
  // --- what is seen ----------------------------------------------------------

  TEST_CASE("a question asked with a timeout has a deadline") {
    seen saw;
    simulation sim;
    auto ref = sim.spawn(leaf, &saw, 0s);
    const time_point start = sim.now();
    CHECK(sim.run(ref.ask<ping>().within(3s)) == 42);
    CHECK(saw.deadline == start + 3s);
    CHECK(!saw.cancelled);
  }

  TEST_CASE("a question without a timeout, and what is told, have none") {
    seen saw;
    saw.deadline = time_point{};
    simulation sim;
    auto ref = sim.spawn(leaf, &saw, 0s);
    CHECK(sim.run(ref.ask<ping>()) == 42);
    CHECK(!saw.deadline);
    saw.deadline = time_point{};
    ref.tell(ping{});
    sim.run_until_idle();
    CHECK(saw.questions == 2);
    CHECK(!saw.deadline);
    CHECK(!saw.cancelled);
  }

  TEST_CASE("without a message in hand there is neither") {
    bool none = false;
    simulation sim;
    (void)sim.spawn(
        [](context<> self, bool* to) -> task<> {
          *to = !self.deadline() && !self.cancelled();
          co_return;
        },
        &none);
    sim.run_until_idle();
    CHECK(none);
  }

  TEST_CASE(
      "who has timed out, stopped or been killed does not wait any more") {
    seen saw;
    std::error_code got;
    simulation sim;
    auto ref = sim.spawn(leaf, &saw, 5s);
    CHECK(error_of([&] { (void)sim.run(ref.ask<ping>().within(1s)); }) ==
          errc::timed_out);
    sim.advance(5s);
    CHECK(saw.cancelled);

    for (const bool kill : {false, true}) {
      saw = {};
      auto asks = sim.spawn(client, ref, &got);
      sim.run_until_idle();
      kill ? asks.kill() : asks.stop();
      sim.advance(5s);
      CHECK(saw.cancelled);
    }
  }

  TEST_CASE("the value form of receive sees the same while it is in hand") {
    std::optional<time_point> first, after;
    simulation sim;
    auto ref = sim.spawn(
        [](context<ping> self, std::optional<time_point>* one,
           std::optional<time_point>* two) -> task<> {
          (void)co_await self.receive();
          *one = self.deadline();
          CHECK(self.reply(1));
          *two = self.deadline();
          CHECK(!self.cancelled());
          co_await self.until_stop();
        },
        &first, &after);
    const time_point start = sim.now();
    CHECK(sim.run(ref.ask<ping>().within(3s)) == 1);
    CHECK(first == start + 3s);
    CHECK(after == start + 3s);
  }

  // --- what is inherited -----------------------------------------------------

  TEST_CASE("across three hops the third sees what is left") {
    seen one, two, three;
    simulation sim;
    auto c = sim.spawn(leaf, &three, 1s);
    auto b = sim.spawn(hop, actor_ref<ping>{c}, &two, 1s);
    auto a = sim.spawn(hop, actor_ref<ping>{b}, &one, 1s);
    const time_point start = sim.now();
    CHECK(sim.run(a.ask<ping>().within(5s)) == 42);
    CHECK(one.deadline == start + 5s);
    CHECK(two.deadline == start + 5s);
    CHECK(three.deadline == start + 5s);
    CHECK(three.at == start + 3s);
  }

  TEST_CASE("of two deadlines the earlier one counts") {
    seen saw;
    std::vector<time_point> deadlines;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 0s);
    auto ref = asked(sim, [&](context<ping>& self) -> task<> {
      for (const auto own : {1s, 10s}) {
        (void)co_await end.ask<ping>().within(own);
        deadlines.push_back(*saw.deadline);
      }
      CHECK(self.now() + 5s == deadlines[1]);
    });
    const time_point start = sim.now();
    CHECK(sim.run(ref.ask<ping>().within(5s)) == 7);
    CHECK(deadlines == std::vector<time_point>{start + 1s, start + 5s});
  }

  TEST_CASE("when the deadline passes, all asks of the chain end") {
    seen one, two, three;
    simulation sim;
    auto c = sim.spawn(leaf, &three, 10s);
    auto b = sim.spawn(hop, actor_ref<ping>{c}, &two, 1s);
    auto a = sim.spawn(hop, actor_ref<ping>{b}, &one, 1s);
    const time_point start = sim.now();
    CHECK(error_of([&] { (void)sim.run(a.ask<ping>().within(5s)); }) ==
          errc::timed_out);
    sim.run_until_idle();
    CHECK(sim.now() == start + 5s);
    CHECK(one.error == errc::timed_out);
    CHECK(one.at == start + 5s);
    CHECK(one.cancelled);
    CHECK(two.error == errc::timed_out);
    CHECK(two.at == start + 5s);
    CHECK(two.cancelled);
    sim.advance(10s);
    CHECK(three.cancelled);
  }

  TEST_CASE("when the asker is stopped or killed, all asks of the chain end") {
    for (const bool kill : {false, true}) {
      seen one, two, three;
      std::error_code got;
      simulation sim;
      auto c = sim.spawn(leaf, &three, 10s);
      auto b = sim.spawn(hop, actor_ref<ping>{c}, &two, 0s);
      auto a = sim.spawn(hop, actor_ref<ping>{b}, &one, 0s);
      auto asks = sim.spawn(client, actor_ref<ping>{a}, &got);
      sim.run_until_idle();
      const time_point then = sim.now();
      kill ? asks.kill() : asks.stop();
      sim.run_until_idle();
      CHECK(got == (kill ? std::error_code{} : aborted()));
      CHECK(one.error == aborted());
      CHECK(two.error == aborted());
      CHECK(one.at == then);
      CHECK(two.at == then);
      CHECK(one.cancelled);
      CHECK(two.cancelled);
    }
  }

  TEST_CASE("an ask on behalf of one who has left is not sent") {
    seen saw;
    std::vector<std::error_code> errors;
    std::error_code got;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 0s);
    auto ref = sim.spawn([&](context<ping> self) -> task<> {
      while (co_await self.receive([&](ping) -> task<int> {
        co_await self.sleep_for(2s);
        auto late = co_await as_result(end.ask<ping>());
        errors.push_back(late.error());
        auto more = co_await as_result(end.ask<ping>().within(1s));
        errors.push_back(more.error());
        co_return 1;
      })) {
      }
    });
    CHECK(error_of([&] { (void)sim.run(ref.ask<ping>().within(1s)); }) ==
          errc::timed_out);
    sim.advance(5s);
    auto asks = sim.spawn(client, actor_ref<ping>{ref}, &got);
    sim.run_until_idle();
    asks.stop();
    sim.advance(5s);
    CHECK(errors == std::vector<std::error_code>{errc::timed_out,
                                                 errc::timed_out, aborted(),
                                                 aborted()});
    CHECK(saw.questions == 0);
  }

  TEST_CASE("a send inherits, too") {
    int taken = 0;
    std::error_code error;
    simulation sim;
    auto end = sim.spawn([&](context<note> self) -> task<> {
      co_await self.serve([&](note) { ++taken; });
    });
    auto ref = asked(sim, [&](context<ping>& self) -> task<> {
      co_await end.send<note>();
      co_await self.sleep_for(2s);
      auto late = co_await as_result(end.send<note>());
      error = late.error();
    });
    CHECK(error_of([&] { (void)sim.run(ref.ask<ping>().within(1s)); }) ==
          errc::timed_out);
    sim.advance(5s);
    CHECK(taken == 1);
    CHECK(error == errc::timed_out);
  }

  TEST_CASE("a handler that ends by its asker's leaving is no failure") {
    // Which the simulation would report.
    for (const int form : {0, 1, 2}) {
      seen saw;
      int after = 0;
      std::error_code got;
      simulation sim;
      auto end = sim.spawn(leaf, &saw, 10s);
      auto ref = sim.spawn([&](context<ping, note> self) -> task<> {
        auto handler = [&](ping) -> task<int> { return ask_on(end); };
        auto other = [&](note) { ++after; };
        if (form == 0)
          co_await self.serve(handler, other);
        else if (form == 1)
          co_await self.serve(actors::concurrent(handler), other);
        else
          for (bool more = true; more;)
            more = co_await self.receive(handler, other);
      });
      CHECK(error_of([&] { (void)sim.run(ref.ask<ping>().within(1s)); }) ==
            errc::timed_out);
      auto asks = sim.spawn(client, actor_ref<ping>{ref}, &got);
      sim.run_until_idle();
      asks.stop();
      ref.tell(note{});
      sim.run_until_idle();
      CHECK(after == 1);
    }
  }

  TEST_CASE("any other error of it is one") {
    simulation sim;
    auto ref = asked(sim, [&](context<ping>& self) -> task<> {
      co_await self.sleep_for(2s);
      throw std::runtime_error{"broken"};
    });
    sim.expect_failure<std::runtime_error>(ref);
    CHECK(error_of([&] { (void)sim.run(ref.ask<ping>().within(1s)); }) ==
          errc::timed_out);
    sim.advance(5s);
    sim.check();
  }

  TEST_CASE("a timeout of its own leaves the asker waiting") {
    seen one, two;
    std::error_code error;
    simulation sim;
    auto end = sim.spawn(leaf, &two, 2s);
    auto ref = asked(sim, [&](context<ping>& self) -> task<> {
      auto r = co_await as_result(end.ask<ping>().within(1s));
      error = r.error();
      CHECK(!self.cancelled());
    });
    CHECK(sim.run(ref.ask<ping>().within(5s)) == 7);
    CHECK(error == errc::timed_out);
  }

  // --- shield ----------------------------------------------------------------

  TEST_CASE("what is shielded inherits nothing") {
    seen saw;
    std::vector<int> values;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 3s);
    auto ref = asked(sim, [&](context<ping>& self) -> task<> {
      values.push_back(co_await shield(end.ask<ping>()));
      CHECK(self.cancelled());
      CHECK(!saw.deadline);
      CHECK(!saw.cancelled);
      // Also when it starts too late, and with what composes.
      values.push_back(co_await shield(end.ask<ping>()));
      values.push_back(co_await shield(end.ask<ping>()).within(4s));
      CHECK(saw.deadline == self.now() - 3s + 4s);
      auto r = co_await as_result(shield(end.ask<ping>().within(1s)));
      CHECK(r.error() == errc::timed_out);
      auto [x, y] = co_await when_all(shield(end.ask<ping>()),
                                      as_result(shield(end.ask<ping>())));
      values.push_back(x);
      values.push_back(*y);
      values.push_back(co_await with_timeout(1h, shield(end.ask<ping>())));
    });
    CHECK(error_of([&] { (void)sim.run(ref.ask<ping>().within(1s)); }) ==
          errc::timed_out);
    sim.advance(1min);
    CHECK(values == std::vector<int>(6, 42));
  }

  TEST_CASE("what a shielded task awaits inherits nothing") {
    seen saw;
    std::vector<int> values;
    std::error_code after;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 3s);
    auto ref = asked(sim, [&](context<ping>& self) -> task<> {
      co_await self.sleep_for(2s);
      co_await shield(ask_twice(end, &values));
      auto both = as_result(shield(when_all(end.ask<ping>(), end.ask<ping>())));
      auto r = co_await both;
      CHECK(r);
      auto thrown = as_result(shield(throwing()));
      auto t = co_await thrown;
      CHECK(t.exception());
      // Of which nothing is left.
      auto unshielded = co_await as_result(end.ask<ping>());
      after = unshielded.error();
    });
    CHECK(error_of([&] { (void)sim.run(ref.ask<ping>().within(1s)); }) ==
          errc::timed_out);
    sim.advance(1min);
    CHECK(values == std::vector<int>{42, 42});
    CHECK(after == errc::timed_out);
  }

  TEST_CASE("a shielded ask ends with its own actor") {
    seen saw;
    std::error_code got;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 1h);
    auto ref = asked(sim, [&](context<ping>&) -> task<> {
      (void)co_await shield(end.ask<ping>());
    });
    (void)sim.spawn(client, ref, &got);
    sim.run_until_idle();
    ref.kill();
    sim.run_until_idle();
    CHECK(got == errc::no_reply);
  }

  // --- whose message in hand -------------------------------------------------

  TEST_CASE("members of a group inherit, child tasks do not") {
    seen of_member, of_group, of_child;
    simulation sim;
    auto m = sim.spawn(leaf, &of_member, 0s);
    auto g = sim.spawn(leaf, &of_group, 0s);
    auto c = sim.spawn(leaf, &of_child, 0s);
    const auto ask = [](actor_ref<ping> whom) -> task<> {
      (void)co_await whom.ask<ping>();
    };
    auto ref = asked(sim, [&](context<ping>& self) -> task<> {
      (void)co_await when_all(m.ask<ping>(), self.sleep_for(1ms));
      auto body = [&](actors::task_group& tasks) -> task<> {
        tasks.spawn(ask, actor_ref<ping>{g});
        co_return;
      };
      co_await self.with_tasks(body);
      auto child = self.spawn_task(ask, actor_ref<ping>{c});
      co_await child;
    });
    const time_point start = sim.now();
    CHECK(sim.run(ref.ask<ping>().within(1s)) == 7);
    CHECK(of_member.deadline == start + 1s);
    CHECK(of_group.deadline == start + 1s);
    CHECK(of_child.questions == 1);
    CHECK(!of_child.deadline);
  }

  TEST_CASE("each concurrent handler has its own asker's") {
    seen saw;
    std::vector<std::error_code> errors;
    std::vector<std::optional<time_point>> deadlines;
    simulation sim;
    auto end = sim.spawn([](context<ping> self) -> task<> {
      auto slowly = [&](ping) -> task<int> {
        co_await self.sleep_for(5s);
        co_return 1;
      };
      co_await self.serve(actors::concurrent(slowly));
    });
    auto ref = sim.spawn([&](context<ping> self) -> task<> {
      auto handler = [&](ping) -> task<int> {
        deadlines.push_back(self.deadline());
        auto r = co_await as_result(end.ask<ping>());
        errors.push_back(r.error());
        co_return 1;
      };
      co_await self.serve(actors::concurrent(handler));
    });
    const time_point start = sim.now();
    sim.run([&](context<>) -> task<> {
      auto [a, b, c] = co_await when_all(as_result(ref.ask<ping>().within(1s)),
                                         as_result(ref.ask<ping>().within(2s)),
                                         as_result(ref.ask<ping>()));
      CHECK(a.error() == errc::timed_out);
      CHECK(b.error() == errc::timed_out);
      CHECK(c);
    });
    CHECK(deadlines.size() == 3);
    CHECK(errors ==
          std::vector<std::error_code>{errc::timed_out, errc::timed_out, {}});
    CHECK(sim.now() == start + 5s);
  }

  TEST_CASE("what cleans up after a stop inherits nothing") {
    seen saw;
    int got = 0;
    std::error_code error;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 1s);
    auto ref = sim.spawn([&](context<ping> self) -> task<> {
      (void)co_await self.receive();
      auto r = co_await as_result(self.sleep_for(1h));
      CHECK(r.error() == aborted());
      got = co_await end.ask<ping>();
    });
    auto asks = sim.spawn(client, actor_ref<ping>{ref}, &error);
    sim.run_until_idle();
    asks.stop();
    sim.run_until_idle();
    ref.stop();
    sim.advance(2s);
    CHECK(got == 42);
  }

  TEST_CASE("what is asked after the answer inherits nothing") {
    seen saw;
    int got = 0;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 5s);
    auto ref = sim.spawn([&](context<ping> self) -> task<> {
      co_await self.receive([&](ping) -> task<int> {
        CHECK(self.reply(1));
        got = co_await end.ask<ping>();
        CHECK(!saw.deadline);
        co_return 2;
      });
    });
    CHECK(sim.run(ref.ask<ping>().within(1s)) == 1);
    sim.advance(10s);
    CHECK(got == 42);
  }

  TEST_CASE("an answer from elsewhere sets free what waits for it") {
    seen saw;
    std::optional<reply_to<int>> slot;
    int got = 0;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 5s);
    auto ref = sim.spawn([&](context<ping> self) -> task<> {
      auto handler = [&](ping, reply_to<int> reply) -> task<> {
        slot = std::move(reply);
        got = co_await end.ask<ping>();
      };
      while (co_await self.receive(handler)) {
      }
    });
    const time_point start = sim.now();
    (void)sim.spawn([&](context<> self) -> task<> {
      co_await self.sleep_for(500ms);
      CHECK(slot->reply(1));
    });
    CHECK(sim.run(ref.ask<ping>().within(1s)) == 1);
    CHECK(saw.deadline == start + 1s);
    sim.advance(10s);
    CHECK(got == 42);
  }

  TEST_CASE("a reply slot that was taken out leaves the deadline") {
    for (const bool forwarded : {false, true}) {
      CAPTURE(forwarded);
      seen saw, last;
      simulation sim;
      auto end = sim.spawn(leaf, &last, 5s);
      auto ref = sim.spawn([&](context<ping> self) -> task<> {
        auto handler = [&](ping, reply_to<int> reply) -> task<> {
          saw.deadline = self.deadline();
          auto r = co_await as_result(end.ask<ping>());
          saw.error = r.error();
          saw.cancelled = self.cancelled() && reply.cancelled();
          CHECK(!reply.reply(1));
        };
        while (co_await self.receive(handler)) {
        }
      });
      auto front = sim.spawn([&](context<ping> self) -> task<> {
        co_await self.serve([&](ping q) { self.forward(ref, q); });
      });
      const time_point start = sim.now();
      auto op = forwarded ? front.ask<ping>() : ref.ask<ping>();
      CHECK(error_of([&] { (void)sim.run(std::move(op).within(1s)); }) ==
            errc::timed_out);
      sim.run_until_idle();
      CHECK(saw.deadline == start + 1s);
      CHECK(last.deadline == start + 1s);
      CHECK(saw.error == errc::timed_out);
      CHECK(saw.cancelled);
    }
  }

  TEST_CASE("the deadline goes with a message that is handed on") {
    for (const bool watched : {false, true}) {
      CAPTURE(watched);
      seen saw, last, other;
      std::optional<time_point> before, after;
      int freely = 0;
      simulation sim;
      auto end = sim.spawn(leaf, &last, 10s);
      auto quick = sim.spawn(leaf, &other, 0s);
      auto second = sim.spawn(hop, actor_ref<ping>{end}, &saw, 0s);
      auto first = sim.spawn([&](context<ping> self) -> task<> {
        co_await self.serve([&](ping q) -> task<> {
          before = self.deadline();
          if (watched) (void)co_await quick.ask<ping>();
          self.forward(second, q);
          after = self.deadline();
          co_await self.sleep_for(2s);
          CHECK(!self.cancelled());
          freely = co_await quick.ask<ping>();
        });
      });
      const time_point start = sim.now();
      CHECK(error_of([&] { (void)sim.run(first.ask<ping>().within(1s)); }) ==
            errc::timed_out);
      sim.run_until_idle();
      CHECK(before == start + 1s);
      CHECK(!after);
      CHECK(saw.deadline == start + 1s);
      CHECK(saw.error == errc::timed_out);
      CHECK(saw.at == start + 1s);
      sim.advance(5s);
      CHECK(freely == 42);
    }
  }

  TEST_CASE("a message taken meanwhile takes the place of the one before") {
    // By a receive beside the ask, in the value form: the first question ends
    // unanswered, and its ask goes on for itself.
    seen saw;
    int got = 0;
    std::error_code error;
    simulation sim;
    auto end = sim.spawn(leaf, &saw, 5s);
    auto ref = sim.spawn([&](context<ping, note> self) -> task<> {
      (void)co_await self.receive<ping>();
      auto [value, next] =
          co_await when_all(end.ask<ping>(), self.receive<note>());
      got = value;
      co_await self.until_stop();
    });
    auto asks = sim.spawn(client, actor_ref<ping>{ref}, &error);
    sim.run_until_idle();
    ref.tell(note{});
    asks.stop();
    sim.advance(10s);
    CHECK(saw.questions == 1);
    CHECK((got == 42 || got == 0));
  }

  // --- askers that are no actors ---------------------------------------------

  TEST_CASE("threads and tokens give a deadline that is not later than they") {
    support::each_system([](actors::actor_system& system) {
      auto never = system.spawn_once(
          [](context<ping> self) -> task<> { co_await self.until_stop(); });
      support::flag ended;
      std::atomic<int> cut{0};
      std::atomic<bool> early{false};
      auto ref = system.spawn([&](context<ping> self) -> task<> {
        auto handler = [&](ping) -> task<int> {
          const auto due = self.deadline();
          if (!due) early = true;
          auto r = co_await as_result(never.ask<ping>());
          if (r.error() != errc::timed_out) early = true;
          if (due && self.now() < *due) early = true;
          if (++cut == 2) ended.set();
          co_return 1;
        };
        co_await self.serve(actors::concurrent(handler));
      });
      CHECK(error_of([&] { (void)ref.ask<ping>().get(20ms); }) ==
            errc::timed_out);
      auto future = ref.ask<ping>().within(20ms)(asio::use_future);
      CHECK(error_of([&] { (void)future.get(); }) == errc::timed_out);
      ended.wait();
      CHECK(!early);
    });
  }

  TEST_CASE("a cancellation slot ends the asks of the chain") {
    support::each_system([](actors::actor_system& system) {
      asio::io_context io;
      auto never = system.spawn_once(
          [](context<ping> self) -> task<> { co_await self.until_stop(); });
      support::flag asking, ended;
      auto ref = system.spawn([&](context<ping> self) -> task<> {
        co_await self.serve([&](ping) -> task<int> {
          asking.set();
          auto r = co_await as_result(never.ask<ping>());
          CHECK(r.error() == aborted());
          CHECK(self.cancelled());
          ended.set();
          co_return 1;
        });
      });
      asio::cancellation_signal signal;
      std::error_code error;
      ref.ask<ping>()(asio::bind_executor(
          io, asio::bind_cancellation_slot(
                  signal.slot(), [&](std::error_code e, int) { error = e; })));
      asking.wait();
      asio::post(io, [&] { signal.emit(asio::cancellation_type::terminal); });
      io.run();
      CHECK(error == aborted());
      ended.wait();
    });
  }

  // --- under every interleaving ----------------------------------------------

  TEST_CASE(
      "timeouts that race with answers end every ask of three hops once") {
    actors::explore(support::sanitized ? 60 : 400, [](simulation& sim) {
      seen one, two, three;
      auto c = sim.spawn(leaf, &three, 10ms);
      auto b = sim.spawn(hop, actor_ref<ping>{c}, &two, 10ms);
      auto a = sim.spawn(hop, actor_ref<ping>{b}, &one, 10ms);
      int answers = 0, late = 0;
      // 30 ms is when the answer comes.
      for (const auto patience : {29ms, 30ms, 30ms, 31ms, 30ms}) {
        auto r = sim.run(as_result(a.ask<ping>().within(patience)));
        if (r) {
          ++answers;
          CHECK(*r == 42);
          CHECK(!one.error);
        } else {
          ++late;
          CHECK(r.error() == errc::timed_out);
        }
        sim.advance(100ms);
        if (!r) CHECK(one.cancelled);
      }
      CHECK(answers >= 1);
      CHECK(late >= 1);
      CHECK(three.questions == 5);
      sim.terminate();
    });
  }

  TEST_CASE("the middle hop may be stopped, killed or restarted at any time") {
    actors::explore(support::sanitized ? 80 : 500, [](simulation& sim) {
      seen one, two, three;
      const auto seed = sim.seed();
      auto c = sim.spawn(leaf, &three, 3ms);
      auto b = sim.spawn(hop, actor_ref<ping>{c}, &two, 1ms);
      auto a = sim.spawn(hop, actor_ref<ping>{b}, &one, 1ms);
      std::error_code got;
      auto asks = sim.spawn(client, actor_ref<ping>{a}, &got);
      const auto some = std::chrono::microseconds{seed % 7 * 1000};
      sim.advance(some);
      for (std::uint64_t i = seed % 5; i != 0; --i) (void)sim.step();
      switch (seed % 4) {
        case 0:
          b.stop();
          break;
        case 1:
          b.kill();
          break;
        case 2:
          sim.expect_failure<std::runtime_error>(b);
          sim.inject(b, std::runtime_error{"broken"});
          break;
        default:
          break;
      }
      if (seed % 3 == 0) asks.stop();
      if (seed % 3 == 1) asks.kill();
      sim.advance(1s);
      CHECK(one.questions == 1);
      // All are well that nobody has ended.
      CHECK(sim.run(c.ask<ping>()) == 42);
      auto again = sim.run(as_result(a.ask<ping>()));
      if (seed % 4 >= 2) CHECK(again);
      sim.terminate();
    });
  }

  TEST_CASE("a restart in the middle of a `shield` shields nothing after it") {
    struct crash : std::runtime_error {
      crash() : runtime_error{"crash"} {}
    };
    int incarnations = 0;
    std::error_code ended;
    const auto silent = [](context<ping> self) -> task<> {
      co_await self.until_stop();
    };
    simulation sim;
    const actor_ref<ping> nobody = sim.spawn(silent);
    const auto shields = [&](context<ping> self) -> task<> {
      ++incarnations;
      const auto sleeps = [&]() -> task<> { co_await self.sleep_for(1h); };
      const auto fails = [](context<> me) -> task<> {
        co_await me.sleep_for(10ms);
        throw crash{};
      };
      co_await self.serve([&](ping) -> task<result<int>> {
        if (incarnations == 1) {
          (void)self.spawn_task(fails);
          co_await shield(sleeps());
        }
        auto answer = co_await as_result(nobody.ask<ping>());
        ended = answer.error();
        co_return answer;
      });
    };
    const auto a = sim.spawn(shields);
    sim.expect_failure<crash>(a);
    CHECK(error_of([&] { return sim.run(a.ask<ping>()); }) ==
          errc::actor_failed);
    CHECK(error_of([&] { return sim.run(a.ask<ping>().within(1s)); }) ==
          errc::timed_out);
    sim.advance(1ms);
    CHECK(incarnations == 2);
    CHECK(ended == errc::timed_out);
  }

  TEST_CASE("a slot that is handed on may lose its asker at any time") {
    actors::explore(support::sanitized ? 80 : 500, [](simulation& sim) {
      seen quick, saw, last;
      auto end = sim.spawn(leaf, &last, 5ms);
      auto beside = sim.spawn(leaf, &quick, 1ms);
      auto second = sim.spawn(hop, actor_ref<ping>{end}, &saw, 1ms);
      auto first = sim.spawn([&](context<ping> self) -> task<> {
        auto handler = [&](ping q) -> task<> {
          auto r = co_await as_result(beside.ask<ping>());
          self.forward(second, q);
          (void)co_await as_result(beside.ask<ping>());
        };
        co_await self.serve(actors::concurrent(handler));
      });
      std::error_code got;
      auto asks = sim.spawn(client, actor_ref<ping>{first}, &got);
      const auto seed = sim.seed();
      sim.advance(std::chrono::microseconds{seed % 9 * 1000});
      for (std::uint64_t i = seed % 4; i != 0; --i) (void)sim.step();
      seed % 2 ? asks.stop() : asks.kill();
      if (seed % 5 == 0) second.kill();
      sim.advance(1s);
      CHECK(sim.run(end.ask<ping>()) == 42);
      sim.terminate();
    });
  }

  // --- threads ---------------------------------------------------------------

  TEST_CASE("three hops on three threads, with timeouts that race") {
    const auto chain = [](actors::actor_system& system) {
      auto c = system.spawn([](context<ping> self) -> task<> {
        auto handler = [&](ping) -> task<int> {
          co_await self.sleep_for(200us);
          co_return self.cancelled() ? 1 : 2;
        };
        co_await self.serve(actors::concurrent(handler));
      });
      const auto middle = [](context<ping> self,
                             actor_ref<ping> next) -> task<> {
        auto handler = [&](ping) -> task<int> {
          (void)self.deadline();
          const int value = co_await next.ask<ping>();
          co_return value;
        };
        co_await self.serve(actors::concurrent(handler));
      };
      auto b = system.spawn(middle, actor_ref<ping>{c});
      auto a = system.spawn(middle, actor_ref<ping>{b});
      std::atomic<int> ended{0};
      constexpr int clients = 4;
      const int rounds = support::sanitized ? 200 : 1000;
      std::vector<actors::any_actor_ref> all;
      for (int i = 0; i != clients; ++i) {
        all.emplace_back(system.spawn([&, i](context<>) -> task<> {
          for (int n = 0; n != rounds; ++n) {
            const std::chrono::microseconds patience{(n * 7 + i) % 400};
            auto r = co_await as_result(a.ask<ping>().within(patience));
            if (r || r.error() == errc::timed_out) ++ended;
          }
        }));
      }
      for (const auto& each : all) (void)each.stopped().get();
      CHECK(ended == clients * rounds);
    };
    actors::system_options options = support::quiet(3);
    actors::actor_system system{options};
    chain(system);
    support::each_system(chain);
  }

  TEST_CASE("askers that are killed on other threads") {
    support::each_system([](actors::actor_system& system) {
      auto end = system.spawn([](context<ping> self) -> task<> {
        auto handler = [&](ping) -> task<int> {
          co_await self.sleep_for(100us);
          co_return 2;
        };
        co_await self.serve(actors::concurrent(handler));
      });
      auto middle = system.spawn([&](context<ping> self) -> task<> {
        auto handler = [&](ping) -> task<int> {
          const int value = co_await end.ask<ping>();
          co_return value;
        };
        co_await self.serve(actors::concurrent(handler));
      });
      for (int n = 0; n != (support::sanitized ? 100 : 500); ++n) {
        auto asks = system.spawn_once(
            [&](context<>) -> task<> { (void)co_await middle.ask<ping>(); });
        (void)asks.started().get();
        n % 2 ? asks.kill() : asks.stop();
        (void)asks.stopped().get();
      }
      CHECK(middle.ask<ping>().get() == 2);
    });
  }
}
