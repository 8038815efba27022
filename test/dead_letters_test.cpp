#include "actors/dead_letter.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "actors/testing.hpp"
#include "support.hpp"

using actors::actor_ref;
using actors::any_actor_ref;
using actors::context;
using actors::dead_letter;
using actors::task;
using support::contains;
using reason = actors::dead_letter::reason;

namespace letters {

struct note {
  std::string text;
};
struct get {
  using reply_type = int;
};

task<> idle(context<note, get> self) { co_await self.until_stop(); }

}  // namespace letters

using letters::get;
using letters::idle;
using letters::note;

namespace {

/// A simulation that keeps its dead letters and its log.
struct fixture {
  support::log_lines log;
  actors::simulation sim{actors::simulation_options{
      .system = {.log = log.sink(), .dead_letters_logged_per_second = 3}}};
  std::vector<dead_letter> seen;
  std::uint64_t subscription = sim.system().on_dead_letter(
      [this](const dead_letter& d) { seen.push_back(d); });

  actor_ref<note, get> ended() {
    auto ref = sim.spawn({.name = "gone"}, idle);
    ref.stop();
    sim.run(ref.stopped());
    return ref;
  }
};

}  // namespace

TEST_SUITE("dead_letters") {
  TEST_CASE("a tell to an actor that has ended is a dead letter") {
    fixture f;
    auto ref = f.ended();
    auto sender = f.sim.probe<note>("sender");
    ref.tell(note{"late"}, sender.ref());
    ref.tell<note>("without a sender");
    REQUIRE(f.seen.size() == 2);
    CHECK(f.seen[0].why == reason::actor_stopped);
    CHECK(*f.seen[0].type == typeid(note));
    CHECK(f.seen[0].recipient == ref);
    CHECK(f.seen[0].sender == sender.ref());
    CHECK(!f.seen[1].sender);
    CHECK(f.sim.system().dead_letter_count() == 2);
    CHECK(f.seen[0].message_name() == "letters::note");
    CHECK(f.seen[0].to_string() ==
          "dead letter: letters::note to /user/gone from /user/sender, which "
          "has ended");
  }

  TEST_CASE("what is left in a mailbox becomes dead letters, in order") {
    fixture f;
    auto ref = f.sim.spawn(
        [](context<note, int> self) -> task<> { co_await self.until_stop(); });
    f.sim.run(ref.started());
    ref.tell<note>("1");
    ref.tell(2);
    ref.tell<note>("3");
    ref.stop();
    f.sim.run(ref.stopped());
    REQUIRE(f.seen.size() == 3);
    CHECK(*f.seen[0].type == typeid(note));
    CHECK(*f.seen[1].type == typeid(int));
    CHECK(*f.seen[2].type == typeid(note));
    for (const auto& d : f.seen) CHECK(d.why == reason::actor_stopped);
  }

  TEST_CASE("a message for a killed actor is a dead letter") {
    fixture f;
    auto ref = f.sim.spawn(idle);
    f.sim.run(ref.started());
    ref.tell<note>("1");
    ref.kill();
    ref.tell<note>("2");
    f.sim.run(ref.stopped());
    CHECK(f.seen.size() == 2);
  }

  TEST_CASE("a question that was told is a dead letter; asked, it is not") {
    fixture f;
    auto ref = f.ended();
    ref.tell(get{});
    CHECK(f.seen.size() == 1);
    CHECK(support::error_of([&] { return f.sim.run(ref.ask<get>()); }) ==
          actors::errc::actor_stopped);
    CHECK(f.seen.size() == 1);
  }

  TEST_CASE("a message that was handled is none") {
    fixture f;
    auto ref = f.sim.spawn([](context<note> self) -> task<> {
      while (co_await self.receive([](note) {})) {
      }
    });
    for (int i = 0; i != 10; ++i) ref.tell<note>("");
    ref.drain();
    f.sim.run(ref.stopped());
    CHECK(f.sim.system().dead_letter_count() == 0);
  }

  TEST_CASE("an actor may subscribe, until it ends") {
    fixture f;
    auto reader = f.sim.probe<dead_letter>();
    f.sim.system().on_dead_letter(reader.ref());
    auto ref = f.ended();
    ref.tell<note>("late");
    CHECK(reader.expect<dead_letter>().recipient == ref);
    reader.ref().stop();
    f.sim.run(reader.ref().stopped());
    ref.tell<note>("later");  // no dead letter about a dead letter
    f.sim.run_until_idle();
    CHECK(f.sim.system().dead_letter_count() == 2);
  }

  TEST_CASE("a subscription ends when it is told to") {
    fixture f;
    auto ref = f.ended();
    ref.tell<note>("");
    f.sim.system().unsubscribe(f.subscription);
    f.sim.system().unsubscribe(4711);
    ref.tell<note>("");
    CHECK(f.seen.size() == 1);
    CHECK(f.sim.system().dead_letter_count() == 2);
  }

  TEST_CASE("a subscriber may tell, subscribe and end its subscription") {
    fixture f;
    auto ref = f.ended();
    std::uint64_t own = 0;
    int calls = 0;
    own = f.sim.system().on_dead_letter([&](const dead_letter&) {
      ++calls;
      f.sim.system().unsubscribe(own);
      f.sim.system().on_dead_letter([](const dead_letter&) {});
      ref.tell<note>("a dead letter about one");
    });
    ref.tell<note>("");
    ref.tell<note>("");
    CHECK(calls == 1);
    CHECK(f.seen.size() == 3);
  }

  TEST_CASE("dead letters are logged, at a limited rate, and all counted") {
    fixture f;
    auto ref = f.ended();
    for (int i = 0; i != 100; ++i) ref.tell<note>("");
    CHECK(f.sim.system().dead_letter_count() == 100);
    CHECK(f.seen.size() == 100);
    // A second that ends while this runs gives three more, and a line.
    CHECK(f.log.size() >= 3);
    CHECK(f.log.size() < 20);
    CHECK(contains(f.log.find("dead letter"), "/user/gone"));
  }

  TEST_CASE("the reasons are told apart in a line") {
    fixture f;
    auto ref = f.sim.spawn({.name = "here"}, idle);
    any_actor_ref{ref}.tell(5);
    f.sim.run([](context<>) -> task<> {
      actor_ref<note> null;
      null.tell<note>("");
      co_return;
    });
    REQUIRE(f.seen.size() == 2);
    CHECK(f.seen[0].to_string() ==
          "dead letter: int to /user/here, which does not take it");
    CHECK(f.seen[1].to_string() ==
          "dead letter: letters::note to (null): there is no recipient");
    CHECK(dead_letter{}.message_name() == "(unknown)");
  }

  TEST_CASE("threads that tell at once lose no dead letter") {
    actors::actor_system system{support::quiet()};
    std::atomic<int> seen{0};
    system.on_dead_letter([&](const dead_letter&) { ++seen; });
    auto ref = system.spawn(idle);
    ref.stop();
    ref.stopped().get();
    constexpr int each = 500;
    std::vector<std::thread> threads;
    for (int t = 0; t != 3; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i != each; ++i) {
          ref.tell<note>("");
          if (i % 50 == 0)
            system.unsubscribe(system.on_dead_letter([](const auto&) {}));
        }
      });
    for (auto& t : threads) t.join();
    CHECK(seen == 3 * each);
    CHECK(system.dead_letter_count() == 3 * each);
  }

  TEST_CASE("an actor that has subscribed does not keep its system") {
    // Whose memory would be left: a sanitizer tells.
    actors::actor_system system{support::quiet(1)};
    system.on_dead_letter(system.spawn(
        [](actors::context<actors::dead_letter> self) -> actors::task<> {
          co_await self.until_stop();
        }));
    system.on_event(system.spawn(
        [](actors::context<actors::lifecycle_event> self) -> actors::task<> {
          co_await self.until_stop();
        }));
    system.terminate();
    system.on_dead_letter(actors::actor_ref<actors::dead_letter>{});
  }

  TEST_CASE("nor does a function that has a ref, once its owner has let go") {
    actors::actor_system system{support::quiet(1)};
    const auto log =
        system.spawn([](actors::context<std::string> self) -> actors::task<> {
          co_await self.until_stop();
        });
    system.on_dead_letter(
        [log](const actors::dead_letter& d) { log.tell(d.to_string()); });
    system.on_event([log](const actors::lifecycle_event&) { (void)log; });
    {
      actors::simulation sim;
      const auto other =
          sim.spawn([](actors::context<int> self) -> actors::task<> {
            co_await self.until_stop();
          });
      sim.system().on_event([other](const actors::lifecycle_event&) {});
    }
  }

  TEST_CASE("what a subscriber owns may tell when it is dropped") {
    struct teller {
      ~teller() { to.tell(1); }
      actors::actor_ref<int> to;
    };
    actors::simulation sim;
    auto gone =
        sim.spawn([](actors::context<int>) -> actors::task<> { co_return; });
    sim.run(gone.stopped());
    auto owned = std::make_shared<teller>();
    owned->to = gone;
    const auto number =
        sim.system().on_dead_letter([owned](const actors::dead_letter&) {});
    owned.reset();
    sim.system().unsubscribe(number);  // a dead letter comes of it
    CHECK(sim.system().dead_letter_count() == 1);
  }
}
