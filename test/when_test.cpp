// when_all, when_any, with_timeout, with_tasks: several operations at once.
#include "actors/when.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "actors/actors.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::as_result;
using actors::context;
using actors::errc;
using actors::exit_reason;
using actors::simulation;
using actors::task;
using actors::when_all;
using actors::when_any;
using actors::with_timeout;
using support::contains;
using support::counted;
using support::error_of;
using texts = std::vector<std::string>;

namespace {

struct ping {
  using reply_type = int;
};
struct riddle {
  using reply_type = int;
};
struct note {
  std::string text;
};

task<int> after_a_while(context<>& self, int value,
                        std::chrono::seconds delay) {
  co_await self.sleep_for(delay);
  co_return value;
}
task<int> throwing(context<>& self, std::chrono::seconds delay) {
  if (delay != 0s) co_await self.sleep_for(delay);
  throw std::runtime_error{"thrown"};
}
/// Notes that it was told, and takes a second to end.
task<int> careful(context<>& self, texts* log) {
  bool told = false;
  try {
    co_await self.sleep_for(1h);
  } catch (const std::system_error&) {
    told = true;
  }
  log->push_back(told ? "told" : "not told");
  co_await self.sleep_for(1s);
  log->push_back("cleaned up");
  co_return 7;
}
task<> silent(context<ping> self) { co_await self.until_stop(); }

template <class F>
void seeds(F scenario) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    scenario(seed);
  }
}

const std::error_code aborted = actors::detail::operation_aborted();

}  // namespace

TEST_SUITE("when") {
  // --- when_all
  // ---------------------------------------------------------------

  TEST_CASE("when_all gives all values after the last") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const bool right = sim.run([](context<> self) -> task<bool> {
        const auto start = self.now();
        auto named = after_a_while(self, 3, 3s);
        auto [a, b, c, d] =
            co_await when_all(after_a_while(self, 1, 1s), self.sleep_for(2s),
                              named, after_a_while(self, 4, 0s));
        static_assert(std::is_same_v<decltype(b), std::monostate>);
        co_return a == 1 && c == 3 && d == 4 && self.now() - start == 3s;
      });
      REQUIRE(right);
    });
  }

  TEST_CASE("when_all of as many tasks as there are") {
    simulation sim;
    const auto got = sim.run([](context<> self) -> task<std::vector<int>> {
      std::vector<task<int>> tasks;
      for (int i = 0; i != 5; ++i)
        tasks.push_back(after_a_while(self, i, std::chrono::seconds{5 - i}));
      co_return co_await when_all(std::move(tasks));
    });
    CHECK(got == std::vector{0, 1, 2, 3, 4});
    sim.run([](context<> self) -> task<> {
      co_await when_all(std::vector<task<>>{});  // of none: at once
      (void)self;
    });
  }

  TEST_CASE("the first that throws ends the others, and is thrown at the end") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      sim.run(
          [](context<> self, texts* to) -> task<> {
            const auto start = self.now();
            try {
              co_await when_all(careful(self, to), throwing(self, 1s),
                                careful(self, to));
            } catch (const std::runtime_error& e) {
              to->push_back(e.what());
            }
            if (self.now() - start != 2s) to->push_back("another time");
          },
          &log);
      REQUIRE(log ==
              texts{"told", "told", "cleaned up", "cleaned up", "thrown"});
    });
  }

  TEST_CASE("one that throws at once keeps the rest from starting") {
    simulation sim;
    texts log;
    const auto e = error_of([&] {
      sim.run(
          [](context<> self, texts* to) -> task<> {
            auto r = co_await as_result(
                when_all(throwing(self, 0s), careful(self, to)));
            if (r.has_value()) to->push_back("a value");
          },
          &log);
    });
    CHECK(!e);
    CHECK(log.empty());
  }

  TEST_CASE("10,000,000 operands that end at once: the stack does not grow") {
    simulation sim;
    const int sum = sim.run([](context<>) -> task<int> {
      const auto one = []() -> task<int> { co_return 1; };
      int n = 0;
      for (int i = 0; i != 100'000; ++i) {
        auto [a, b] = co_await when_all(one(), one());
        n += a + b;
      }
      co_return n;
    });
    CHECK(sum == 200'000);
  }

  TEST_CASE("a stop reaches every operand, once, and waits for their cleanup") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<> self, texts* to) -> task<> {
            auto [a, b] =
                co_await when_all(careful(self, to), careful(self, to));
            to->push_back(std::to_string(a + b));
            // It has been told: awaits of the cleanup are not disturbed.
            co_await self.sleep_for(1s);
            to->push_back("body done");
          },
          &log);
      sim.run_until_idle();
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"told", "told", "cleaned up", "cleaned up", "14",
                           "body done"});
    });
  }

  TEST_CASE("a stop that no operand was told of is told by the next await") {
    support::stuck* hangs = nullptr;
    simulation sim;
    texts log;
    auto ref = sim.spawn(
        [](context<> self, support::stuck** at, texts* to) -> task<> {
          const auto deaf = [](support::stuck** where) -> task<> {
            support::stuck op{where};
            co_await op;
          };
          co_await when_all(deaf(at), self.sleep_for(0s));
          auto r = co_await as_result(self.sleep_for(1h));
          to->push_back(r.error() == aborted ? "told" : "not told");
        },
        &hangs, &log);
    sim.run_until_idle();
    ref.stop();
    sim.run_until_idle();
    hangs->complete();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(log == texts{"told"});
  }

  TEST_CASE("a kill destroys the operands, nested ones too, with the body") {
    seeds([](std::uint64_t seed) {
      std::atomic<int> alive{0};
      simulation sim{seed};
      auto target = sim.spawn(silent);
      auto ref = sim.spawn(
          [](context<> self, actor_ref<ping> who,
             std::atomic<int>* n) -> task<> {
            counted c{*n};
            const auto holding = [](context<>& s,
                                    std::atomic<int>* m) -> task<> {
              counted mine{*m};
              co_await s.sleep_for(1h);
            };
            co_await when_all(holding(self, n),
                              when_any(holding(self, n), who.ask<ping>()),
                              with_timeout(1h, holding(self, n)));
          },
          target, &alive);
      sim.run_until_idle();
      REQUIRE(alive == 4);
      ref.kill();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::killed);
      REQUIRE(alive == 0);
    });
  }

  // --- when_any
  // ---------------------------------------------------------------

  TEST_CASE("when_any gives the first, and waits for the others' end") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto target = sim.spawn(silent);
      sim.run(
          [](context<> self, actor_ref<ping> who, texts* to) -> task<> {
            auto first = co_await when_any(careful(self, to), who.ask<ping>(),
                                           after_a_while(self, 5, 1s));
            to->push_back("index " + std::to_string(first.index()));
            if (std::get<2>(first) != 5) to->push_back("another value");
          },
          target, &log);
      REQUIRE(log == texts{"told", "cleaned up", "index 2"});
    });
  }

  TEST_CASE("when_any throws what the first has thrown") {
    simulation sim;
    texts log;
    sim.run(
        [](context<> self, texts* to) -> task<> {
          auto r = co_await as_result(
              when_any(throwing(self, 1s), after_a_while(self, 1, 2s)));
          to->push_back(support::message_of_error(r.exception()));
        },
        &log);
    CHECK(log == texts{"thrown"});
  }

  TEST_CASE("a receive in when_any takes a message only when it wins") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<note> self, texts* to) -> task<> {
            for (;;) {
              auto got = co_await when_any(self.receive(), self.sleep_for(1s));
              if (got.index() == 1) {
                to->push_back("tick");
              } else if (!std::get<0>(got)) {
                break;
              } else {
                to->push_back(std::get<0>(got)->text);
              }
            }
            to->push_back("stopped");
          },
          &log);
      ref.tell(note{"a"});
      ref.tell(note{"b"});
      sim.run_until_idle();
      sim.advance(1s);
      ref.tell(note{"c"});
      sim.run_until_idle();
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"a", "b", "tick", "c", "stopped"});
    });
  }

  TEST_CASE("what ends before takes no message: the next receive has it") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<note> self, texts* to) -> task<> {
            co_await self.sleep_for(1s);  // the message waits by then
            const auto none = []() -> task<> { co_return; };
            auto got = co_await when_any(none(), self.receive());
            to->push_back(std::to_string(got.index()));
            auto later = co_await self.receive();
            to->push_back(later ? later->text : "nothing");
          },
          &log);
      ref.tell(note{"kept"});
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"0", "kept"});
    });
  }

  TEST_CASE(
      "by taking a message a coroutine handler wins, and runs to its end") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<ping> self, texts* to) -> task<> {
            const auto handler = [&](ping) -> task<int> {
              co_await self.sleep_for(5s);
              co_return 5;
            };
            auto got =
                co_await when_any(self.receive(handler), self.sleep_for(1s));
            to->push_back(std::to_string(got.index()));
            bool more = co_await with_timeout(1s, self.receive(handler));
            to->push_back(more ? "in time" : "stopped");
          },
          &log);
      const bool answered = sim.run(
          [](context<>, actor_ref<ping> who) -> task<bool> {
            const int a = co_await who.ask<ping>();
            const int b = co_await who.ask<ping>();
            co_return a == 5 && b == 5;
          },
          ref);
      REQUIRE(answered);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"0", "in time"});
    });
  }

  TEST_CASE(
      "selective receives and a helper with a loop of its own as operands") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      struct ack {};
      auto ref = sim.spawn(
          [](context<note, ack> self, texts* to) -> task<> {
            const auto collect = [](context<note, ack>& s,
                                    texts* list) -> task<> {
              try {
                for (;;) {
                  auto got = co_await s.template receive<note>();
                  if (!got) break;
                  list->push_back(got->text);
                }
                list->push_back("stopped");
              } catch (const std::system_error& e) {
                list->push_back(e.code() == aborted ? "lost" : "another");
              }
            };
            co_await when_any(collect(self, to), self.sleep_for(1s));
            auto a = co_await self.template receive<ack>();
            to->push_back(a ? "ack" : "no ack");
            co_await when_any(collect(self, to), self.sleep_for(1h));
          },
          &log);
      ref.tell(ack{});
      ref.tell(note{"a"});
      sim.advance(2s);
      ref.tell(note{"b"});
      sim.run_until_idle();
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"a", "lost", "ack", "b", "stopped"});
    });
  }

  TEST_CASE("two receives at once are one too many") {
    simulation sim;
    auto ref = sim.spawn_once([](context<note> self) -> task<> {
      co_await when_all(self.receive(), self.receive());
    });
    sim.expect_failure<std::logic_error>(ref);
    const exit_reason why = sim.run(ref.stopped());
    CHECK(contains(support::message_of_error(why.error()), "only one"));
  }

  TEST_CASE("each of several operations answers what it took itself") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      using both = context<ping, riddle>;
      auto ref = sim.spawn([](both self) -> task<> {
        const auto first = [](both& s) -> task<> {
          (void)co_await s.template receive<ping>();
          co_await s.sleep_for(3s);
          s.reply(1);
        };
        const auto second = [](both& s) -> task<> {
          co_await s.sleep_for(1s);
          (void)co_await s.template receive<riddle>();
          co_await s.sleep_for(1s);
          s.reply(2);
        };
        co_await when_all(first(self), second(self));
      });
      const bool right = sim.run(
          [](context<>, actor_ref<ping, riddle> who) -> task<bool> {
            auto [a, b] = co_await when_all(who.ask<ping>(), who.ask<riddle>());
            co_return a == 1 && b == 2;
          },
          ref);
      REQUIRE(right);
    });
  }

  TEST_CASE("what an operand leaves in hand is answered by who awaited it") {
    simulation sim;
    auto ref = sim.spawn([](context<ping> self) -> task<> {
      while (auto m = co_await with_timeout(1h, self.receive())) self.reply(7);
    });
    CHECK(sim.run(ref.ask<ping>()) == 7);
    CHECK(sim.run(ref.ask<ping>()) == 7);
  }

  TEST_CASE("what nobody answers ends at the next receive, of an operand too") {
    simulation sim;
    auto ref = sim.spawn([](context<ping> self) -> task<> {
      while (co_await with_timeout(1h, self.receive())) {
      }
    });
    CHECK(error_of([&] { return sim.run(ref.ask<ping>()); }) == errc::no_reply);
    auto nested = sim.spawn([](context<ping> self) -> task<> {
      const auto inner = [](context<ping>& s) -> task<> {
        while (co_await with_timeout(1h, s.receive())) {
        }
      };
      co_await when_all(inner(self), self.sleep_for(1h));
    });
    CHECK(error_of([&] { return sim.run(nested.ask<ping>()); }) ==
          errc::no_reply);
  }

  TEST_CASE("a kill tells whom an operand has not answered") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([](context<ping> self) -> task<> {
        const auto silent = [](context<ping>& s) -> task<> {
          (void)co_await s.receive();
          co_await s.sleep_for(1h);
        };
        co_await when_all(silent(self), self.sleep_for(1h));
      });
      const bool told = sim.run(
          [](context<>, actor_ref<ping> who) -> task<bool> {
            auto ask = who.ask<ping>();
            const auto killing = [](actor_ref<ping> w) -> task<> {
              w.kill();
              co_return;
            };
            auto [end, none] =
                co_await when_all(as_result(std::move(ask)), killing(who));
            (void)none;
            co_return !end.has_value();
          },
          ref);
      REQUIRE(told);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::killed);
    });
  }

  TEST_CASE(
      "an operand that fails with a question in hand: its asker is told") {
    simulation sim;
    auto ref = sim.spawn([](context<ping> self) -> task<> {
      const auto failing = [](context<ping>& s) -> task<> {
        (void)co_await s.receive();
        co_await s.sleep_for(1s);
        throw std::runtime_error{"thrown"};
      };
      co_await when_all(failing(self), self.sleep_for(1h));
    });
    sim.expect_failure<std::runtime_error>(ref);
    CHECK(error_of([&] { return sim.run(ref.ask<ping>()); }) ==
          errc::actor_failed);
  }

  TEST_CASE("a loser that receives in its cleanup waits until it may") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([](context<ping> self) -> task<> {
        const auto h = [](ping) { return 1; };
        const auto loser = [](context<ping>& s) -> task<> {
          try {
            co_await s.sleep_for(1h);
          } catch (const std::system_error&) {
            // The one that won has its message in hand: no other may be taken.
          }
          (void)co_await s.receive();
        };
        co_await when_any(self.receive(h), loser(self));
        while (co_await self.receive(h)) {
        }
      });
      const bool right = sim.run(
          [](context<>, actor_ref<ping> who) -> task<bool> {
            auto [a, b] = co_await when_all(who.ask<ping>(), who.ask<ping>());
            co_return a == 1 && b == 1;
          },
          ref);
      REQUIRE(right);
    });
  }

  TEST_CASE("a stop reaches a receive in the cleanup of one that was told") {
    simulation sim;
    auto ref = sim.spawn([](context<note> self) -> task<> {
      const auto collect = [](context<note>& s) -> task<> {
        try {
          co_await s.sleep_for(1h);
        } catch (const std::system_error&) {
          // the timeout
        }
        while (co_await s.receive()) {
        }
      };
      co_await with_timeout(1s, collect(self));
    });
    sim.advance(2s);
    ref.stop();
    const auto before = sim.now();
    CHECK(sim.run(ref.stopped()) == exit_reason::normal);
    CHECK(sim.now() == before);
  }

  TEST_CASE("a receive in when_all is no end of a timeout around it") {
    simulation sim;
    auto ref = sim.spawn_once([](context<note> self) -> task<> {
      const auto h = [](note) {};
      co_await with_timeout(1s, when_all(self.receive(h), self.sleep_for(1h)));
    });
    sim.expect_failure<actors::actor_error>(ref);
    ref.tell(note{"x"});
    sim.run_until_idle();
    const auto before = sim.now();
    const exit_reason why = sim.run(ref.stopped());
    CHECK(why == exit_reason::failed);
    CHECK(sim.now() - before == 1s);
  }

  TEST_CASE("a message that one receive left is found by the next") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      bool got = false;
      auto ref = sim.spawn(
          [](context<ping, note> self, bool* to) -> task<> {
            co_await self.sleep_for(1s);  // the message waits by then
            const auto h = [](ping) { return 1; };
            const auto starter = [](context<ping, note>& s) -> task<> {
              (void)s.spawn_task([]() -> task<> { co_return; });
              co_return;
            };
            co_await when_any(self.template receive<ping>(h), starter(self));
            *to = (co_await self.receive()).has_value();
          },
          &got);
      ref.tell(note{"x"});
      sim.advance(10s);
      REQUIRE(got);
    });
  }

  TEST_CASE("the actor takes messages in `serve` while another operand runs") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([](context<ping> self) -> task<> {
        const auto serving = [](context<ping>& s) -> task<> {
          co_await s.serve([](ping) { return 1; });
        };
        const auto asking = [](actor_ref<ping> me) -> task<int> {
          co_return co_await me.ask<ping>();  // no deadlock: it is served
        };
        auto got = co_await when_any(serving(self), asking(self.ref()));
        if (got.index() != 1 || std::get<1>(got) != 1)
          throw std::logic_error{"another end"};
      });
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
    });
  }

  // --- with_timeout
  // -----------------------------------------------------------

  TEST_CASE("with_timeout gives the value in time, and timed_out after it") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto target = sim.spawn(silent);
      sim.run(
          [](context<> self, actor_ref<ping> who, texts* to) -> task<> {
            const int in_time =
                co_await with_timeout(2s, after_a_while(self, 1, 1s));
            to->push_back(std::to_string(in_time));
            auto late = co_await as_result(
                with_timeout(1s, after_a_while(self, 1, 2s)));
            to->push_back(late.error() == errc::timed_out ? "timed out"
                                                          : "not");
            auto unanswered =
                co_await as_result(with_timeout(1s, who.ask<ping>()));
            to->push_back(unanswered.error() == errc::timed_out ? "timed out"
                                                                : "not");
            // A value that comes in spite of it is a value.
            const int cleaned = co_await with_timeout(1s, careful(self, to));
            to->push_back(std::to_string(cleaned));
          },
          target, &log);
      REQUIRE(log ==
              texts{"1", "timed out", "timed out", "told", "cleaned up", "7"});
    });
  }

  TEST_CASE("tasks, child tasks and what is timed give a result, too") {
    simulation sim;
    const bool right = sim.run([](context<> self) -> task<bool> {
      auto value = co_await as_result(after_a_while(self, 4, 1s));
      auto error = co_await as_result(throwing(self, 1s));
      const auto nothing = []() -> task<> { co_return; };
      auto none = co_await as_result(nothing());
      auto child = self.spawn_task(nothing);
      auto joined = co_await as_result(child.join());
      auto op = as_result(self.sleep_for(1h));
      auto late = co_await with_timeout(1s, op);
      auto timed = as_result(with_timeout(1s, self.sleep_for(1h)));
      auto too_late = co_await timed;
      co_return value&&* value == 4 && error.exception() &&
          none&& joined&& late.error() == errc::timed_out&& too_late.error() ==
              errc::timed_out;
    });
    CHECK(right);
  }

  TEST_CASE("a negative timeout is refused") {
    simulation sim;
    CHECK_THROWS_AS(sim.run([](context<> self) -> task<> {
      co_await with_timeout(-1s, self.sleep_for(1s));
    }),
                    std::invalid_argument);
  }

  TEST_CASE("stop during the cleanup after a timeout: told by the next await") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<> self, texts* to) -> task<> {
            (void)co_await with_timeout(1s, careful(self, to));
            auto r = co_await as_result(self.sleep_for(1h));
            to->push_back(r.error() == aborted ? "body told" : "not told");
          },
          &log);
      sim.advance(1500ms);
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"told", "cleaned up", "body told"});
    });
  }

  // --- with_tasks
  // -------------------------------------------------------------

  TEST_CASE("with_tasks returns after all of its tasks, which share locals") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const int sum = sim.run([](context<> self) -> task<int> {
        int shared = 0;
        const int value =
            co_await self.with_tasks([&](auto& tasks) -> task<int> {
              for (int i = 1; i != 4; ++i)
                tasks.spawn(
                    [&](int n) -> task<> {
                      co_await self.sleep_for(std::chrono::seconds{n});
                      shared += n;
                    },
                    i);
              co_return 10;
            });
        co_return shared + value;
      });
      REQUIRE(sum == 16);
    });
  }

  TEST_CASE("a task of with_tasks that throws ends the others and the body") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      sim.run(
          [](context<> self, texts* to) -> task<> {
            try {
              co_await self.with_tasks([&](auto& tasks) -> task<> {
                tasks.spawn([&] { return careful(self, to); });
                tasks.spawn([&] { return throwing(self, 1s); });
                co_await self.sleep_for(1h);
              });
            } catch (const std::exception& e) {
              to->push_back(e.what());
            }
          },
          &log);
      REQUIRE(log == texts{"told", "cleaned up", "thrown"});
    });
  }

  TEST_CASE("a body of with_tasks that throws ends the tasks") {
    simulation sim;
    texts log;
    sim.run(
        [](context<> self, texts* to) -> task<> {
          try {
            co_await self.with_tasks([&](auto& tasks) -> task<> {
              tasks.spawn([&] { return careful(self, to); });
              co_await throwing(self, 1s);
            });
          } catch (const std::exception& e) {
            to->push_back(e.what());
          }
        },
        &log);
    CHECK(log == texts{"told", "cleaned up", "thrown"});
  }

  TEST_CASE("tasks may start tasks; those that ended leave no memory behind") {
    std::atomic<int> alive{0};
    int most = 0;
    simulation sim;
    sim.run(
        [](context<> self, std::atomic<int>* n, int* top) -> task<> {
          co_await self.with_tasks([&](auto& tasks) -> task<> {
            for (int i = 0; i != 1000; ++i) {
              tasks.spawn(
                  [&tasks](context<> c, counted) -> task<> {
                    tasks.spawn([](context<> d) -> task<> {
                      co_await d.sleep_for(1s);
                    });
                    co_await c.sleep_for(1s);
                  },
                  counted{*n});
              co_await self.sleep_for(1s);
              *top = std::max(*top, n->load());
            }
          });
        },
        &alive, &most);
    CHECK(alive == 0);
    CHECK(most <= 3);
  }

  TEST_CASE("kill and stop reach the tasks of with_tasks") {
    seeds([](std::uint64_t seed) {
      for (const bool kill : {false, true}) {
        std::atomic<int> alive{0};
        simulation sim{seed};
        auto ref = sim.spawn(
            [](context<> self, std::atomic<int>* n) -> task<> {
              counted outer{*n};
              co_await self.with_tasks([&](auto& tasks) -> task<> {
                counted inner{*n};
                for (int i = 0; i != 3; ++i)
                  tasks.spawn(
                      [](context<> c, counted) -> task<> {
                        co_await c.sleep_for(1h);
                      },
                      counted{*n});
                co_await self.sleep_for(1h);
              });
            },
            &alive);
        sim.run_until_idle();
        REQUIRE(alive == 5);
        kill ? ref.kill() : ref.stop();
        REQUIRE(sim.run(ref.stopped()) ==
                (kill ? exit_reason::killed : exit_reason::normal));
        REQUIRE(alive == 0);
      }
    });
  }

  TEST_CASE("receive is not for the tasks of with_tasks, but for its body") {
    simulation sim;
    auto ref = sim.spawn_once([](context<note> self) -> task<> {
      co_await self.with_tasks([&](auto& tasks) -> task<> {
        (void)co_await self.receive();
        tasks.spawn([&]() -> task<> { (void)co_await self.receive(); });
      });
    });
    ref.tell(note{"x"});
    sim.expect_failure<std::logic_error>(ref);
    CHECK(sim.run(ref.stopped()) == exit_reason::failed);
  }
}
