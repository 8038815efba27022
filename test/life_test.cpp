// Life and end: what design 2.2 promises, row by row.
#include "actors/actors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::any_actor_ref;
using actors::context;
using actors::errc;
using actors::exit_reason;
using actors::simulation;
using actors::simulation_options;
using actors::task;
using support::at_exit;
using support::contains;
using support::error_of;
using support::stuck;
using texts = std::vector<std::string>;

namespace {

struct note {
  std::string text;
};
struct work {
  using reply_type = int;
};
struct go {};

task<> idle(context<note> self) { co_await self.until_stop(); }

task<> collector(context<note> self, texts* to) {
  while (co_await self.receive([&](note n) { to->push_back(n.text); })) {
  }
}

/// Starts three children, and says when each ends and when itself does.
task<> family(context<> self, texts* log) {
  for (const char* name : {"first", "second", "third"})
    self.spawn(
        {.name = name},
        [](context<> me, std::string who, texts* to) -> task<> {
          co_await me.until_stop();
          co_await me.sleep_for(1s);
          to->push_back(who);
        },
        std::string{name}, log);
  co_await self.until_stop();
  log->push_back("parent");
}

std::error_code stopped_error() { return errc::actor_stopped; }
std::error_code aborted() { return actors::detail::operation_aborted(); }

}  // namespace

TEST_SUITE("life") {
  // --- the body returns, self.stop() -----------------------------------------

  TEST_CASE("an actor whose body returns has ended normally") {
    simulation sim;
    auto ref = sim.spawn([](context<note> self) -> task<> {
      co_await self.receive([](note) {});
    });
    ref.tell<note>("the only one");
    ref.tell<note>("too much");
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(sim.system().dead_letter_count() == 1);
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);  // and stays so
  }

  TEST_CASE("a body that returns closes the mailbox: asks there fail at once") {
    simulation sim;
    auto ref = sim.spawn(
        [](context<work> self) -> task<> { co_await self.sleep_for(1s); });
    CHECK(error_of([&] { return sim.run(ref.ask<work>()); }) ==
          errc::actor_stopped);
  }

  TEST_CASE("self.stop() ends the actor after the message in hand") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          while (co_await self.receive([&](note n) -> task<> {
            self.stop();
            to->push_back("begin " + n.text);
            co_await self.sleep_for(1s);
            to->push_back("end " + n.text);
          })) {
          }
          to->push_back("cleanup");
        },
        &log);
    ref.tell<note>("1");
    ref.tell<note>("2");
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"begin 1", "end 1", "cleanup"});
  }

  TEST_CASE("an actor that stops before it waits never waits") {
    simulation sim;
    bool got = true;
    auto ref = sim.spawn(
        [](context<note> self, bool* to) -> task<> {
          self.stop();
          *to = co_await self.receive([](note) {});
        },
        &got);
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(!got);
  }

  // --- ref.stop() ------------------------------------------------------------

  TEST_CASE("a stop lets the message in hand finish, its awaits included") {
    simulation sim;
    auto oracle = sim.probe<work>();
    texts log;
    auto ref = sim.spawn(
        [](context<work, note> self, actor_ref<work> to, texts* out) -> task<> {
          while (co_await self.receive(
              [&](work) -> task<int> {
                const int n = co_await to.ask<work>();
                co_await self.sleep_for(1s);
                out->push_back("answered");
                co_return n;
              },
              [](const note&) {})) {
          }
          out->push_back("cleanup");
        },
        oracle.ref(), &log);
    auto asker = sim.probe<note>();
    sim.spawn(
        [](context<>, actor_ref<work> to, actor_ref<note> out) -> task<> {
          const int n = co_await to.ask<work>();
          out.tell(note{std::to_string(n)});
        },
        ref, asker.ref());
    auto question = oracle.expect<work>();
    ref.tell<note>("waits, and becomes a dead letter");
    ref.stop();
    sim.run_until_idle();
    CHECK(log.empty());

    // The mailbox is closed: later tells are dead letters, later asks fail.
    ref.tell<note>("later");
    CHECK(sim.system().dead_letter_count() >= 1);
    CHECK(error_of([&] { return sim.run(ref.ask<work>()); }) ==
          errc::actor_stopped);
    CHECK(log.empty());

    question.reply(7);
    CHECK(asker.expect<note>().text == "7");
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"answered", "cleanup"});
    CHECK(sim.system().dead_letter_count() == 2);
  }

  TEST_CASE("a stop gives empty to the receive that waits") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          auto m = co_await self.receive();
          to->push_back(m ? "message" : "empty");
          to->push_back("cleanup");
        },
        &log);
    sim.run(ref.started());
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"empty", "cleanup"});
  }

  TEST_CASE("children end before the cleanup, the last one first") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(family, &log);
    sim.run(ref.started());
    ref.stop();
    const auto before = sim.now();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"third", "second", "first", "parent"});
    CHECK(sim.now() - before == 3s);  // one after the other
  }

  TEST_CASE("children end too when the body has returned") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<> self, texts* to) -> task<> {
          self.spawn(family, to);
          co_await self.sleep_for(1s);
          to->push_back("returns");
        },
        &log);
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"returns", "third", "second", "first", "parent"});
  }

  TEST_CASE("sleep_for outside a handler is cancelled by a stop") {
    simulation sim;
    std::error_code seen;
    auto ref = sim.spawn(
        [](context<note> self, std::error_code* to) -> task<> {
          try {
            co_await self.sleep_for(1h);
          } catch (const std::system_error& e) {
            *to = e.code();
            throw;  // while stopping, this is a normal end
          }
        },
        &seen);
    sim.run_until_idle();
    const auto before = sim.now();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(seen == aborted());
    CHECK(sim.now() == before);
  }

  TEST_CASE("an ask outside a handler is cancelled by a stop") {
    simulation sim;
    auto oracle = sim.probe<work>();
    auto ref = sim.spawn(
        [](context<> self, actor_ref<work> to) -> task<> {
          (void)self;
          co_await to.ask<work>();
        },
        oracle.ref());
    auto question = oracle.expect<work>();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(question.slot.cancelled());
    CHECK(!question.reply(1));
  }

  TEST_CASE("a cancelled operation can be awaited as a result") {
    simulation sim;
    auto oracle = sim.probe<work>();
    texts log;
    auto ref = sim.spawn(
        [](context<> self, actor_ref<work> to, texts* out) -> task<> {
          auto r = co_await actors::as_result(to.ask<work>());
          CHECK(r.error() == aborted());
          // It is told once: the cleanup may await.
          auto slept = co_await actors::as_result(self.sleep_for(1s));
          CHECK(slept);
          out->push_back("cleanup");
        },
        oracle.ref(), &log);
    auto question = oracle.expect<work>();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"cleanup"});
  }

  TEST_CASE("a stop that finds the body between two awaits aborts the next") {
    // It stops itself, so that no await is there to be cancelled.
    simulation sim;
    std::error_code first, second;
    auto ref = sim.spawn(
        [](context<> self, std::error_code* a, std::error_code* b) -> task<> {
          self.stop();
          auto r = co_await actors::as_result(self.sleep_for(1h));
          *a = r.error();
          auto s = co_await actors::as_result(self.sleep_for(1s));
          *b = s.error();
        },
        &first, &second);
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(first == aborted());
    CHECK(second == std::error_code{});
  }

  TEST_CASE("the cleanup may sleep and ask, but not spawn") {
    simulation sim;
    auto store = sim.spawn([](context<work> self) -> task<> {
      while (co_await self.receive([](work) { return 42; })) {
      }
    });
    texts log;
    auto ref = sim.spawn(
        [](context<note> self, actor_ref<work> to, texts* out) -> task<> {
          while (co_await self.receive([](note) {})) {
          }
          co_await self.sleep_for(1s);
          const int saved = co_await to.ask<work>();
          out->push_back(std::to_string(saved));
          out->push_back(error_of([&] { return self.spawn(idle); }).message());
        },
        store, &log);
    sim.run(ref.started());
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"42", stopped_error().message()});
  }

  TEST_CASE("a body that leaves by another exception while stopping failed") {
    simulation sim;
    auto ref = sim.spawn([](context<> self) -> task<> {
      co_await self.until_stop();
      throw std::runtime_error{"in the cleanup"};
    });
    sim.run(ref.started());
    sim.expect_failure<std::runtime_error>(ref);
    ref.stop();
    const exit_reason why = sim.run(ref.stopped());
    CHECK(why == exit_reason::failed);
    CHECK(support::message_of_error(why.error()) == "in the cleanup");
  }

  TEST_CASE("operation_aborted out of a body that nobody stops is a failure") {
    simulation sim;
    auto ref = sim.spawn_once([](context<> self) -> task<> {
      co_await self.sleep_for(1s);
      throw std::system_error{aborted()};
    });
    sim.expect_failure<std::system_error>(ref);
    CHECK(sim.run(ref.stopped()) == exit_reason::failed);
  }

  TEST_CASE("a stop is final, and twice is once") {
    simulation sim;
    int cleanups = 0;
    auto ref = sim.spawn(
        [](context<> self, int* n) -> task<> {
          co_await self.until_stop();
          co_await self.sleep_for(1s);
          ++*n;
        },
        &cleanups);
    sim.run(ref.started());
    ref.stop();
    ref.stop();
    ref.drain();
    sim.run_until_idle();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    ref.stop();
    ref.drain();
    ref.kill();
    sim.run_until_idle();
    CHECK(cleanups == 1);
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
  }

  // --- drain -----------------------------------------------------------------

  TEST_CASE("a drain handles what is in the mailbox and closes it at once") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(collector, &log);
    for (const char* text : {"1", "2", "3"}) ref.tell<note>(text);
    ref.drain();
    ref.tell<note>("too late");
    CHECK(sim.system().dead_letter_count() == 1);
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"1", "2", "3"});
  }

  TEST_CASE("a drain lets handlers await, one message after another") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<note, work> self, texts* to) -> task<> {
          while (co_await self.receive(
              [&](const note& n) -> task<> {
                co_await self.sleep_for(1s);
                to->push_back(n.text);
              },
              [&](work) { return static_cast<int>(to->size()); })) {
          }
          to->push_back("cleanup");
        },
        &log);
    ref.tell<note>("1");
    sim.run_until_idle();
    ref.tell<note>("2");
    ref.tell<note>("3");
    ref.drain();
    CHECK(error_of([&] { return sim.run(ref.ask<work>()); }) ==
          errc::actor_stopped);
    sim.run(ref.stopped());
    CHECK(log == texts{"1", "2", "3", "cleanup"});
  }

  TEST_CASE("a question that is in the mailbox is answered by a drain") {
    simulation sim;
    auto ref = sim.spawn([](context<work> self) -> task<> {
      co_await self.sleep_for(1s);
      while (co_await self.receive([](work) { return 5; })) {
      }
    });
    auto answers = sim.probe<note>();
    sim.spawn(
        [](context<>, actor_ref<work> to, actor_ref<note> out) -> task<> {
          const int n = co_await to.ask<work>();
          out.tell(note{std::to_string(n)});
        },
        ref, answers.ref());
    sim.run_until_idle();
    ref.drain();
    CHECK(answers.expect<note>().text == "5");
  }

  TEST_CASE("a stop during a drain leaves the rest") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          while (co_await self.receive([&](const note& n) -> task<> {
            co_await self.sleep_for(1s);
            to->push_back(n.text);
          })) {
          }
        },
        &log);
    for (const char* text : {"1", "2", "3"}) ref.tell<note>(text);
    ref.drain();
    sim.run_until_idle();
    ref.stop();
    sim.run(ref.stopped());
    CHECK(log == texts{"1"});
    CHECK(sim.system().dead_letter_count() == 2);
  }

  TEST_CASE("an actor that is drained may still spawn") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          while (co_await self.receive(
              [&](note n) { self.spawn(collector, to).tell(std::move(n)); })) {
          }
        },
        &log);
    ref.tell<note>("for a child");
    ref.drain();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    // The child was told, and then stopped: it may have come to its message.
    CHECK(log.size() + sim.system().dead_letter_count() == 1);
  }

  TEST_CASE("a drain ends a body that takes no messages") {
    simulation sim;
    auto waits = sim.spawn(idle);
    auto sleeps = sim.spawn(
        [](context<> self) -> task<> { co_await self.sleep_for(1h); });
    sim.run(waits.started());
    waits.drain();
    sleeps.drain();
    const auto before = sim.now();
    CHECK(sim.run(waits.stopped()) == exit_reason::normal);
    CHECK(sim.run(sleeps.stopped()) == exit_reason::normal);
    CHECK(sim.now() == before);
  }

  // --- kill ------------------------------------------------------------------

  TEST_CASE("a kill destroys the frames innermost first; nothing resumes") {
    simulation sim;
    texts log;
    struct body {
      static task<> inner(context<note>& self, texts& to) {
        const at_exit leave{[&] { to.push_back("inner"); }};
        co_await self.sleep_for(1h);
        to.push_back("resumed");
      }
      static task<> outer(context<note>& self, texts& to) {
        const at_exit leave{[&] { to.push_back("outer"); }};
        try {
          co_await inner(self, to);
        } catch (...) {
          to.push_back("caught");
        }
        to.push_back("resumed");
      }
      static task<> actor(context<note> self, texts* to) {
        const at_exit leave{[&] { to->push_back("body"); }};
        co_await outer(self, *to);
        to->push_back("resumed");
      }
    };
    auto ref = sim.spawn(&body::actor, &log);
    sim.run_until_idle();
    ref.kill();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(log == texts{"inner", "outer", "body"});
  }

  TEST_CASE("a kill destroys a handler that awaits; its asker gets no_reply") {
    simulation sim;
    std::atomic<int> alive{0};
    auto ref = sim.spawn(
        [](context<work> self, std::atomic<int>* n) -> task<> {
          while (co_await self.receive([&](work) -> task<int> {
            support::counted local{*n};
            co_await self.sleep_for(1h);
            co_return 1;
          })) {
          }
        },
        &alive);
    auto watch = sim.probe<note>();
    for (int i = 0; i != 2; ++i)
      sim.spawn(
          [](context<>, actor_ref<work> to, actor_ref<note> out) -> task<> {
            auto r = co_await actors::as_result(to.ask<work>());
            out.tell(note{r.error().message()});
          },
          ref, watch.ref());
    sim.run_until_idle();
    CHECK(alive == 1);
    ref.kill();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(alive == 0);
    // The one in hand was taken, the one in the mailbox was not.
    texts got{watch.expect<note>().text, watch.expect<note>().text};
    std::sort(got.begin(), got.end());
    texts expected{actors::make_error_code(errc::no_reply).message(),
                   actors::make_error_code(errc::actor_stopped).message()};
    std::sort(expected.begin(), expected.end());
    CHECK(got == expected);
  }

  TEST_CASE("a kill cancels an ask that is under way") {
    simulation sim;
    auto oracle = sim.probe<work>();
    auto ref = sim.spawn(
        [](context<>, actor_ref<work> to) -> task<> {
          co_await to.ask<work>();
          FAIL("resumed");
        },
        oracle.ref());
    auto question = oracle.expect<work>();
    ref.kill();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(question.slot.cancelled());
  }

  TEST_CASE("a kill kills the children too") {
    simulation sim;
    texts log;
    std::vector<any_actor_ref> children;
    auto ref = sim.spawn(
        [](context<> self, std::vector<any_actor_ref>* out,
           texts* to) -> task<> {
          for (int i = 0; i != 3; ++i) out->push_back(self.spawn(family, to));
          co_await self.until_stop();
        },
        &children, &log);
    sim.run_until_idle();
    ref.kill();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    for (const auto& c : children)
      CHECK(sim.run(c.stopped()) == exit_reason::killed);
    CHECK(log.empty());
  }

  TEST_CASE("a kill reaches an actor that is stopping, draining or new") {
    simulation sim;
    auto hanging = sim.spawn([](context<> self) -> task<> {
      co_await self.until_stop();
      co_await self.sleep_for(1h);
    });
    sim.run(hanging.started());
    hanging.stop();
    sim.run_until_idle();
    hanging.kill();
    CHECK(sim.run(hanging.stopped()) == exit_reason::killed);

    texts log;
    auto fresh = sim.spawn(collector, &log);
    fresh.tell<note>("never");
    fresh.kill();
    CHECK(sim.run(fresh.stopped()) == exit_reason::killed);
    CHECK(log.empty());
  }

  TEST_CASE("an actor may be killed from its own handler") {
    simulation sim;
    std::atomic<int> alive{0};
    auto ref = sim.spawn(
        [](context<go> self, std::atomic<int>* n) -> task<> {
          support::counted local{*n};
          while (co_await self.receive([&](go) { self.ref().kill(); })) {
          }
          FAIL("resumed");
        },
        &alive);
    ref.tell(go{});
    ref.tell(go{});
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(alive == 0);
  }

  TEST_CASE("a kill destroys the callable and its arguments") {
    simulation sim;
    std::atomic<int> alive{0};
    auto ref = sim.spawn(
        [kept = support::counted{alive}](context<> self, support::counted)
            -> task<> { co_await self.until_stop(); },
        support::counted{alive});
    sim.run(ref.started());
    CHECK(alive >= 2);
    ref.kill();
    sim.run(ref.stopped());
    CHECK(alive == 0);
  }

  // --- what takes too long ---------------------------------------------------

  TEST_CASE("a stop that takes too long becomes a kill, and says where") {
    support::log_lines log;
    simulation sim{simulation_options{.system = {.log = log.sink()}}};
    int line = 0;
    auto ref = sim.spawn(
        {.name = "slow", .stop_timeout = 2s},
        [](context<note> self, int* where) -> task<> {
          co_await self.until_stop();
          *where = __LINE__ + 1;
          co_await self.sleep_for(1h);
        },
        &line);
    sim.run(ref.started());
    ref.stop();
    const auto before = sim.now();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(sim.now() - before == 2s);
    const std::string said = log.find("/user/slow");
    CHECK(contains(said, "a stop takes too long"));
    CHECK(contains(said, "life_test.cpp:" + std::to_string(line)));
  }

  TEST_CASE("a handler that takes too long is named with its message") {
    support::log_lines log;
    simulation sim{
        simulation_options{.system = {.stop_timeout = 3s, .log = log.sink()}}};
    int line = 0;
    auto ref = sim.spawn(
        {.name = "slow"},
        [](context<note, go> self, int* where) -> task<> {
          while (co_await self.receive(
              [&](const note&) -> task<> {
                *where = __LINE__ + 1;
                co_await self.sleep_for(1h);
              },
              [](go) {})) {
          }
        },
        &line);
    ref.tell<note>("in hand");
    ref.tell(go{});
    ref.tell(go{});
    sim.run_until_idle();
    ref.stop();
    const auto before = sim.now();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(sim.now() - before == 3s);
    const std::string said = log.find("a stop takes too long");
    CHECK(contains(said, "life_test.cpp:" + std::to_string(line)));
    CHECK(contains(said, "note in hand"));
    CHECK(contains(said, "2 messages left over"));
    CHECK(sim.system().dead_letter_count() == 2);
  }

  TEST_CASE("an actor that stops in time is not killed") {
    simulation sim;
    auto ref = sim.spawn({.stop_timeout = 2s}, [](context<> self) -> task<> {
      co_await self.until_stop();
      co_await self.sleep_for(1999ms);
    });
    sim.run(ref.started());
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    sim.advance(10s);
  }

  TEST_CASE("an actor's clock does not run while its children are waited for") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        {.stop_timeout = 1s},
        [](context<> self, texts* to) -> task<> {
          self.spawn({.stop_timeout = 10s}, [](context<> me) -> task<> {
            co_await me.until_stop();
            co_await me.sleep_for(9s);
          });
          co_await self.until_stop();
          to->push_back("cleanup");
        },
        &log);
    sim.run(ref.started());
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"cleanup"});
  }

  TEST_CASE("a kill that takes too long abandons the actor") {
    support::log_lines log;
    simulation sim{
        simulation_options{.system = {.kill_timeout = 4s, .log = log.sink()}}};
    stuck* hangs = nullptr;
    std::atomic<int> alive{0};
    int line = 0;
    auto ref = sim.spawn(
        {.name = "lost"},
        [](context<work> self, stuck** to, std::atomic<int>* n,
           int* where) -> task<> {
          support::counted local{*n};
          while (co_await self.receive([&](work) -> task<int> {
            stuck op{to};
            *where = __LINE__ + 1;
            co_await op;
            FAIL("resumed");
            co_return 1;
          })) {
          }
        },
        &hangs, &alive, &line);
    auto watch = sim.probe<note>();
    for (int i = 0; i != 2; ++i)
      sim.spawn(
          [](context<>, actor_ref<work> to, actor_ref<note> out) -> task<> {
            auto r = co_await actors::as_result(to.ask<work>());
            out.tell(note{r.error().message()});
          },
          ref, watch.ref());
    sim.run_until_idle();
    ref.kill();
    const auto before = sim.now();
    CHECK(sim.run(ref.stopped()) == exit_reason::abandoned);
    CHECK(sim.now() - before == 4s);
    // Askers are told, the one in hand as well; the frame is still there.
    (void)watch.expect<note>();
    (void)watch.expect<note>();
    CHECK(alive == 1);
    const std::string said = log.find("/user/lost");
    CHECK(contains(said, "a kill takes too long"));
    CHECK(contains(said, "life_test.cpp:" + std::to_string(line)));
    CHECK(contains(said, "work in hand"));

    sim.terminate();  // returns though the operation has not
    CHECK(alive == 1);
    hangs->complete();
    CHECK(alive == 0);
  }

  TEST_CASE("one that comes back after all before its child is not abandoned") {
    support::log_lines log;
    simulation sim{simulation_options{.system = {.log = log.sink()}}};
    stuck* hangs = nullptr;
    stuck* child_hangs = nullptr;
    std::atomic<int> alive{0};
    auto ref = sim.spawn(
        [](context<> self, stuck** to, stuck** for_child,
           support::counted) -> task<> {
          self.spawn(
              [](context<>, stuck** where) -> task<> {
                stuck op{where};
                co_await op;
              },
              for_child);
          stuck op{to};
          co_await op;
        },
        &hangs, &child_hangs, support::counted{alive});
    sim.run_until_idle();
    CHECK(alive == 2);  // the argument, and the body's copy
    ref.kill();
    sim.run_until_idle();
    REQUIRE(hangs);
    REQUIRE(child_hangs);
    hangs->complete();
    child_hangs->complete();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(alive == 0);
  }

  TEST_CASE("an abandoned child does not keep its parent from ending") {
    simulation sim;
    stuck* hangs = nullptr;
    auto ref = sim.spawn(
        [](context<> self, stuck** to) -> task<> {
          self.spawn(
              [](context<>, stuck** where) -> task<> {
                stuck op{where};
                co_await op;
              },
              to);
          co_await self.until_stop();
        },
        &hangs);
    sim.run_until_idle();
    REQUIRE(hangs);
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    hangs->complete();
  }

  TEST_CASE("an operation that completes late in a kill is in time") {
    simulation sim;
    stuck* hangs = nullptr;
    auto ref = sim.spawn(
        [](context<>, stuck** to) -> task<> {
          stuck op{to};
          co_await op;
          FAIL("resumed");
        },
        &hangs);
    sim.run_until_idle();
    ref.kill();
    sim.run_until_idle();
    hangs->complete();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
  }

  // --- exceptions ------------------------------------------------------------

  TEST_CASE("an exception that leaves the body is a failure") {
    support::log_lines log;
    actors::system_options options = support::quiet(1);
    options.log = log.sink();
    actor_system system{options};
    auto ref = system.spawn({.name = "broken"}, [](context<> self) -> task<> {
      co_await self.sleep_for(1us);
      throw std::runtime_error{"disk full"};
    });
    const exit_reason why = ref.stopped().get();
    CHECK(why == exit_reason::failed);
    CHECK(why.to_string() == "failed: std::runtime_error: disk full");
    CHECK(contains(log.find("/user/broken"), "disk full"));
  }

  TEST_CASE("a failure disturbs nobody else") {
    simulation sim;
    auto broken = sim.spawn([](context<go> self) -> task<> {
      while (co_await self.receive([](go) { throw 1; })) {
      }
    });
    texts log;
    auto well = sim.spawn(collector, &log);
    sim.inject(broken, std::runtime_error{"first"});
    sim.expect_failure<std::runtime_error>(broken);
    well.tell<note>("a");
    sim.run(broken.stopped());
    well.tell<note>("b");
    sim.run_until_idle();
    CHECK(log == texts{"a", "b"});
  }

  TEST_CASE("a failure ends the children and fails what is in the mailbox") {
    simulation sim;
    texts log;
    auto ref = sim.spawn_once(
        [](context<note, work> self, texts* to) -> task<> {
          self.spawn(family, to);
          co_await self.receive(
              [](const note&) { throw std::runtime_error{"broken"}; },
              [](work) { return 1; });
        },
        &log);
    sim.run_until_idle();
    sim.expect_failure(ref);
    ref.tell<note>("in hand");
    ref.tell<note>("waits");
    CHECK(error_of([&] { return sim.run(ref.ask<work>()); }) ==
          errc::actor_stopped);
    CHECK(sim.run(ref.stopped()) == exit_reason::failed);
    CHECK(log == texts{"third", "second", "first", "parent"});
    CHECK(sim.system().dead_letter_count() >= 1);
  }

  // --- refs and ends ---------------------------------------------------------

  TEST_CASE("a ref outlives its actor and its system") {
    actor_ref<note, work> kept;
    {
      actor_system system{support::quiet(1)};
      kept = system.spawn([](context<note, work> self) -> task<> {
        co_await self.until_stop();
      });
    }
    kept.tell<note>("nobody is there");
    kept.stop();
    kept.kill();
    CHECK(error_of([&] { return kept.ask<work>().get(); }) ==
          errc::actor_stopped);
    CHECK(kept.stopped().get() == exit_reason::normal);
  }

  TEST_CASE("dropping the last ref does not stop an actor") {
    simulation sim;
    auto out = sim.probe<note>();
    sim.spawn(
        [](context<> self, actor_ref<note> to) -> task<> {
          co_await self.sleep_for(10s);
          to.tell<note>("still here");
          co_await self.until_stop();
        },
        out.ref());
    CHECK(out.expect<note>().text == "still here");
  }

  TEST_CASE("a spawn on a system that has ended gives an ended ref") {
    std::atomic<int> alive{0};
    actor_system system{support::quiet(1)};
    system.terminate();
    auto ref = system.spawn(
        [](context<note, work> self, support::counted) -> task<> {
          co_await self.until_stop();
        },
        support::counted{alive});
    CHECK(alive == 0);
    CHECK(ref.stopped().get() == exit_reason::not_started);
    CHECK(error_of([&] {
            ref.started().get();
            return 0;
          }) == errc::actor_stopped);
    CHECK(error_of([&] { return ref.ask<work>().get(); }) ==
          errc::actor_stopped);
    ref.tell<note>("late");
    CHECK(system.dead_letter_count() == 1);
    system.terminate();  // again
  }

  TEST_CASE("a spawn while its system ends has an end") {
    // Many threads spawn while another terminates: each ref ends somehow.
    for (int round = 0; round != 20; ++round) {
      actor_system system{support::quiet(2)};
      std::vector<std::thread> threads;
      std::atomic<int> ended{0};
      for (int t = 0; t != 2; ++t)
        threads.emplace_back([&] {
          for (int i = 0; i != 50; ++i) {
            auto ref = system.spawn(idle);
            ref.stop();
            const exit_reason why = ref.stopped().get();
            if (why == exit_reason::normal || why == exit_reason::not_started)
              ++ended;
          }
        });
      system.terminate();
      for (auto& t : threads) t.join();
      CHECK(ended == 100);
    }
  }

  // --- started, stopped ------------------------------------------------------

  TEST_CASE("started() is ready at the first receive, serve or until_stop") {
    simulation sim;
    auto out = sim.probe<note>();
    const auto watch = [&](const any_actor_ref& ref, const char* name) {
      sim.spawn(
          [](context<>, any_actor_ref who, actor_ref<note> to,
             std::string text) -> task<> {
            co_await who.started();
            to.tell(note{text});
          },
          ref, out.ref(), std::string{name});
    };
    watch(sim.spawn([](context<note> self) -> task<> {
      co_await self.sleep_for(1s);
      co_await self.receive();
    }),
          "receive");
    watch(sim.spawn([](context<note> self) -> task<> {
      co_await self.sleep_for(2s);
      co_await self.serve([](note) {});
    }),
          "serve");
    watch(sim.spawn([](context<note> self) -> task<> {
      co_await self.sleep_for(3s);
      co_await self.until_stop();
    }),
          "until_stop");
    watch(sim.spawn([](context<note> self) -> task<> {
      co_await self.sleep_for(4s);
      self.ready();
      co_await self.sleep_for(1h);
    }),
          "ready");
    for (const char* name : {"receive", "serve", "until_stop", "ready"}) {
      out.expect_nothing();
      sim.advance(1s);
      CHECK(out.expect<note>().text == name);
    }
  }

  TEST_CASE("an actor without messages is ready at its first suspension") {
    simulation sim;
    auto ref = sim.spawn(
        [](context<> self) -> task<> { co_await self.sleep_for(1h); });
    const auto before = sim.now();
    sim.run(ref.started());
    CHECK(sim.now() == before);
  }

  TEST_CASE("started() throws what the start threw") {
    simulation sim;
    auto ref = sim.spawn([](context<note> self) -> task<> {
      co_await self.sleep_for(1s);
      throw std::runtime_error{"no database"};
    });
    sim.expect_failure(ref);
    CHECK(support::message_of<std::runtime_error>([&] {
            sim.run(ref.started());
            return 0;
          }) == "no database");
  }

  TEST_CASE("started() of an actor that was stopped first says so") {
    simulation sim;
    auto ref = sim.spawn([](context<note> self) -> task<> {
      co_await self.sleep_for(1h);
      co_await self.receive();
    });
    auto out = sim.probe<note>();
    sim.spawn(
        [](context<>, any_actor_ref who, actor_ref<note> to) -> task<> {
          auto r = co_await actors::as_result(who.started());
          to.tell(note{r.error().message()});
        },
        ref, out.ref());
    sim.run_until_idle();
    ref.stop();
    CHECK(out.expect<note>().text == stopped_error().message());
  }

  TEST_CASE("stopped() comes after the cleanup, to all who wait") {
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<> self, texts* to) -> task<> {
          co_await self.until_stop();
          co_await self.sleep_for(1s);
          to->push_back("cleanup");
        },
        &log);
    for (int i = 0; i != 3; ++i)
      sim.spawn(
          [](context<>, any_actor_ref who, texts* to) -> task<> {
            const exit_reason why = co_await who.stopped();
            to->push_back(why.to_string());
          },
          ref, &log);
    sim.run_until_idle();
    ref.stop();
    sim.run(ref.stopped());
    sim.run_until_idle();
    CHECK(log == texts{"cleanup", "normal", "normal", "normal"});
  }

  TEST_CASE("stopped() with a timeout times out, and harms nobody") {
    simulation sim;
    auto ref = sim.spawn(idle);
    CHECK(error_of([&] { return sim.run(ref.stopped().within(1s)); }) ==
          errc::timed_out);
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
  }

  // --- systems ---------------------------------------------------------------

  TEST_CASE("the destructor drains: what was told is handled, 1,000 times") {
    for (int i = 0; i != 1'000; ++i) {
      int handled = 0;
      {
        actors::system_options options = support::quiet(i % 2 == 0 ? 1 : 2);
        options.dispatcher = i % 4 < 2 ? actors::dispatcher::pool()
                                       : actors::dispatcher::shared();
        actor_system system{options};
        auto ref = system.spawn(
            [](context<note> self, int* n) -> task<> {
              while (co_await self.receive([&](const note&) { ++*n; })) {
              }
            },
            &handled);
        for (int k = 0; k != 10; ++k) ref.tell<note>("");
      }
      REQUIRE(handled == 10);
    }
  }

  TEST_CASE("the destructor drains a pipeline from its head to its tail") {
    for (int i = 0; i != 50; ++i) {
      texts log;
      {
        actor_system system{support::quiet(2)};
        // The tail is there first, so it is drained last.
        actor_ref<note> next = system.spawn(collector, &log);
        for (int k = 0; k != 3; ++k)
          next = system.spawn(
              [](context<note> self, actor_ref<note> to) -> task<> {
                while (co_await self.receive(
                    [&](note n) { to.tell(std::move(n)); })) {
                }
              },
              next);
        for (int k = 0; k != 5; ++k) next.tell(note{std::to_string(k)});
      }
      REQUIRE(log == texts{"0", "1", "2", "3", "4"});
    }
  }

  TEST_CASE("a destructor that an exception runs does not wait for messages") {
    int handled = 0;
    constexpr int all = 5'000;
    try {
      support::flag busy;
      auto options = support::quiet(1);
      options.stop_timeout = 1h;  // enough for all of them
      actor_system system{options};
      auto ref = system.spawn(
          [](context<note> self, int* n, support::flag* f) -> task<> {
            while (co_await self.receive([&](note) -> task<> {
              f->set();
              co_await self.sleep_for(1ms);
              ++*n;
            })) {
            }
          },
          &handled, &busy);
      for (int k = 0; k != all; ++k) ref.tell<note>("");
      busy.wait();
      throw std::runtime_error{"unwinds"};
    } catch (const std::runtime_error&) {
    }
    CHECK(handled >= 1);
    CHECK(handled < all);
  }

  TEST_CASE("terminate ends all actors, and comes back") {
    actor_system system{support::quiet(2)};
    std::vector<any_actor_ref> all;
    for (int i = 0; i != 20; ++i) all.push_back(system.spawn(idle));
    system.terminate();
    for (const auto& ref : all) {
      const exit_reason why = ref.stopped().get();
      CHECK(why == exit_reason::normal);
    }
    system.terminate();
    system.wait();
  }

  TEST_CASE("terminate by an actor is a request, never a hang") {
    for (const auto d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      actors::system_options options = support::quiet(2);
      options.dispatcher = d;
      actor_system system{options};
      std::error_code waited;
      auto ref = system.spawn(
          [](context<go> self, std::error_code* to) -> task<> {
            while (co_await self.receive([&](go) {
              self.system().terminate();
              *to = error_of([&] {
                self.system().wait();
                return 0;
              });
            })) {
            }
          },
          &waited);
      ref.tell(go{});
      system.wait();
      CHECK(ref.stopped().get() == exit_reason::normal);
      CHECK(waited == errc::would_deadlock);
    }
  }

  TEST_CASE("async_terminate is ready when all have ended") {
    actor_system system{support::quiet(2)};
    auto ref = system.spawn(idle);
    system.async_terminate().get();
    CHECK(ref.stopped().get() == exit_reason::normal);
  }

  TEST_CASE("an actor may destroy its system") {
    support::flag gone;
    {
      actors::system_options options = support::quiet(2);
      // Goes with the last of the system.
      options.log = [last = std::shared_ptr<void>{nullptr, [&](void*) {
                                                    gone.set();
                                                  }}](std::string_view) {};
      auto system = std::make_unique<actor_system>(options);
      options.log.reset();
      actor_system& alias = *system;
      auto ref = alias.spawn_once(
          [](context<go> self, std::unique_ptr<actor_system> owned) -> task<> {
            co_await self.receive([&](go) { owned.reset(); });
          },
          std::move(system));
      ref.tell(go{});
    }
    gone.wait();
  }

  TEST_CASE("run gives the value of the main actor, or what it threw") {
    actor_system system{support::quiet(1)};
    CHECK(system.run(
              [](context<> self, int n) -> task<std::string> {
                co_await self.sleep_for(1us);
                co_return std::to_string(n);
              },
              42) == "42");
    CHECK(support::message_of<std::runtime_error>([&] {
            return system.run([](context<>) -> task<int> {
              throw std::runtime_error{"from main"};
              co_return 1;
            });
          }) == "from main");
    CHECK(error_of([&] {
            return system.run([](context<> self) -> task<int> {
              self.any_ref().kill();
              co_await self.until_stop();
              co_return 1;
            });
          }) == errc::actor_stopped);
    const bool nested = system.run([](context<> self) -> task<bool> {
      co_return error_of([&] {
        return self.system().run([](context<>) -> task<int> { co_return 1; });
      }) == errc::would_deadlock;
    });
    CHECK(nested);
    system.terminate();
    CHECK(error_of([&] {
            return system.run([](context<>) -> task<int> { co_return 1; });
          }) == errc::actor_stopped);
  }

  TEST_CASE("ends that race end each actor once") {
    const int rounds = support::sanitized ? 50 : 300;
    for (int round = 0; round != rounds; ++round) {
      actor_system system{support::quiet(2)};
      std::atomic<int> alive{0};
      std::vector<any_actor_ref> refs;
      for (int i = 0; i != 6; ++i)
        refs.push_back(system.spawn(
            [](context<go> self, support::counted) -> task<> {
              for (int c = 0; c != 2; ++c)
                self.spawn(
                    [](context<> me) -> task<> { co_await me.until_stop(); });
              while (co_await self.receive(
                  [&](go) -> task<> { co_await self.sleep_for(1us); })) {
              }
            },
            support::counted{alive}));
      std::vector<std::thread> threads;
      for (unsigned t = 0; t != 3; ++t)
        threads.emplace_back([&, t] {
          for (unsigned i = 0; i != 6; ++i) {
            any_actor_ref& ref = refs[i];
            ref.tell(go{});
            switch ((t + i + static_cast<unsigned>(round)) % 4) {
              case 0:
                ref.stop();
                break;
              case 1:
                ref.drain();
                break;
              case 2:
                ref.kill();
                break;
              default:
                break;
            }
          }
        });
      for (auto& t : threads) t.join();
      for (const auto& ref : refs) {
        ref.stop();
        const exit_reason why = ref.stopped().get();
        const bool good =
            why == exit_reason::normal || why == exit_reason::killed;
        REQUIRE(good);
      }
      REQUIRE(alive == 0);
    }
  }
}
