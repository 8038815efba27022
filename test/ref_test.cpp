#include "actors/ref.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <compare>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "actors/testing.hpp"
#include "support.hpp"

using actors::actor_ref;
using actors::any_actor_ref;
using actors::context;
using actors::dead_letter;
using actors::errc;
using actors::task;
using support::error_of;

namespace {

const std::string long_text = "a text of more than fifteen letters";

struct get {
  using reply_type = int;
};
struct note {
  std::string text;
};
struct pair {
  pair(std::string a, int b) : first(std::move(a)), second{b} {}
  pair(const pair&) = delete;
  pair(pair&&) = default;
  std::string first;
  int second;
};

/// A message that carries a ref to an actor which takes that very message.
struct introduce {
  actor_ref<introduce, note> who;
};
struct no_braces {
  explicit no_braces(int a, int b = 2) : sum{a + b} {}
  int sum;
};

task<> idle(context<get, note> self) { co_await self.until_stop(); }

task<> collector(context<note> self, std::vector<std::string>* to) {
  while (co_await self.receive([&](note n) { to->push_back(n.text); })) {
  }
}

template <class From, class To>
inline constexpr bool converts = std::is_convertible_v<From, To>;

}  // namespace

TEST_SUITE("ref") {
  using ab = actor_ref<get, note>;
  using ba = actor_ref<note, get>;
  static_assert(converts<ab, ba>);
  static_assert(converts<ba, ab>);
  static_assert(converts<ab, actor_ref<get>>);
  static_assert(converts<ab, actor_ref<>>);
  static_assert(converts<ab, any_actor_ref>);
  static_assert(!converts<actor_ref<get>, ab>);
  static_assert(!converts<any_actor_ref, actor_ref<get>>);
  static_assert(!converts<actor_ref<get>, actor_ref<note>>);
  static_assert(sizeof(ab) == sizeof(void*));
  static_assert(std::is_nothrow_copy_constructible_v<ab>);
  static_assert(std::is_nothrow_move_assignable_v<ab>);

  // --- null ------------------------------------------------------------------

  TEST_CASE("a default-constructed ref is null") {
    actor_ref<get, note> null;
    any_actor_ref any;
    CHECK(!null);
    CHECK(!any);
    CHECK(null == actor_ref<get, note>{});
    CHECK(any == any_actor_ref{null});
    CHECK(null.path() == "(null)");
    CHECK(!any.takes<note>());
    null.stop();  // harmless
    null.drain();
    null.kill();
    any.stop();
  }

  TEST_CASE("a tell to a null ref is a dead letter") {
    actors::simulation sim;
    std::vector<dead_letter> letters;
    sim.system().on_dead_letter(
        [&](const dead_letter& d) { letters.push_back(d); });
    sim.run([](context<>) -> task<> {
      actor_ref<note> null;
      null.tell<note>(long_text);
      any_actor_ref any;
      any.tell(note{long_text});
      co_return;
    });
    REQUIRE(letters.size() == 2);
    for (const dead_letter& d : letters) {
      CHECK(d.why == dead_letter::reason::no_recipient);
      CHECK(!d.recipient);
      CHECK(*d.type == typeid(note));
    }
  }

  TEST_CASE("an ask of a null ref gets actor_stopped") {
    actors::simulation sim;
    actor_ref<get> null;
    CHECK(error_of([&] { return sim.run(null.ask<get>()); }) ==
          errc::actor_stopped);
    CHECK(error_of([&] { return null.ask<get>().get(); }) ==
          errc::actor_stopped);
    CHECK(error_of([&] {
            sim.run(null.started());
            return 0;
          }) == errc::actor_stopped);
    CHECK(error_of([&] { return sim.run(null.stopped()); }) ==
          errc::actor_stopped);
  }

  // --- identity --------------------------------------------------------------

  TEST_CASE("refs compare, order and hash by their actor") {
    actors::simulation sim;
    auto a = sim.spawn(idle);
    auto b = sim.spawn(idle);
    const actor_ref<note> fewer = a;
    const actor_ref<note, get> other_order = a;
    CHECK(a == a);
    CHECK(a != b);
    CHECK(a != actor_ref<get, note>{});
    CHECK(fewer == actor_ref<note>{a});
    CHECK(any_actor_ref{a} == any_actor_ref{fewer});
    CHECK(any_actor_ref{a} == any_actor_ref{other_order});
    CHECK(any_actor_ref{a} != any_actor_ref{b});
    CHECK(a == other_order);
    CHECK((a <=> a) == std::strong_ordering::equal);
    CHECK(((a < b) != (b < a)));
    CHECK((any_actor_ref{a} < any_actor_ref{b}) == (a < b));

    using ref = actor_ref<get, note>;
    CHECK(std::hash<ref>{}(a) == std::hash<ref>{}(ref{a}));
    CHECK(std::hash<ref>{}(a) == std::hash<any_actor_ref>{}(a));
    CHECK(std::hash<ref>{}(a) == std::hash<actor_ref<note>>{}(fewer));
    const std::set<ref> ordered{a, b, a};
    CHECK(ordered.size() == 2);
    const std::unordered_set<any_actor_ref> hashed{a, b, fewer, other_order};
    CHECK(hashed.size() == 2);
    const std::map<ref, int> map{{a, 1}, {b, 2}};
    CHECK(map.at(b) == 2);
  }

  TEST_CASE("copies and moves of a ref keep its actor's memory") {
    actor_ref<note> kept;
    {
      actors::actor_system system{support::quiet(1)};
      std::vector<std::string> seen;
      auto ref = system.spawn(collector, &seen);
      kept = ref;
      actor_ref<note> moved = std::move(ref);
      CHECK(!ref);  // NOLINT: says that it is null now
      CHECK(moved == kept);
      moved.tell<note>("a");
      moved = kept;
      const actor_ref<note>& itself = kept;
      kept = itself;
      kept.drain();
      kept.stopped().get();
      CHECK(seen.size() == 1);
    }
    CHECK(kept);
    kept.tell<note>(long_text);  // its system has ended
    kept.stop();
    kept.kill();
    CHECK(kept.path().starts_with("/user/$"));
    CHECK(kept.stopped().get() == actors::exit_reason::normal);
    kept.started().get();  // it had
  }

  TEST_CASE("a path says where an actor lives") {
    actors::simulation sim;
    auto bank = sim.spawn({.name = "bank"}, [](context<> self) -> task<> {
      auto log = self.spawn({.name = "log"}, idle);
      CHECK(log.path() == "/user/bank/log");
      auto nameless = self.spawn(idle);
      CHECK(nameless.path().starts_with("/user/bank/$"));
      CHECK(nameless.path() != self.spawn(idle).path());
      CHECK(self.path() == "/user/bank");
      CHECK(self.parent().path() == "/user");
      co_await self.until_stop();
    });
    CHECK(bank.path() == "/user/bank");
    sim.run(bank.started());
    CHECK(sim.spawn(idle).path() != sim.spawn(idle).path());
    CHECK(sim.system().user().path() == "/user");
  }

  // --- tell ------------------------------------------------------------------

  TEST_CASE("tell copies a named message and moves a temporary") {
    actors::simulation sim;
    std::vector<std::string> seen;
    auto ref = sim.spawn(collector, &seen);
    const note fixed{long_text};
    note named{long_text};
    ref.tell(fixed);
    ref.tell(named);
    ref.tell(std::move(named));
    ref.tell(note{"temporary"});
    CHECK(fixed.text == long_text);
    sim.run_until_idle();
    CHECK(seen == std::vector<std::string>{long_text, long_text, long_text,
                                           "temporary"});
  }

  TEST_CASE("tell builds a message in place") {
    actors::simulation sim;
    std::vector<std::string> seen;
    auto ref = sim.spawn(
        [](context<note, pair, no_braces, std::vector<int>> self,
           std::vector<std::string>* to) -> task<> {
          while (co_await self.receive(
              [&](const note& n) { to->push_back(n.text); },
              [&](pair p) {
                to->push_back(p.first + std::to_string(p.second));
              },
              [&](no_braces n) { to->push_back(std::to_string(n.sum)); },
              [&](const std::vector<int>& v) {
                to->push_back(std::to_string(v.size()));
              })) {
          }
        },
        &seen);
    ref.tell<note>("aggregate");
    ref.tell<pair>("pair", 1);
    ref.tell<no_braces>(40);
    ref.tell<std::vector<int>>(3u, 7);
    ref.tell<note>();
    sim.run_until_idle();
    CHECK(seen ==
          std::vector<std::string>{"aggregate", "pair1", "42", "3", ""});
  }

  TEST_CASE(
      "tell throws what the message's constructor throws, and only that") {
    struct bomb {
      explicit bomb(int) { throw std::runtime_error{"no message"}; }
    };
    actors::simulation sim;
    int handled = 0;
    auto ref = sim.spawn(
        [](context<bomb, note> self, int* n) -> task<> {
          while (co_await self.receive([&](const auto&) { ++*n; })) {
          }
        },
        &handled);
    CHECK(support::message_of([&] {
            ref.tell<bomb>(1);
            return 0;
          }) == "no message");
    ref.tell<note>("after it");
    sim.run_until_idle();
    CHECK(handled == 1);
    ref.stop();
    sim.run(ref.stopped());
    ref.tell<note>("never throws, though it has ended");
    CHECK(sim.system().dead_letter_count() == 1);
  }

  TEST_CASE("tell names a sender, typed or not") {
    actors::simulation sim;
    auto asks = sim.probe<note>();
    auto ref = sim.spawn([](context<note> self) -> task<> {
      while (co_await self.receive(
          [&](const note& n) { self.sender().tell(note{n.text + "!"}); })) {
      }
    });
    ref.tell(note{"typed"}, asks.ref());
    CHECK(asks.expect<note>().text == "typed!");
    ref.tell(note{"untyped"}, any_actor_ref{asks.ref()});
    CHECK(asks.expect<note>().text == "untyped!");
    any_actor_ref{ref}.tell(note{"through any"}, asks.ref());
    CHECK(asks.expect<note>().text == "through any!");
  }

  TEST_CASE("an any_actor_ref checks at run time what its actor takes") {
    actors::simulation sim;
    std::vector<dead_letter> letters;
    sim.system().on_dead_letter(
        [&](const dead_letter& d) { letters.push_back(d); });
    std::vector<std::string> seen;
    auto ref = sim.spawn(collector, &seen);
    const any_actor_ref any = ref;
    CHECK(any.takes<note>());
    CHECK(!any.takes<int>());
    any.tell(note{long_text});
    any.tell(5);
    sim.run_until_idle();
    CHECK(seen == std::vector<std::string>{long_text});
    REQUIRE(letters.size() == 1);
    CHECK(letters[0].why == dead_letter::reason::not_accepted);
    CHECK(letters[0].recipient == any);
    CHECK(*letters[0].type == typeid(int));
  }

  TEST_CASE("a ref of fewer messages reaches the same actor") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<get, note> self) -> task<> {
      int n = 0;
      while (co_await self.receive([&](get) { return n; },
                                   [&](const note&) { ++n; })) {
      }
    });
    const actor_ref<note> writes = ref;
    const actor_ref<get> reads = ref;
    writes.tell<note>("1");
    writes.tell<note>("2");
    CHECK(sim.run(reads.ask<get>()) == 2);
  }

  TEST_CASE("a ref may be a member of a message that it carries") {
    actors::simulation sim;
    auto polite = [](context<introduce, note> self,
                     std::vector<std::string>* to) -> task<> {
      while (co_await self.receive(
          [&](const introduce& i) { i.who.tell<note>("hello"); },
          [&](const note& n) { to->push_back(n.text); })) {
      }
    };
    std::vector<std::string> a_saw, b_saw;
    auto a = sim.spawn(polite, &a_saw);
    auto b = sim.spawn(polite, &b_saw);
    a.tell(introduce{b});
    b.tell<introduce>(b);  // itself
    sim.run_until_idle();
    CHECK(a_saw.empty());
    CHECK(b_saw == std::vector<std::string>{"hello", "hello"});
  }

  TEST_CASE("messages of one sender arrive in the order they were told") {
    for (std::uint64_t seed = 1; seed != 50; ++seed) {
      actors::simulation sim{seed};
      std::vector<std::string> seen;
      auto to = sim.spawn(collector, &seen);
      auto sender = sim.spawn(
          [](context<note> self, actor_ref<note> next) -> task<> {
            while (co_await self.receive(
                [&](note n) { next.tell(std::move(n)); })) {
            }
          },
          to);
      std::vector<std::string> told;
      for (int i = 0; i != 20; ++i) {
        told.push_back(std::to_string(i));
        sender.tell<note>(told.back());
        if (i % 7 == 0) sim.step();
      }
      sim.run_until_idle();
      CHECK(seen == told);
    }
  }

  TEST_CASE("a stop by any ref stops the actor") {
    actors::simulation sim;
    for (int how = 0; how != 3; ++how) {
      auto ref = sim.spawn(idle);
      sim.run(ref.started());
      const any_actor_ref any = ref;
      const actor_ref<> none = ref;
      if (how == 0) any.stop();
      if (how == 1) none.drain();
      if (how == 2) actor_ref<note>{ref}.kill();
      CHECK(sim.run(any.stopped()) == sim.run(none.stopped()));
    }
  }
}
