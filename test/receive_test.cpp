#include "actors/receive.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::context;
using actors::errc;
using actors::task;
using support::error_of;
using support::message_of;

namespace {

/// Longer than a string keeps in itself, so that each copy owns memory.
const std::string long_text = "a text of more than fifteen letters";

struct get {
  using reply_type = int;
};
struct look_up {
  using reply_type = std::string;
  std::string key;
};
struct flush {
  using reply_type = void;
};
struct note {
  std::string text;
};
struct number {
  int value;
};
struct ack {
  int id;
};
struct dial {
  std::string who;
};
struct quit {};

using texts = std::vector<std::string>;

}  // namespace

/// A foreign type as a question.
template <>
struct actors::reply_of<std::pair<int, int>> {
  using type = int;
};

TEST_SUITE("receive") {
  // --- handlers --------------------------------------------------------------

  TEST_CASE("a handler takes M, M&, const M& or M&&") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          co_await self.receive([&](note n) { to->push_back(n.text); });
          co_await self.receive([&](note& n) { to->push_back(n.text); });
          co_await self.receive([&](const note& n) { to->push_back(n.text); });
          co_await self.receive(
              [&](note&& n) { to->push_back(std::move(n.text)); });
          co_await self.receive([&](const note n) { to->push_back(n.text); });
        },
        &seen);
    texts told;
    for (int i = 0; i != 5; ++i) {
      told.push_back(long_text + std::to_string(i));
      ref.tell<note>(told.back());
    }
    sim.run(ref.stopped());
    CHECK(seen == told);
  }

  TEST_CASE("a message goes to the handler of its exact type") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<int, double, std::string, char> self, texts* to) -> task<> {
          while (co_await self.receive(
              [&](double) { to->push_back("double"); },
              [&](char) { to->push_back("char"); },
              [&](int) { to->push_back("int"); },
              [&](const std::string&) { to->push_back("string"); })) {
          }
        },
        &seen);
    ref.tell(1);
    ref.tell('c');
    ref.tell(1.5);
    ref.tell<std::string>("s");
    sim.run_until_idle();
    CHECK(seen == texts{"int", "char", "double", "string"});
  }

  TEST_CASE("one generic handler takes the rest") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<int, double, std::string> self, texts* to) -> task<> {
          while (co_await self.receive(
              [&](auto&& m) {
                to->push_back(std::is_same_v<decltype(m), double&&>
                                  ? "generic double"
                                  : "generic string");
              },
              [&](int) { to->push_back("int"); })) {
          }
        },
        &seen);
    ref.tell(1.5);
    ref.tell(1);
    ref.tell<std::string>("s");
    sim.run_until_idle();
    CHECK(seen == texts{"generic double", "int", "generic string"});
  }

  TEST_CASE("a generic handler may take by reference, and answer") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<get, look_up> self) -> task<> {
      while (co_await self.receive([](const auto& m) {
        if constexpr (std::is_same_v<decltype(m), const look_up&>)
          return m.key + "!";
        else
          return 7;
      })) {
      }
    });
    CHECK(sim.run(ref.ask<get>()) == 7);
    CHECK(sim.run(ref.ask<look_up>(long_text)) == long_text + "!");
  }

  TEST_CASE("a handler may be a function, or an object with a name") {
    struct adder {
      int sum = 0;
      void operator()(number n) { sum += n.value; }
    };
    static int from_function;
    from_function = 0;
    actors::simulation sim;
    int from_object = 0;
    auto ref = sim.spawn(
        [](context<number, quit> self, int* to) -> task<> {
          adder a;
          while (co_await self.receive(
              a, +[](quit) { ++from_function; })) {
          }
          *to = a.sum;
        },
        &from_object);
    ref.tell(number{1});
    ref.tell(quit{});
    ref.tell(number{2});
    ref.drain();
    sim.run(ref.stopped());
    CHECK(from_object == 3);
    CHECK(from_function == 1);
  }

  TEST_CASE("messages that only move are moved to the handler") {
    actors::simulation sim;
    using box = std::unique_ptr<std::string>;
    texts seen;
    auto ref = sim.spawn(
        [](context<box> self, texts* to) -> task<> {
          while (co_await self.receive([&](box b) { to->push_back(*b); })) {
          }
        },
        &seen);
    ref.tell(std::make_unique<std::string>(long_text));
    ref.tell<box>(new std::string{"in place"});
    sim.run_until_idle();
    CHECK(seen == texts{long_text, "in place"});
  }

  TEST_CASE("a message that owns memory is destroyed once, handled or not") {
    std::atomic<int> alive{0};
    {
      actors::simulation sim;
      auto ref = sim.spawn([](context<support::counted> self) -> task<> {
        co_await self.receive([](support::counted) {});
        co_await self.receive([](const support::counted&) {});
        co_await self.until_stop();
      });
      for (int i = 0; i != 4; ++i) ref.tell<support::counted>(alive);
      CHECK(alive == 4);
      sim.run_until_idle();
      CHECK(alive == 2);
      ref.stop();
      sim.run(ref.stopped());
      CHECK(alive == 0);
      ref.tell<support::counted>(alive);
      CHECK(alive == 0);
    }
    CHECK(alive == 0);
  }

  TEST_CASE("64 handlers in one actor each get their message") {
    actors::simulation sim;
    std::vector<std::size_t> seen(64);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      auto ref = sim.spawn(
          [](context<std::integral_constant<std::size_t, I>...> self,
             std::vector<std::size_t>* to) -> task<> {
            while (co_await self.receive(
                [&](std::integral_constant<std::size_t, I> i) {
                  ++(*to)[i];
                }...)) {
            }
          },
          &seen);
      (ref.tell(std::integral_constant<std::size_t, I>{}), ...);
      sim.run_until_idle();
    }
    (std::make_index_sequence<64>{});
    CHECK(seen == std::vector<std::size_t>(64, 1));
  }

  // --- answers ---------------------------------------------------------------

  TEST_CASE("the value returned answers the ask") {
    actors::simulation sim;
    auto ref = sim.spawn(
        [](context<get, look_up, std::pair<int, int>> self) -> task<> {
          int n = 0;
          while (co_await self.receive(
              [&](get) { return ++n; },
              [](const look_up& q) { return q.key.c_str() + 2; },  // converts
              [](std::pair<int, int> p) { return p.first * p.second; })) {
          }
        });
    CHECK(sim.run(ref.ask<get>()) == 1);
    CHECK(sim.run(ref.ask<get>()) == 2);
    CHECK(sim.run(ref.ask<look_up>("a text")) == "text");
    CHECK(sim.run(ref.ask<std::pair<int, int>>(6, 7)) == 42);
  }

  TEST_CASE("a question without a value is answered when its handler ends") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<flush> self) -> task<> {
      auto slowly = [&](flush) -> task<> { co_await self.sleep_for(3s); };
      co_await self.receive([](flush) {});
      co_await self.receive(slowly);
    });
    sim.run(ref.ask<flush>());
    const auto before = sim.now();
    sim.run(ref.ask<flush>());
    CHECK(sim.now() - before == 3s);
  }

  TEST_CASE("a question that is told runs its handler and answers nobody") {
    actors::simulation sim;
    int handled = 0;
    auto ref = sim.spawn(
        [](context<get, flush> self, int* n) -> task<> {
          while (co_await self.receive([&](get) { return ++*n; },
                                       [&](flush) -> task<> {
                                         ++*n;
                                         co_return;
                                       })) {
          }
        },
        &handled);
    ref.tell(get{});
    ref.tell(flush{});
    CHECK(sim.run(ref.ask<get>()) == 3);
  }

  // --- handlers that are coroutines ------------------------------------------

  TEST_CASE("a handler that is a coroutine answers after its awaits") {
    actors::simulation sim;
    auto oracle = sim.probe<look_up>();
    auto ref = sim.spawn(
        [](context<get> self, actor_ref<look_up> to) -> task<> {
          while (co_await self.receive([&](get) -> task<int> {
            const std::string text = co_await to.ask<look_up>(long_text);
            co_return static_cast<int>(text.size());
          })) {
          }
        },
        oracle.ref());
    auto asker = sim.probe<number>();
    sim.spawn(
        [](context<>, actor_ref<get> to, actor_ref<number> tell) -> task<> {
          const int n = co_await to.ask<get>();
          tell.tell(number{n});
        },
        ref, asker.ref());
    auto question = oracle.expect<look_up>();
    CHECK(question->key == long_text);
    asker.expect_nothing();
    question.reply("four");
    CHECK(asker.expect<number>().value == 4);
  }

  TEST_CASE("while a handler awaits, the actor takes no other message") {
    actors::simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<number> self, texts* to) -> task<> {
          while (co_await self.receive([&](number n) -> task<> {
            to->push_back("begin " + std::to_string(n.value));
            co_await self.sleep_for(1s);
            to->push_back("end " + std::to_string(n.value));
          })) {
          }
        },
        &log);
    ref.tell(number{1});
    ref.tell(number{2});
    sim.run_until_idle();
    CHECK(log == texts{"begin 1"});
    sim.advance(1s);
    CHECK(log == texts{"begin 1", "end 1", "begin 2"});
    sim.advance(1s);
    CHECK(log.back() == "end 2");
  }

  TEST_CASE("captures, message and sender stay valid while a handler awaits") {
    actors::simulation sim;
    auto asker = sim.probe<note>();
    auto ref = sim.spawn([](context<note> self) -> task<> {
      std::string prefix = long_text;
      while (co_await self.receive([&](const note& n) -> task<> {
        co_await self.sleep_for(1s);
        CHECK(self.sender());
        self.sender().tell(note{prefix + n.text});
        co_await self.sleep_for(1s);
        self.sender().tell(note{n.text + prefix});
      })) {
      }
    });
    ref.tell(note{"a message with some letters"}, asker.ref());
    CHECK(asker.expect<note>().text ==
          long_text + "a message with some letters");
    CHECK(asker.expect<note>().text ==
          "a message with some letters" + long_text);
  }

  TEST_CASE("a coroutine takes its message in every form") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          co_await self.receive([&](note n) -> task<> {
            co_await self.sleep_for(1s);
            to->push_back(n.text);
          });
          co_await self.receive([&](note& n) -> task<> {
            co_await self.sleep_for(1s);
            to->push_back(n.text);
          });
          co_await self.receive([&](note&& n) -> task<> {
            co_await self.sleep_for(1s);
            to->push_back(std::move(n.text));
          });
          co_await self.receive([&](auto n) -> task<> {
            co_await self.sleep_for(1s);
            to->push_back(n.text);
          });
        },
        &seen);
    texts told;
    for (int i = 0; i != 4; ++i) {
      told.push_back(long_text + std::to_string(i));
      ref.tell<note>(told.back());
    }
    sim.run(ref.stopped());
    CHECK(seen == told);
  }

  TEST_CASE("plain handlers and coroutines stand side by side") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<get, look_up, number> self) -> task<> {
      int sum = 0;
      while (co_await self.receive([&](number n) { sum += n.value; },
                                   [&](get) -> task<int> {
                                     co_await self.sleep_for(1s);
                                     co_return sum;
                                   },
                                   [&](const look_up& q) { return q.key; })) {
      }
    });
    ref.tell(number{2});
    ref.tell(number{3});
    CHECK(sim.run(ref.ask<get>()) == 5);
    CHECK(sim.run(ref.ask<look_up>(long_text)) == long_text);
  }

  // --- exceptions ------------------------------------------------------------

  TEST_CASE("an exception comes out of receive; caught, it is no failure") {
    actors::simulation sim;
    texts caught;
    auto ref = sim.spawn(
        [](context<get, flush> self, texts* to) -> task<> {
          for (;;) {
            std::string what;
            try {
              const bool more = co_await self.receive(
                  [](get) -> int { throw std::runtime_error{"plain"}; },
                  [&](flush) -> task<> {
                    co_await self.sleep_for(1s);
                    throw std::runtime_error{"coroutine"};
                  });
              if (!more) break;
            } catch (const std::runtime_error& e) {
              what = e.what();
            }
            to->push_back(what);
          }
        },
        &caught);
    CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) ==
          errc::actor_failed);
    CHECK(error_of([&] {
            sim.run(ref.ask<flush>());
            return 0;
          }) == errc::actor_failed);
    CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) ==
          errc::actor_failed);
    CHECK(caught == texts{"plain", "coroutine", "plain"});
    ref.stop();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
  }

  TEST_CASE("an exception of a handler that nobody catches is a failure") {
    actors::simulation sim;
    auto ref = sim.spawn_once([](context<number> self) -> task<> {
      while (co_await self.receive(
          [](number) { throw std::runtime_error{"broken"}; })) {
      }
    });
    sim.expect_failure<std::runtime_error>(ref);
    ref.tell(number{1});
    const auto why = sim.run(ref.stopped());
    CHECK(why == actors::exit_reason::failed);
    CHECK(support::message_of_error(why.error()) == "broken");
  }

  // --- the message itself ----------------------------------------------------

  TEST_CASE("receive() gives an optional; empty means stop") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<std::string> self, texts* to) -> task<> {
          for (;;) {
            std::optional<std::string> m = co_await self.receive();
            if (!m) break;
            to->push_back(*m);
          }
          to->push_back("stopped");
        },
        &seen);
    ref.tell(long_text);
    ref.tell<std::string>("two");
    sim.run_until_idle();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
    CHECK(seen == texts{long_text, "two", "stopped"});
  }

  TEST_CASE("receive() of several messages gives a variant") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note, number> self, texts* to) -> task<> {
          while (std::optional<std::variant<note, number>> m =
                     co_await self.receive()) {
            if (auto* n = std::get_if<note>(&*m))
              to->push_back(n->text);
            else
              to->push_back(std::to_string(std::get<number>(*m).value));
          }
        },
        &seen);
    ref.tell(number{1});
    ref.tell<note>(long_text);
    ref.tell(number{2});
    ref.drain();
    sim.run(ref.stopped());
    CHECK(seen == texts{"1", long_text, "2"});
  }

  TEST_CASE("reply answers the message in hand") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<look_up> self) -> task<> {
      while (auto q = co_await self.receive()) {
        co_await self.sleep_for(1s);
        self.reply(q->key + "!");
      }
    });
    CHECK(sim.run(ref.ask<look_up>(long_text)) == long_text + "!");
    CHECK(sim.run(ref.ask<look_up>("b")) == "b!");
  }

  TEST_CASE("reply answers before the handler ends") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<get> self) -> task<> {
      while (co_await self.receive([&](get) -> task<int> {
        self.reply(1);
        co_await self.sleep_for(1h);
        co_return 2;
      })) {
      }
    });
    const auto before = sim.now();
    CHECK(sim.run(ref.ask<get>()) == 1);
    CHECK(sim.now() == before);
  }

  TEST_CASE("reply says whether the asker gets it") {
    actors::simulation sim;
    std::vector<bool> said;
    auto ref = sim.spawn(
        [](context<get> self, std::vector<bool>* to) -> task<> {
          while (auto q = co_await self.receive()) {
            co_await self.sleep_for(2s);
            to->push_back(self.reply(1));
          }
        },
        &said);
    CHECK(error_of([&] { return sim.run(ref.ask<get>().within(1s)); }) ==
          errc::timed_out);
    CHECK(sim.run(ref.ask<get>().within(10s)) == 1);
    CHECK(said == std::vector{false, true});
  }

  TEST_CASE("a message that the next receive() finds unanswered is no reply") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<get> self) -> task<> {
      while (auto q = co_await self.receive()) {
      }
    });
    CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) == errc::no_reply);
  }

  TEST_CASE("reply without a question in hand is a mistake that says so") {
    actors::simulation sim;
    texts said;
    auto ref = sim.spawn(
        [](context<get, number> self, texts* to) -> task<> {
          to->push_back(message_of<std::logic_error>([&] { self.reply(1); }));
          while (auto m = co_await self.receive()) {
            to->push_back(
                message_of<std::logic_error>([&] { self.reply(1.5); }));
            if (m->index() == 0) self.reply(1);
            to->push_back(message_of<std::logic_error>([&] { self.reply(1); }));
          }
        },
        &said);
    ref.tell(number{1});
    CHECK(sim.run(ref.ask<get>()) == 1);
    REQUIRE(said.size() == 5);
    CHECK(support::contains(said[0], "no message in hand"));
    CHECK(support::contains(said[1], "told and not asked"));
    CHECK(support::contains(said[2], "told and not asked"));
    CHECK(support::contains(said[3], "another reply type"));
    CHECK(support::contains(said[4], "answered already"));
  }

  // --- selective -------------------------------------------------------------

  TEST_CASE("receive<ack>() leaves the others in their order") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note, ack> self, texts* to) -> task<> {
          auto first = co_await self.receive<ack>();
          to->push_back("ack " + std::to_string(first->id));
          auto second = co_await self.receive<ack>();
          to->push_back("ack " + std::to_string(second->id));
          while (co_await self.receive([&](note n) { to->push_back(n.text); },
                                       [&](ack a) {
                                         to->push_back("late ack " +
                                                       std::to_string(a.id));
                                       })) {
          }
        },
        &seen);
    ref.tell<note>(long_text);
    ref.tell<note>("b");
    sim.run_until_idle();
    CHECK(seen.empty());
    ref.tell(ack{1});
    sim.run_until_idle();
    CHECK(seen == texts{"ack 1"});
    ref.tell<note>("c");
    ref.tell(ack{2});
    ref.tell<note>("d");
    ref.tell(ack{3});
    sim.run_until_idle();
    CHECK(seen ==
          texts{"ack 1", "ack 2", long_text, "b", "c", "d", "late ack 3"});
  }

  TEST_CASE("receive<a, b>(handlers…) takes the first that matches") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<dial, quit, note> self, texts* to) -> task<> {
          for (int i = 0; i != 2; ++i)
            co_await self.receive<dial, quit>(
                [&](dial c) { to->push_back("dial " + c.who); },
                [&](quit) { to->push_back("quit"); });
          while (co_await self.receive(
              [&](note n) { to->push_back(n.text); },
              [&](const auto&) { to->push_back("another"); })) {
          }
        },
        &seen);
    ref.tell<note>("1");
    ref.tell(quit{});
    ref.tell<note>("2");
    ref.tell<dial>(long_text);
    ref.tell(quit{});
    sim.run_until_idle();
    CHECK(seen == texts{"quit", "dial " + long_text, "1", "2", "another"});
  }

  TEST_CASE("selective receives of different types alternate and lose none") {
    actors::simulation sim;
    std::vector<int> seen;
    auto ref = sim.spawn(
        [](context<ack, number, quit> self, std::vector<int>* to) -> task<> {
          for (int i = 0; i != 50; ++i) {
            auto n = co_await self.receive<number>();
            to->push_back(n->value);
            auto a = co_await self.receive<ack>();
            to->push_back(a->id);
          }
          while (auto m = co_await self.receive()) to->push_back(-1);
        },
        &seen);
    std::vector<int> expected;
    for (int i = 0; i != 50; ++i) {
      ref.tell(ack{1000 + i});
      if (i % 10 == 0) {
        ref.tell(quit{});
        sim.run_until_idle();
      }
      ref.tell(number{i});
      expected.push_back(i);
      expected.push_back(1000 + i);
    }
    for (int i = 0; i != 5; ++i) expected.push_back(-1);
    ref.drain();
    sim.run(ref.stopped());
    CHECK(seen == expected);
  }

  TEST_CASE("a coroutine handler does not receive: told, and the asker too") {
    actors::simulation sim;
    std::string said;
    auto ref = sim.spawn(
        [](context<get, number, note> self, std::string* out) -> task<> {
          auto handler = [&](get) -> task<int> {
            try {
              auto first = co_await self.receive<number>();
              co_return first->value;
            } catch (const std::logic_error& e) {
              *out = e.what();
              throw;
            }
          };
          bool told = false;
          try {
            co_await self.receive<get>(handler);
          } catch (const std::logic_error&) {
            told = true;
          }
          if (told) co_await self.until_stop();
        },
        &said);
    ref.tell(number{5});
    CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) ==
          errc::actor_failed);
    CHECK(said.starts_with("receive is not for handlers"));
  }

  TEST_CASE("a stop ends a selective receive; what it left is a dead letter") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<ack, note> self) -> task<> {
      auto a = co_await self.receive<ack>();
      CHECK(!a);
    });
    ref.tell<note>(long_text);
    ref.tell<note>("b");
    sim.run_until_idle();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
    CHECK(sim.system().dead_letter_count() == 2);
  }

  // --- timeouts --------------------------------------------------------------

  TEST_CASE("after is the timeout of a receive") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          while (co_await self.receive(
              [&](note n) { to->push_back(n.text); },
              actors::after(10s, [&] { to->push_back("nothing came"); }))) {
          }
        },
        &seen);
    sim.advance(9s);
    CHECK(seen.empty());
    ref.tell<note>("in time");
    sim.run_until_idle();
    sim.advance(9s);  // counted anew since the message
    CHECK(seen == texts{"in time"});
    sim.advance(1s);
    CHECK(seen == texts{"in time", "nothing came"});
    sim.advance(20s);
    CHECK(seen.size() == 4);
  }

  TEST_CASE("the handler of a timeout may be a coroutine") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note> self, texts* to) -> task<> {
          const bool more = co_await self.receive(
              [&](note) {}, actors::after(1s, [&]() -> task<> {
                co_await self.sleep_for(1s);
                to->push_back("late");
              }));
          CHECK(more);
          to->push_back("after it");
        },
        &seen);
    sim.advance(1s);
    CHECK(seen.empty());
    sim.run(ref.stopped());
    CHECK(seen == texts{"late", "after it"});
  }

  TEST_CASE("a selective receive may time out; the others stay") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<ack, note> self, texts* to) -> task<> {
          co_await self.receive<ack>(
              [&](ack) { to->push_back("ack"); },
              actors::after(1s, [&] { to->push_back("no ack"); }));
          co_await self.receive([&](note n) { to->push_back(n.text); },
                                [&](ack) { to->push_back("late ack"); });
        },
        &seen);
    ref.tell<note>(long_text);
    sim.run(ref.stopped());
    CHECK(seen == texts{"no ack", long_text});
  }

  TEST_CASE("after(0s) takes what is there and waits for nothing") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<number> self, texts* to) -> task<> {
          co_await self.sleep_for(1s);
          bool empty = false;
          while (!empty) {
            co_await self.receive(
                [&](number n) { to->push_back(std::to_string(n.value)); },
                actors::after(0s, [&] { empty = true; }));
          }
        },
        &seen);
    ref.tell(number{1});
    ref.tell(number{2});
    sim.run(ref.stopped());
    CHECK(seen == texts{"1", "2"});
  }

  TEST_CASE("a negative timeout is a mistake that says so") {
    CHECK(message_of<std::invalid_argument>([] {
            (void)actors::after(-1s, [] {});
          }) == "a timeout may not be negative");
  }

  TEST_CASE("a stop ends a receive with a timeout, and the timer with it") {
    actors::simulation sim;
    bool timed_out = false;
    auto ref = sim.spawn(
        [](context<note> self, bool* to) -> task<> {
          while (co_await self.receive(
              [](note) {}, actors::after(1h, [&] { *to = true; }))) {
          }
        },
        &timed_out);
    sim.run_until_idle();
    ref.stop();
    const auto before = sim.now();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
    CHECK(sim.now() == before);
    sim.advance(2h);
    CHECK(!timed_out);
  }

  // --- serve, until_stop -----------------------------------------------------

  TEST_CASE("serve handles messages until stop") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note, get> self, texts* to) -> task<> {
          co_await self.serve(
              [&](note n) { to->push_back(n.text); },
              [&](get) { return static_cast<int>(to->size()); });
          to->push_back("stopped");
        },
        &seen);
    ref.tell<note>(long_text);
    ref.tell<note>("b");
    CHECK(sim.run(ref.ask<get>()) == 2);
    ref.stop();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
    CHECK(seen.back() == "stopped");
  }

  TEST_CASE("serve has coroutines for handlers, and timeouts") {
    actors::simulation sim;
    texts seen;
    auto ref = sim.spawn(
        [](context<note, get> self, texts* to) -> task<> {
          co_await self.serve(
              [&](const note& n) -> task<> {
                co_await self.sleep_for(1s);
                to->push_back(n.text);
              },
              [&](get) { return static_cast<int>(to->size()); },
              actors::after(5s, [&] { to->push_back("idle"); }));
          to->push_back("stopped");
        },
        &seen);
    ref.tell<note>(long_text);
    ref.tell<note>("b");
    CHECK(sim.run(ref.ask<get>()) == 2);
    sim.advance(5s);
    ref.stop();
    sim.run(ref.stopped());
    CHECK(seen == texts{long_text, "b", "idle", "stopped"});
  }

  TEST_CASE("an exception of a handler of serve is a failure") {
    actors::simulation sim;
    auto plain = sim.spawn_once([](context<get> self) -> task<> {
      co_await self.serve([](get) -> int { throw std::runtime_error{"a"}; });
    });
    auto coroutine = sim.spawn_once([](context<get> self) -> task<> {
      co_await self.serve([&](get) -> task<int> {
        co_await self.sleep_for(1s);
        throw std::runtime_error{"b"};
      });
    });
    for (const auto& ref : {plain, coroutine}) {
      sim.expect_failure<std::runtime_error>(ref);
      CHECK(error_of([&] { return sim.run(ref.ask<get>()); }) ==
            errc::actor_failed);
      CHECK(sim.run(ref.stopped()) == actors::exit_reason::failed);
    }
  }

  TEST_CASE("no exception of a handler comes out of serve") {
    // What waits before the body comes to `serve` is taken without a wait.
    actors::simulation sim;
    std::string caught;
    auto ref = sim.spawn_once(
        [](context<number> self, std::string* to) -> task<> {
          self.ready();
          co_await self.sleep_for(1s);
          std::string what;
          try {
            co_await self.serve([](number n) {
              if (n.value == 1) throw std::runtime_error{"the first"};
            });
          } catch (const std::runtime_error& e) {
            what = e.what();
          }
          *to = what;
        },
        &caught);
    ref.tell(number{1});
    sim.expect_failure<std::runtime_error>(ref);
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::failed);
    CHECK(caught.empty());
  }

  TEST_CASE("until_stop waits for the stop and takes no message") {
    actors::simulation sim;
    auto silent =
        sim.spawn([](context<> self) -> task<> { co_await self.until_stop(); });
    auto deaf = sim.spawn(
        [](context<note> self) -> task<> { co_await self.until_stop(); });
    deaf.tell<note>(long_text);
    sim.run(silent.started());
    sim.run(deaf.started());
    sim.advance(1h);
    silent.stop();
    deaf.stop();
    CHECK(sim.run(silent.stopped()) == actors::exit_reason::normal);
    CHECK(sim.run(deaf.stopped()) == actors::exit_reason::normal);
    CHECK(sim.system().dead_letter_count() == 1);
  }

  TEST_CASE("after a stop, each receive gives empty at once") {
    actors::simulation sim;
    int empty = 0;
    auto ref = sim.spawn(
        [](context<note> self, int* n) -> task<> {
          co_await self.until_stop();
          auto m = co_await self.receive();
          *n += !m;
          const bool more = co_await self.receive([](note) {});
          *n += !more;
          auto selective = co_await self.receive<note>();
          *n += !selective;
          co_await self.serve([](note) {});
          co_await self.until_stop();
          ++*n;
        },
        &empty);
    ref.stop();
    sim.run_until_idle();
    CHECK(empty == 0);  // stopped before it ran: it never does

    auto other = sim.spawn(
        [](context<note> self, int* n) -> task<> {
          co_await self.until_stop();
          auto m = co_await self.receive();
          *n += !m;
          const bool more = co_await self.receive([](note) {});
          *n += !more;
          auto selective = co_await self.receive<note>();
          *n += !selective;
          co_await self.serve([](note) {});
          co_await self.until_stop();
          ++*n;
        },
        &empty);
    sim.run(other.started());
    other.stop();
    CHECK(sim.run(other.stopped()) == actors::exit_reason::normal);
    CHECK(empty == 4);
  }

  // --- control flow ----------------------------------------------------------

  TEST_CASE("changing behaviour is another loop with other handlers") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<look_up, quit> self) -> task<> {
      bool open = true;
      bool more = true;
      while (more) {
        if (open)
          more = co_await self.receive(
              [](const look_up& q) { return "open: " + q.key; },
              [&](quit) { open = false; });
        else
          more = co_await self.receive([](const look_up&) { return "closed"; },
                                       [&](quit) { open = true; });
      }
    });
    CHECK(sim.run(ref.ask<look_up>("a")) == "open: a");
    ref.tell(quit{});
    CHECK(sim.run(ref.ask<look_up>("a")) == "closed");
    ref.tell(quit{});
    CHECK(sim.run(ref.ask<look_up>("b")) == "open: b");
  }

  TEST_CASE("helpers take the context of any actor") {
    struct helper {
      static task<int> nap(context<>& self, actors::duration d) {
        co_await self.sleep_for(d);
        co_return 1;
      }
      static void stop_it(context<>& self) { self.stop(); }
    };
    actors::simulation sim;
    auto ref = sim.spawn([](context<get, number> self) -> task<> {
      int naps = 0;
      while (co_await self.receive(
          [&](get) -> task<int> {
            naps += co_await helper::nap(self, 1s);
            co_return naps;
          },
          [&](number) { helper::stop_it(self); })) {
      }
    });
    CHECK(sim.run(ref.ask<get>()) == 1);
    CHECK(sim.run(ref.ask<get>()) == 2);
    ref.tell(number{1});
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
  }

  TEST_CASE("receive is for the actor's own coroutine") {
    actors::simulation sim;
    context<note>* stolen = nullptr;
    auto owner = sim.spawn(
        [](context<note> self, context<note>** to) -> task<> {
          *to = &self;
          co_await self.until_stop();
        },
        &stolen);
    sim.run(owner.started());
    CHECK(support::contains(message_of<std::logic_error>([&] {
                              sim.run([&](context<>) -> task<> {
                                co_await stolen->receive([](note) {});
                              });
                            }),
                            "own coroutine"));
  }

  // --- senders ---------------------------------------------------------------

  TEST_CASE("sender is whom the message names, the asker of a question") {
    actors::simulation sim;
    auto answers = sim.probe<note>();
    std::vector<actors::any_actor_ref> senders;
    auto ref = sim.spawn(
        [](context<number, get> self,
           std::vector<actors::any_actor_ref>* to) -> task<> {
          while (co_await self.receive(
              [&](number) { to->push_back(self.sender()); },
              [&](get) {
                to->push_back(self.sender());
                return 1;
              })) {
          }
        },
        &senders);
    ref.tell(number{1});
    ref.tell(number{2}, answers.ref());
    actors::any_actor_ref asker;
    sim.run(
        [](context<> self, actor_ref<get> to,
           actors::any_actor_ref* me) -> task<> {
          *me = self.any_ref();
          (void)co_await to.ask<get>();
        },
        ref, &asker);
    REQUIRE(senders.size() == 3);
    CHECK(!senders[0]);
    CHECK(senders[1] == answers.ref());
    CHECK(senders[2] == asker);
  }

  TEST_CASE("a tell to the sender of a message without one is a dead letter") {
    actors::simulation sim;
    std::vector<actors::dead_letter> letters;
    sim.system().on_dead_letter(
        [&](const actors::dead_letter& d) { letters.push_back(d); });
    auto ref = sim.spawn([](context<number> self) -> task<> {
      while (co_await self.receive(
          [&](number) { self.sender().tell(note{long_text}); })) {
      }
    });
    ref.tell(number{1});
    sim.run_until_idle();
    REQUIRE(letters.size() == 1);
    CHECK(letters[0].why == actors::dead_letter::reason::no_recipient);
  }

  TEST_CASE("forward hands on the asker") {
    actors::simulation sim;
    auto worker = sim.spawn([](context<look_up> self) -> task<> {
      while (co_await self.receive([&](look_up q) -> task<std::string> {
        co_await self.sleep_for(1s);
        co_return q.key + " from the worker";
      })) {
      }
    });
    int handled = 0;
    auto front = sim.spawn(
        [](context<look_up> self, actor_ref<look_up> to, int* n) -> task<> {
          while (co_await self.receive([&](look_up q) {
            self.forward(to, std::move(q));
            ++*n;
          })) {
          }
        },
        worker, &handled);
    CHECK(sim.run(front.ask<look_up>(long_text)) ==
          long_text + " from the worker");
    CHECK(handled == 1);
    worker.stop();
    sim.run(worker.stopped());
    CHECK(error_of([&] { return sim.run(front.ask<look_up>("a")); }) ==
          errc::actor_stopped);
  }

  TEST_CASE("a told question that is forwarded is not lost in silence") {
    actors::simulation sim;
    auto worker = sim.spawn(
        [](context<look_up> self) -> task<> { co_await self.until_stop(); });
    auto front = sim.spawn(
        [](context<look_up> self, actor_ref<look_up> to) -> task<> {
          while (co_await self.receive(
              [&](look_up q) { self.forward(to, std::move(q)); })) {
          }
        },
        worker);
    // It waits in the mailbox of one that ends, ...
    front.tell(look_up{long_text});
    sim.run_until_idle();
    worker.stop();
    sim.run(worker.stopped());
    CHECK(sim.system().dead_letter_count() == 1);
    // ... and comes to one that has ended.
    front.tell(look_up{long_text});
    sim.run_until_idle();
    CHECK(sim.system().dead_letter_count() == 2);
  }

  TEST_CASE("forward hands on the sender, over any number of actors") {
    actors::simulation sim;
    auto sender = sim.probe<note>();
    auto last = sim.spawn([](context<note> self) -> task<> {
      while (co_await self.receive(
          [&](note n) { self.sender().tell(note{n.text + " and back"}); })) {
      }
    });
    actor_ref<note> next = last;
    for (int i = 0; i != 3; ++i)
      next = sim.spawn(
          [](context<note> self, actor_ref<note> to) -> task<> {
            while (co_await self.receive(
                [&](note n) { self.forward(to, std::move(n)); })) {
            }
          },
          next);
    next.tell(note{long_text}, sender.ref());
    CHECK(sender.expect<note>().text == long_text + " and back");
  }

  TEST_CASE("a forwarded question keeps its asker's timeout") {
    actors::simulation sim;
    auto slow = sim.probe<look_up>();
    auto front = sim.spawn(
        [](context<look_up> self, actor_ref<look_up> to) -> task<> {
          while (co_await self.receive(
              [&](look_up q) { self.forward(to, std::move(q)); })) {
          }
        },
        slow.ref());
    CHECK(error_of([&] {
            return sim.run(front.ask<look_up>(long_text).within(1s));
          }) == errc::timed_out);
    auto question = slow.expect<look_up>();
    CHECK(!question.reply("too late"));
  }

  TEST_CASE("forward wants a question of the same reply type") {
    actors::simulation sim;
    auto other = sim.probe<flush, number>();
    texts said;
    auto ref = sim.spawn(
        [](context<get> self, actor_ref<flush, number> to,
           texts* log) -> task<> {
          log->push_back(message_of<std::logic_error>(
              [&] { self.forward(to, number{1}); }));
          while (co_await self.receive([&](get) {
            log->push_back(message_of<std::logic_error>(
                [&] { self.forward(to, flush{}); }));
            log->push_back(message_of<std::logic_error>(
                [&] { self.forward(to, number{1}); }));
            return 3;
          })) {
          }
        },
        other.ref(), &said);
    CHECK(sim.run(ref.ask<get>()) == 3);
    REQUIRE(said.size() == 3);
    CHECK(support::contains(said[0], "no message in hand"));
    CHECK(support::contains(said[1], "another reply type"));
    CHECK(!said[2].empty());
    other.expect_nothing();
  }
}
