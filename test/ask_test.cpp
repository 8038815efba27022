// Ask: every ask ends exactly once. Design 2.4, row by row.
#include "actors/operation.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::as_result;
using actors::context;
using actors::errc;
using actors::not_handled;
using actors::reply_to;
using actors::result;
using actors::simulation;
using actors::task;
using support::error_of;
using support::message_of;

namespace {

const std::string long_text = "a text of more than fifteen letters";

struct get {
  using reply_type = int;
};
struct look_up {
  using reply_type = std::string;
  std::string key;
};
struct fetch {
  using reply_type = std::unique_ptr<std::string>;
  std::string key;
};
struct flush {
  using reply_type = void;
};
/// Its move throws when it is broken.
struct fragile {
  explicit fragile(bool b = false) : broken{b} {}
  fragile(fragile&& other) : broken{other.broken} {
    if (broken) throw std::runtime_error{"broken"};
  }
  fragile& operator=(fragile&&) = default;
  bool broken;
};
struct risky {
  using reply_type = fragile;
};
struct open_all {};
struct note {
  std::string text;
};

std::error_code aborted() { return actors::detail::operation_aborted(); }

/// Answers with the length of the key, or an error.
task<> dictionary(context<look_up, fetch, flush, get> self) {
  int asked = 0;
  while (co_await self.receive(
      [&](const look_up& q) {
        ++asked;
        return q.key + " is known";
      },
      [&](fetch q) { return std::make_unique<std::string>(q.key); },
      [&](flush) { asked = 0; }, [&](get) { return asked; })) {
  }
}

/// Keeps each reply slot until it is told what to do with them.
struct keeper_state {
  std::vector<reply_to<std::string>> slots;
};
task<> keeper(context<look_up, open_all> self, keeper_state* state) {
  while (co_await self.receive(
      [&](look_up, reply_to<std::string> reply) {
        state->slots.push_back(std::move(reply));
      },
      [&](open_all) {
        for (auto& slot : state->slots) slot.reply(long_text);
        state->slots.clear();
      })) {
  }
  state->slots.clear();
}

task<> idle(context<get, look_up, note> self) { co_await self.until_stop(); }

}  // namespace

TEST_SUITE("ask") {
  // --- the actor answers -----------------------------------------------------

  TEST_CASE("an ask gets the reply") {
    simulation sim;
    auto ref = sim.spawn(dictionary);
    CHECK(sim.run(ref.ask<look_up>(long_text)) == long_text + " is known");
    CHECK(*sim.run(ref.ask<fetch>(long_text)) == long_text);
    sim.run(ref.ask<flush>());
    CHECK(sim.run(ref.ask<get>()) == 0);
  }

  TEST_CASE("a question may be built before, by copy or by move") {
    simulation sim;
    auto ref = sim.spawn(dictionary);
    sim.run(
        [](context<>, actor_ref<look_up, get> to) -> task<> {
          look_up q{long_text};
          std::string first = co_await to.ask(q);
          CHECK(first == long_text + " is known");
          CHECK(q.key == long_text);
          std::string second = co_await to.ask(std::as_const(q));
          CHECK(second == first);
          auto op = to.ask<look_up>(long_text);
          std::string third = co_await op;
          CHECK(third == first);
          const int n = co_await to.ask(get{});  // trivial: safe everywhere
          CHECK(n == 3);
        },
        actor_ref<look_up, get>{ref});
  }

  TEST_CASE("a reply that throws on its way leaves the question open") {
    simulation sim;
    auto ref = sim.spawn([](context<risky> self) -> task<> {
      while (co_await self.receive([](risky, reply_to<fragile> reply) {
        fragile broken{true};
        CHECK_THROWS_AS(reply.reply(std::move(broken)), std::runtime_error);
        CHECK(reply);
        CHECK(reply.reply(fragile{false}));
      })) {
      }
    });
    CHECK(!sim.run(ref.ask<risky>()).broken);
  }

  TEST_CASE("started() says the same before and after the end") {
    actor_system system{support::quiet(1)};
    const auto started = [](const auto& ref) {
      return message_of([&] { ref.started().get(); });
    };
    for (int i = 0; i != 100; ++i) {
      auto fails = system.spawn([](context<get> self) -> task<> {
        throw std::runtime_error{"no config"};
        co_await self.until_stop();
      });
      auto ends = system.spawn([](context<get>) -> task<> { co_return; });
      // Every second time they have ended before they are asked.
      if (i % 2 == 0) {
        CHECK(fails.stopped().get() == actors::exit_reason::failed);
        CHECK(ends.stopped().get() == actors::exit_reason::normal);
      }
      CHECK(started(fails) == "no config");
      CHECK(started(ends) == "");
    }
    auto stopped = system.spawn(idle);
    stopped.started().get();
    stopped.stop();
    CHECK(stopped.stopped().get() == actors::exit_reason::normal);
    CHECK(started(stopped) == "");
  }

  TEST_CASE("questions that were given up do not pile up") {
    simulation sim;
    auto ref = sim.spawn(idle);
    sim.run(
        [](context<>, actor_ref<get> to) -> task<> {
          for (int i = 0; i != 10'000; ++i) {
            auto r = co_await as_result(to.stopped().within(1ms));
            CHECK(r.error() == errc::timed_out);
          }
        },
        actor_ref<get>{ref});
    ref.stop();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
  }

  // --- send -----------------------------------------------------------------

  TEST_CASE("send has ended when the message is in the mailbox") {
    simulation sim;
    auto ref = sim.spawn(dictionary);
    sim.run(
        [](context<>, actor_ref<look_up, get> to) -> task<> {
          co_await to.send<look_up>(long_text);
          // In there: an ask of the same sender comes after it.
          const int asked = co_await to.ask<get>();
          CHECK(asked == 1);
        },
        actor_ref<look_up, get>{ref});
    sim.run(ref.send<look_up>(long_text));
    CHECK(sim.run(ref.ask<get>()) == 2);
  }

  TEST_CASE("an actor may send to itself") {
    simulation sim;
    std::string seen;
    auto ref = sim.spawn(
        [](context<note> self, std::string* to) -> task<> {
          co_await self.ref().send<note>(long_text);
          co_await self.receive([&](note n) { *to = n.text; });
        },
        &seen);
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
    CHECK(seen == long_text);
  }

  TEST_CASE("a send that is refused says so, and is no dead letter") {
    simulation sim;
    auto ref = sim.spawn(dictionary);
    ref.stop();
    sim.run(ref.stopped());
    CHECK(error_of([&] { sim.run(ref.send<look_up>(long_text)); }) ==
          errc::actor_stopped);
    const actor_ref<look_up> null;
    CHECK(error_of([&] { sim.run(null.send<look_up>(long_text)); }) ==
          errc::actor_stopped);
    CHECK(sim.system().dead_letter_count() == 0);
  }

  TEST_CASE("a plain thread sends, too") {
    actor_system system{support::quiet(1)};
    auto ref = system.spawn(dictionary);
    ref.send<look_up>(long_text).get();
    CHECK(ref.ask<get>().get() == 1);
    ref.stop();
    ref.stopped().get();
    CHECK(error_of([&] { ref.send<look_up>(long_text).get(); }) ==
          errc::actor_stopped);
  }

  TEST_CASE("nothing is sent before the operation is used") {
    simulation sim;
    auto ref = sim.spawn(dictionary);
    {
      auto dropped = ref.ask<look_up>(long_text);
      auto moved = std::move(dropped);
      (void)moved;
    }
    CHECK(sim.run(ref.ask<get>()) == 0);
  }

  TEST_CASE("an operation can be kept, moved and awaited later") {
    simulation sim;
    auto ref = sim.spawn(dictionary);
    std::vector<actors::operation<std::string>> asks;
    for (int i = 0; i != 3; ++i)
      asks.push_back(ref.ask<look_up>(std::to_string(i)));
    CHECK(sim.run(std::move(asks[2])) == "2 is known");
    CHECK(sim.run(std::move(asks[0])) == "0 is known");
  }

  TEST_CASE("asks of one actor are answered in their order") {
    simulation sim;
    auto ref = sim.spawn(dictionary);
    sim.run(
        [](context<>, actor_ref<look_up> to) -> task<> {
          for (int i = 0; i != 100; ++i) {
            const std::string s = co_await to.ask<look_up>(std::to_string(i));
            CHECK(s == std::to_string(i) + " is known");
          }
        },
        actor_ref<look_up>{ref});
  }

  TEST_CASE("a plain thread blocks in get()") {
    for (const auto d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      actors::system_options options = support::quiet();
      options.dispatcher = d;
      actor_system system{options};
      auto ref = system.spawn(dictionary);
      CHECK(ref.ask<look_up>(long_text).get() == long_text + " is known");
      CHECK(*ref.ask<fetch>("a").get() == "a");
      ref.ask<flush>().get();
      auto op = ref.ask<get>();
      CHECK(op.get() == 0);
      CHECK(ref.ask<get>().within(1h).get() == 0);
      CHECK(ref.ask<get>().get(1h) == 0);
      CHECK(ref.ask(get{}, 1h).get() == 0);
    }
  }

  TEST_CASE("an operation is used once") {
    actor_system system{support::quiet(1)};
    auto ref = system.spawn(dictionary);
    auto op = ref.ask<get>();
    CHECK(op.get() == 0);
    CHECK(error_of([&] { return op.get(); }) == errc::no_reply);
    CHECK(error_of([&] { return op.get(); }) == errc::no_reply);
    const bool refused = system.run(
        [](context<>, actor_ref<get, look_up> to) -> task<bool> {
          auto twice = to.ask<look_up>(long_text);
          std::string first = co_await twice;
          auto again = co_await as_result(std::move(twice));
          co_return again.error() == errc::no_reply;
        },
        actor_ref<get, look_up>{ref});
    CHECK(refused);
  }

  TEST_CASE("as_result gives an error as a value") {
    simulation sim;
    auto ref = sim.spawn([](context<get, look_up> self) -> task<> {
      while (co_await self.receive(
          [](get) -> result<int> {
            return std::make_error_code(std::errc::permission_denied);
          },
          [](const look_up& q) { return q.key; })) {
      }
    });
    sim.run(
        [](context<>, actor_ref<get, look_up> to) -> task<> {
          auto good = co_await as_result(to.ask<look_up>(long_text));
          CHECK(good);
          CHECK(*good == long_text);
          auto bad = co_await as_result(to.ask<get>());
          CHECK(bad.error() == std::errc::permission_denied);
        },
        ref);
  }

  // --- the actor fails the reply ---------------------------------------------

  TEST_CASE("a handler answers with an error, and its actor is well") {
    simulation sim;
    auto ref = sim.spawn([](context<get, look_up, flush> self) -> task<> {
      while (co_await self.receive(
          [](get) -> result<int> {
            return std::make_error_code(std::errc::permission_denied);
          },
          [](look_up q) -> result<std::string> {
            if (q.key.empty())
              return std::make_exception_ptr(
                  std::invalid_argument{"no key given"});
            return q.key;
          },
          [&](flush) -> task<result<void>> {
            co_await self.sleep_for(1s);
            co_return std::make_error_code(std::errc::io_error);
          })) {
      }
    });
    CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) ==
          std::errc::permission_denied);
    CHECK(message_of<std::invalid_argument>(
              [&] { return sim.run(ref.ask<look_up>()); }) == "no key given");
    CHECK(sim.run(ref.ask<look_up>(long_text)) == long_text);
    CHECK(error_of([&] {
            sim.run(ref.ask<flush>());
            return 0;
          }) == std::errc::io_error);
    CHECK(!not_handled(std::make_error_code(std::errc::io_error)));
  }

  // --- actor_stopped ---------------------------------------------------------

  TEST_CASE("an ask of an actor that has ended gets actor_stopped at once") {
    simulation sim;
    auto ref = sim.spawn(idle);
    ref.stop();
    sim.run(ref.stopped());
    const auto before = sim.now();
    const auto error =
        error_of([&] { return sim.run(ref.ask<get>().within(1h)); });
    CHECK(error == errc::actor_stopped);
    CHECK(error == std::errc::no_such_process);
    CHECK(not_handled(error));
    CHECK(sim.now() == before);
  }

  TEST_CASE("an ask that waits in the mailbox when its actor ends") {
    simulation sim;
    for (int how = 0; how != 3; ++how) {
      auto ref = sim.spawn(idle);
      auto out = sim.probe<note>();
      sim.spawn(
          [](context<>, actor_ref<get> to, actor_ref<note> tell) -> task<> {
            auto r = co_await as_result(to.ask<get>());
            tell.tell(note{r.error().message()});
          },
          actor_ref<get>{ref}, out.ref());
      sim.run_until_idle();
      if (how == 0) ref.stop();
      if (how == 1) ref.drain();
      if (how == 2) ref.kill();
      CHECK(out.expect<note>().text ==
            actors::make_error_code(errc::actor_stopped).message());
    }
  }

  TEST_CASE("a plain thread that waits is told of the end too") {
    actor_system system{support::quiet(1)};
    auto ref = system.spawn(idle);
    ref.started().get();
    std::error_code error;
    std::thread waits{
        [&] { error = error_of([&] { return ref.ask<get>().get(); }); }};
    ref.stop();
    waits.join();
    CHECK(error == errc::actor_stopped);
    CHECK(error_of([&] { return ref.ask<get>().get(); }) ==
          errc::actor_stopped);
  }

  TEST_CASE("an ask of an actor that never ran gets actor_stopped") {
    actor_system system{support::quiet(1)};
    system.terminate();
    auto ref = system.spawn(idle);
    CHECK(error_of([&] { return ref.ask<get>().get(); }) ==
          errc::actor_stopped);
  }

  // --- would_deadlock --------------------------------------------------------

  TEST_CASE("an actor that asks itself gets would_deadlock") {
    simulation sim;
    std::error_code in_body, in_handler;
    auto ref = sim.spawn(
        [](context<get, note> self, std::error_code* a,
           std::error_code* b) -> task<> {
          auto r = co_await as_result(self.ref().ask<get>());
          *a = r.error();
          while (co_await self.receive([](get) { return 1; },
                                       [&](const note&) -> task<> {
                                         auto s = co_await as_result(
                                             self.ref().ask<get>().within(1h));
                                         *b = s.error();
                                       })) {
          }
        },
        &in_body, &in_handler);
    const auto before = sim.now();
    ref.tell<note>("");
    CHECK(sim.run(ref.ask<get>()) == 1);
    CHECK(in_body == errc::would_deadlock);
    CHECK(in_handler == errc::would_deadlock);
    CHECK(in_body == std::errc::resource_deadlock_would_occur);
    CHECK(not_handled(in_body));
    CHECK(sim.now() == before);
  }

  TEST_CASE("get() on a thread of the runtime gets would_deadlock") {
    for (const auto d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      actors::system_options options = support::quiet();
      options.dispatcher = d;
      actor_system system{options};
      auto other = system.spawn(dictionary);
      const bool refused = system.run(
          [](context<>, actor_ref<get> to) -> task<bool> {
            auto op = to.ask<get>();
            const auto blocked = error_of([&] { return op.get(); });
            const auto timed = error_of([&] { return to.ask<get>().get(1h); });
            const int n = co_await to.ask<get>();
            if (blocked != errc::would_deadlock) co_return false;
            if (timed != errc::would_deadlock) co_return false;
            co_return n == 0;
          },
          actor_ref<get>{other});
      CHECK(refused);
    }
  }

  // --- actor_failed ----------------------------------------------------------

  TEST_CASE("an actor that fails while handling it: actor_failed at once") {
    simulation sim;
    const auto plain = [](context<get> self) -> task<> {
      co_await self.receive([](get) -> int { throw std::runtime_error{"a"}; });
    };
    const auto coroutine = [](context<get> self) -> task<> {
      co_await self.receive([&](get) -> task<int> {
        co_await self.sleep_for(1s);
        throw std::runtime_error{"b"};
      });
    };
    const auto by_value = [](context<get> self) -> task<> {
      auto q = co_await self.receive();
      CHECK(q);
      co_await self.sleep_for(1s);
      throw std::runtime_error{"c"};
    };
    for (const auto& ref :
         {sim.spawn(plain), sim.spawn(coroutine), sim.spawn(by_value)}) {
      sim.expect_failure<std::runtime_error>(ref);
      const auto error = error_of([&] { return sim.run(ref.ask<get>()); });
      CHECK(error == errc::actor_failed);
      CHECK(!not_handled(error));
    }
  }

  TEST_CASE("an actor that fails while it holds the slot: actor_failed") {
    simulation sim;
    auto ref = sim.spawn([](context<get, note> self) -> task<> {
      reply_to<int> kept;
      while (co_await self.receive(
          [&](get, reply_to<int> reply) { kept = std::move(reply); },
          [](const note&) { throw std::runtime_error{"holding it"}; })) {
      }
    });
    auto out = sim.probe<note>();
    sim.spawn(
        [](context<>, actor_ref<get> to, actor_ref<note> tell) -> task<> {
          auto r = co_await as_result(to.ask<get>());
          tell.tell(note{r.error().message()});
        },
        actor_ref<get>{ref}, out.ref());
    sim.run_until_idle();
    sim.expect_failure(ref);
    ref.tell<note>("");
    CHECK(out.expect<note>().text ==
          actors::make_error_code(errc::actor_failed).message());
  }

  TEST_CASE("a handler that throws with the slot in its hand: actor_failed") {
    simulation sim;
    auto ref = sim.spawn([](context<get, flush> self) -> task<> {
      for (;;) {
        bool more = true;
        try {
          more = co_await self.receive(
              [](get, reply_to<int> reply) {
                const reply_to<int> mine = std::move(reply);
                throw std::runtime_error{"plain"};
              },
              [&](flush, reply_to<void> reply) -> task<> {
                const reply_to<void> mine = std::move(reply);
                co_await self.sleep_for(1s);
                throw std::runtime_error{"coroutine"};
              });
        } catch (const std::runtime_error&) {
          continue;
        }
        if (!more) break;
      }
    });
    CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) ==
          errc::actor_failed);
    CHECK(error_of([&] {
            sim.run(ref.ask<flush>());
            return 0;
          }) == errc::actor_failed);
  }

  // --- no_reply --------------------------------------------------------------

  TEST_CASE("killed while handling it: no_reply") {
    simulation sim;
    auto ref = sim.spawn([](context<get> self) -> task<> {
      co_await self.receive([&](get) -> task<int> {
        self.any_ref().kill();
        co_await self.sleep_for(1h);
        co_return 1;
      });
    });
    const auto error = error_of([&] { return sim.run(ref.ask<get>()); });
    CHECK(error == errc::no_reply);
    CHECK(!not_handled(error));
  }

  TEST_CASE("ended while it holds the slot: no_reply") {
    simulation sim;
    auto ref = sim.spawn([](context<get> self) -> task<> {
      reply_to<int> kept;
      co_await self.receive(
          [&](get, reply_to<int> reply) { kept = std::move(reply); });
    });
    CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) == errc::no_reply);
  }

  TEST_CASE("a living holder drops the slot: no_reply") {
    simulation sim;
    auto ref = sim.spawn([](context<get> self) -> task<> {
      while (co_await self.receive([](get, reply_to<int>) {})) {
      }
    });
    const auto before = sim.now();
    CHECK(error_of([&] { return sim.run(ref.ask<get>().within(1h)); }) ==
          errc::no_reply);
    CHECK(sim.now() == before);
    ref.stop();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
  }

  // --- timed_out -------------------------------------------------------------

  TEST_CASE("a timeout ends the ask then, and drops a late reply silently") {
    keeper_state state;
    simulation sim;
    auto ref = sim.spawn(keeper, &state);
    const auto before = sim.now();
    const auto error = error_of(
        [&] { return sim.run(ref.ask<look_up>(long_text).within(5s)); });
    CHECK(error == errc::timed_out);
    CHECK(error == std::errc::timed_out);
    CHECK(!not_handled(error));
    CHECK(sim.now() - before == 5s);
    REQUIRE(state.slots.size() == 1);
    CHECK(state.slots[0].cancelled());
    ref.tell(open_all{});
    sim.run_until_idle();
    CHECK(sim.system().dead_letter_count() == 0);
  }

  TEST_CASE("a reply in time cancels the timeout") {
    simulation sim;
    auto ref = sim.spawn([](context<get> self) -> task<> {
      while (co_await self.receive([&](get) -> task<int> {
        co_await self.sleep_for(4s);
        co_return 4;
      })) {
      }
    });
    CHECK(sim.run(ref.ask<get>().within(5s)) == 4);
    CHECK(sim.run(ref.ask(get{}, 5s)) == 4);
    // The later timeout replaces the earlier.
    CHECK(sim.run(ref.ask<get>().within(1s).within(5s)) == 4);
    sim.advance(1h);
  }

  TEST_CASE("a timeout of zero gives up at once") {
    simulation sim;
    auto ref = sim.spawn(idle);
    CHECK(error_of([&] { return sim.run(ref.ask<get>().within(0s)); }) ==
          errc::timed_out);
  }

  TEST_CASE("a reply and a timeout at the same moment end the ask once") {
    actors::explore(100, [](simulation& sim) {
      auto ref = sim.spawn([](context<get> self) -> task<> {
        while (co_await self.receive([&](get) -> task<int> {
          co_await self.sleep_for(5s);
          co_return 4;
        })) {
        }
      });
      int ends = 0;
      sim.run(
          [](context<>, actor_ref<get> to, int* n) -> task<> {
            auto r = co_await as_result(to.ask<get>().within(5s));
            ++*n;
            if (r ? *r != 4 : r.error() != errc::timed_out)
              throw std::runtime_error{"neither reply nor timeout"};
          },
          ref, &ends);
      sim.advance(10s);
      if (ends != 1) throw std::runtime_error{"not once"};
    });
  }

  TEST_CASE("the waiting thread counts the timeout of get()") {
    keeper_state state;
    actor_system system{support::quiet(1)};
    auto ref = system.spawn(keeper, &state);
    CHECK(error_of([&] { return ref.ask<look_up>(long_text).get(1ms); }) ==
          errc::timed_out);
    CHECK(error_of([&] {
            return ref.ask<look_up>(long_text).within(0s).get();
          }) == errc::timed_out);
    ref.tell(open_all{});
    ref.drain();
    ref.stopped().get();
  }

  TEST_CASE("a negative timeout is a mistake that says so") {
    simulation sim;
    auto ref = sim.spawn(idle);
    const std::string sentence = "a timeout may not be negative";
    CHECK(message_of<std::invalid_argument>(
              [&] { return ref.ask<get>().within(-1s); }) == sentence);
    CHECK(message_of<std::invalid_argument>(
              [&] { return ref.ask(get{}, -1ns); }) == sentence);
    CHECK(message_of<std::invalid_argument>(
              [&] { return ref.ask<get>().get(-1ns); }) == sentence);
    CHECK(message_of<std::invalid_argument>(
              [&] { return ref.stopped().within(-1h); }) == sentence);
  }

  // --- the asker is cancelled ------------------------------------------------

  TEST_CASE("an asker that is stopped gets operation_aborted at once") {
    keeper_state state;
    simulation sim;
    auto ref = sim.spawn(keeper, &state);
    std::error_code seen;
    auto asker = sim.spawn(
        [](context<>, actor_ref<look_up> to, std::error_code* out) -> task<> {
          try {
            co_await to.ask<look_up>(long_text);
          } catch (const std::system_error& e) {
            *out = e.code();
            throw;
          }
        },
        actor_ref<look_up>{ref}, &seen);
    sim.run_until_idle();
    REQUIRE(state.slots.size() == 1);
    CHECK(!state.slots[0].cancelled());
    asker.stop();
    CHECK(sim.run(asker.stopped()) == actors::exit_reason::normal);
    CHECK(seen == aborted());
    CHECK(state.slots[0].cancelled());
    // The late reply goes nowhere.
    CHECK(!state.slots[0].reply(long_text));
  }

  TEST_CASE("an asker that is killed leaves the question to the asked") {
    keeper_state state;
    simulation sim;
    auto ref = sim.spawn(keeper, &state);
    auto asker = sim.spawn(
        [](context<>, actor_ref<look_up> to) -> task<> {
          co_await to.ask<look_up>(long_text);
        },
        actor_ref<look_up>{ref});
    sim.run_until_idle();
    asker.kill();
    CHECK(sim.run(asker.stopped()) == actors::exit_reason::killed);
    ref.tell(open_all{});
    sim.run_until_idle();
    CHECK(state.slots.empty());
  }

  TEST_CASE("an asker that goes before its question is taken") {
    simulation sim;
    int handled = 0;
    auto ref = sim.spawn(
        [](context<look_up> self, int* n) -> task<> {
          co_await self.sleep_for(10s);
          while (co_await self.receive([&](look_up q) {
            ++*n;
            return q.key;
          })) {
          }
        },
        &handled);
    for (const bool kill : {false, true}) {
      auto asker = sim.spawn(
          [](context<>, actor_ref<look_up> to) -> task<> {
            co_await to.ask<look_up>(long_text);
          },
          ref);
      sim.run_until_idle();
      if (kill)
        asker.kill();
      else
        asker.stop();
      sim.run(asker.stopped());
    }
    sim.advance(20s);
    CHECK(handled == 2);  // "perhaps": it was in the mailbox already
  }

  // --- reply_to --------------------------------------------------------------

  TEST_CASE("a reply slot may be kept and answered later") {
    keeper_state state;
    simulation sim;
    auto ref = sim.spawn(keeper, &state);
    auto out = sim.probe<note>();
    for (int i = 0; i != 3; ++i)
      sim.spawn(
          [](context<>, actor_ref<look_up> to, actor_ref<note> tell) -> task<> {
            std::string s = co_await to.ask<look_up>(long_text);
            tell.tell(note{s});
          },
          actor_ref<look_up>{ref}, out.ref());
    out.expect_nothing();
    CHECK(state.slots.size() == 3);
    ref.tell(open_all{});
    for (int i = 0; i != 3; ++i) CHECK(out.expect<note>().text == long_text);
  }

  TEST_CASE("a reply slot may move to another actor, in a message") {
    struct job {
      std::string key;
      reply_to<std::string> reply;
    };
    for (const auto d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      actors::system_options options = support::quiet();
      options.dispatcher = d;
      actor_system system{options};
      auto worker = system.spawn({.placement = actors::placement::on(1)},
                                 [](context<job> self) -> task<> {
                                   while (co_await self.receive([](job j) {
                                     CHECK(j.reply.reply(j.key + " done"));
                                   })) {
                                   }
                                 });
      auto front = system.spawn(
          {.placement = actors::placement::on(0)},
          [](context<look_up> self, actor_ref<job> to) -> task<> {
            while (co_await self.receive(
                [&](look_up q, reply_to<std::string> reply) {
                  to.tell(job{std::move(q.key), std::move(reply)});
                })) {
            }
          },
          worker);
      for (int i = 0; i != 50; ++i)
        CHECK(front.ask<look_up>(long_text).get() == long_text + " done");
      // The worker ends: what it still holds is told at once.
      worker.stop();
      worker.stopped().get();
      CHECK(error_of([&] { return front.ask<look_up>(long_text).get(); }) ==
            errc::no_reply);
    }
  }

  TEST_CASE("a reply is true, or false with the value untouched") {
    simulation sim;
    reply_to<std::unique_ptr<std::string>> slot;
    auto ref = sim.spawn(
        [](context<fetch> self,
           reply_to<std::unique_ptr<std::string>>* to) -> task<> {
          while (co_await self.receive(
              [&](fetch, reply_to<std::unique_ptr<std::string>> reply) {
                *to = std::move(reply);
              })) {
          }
        },
        &slot);
    CHECK(error_of([&] {
            return sim.run(ref.ask<fetch>(long_text).within(1s));
          }) == errc::timed_out);
    CHECK(slot);
    CHECK(slot.cancelled());
    auto value = std::make_unique<std::string>(long_text);
    CHECK(!slot.reply(std::move(value)));
    REQUIRE(value);  // NOLINT: it was not moved from
    CHECK(*value == long_text);
    CHECK(!slot);
    // An empty slot takes nothing either.
    CHECK(!slot.reply(std::move(value)));
    CHECK(value);
    CHECK(!slot.fail(errc::no_reply));
    CHECK(!slot.cancelled());
  }

  TEST_CASE("a reply converts, and says that it was taken") {
    simulation sim;
    auto ref = sim.spawn([](context<look_up, flush> self) -> task<> {
      while (co_await self.receive(
          [](look_up, reply_to<std::string> reply) {
            CHECK(reply);
            CHECK(!reply.cancelled());
            CHECK(reply.reply("literal"));
            CHECK(!reply);
            CHECK(!reply.reply("twice"));
          },
          [](flush, reply_to<void> reply) { CHECK(reply.reply()); })) {
      }
    });
    CHECK(sim.run(ref.ask<look_up>("")) == "literal");
    sim.run(ref.ask<flush>());
  }

  TEST_CASE("a reply slot fails with a code or an exception") {
    simulation sim;
    auto ref = sim.spawn([](context<look_up, get> self) -> task<> {
      while (co_await self.receive(
          [](look_up, reply_to<std::string> reply) {
            CHECK(reply.fail(std::make_error_code(std::errc::io_error)));
            CHECK(!reply);
          },
          [](get, reply_to<int> reply) {
            CHECK(reply.fail(
                std::make_exception_ptr(std::out_of_range{"too far"})));
          })) {
      }
    });
    CHECK(error_of([&] { return sim.run(ref.ask<look_up>("")); }) ==
          std::errc::io_error);
    CHECK(message_of<std::out_of_range>(
              [&] { return sim.run(ref.ask<get>()); }) == "too far");
    CHECK(error_of([&] { return sim.run(ref.ask<look_up>("")); }) ==
          std::errc::io_error);
  }

  TEST_CASE("the slot of a question that was told is empty") {
    simulation sim;
    int handled = 0;
    auto ref = sim.spawn(
        [](context<look_up> self, int* n) -> task<> {
          while (co_await self.receive(
              [&](look_up q, reply_to<std::string> reply) {
                ++*n;
                CHECK(!reply);
                CHECK(!reply.cancelled());
                std::string value = q.key;
                CHECK(!reply.reply(std::move(value)));
                CHECK(value == long_text);  // NOLINT
              })) {
          }
        },
        &handled);
    ref.tell<look_up>(long_text);
    sim.run_until_idle();
    CHECK(handled == 1);
    CHECK(!reply_to<int>{});
  }

  TEST_CASE("a slot may be answered before its handler ends") {
    simulation sim;
    auto ref = sim.spawn([](context<look_up> self) -> task<> {
      while (co_await self.receive(
          [&](const look_up& q, reply_to<std::string> reply) -> task<> {
            reply.reply(q.key);
            co_await self.sleep_for(1s);
            CHECK(q.key == long_text);  // the message is the handler's own
          })) {
      }
    });
    const auto before = sim.now();
    CHECK(sim.run(ref.ask<look_up>(long_text)) == long_text);
    CHECK(sim.now() == before);
    sim.advance(2s);
  }

  TEST_CASE("assigning to a slot keeps the one that was there until the end") {
    simulation sim;
    auto out = sim.probe<note>();
    auto ref = sim.spawn([](context<look_up> self) -> task<> {
      reply_to<std::string> last;
      while (co_await self.receive([&](look_up, reply_to<std::string> reply) {
        last = std::move(reply);  // the earlier asker is told
      })) {
      }
    });
    for (int i = 0; i != 2; ++i)
      sim.spawn(
          [](context<>, actor_ref<look_up> to, actor_ref<note> tell) -> task<> {
            auto r = co_await as_result(to.ask<look_up>(long_text));
            tell.tell(note{r.error().message()});
          },
          ref, out.ref());
    const std::string no_reply =
        actors::make_error_code(errc::no_reply).message();
    CHECK(out.expect<note>().text == no_reply);
    out.expect_nothing();
    ref.stop();
    CHECK(out.expect<note>().text == no_reply);
  }

  // --- exactly once ----------------------------------------------------------

  TEST_CASE("every ask ends exactly once, on every seed") {
    actors::explore(300, [](simulation& sim) {
      struct flaky {
        static task<> actor(context<look_up, note> self) {
          std::vector<reply_to<std::string>> kept;
          int n = 0;
          while (co_await self.receive(
              [&](look_up q, reply_to<std::string> reply) -> task<> {
                switch (++n % 4) {
                  case 0:
                    kept.push_back(std::move(reply));
                    break;
                  case 1:
                    co_await self.sleep_for(2ms);
                    reply.reply(std::move(q.key));
                    break;
                  case 2:
                    reply.reply(std::move(q.key));
                    break;
                  default:
                    break;
                }
              },
              [&](const note&) { kept.clear(); })) {
          }
        }
        static task<> asker(context<>, actor_ref<look_up> to, int* ends) {
          for (int i = 0; i != 5; ++i) {
            const auto limit = std::chrono::milliseconds{1 + i};
            auto r =
                co_await as_result(to.ask<look_up>(long_text).within(limit));
            ++*ends;
            if (r && *r != long_text) throw std::runtime_error{"wrong reply"};
            if (r.error() == aborted()) co_return;
          }
        }
      };
      auto a = sim.spawn(&flaky::actor);
      auto b = sim.spawn(&flaky::actor);
      int ends[6] = {};
      std::vector<actors::any_actor_ref> askers;
      for (int i = 0; i != 6; ++i)
        askers.push_back(sim.spawn(
            &flaky::asker, actor_ref<look_up>{i % 2 ? a : b}, &ends[i]));
      for (int i = 0; i != 30 && sim.step(); ++i) {
      }
      a.stop();
      askers[0].stop();
      askers[1].kill();
      sim.advance(3ms);
      b.kill();
      for (const auto& asker : askers) sim.run(asker.stopped());
      for (int i = 2; i != 6; ++i)
        if (ends[i] != 5) throw std::runtime_error{"an ask has not ended"};
    });
  }

  TEST_CASE("asks against stops, kills and timeouts on threads end once") {
    const int rounds = support::sanitized ? 30 : 150;
    for (const auto d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      std::atomic<int> ends{0};
      std::atomic<int> wrong{0};
      int asked = 0;
      {
        actors::system_options options = support::quiet(3);
        options.dispatcher = d;
        actor_system system{options};
        for (int round = 0; round != rounds; ++round) {
          auto target = system.spawn([](context<look_up> self) -> task<> {
            reply_to<std::string> kept;
            int n = 0;
            while (co_await self.receive(
                [&](look_up q, reply_to<std::string> reply) -> task<> {
                  switch (++n % 3) {
                    case 0:
                      kept = std::move(reply);
                      break;
                    case 1:
                      co_await self.sleep_for(20us);
                      reply.reply(std::move(q.key));
                      break;
                    default:
                      reply.reply(std::move(q.key));
                  }
                })) {
            }
          });
          std::vector<actors::any_actor_ref> askers;
          for (int i = 0; i != 4; ++i) {
            asked += 4;
            askers.push_back(system.spawn(
                [](context<>, actor_ref<look_up> to, std::atomic<int>* end,
                   std::atomic<int>* bad) -> task<> {
                  for (int k = 0; k != 4; ++k) {
                    const auto limit = std::chrono::microseconds{30 * k};
                    auto r = co_await as_result(
                        to.ask<look_up>(long_text).within(limit));
                    ++*end;
                    if (r && *r != long_text) ++*bad;
                  }
                },
                target, &ends, &wrong));
          }
          std::thread blocks{[&] {
            for (int k = 0; k != 4; ++k) {
              try {
                if (target.ask<look_up>(long_text).get(
                        std::chrono::microseconds{50 * k}) != long_text)
                  ++wrong;
              } catch (const std::system_error&) {
              }
              ++ends;
            }
          }};
          asked += 4;
          if (round % 3 == 0) target.stop();
          if (round % 3 == 1) target.kill();
          blocks.join();
          target.stop();
          for (const auto& asker : askers) asker.stopped().get();
        }
      }
      CHECK(wrong == 0);
      CHECK(ends == asked);
    }
  }

  TEST_CASE("askers that are killed while the reply comes leave nothing") {
    const int rounds = support::sanitized ? 100 : 500;
    for (const auto d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      actors::system_options options = support::quiet(2);
      options.dispatcher = d;
      actor_system system{options};
      auto target =
          system.spawn({.placement = actors::placement::on(0)},
                       [](context<fetch> self) -> task<> {
                         while (co_await self.receive([](fetch q) {
                           return std::make_unique<std::string>(q.key);
                         })) {
                         }
                       });
      for (int round = 0; round != rounds; ++round) {
        auto asker = system.spawn(
            {.placement = actors::placement::on(1)},
            [](context<>, actor_ref<fetch> to) -> task<> {
              for (;;) {
                auto got = co_await to.ask<fetch>(long_text);
                if (*got != long_text) throw std::runtime_error{"wrong"};
              }
            },
            target);
        if (round % 2 == 0) std::this_thread::yield();
        if (round % 3 == 0)
          asker.stop();
        else
          asker.kill();
        asker.stopped().get();
      }
    }
  }
}
