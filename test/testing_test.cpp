#include "actors/testing.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "actors/asio.hpp"

using namespace std::chrono_literals;

namespace {

struct add {
  int amount;
};
struct get {
  using reply_type = int;
};
struct get_text {
  using reply_type = std::string;
  std::string key;
};
struct flush {
  using reply_type = void;
};

actors::task<> counter(actors::context<add, get> self) {
  int sum = 0;
  while (co_await self.receive([&](add a) { sum += a.amount; },
                               [&](get) { return sum; })) {
  }
}

/// Fails when it is told to.
actors::task<> fragile(actors::context<std::string, get> self) {
  while (co_await self.receive(
      [](const std::string& why) { throw std::runtime_error{why}; },
      [](get) { return 1; })) {
  }
}

/// Never answers, and says so to nobody.
actors::task<> silent(actors::context<get> self) {
  std::vector<actors::reply_to<int>> kept;
  while (co_await self.receive([&](get, actors::reply_to<int> reply) {
    kept.push_back(std::move(reply));
  })) {
  }
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE(text);
  return found;
}

}  // namespace

TEST_SUITE("testing") {
  // --- driving ---------------------------------------------------------------

  TEST_CASE("nothing runs but while the test drives") {
    actors::simulation sim;
    int handled = 0;
    auto ref = sim.spawn(
        [](actors::context<add> self, int* n) -> actors::task<> {
          while (co_await self.receive([&](add) { ++*n; })) {
          }
        },
        &handled);
    ref.tell(add{1});
    CHECK(handled == 0);
    CHECK(sim.run_until_idle() > 0);
    CHECK(handled == 1);
    CHECK(!sim.step());
    CHECK(sim.run_until_idle() == 0);
  }

  TEST_CASE("a step does one thing and says whether there was one") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    const auto before = sim.steps();
    CHECK(sim.step());
    CHECK(sim.steps() == before + 1);
    sim.run_until_idle();
    CHECK(!sim.step());
    ref.tell(add{1});
    CHECK(sim.step());
  }

  TEST_CASE("run gives the value of an ask") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    ref.tell(add{2});
    ref.tell(add{3});
    CHECK(sim.run(ref.ask<get>()) == 5);
  }

  TEST_CASE("run throws what the operation threw") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    ref.stop();
    try {
      (void)sim.run(ref.ask<get>());
      FAIL("nothing was thrown");
    } catch (const actors::actor_error& e) {
      CHECK(e.code() == actors::errc::actor_stopped);
    }
  }

  TEST_CASE("run takes started, stopped and as_result") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    sim.run(ref.started());
    ref.kill();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::killed);
    auto asked = sim.run(actors::as_result(ref.ask<get>()));
    CHECK(asked.error() == actors::errc::actor_stopped);
  }

  TEST_CASE("run takes a task") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    auto twice = [](actors::actor_ref<get> of) -> actors::task<int> {
      const int one = co_await of.ask<get>();
      const int two = co_await of.ask<get>();
      co_return one + two;
    };
    ref.tell(add{4});
    CHECK(sim.run(twice(ref)) == 8);
    auto nothing = []() -> actors::task<> { co_return; };
    sim.run(nothing());
  }

  TEST_CASE("run takes a callable with a context, and its arguments") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    const int sum = sim.run(
        [&](actors::context<> self,
            std::unique_ptr<int> n) -> actors::task<int> {
          ref.tell(add{*n});
          co_await self.sleep_for(1h);
          const int value = co_await ref.ask<get>();
          co_return value + 1;
        },
        std::make_unique<int>(41));
    CHECK(sum == 42);
    CHECK_THROWS_AS(sim.run([](actors::context<>) -> actors::task<> {
      throw std::out_of_range{"no"};
      co_return;
    }),
                    std::out_of_range);
  }

  TEST_CASE("run ends with actor_stopped when its actor is stopped by others") {
    actors::simulation sim;
    try {
      sim.run([](actors::context<> self) -> actors::task<> {
        self.any_ref().kill();
        co_await self.until_stop();
      });
      FAIL("nothing was thrown");
    } catch (const actors::actor_error& e) {
      CHECK(e.code() == actors::errc::actor_stopped);
    }
  }

  TEST_CASE("spawn takes options, spawn_once what can only be moved") {
    actors::simulation sim;
    auto named = sim.spawn({.name = "bank"}, counter);
    CHECK(named.path() == "/user/bank");
    int got = 0;
    sim.spawn_once(
        [&](actors::context<>, std::unique_ptr<int> n) -> actors::task<> {
          got = *n;
          co_return;
        },
        std::make_unique<int>(7));
    sim.run_until_idle();
    CHECK(got == 7);
  }

  TEST_CASE("a blocking call gives would_deadlock instead of hanging") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    try {
      (void)ref.ask<get>().get();
      FAIL("nothing was thrown");
    } catch (const actors::actor_error& e) {
      CHECK(e.code() == actors::errc::would_deadlock);
    }
  }

  TEST_CASE("an actor cannot drive the simulation that runs it") {
    actors::simulation sim;
    CHECK_THROWS_AS(sim.run([&](actors::context<>) -> actors::task<> {
      sim.step();
      co_return;
    }),
                    std::logic_error);
  }

  TEST_CASE("messages of one sender arrive in order with every seed") {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
      actors::simulation sim{seed};
      std::vector<int> got;
      auto sink = sim.spawn([&](actors::context<add> self) -> actors::task<> {
        while (co_await self.receive([&](add a) { got.push_back(a.amount); })) {
        }
      });
      auto sender = sim.spawn([&](actors::context<add> self) -> actors::task<> {
        int n = 0;
        while (co_await self.receive([&](add a) {
          for (int i = 0; i != a.amount; ++i) sink.tell(add{n++});
        })) {
        }
      });
      for (int i = 0; i != 20; ++i) {
        sender.tell(add{3});
        sim.step();
        sim.step();
      }
      sim.run_until_idle();
      REQUIRE(got.size() == 60);
      for (int i = 0; i != 60; ++i)
        REQUIRE(got[static_cast<std::size_t>(i)] == i);
    }
  }

  TEST_CASE("the same seed gives the same order, another one another") {
    const auto order_of = [](std::uint64_t seed) {
      actors::simulation sim{seed};
      std::string order;
      for (char name = 'a'; name != 'g'; ++name)
        sim.spawn([&order, name](actors::context<> self) -> actors::task<> {
          for (int i = 0; i != 4; ++i) {
            order += name;
            co_await self.sleep_for(0s);
          }
        });
      sim.run_until_idle();
      return order;
    };
    CHECK(order_of(3).size() == 24);
    CHECK(order_of(3) == order_of(3));
    CHECK(order_of(3) != order_of(4));
  }

  // --- time ------------------------------------------------------------------

  TEST_CASE("time stands still but when the test advances it") {
    actors::simulation sim;
    const auto start = sim.now();
    CHECK(actors::simulation{7}.now() == start);
    sim.run_until_idle();
    CHECK(sim.now() == start);
    sim.advance(90min);
    CHECK(sim.now() == start + 90min);
    CHECK_THROWS_AS(sim.advance(-1ns), std::invalid_argument);
  }

  TEST_CASE("an actor's clock is the simulation's") {
    actors::simulation sim;
    sim.advance(5s);
    const auto seen =
        sim.run([](actors::context<> self) -> actors::task<actors::time_point> {
          co_return self.now();
        });
    CHECK(seen == sim.now());
  }

  TEST_CASE("advance fires timers in order and runs what they wake") {
    actors::simulation sim;
    std::vector<std::pair<int, actors::duration>> seen;
    const auto start = sim.now();
    for (int n : {30, 10, 20, 70})
      sim.spawn([&, n](actors::context<> self) -> actors::task<> {
        co_await self.sleep_for(std::chrono::seconds{n});
        seen.push_back({n, self.now() - start});
        co_await self.sleep_for(15s);
        seen.push_back({n + 15, self.now() - start});
      });
    sim.advance(60s);
    CHECK(sim.now() == start + 60s);
    REQUIRE(seen.size() == 6);
    const int expected[] = {10, 20, 25, 30, 35, 45};
    for (std::size_t i = 0; i != 6; ++i) {
      CHECK(seen[i].first == expected[i]);
      CHECK(seen[i].second == std::chrono::seconds{expected[i]});
    }
  }

  TEST_CASE("run advances the clock from timer to timer") {
    actors::simulation sim;
    const auto start = sim.now();
    sim.run([](actors::context<> self) -> actors::task<> {
      co_await self.sleep_for(24h);
    });
    CHECK(sim.now() == start + 24h);
  }

  TEST_CASE("an ask times out in virtual time") {
    actors::simulation sim;
    auto ref = sim.spawn(silent);
    const auto start = sim.now();
    auto asked = sim.run(actors::as_result(ref.ask<get>().within(10min)));
    CHECK(asked.error() == actors::errc::timed_out);
    CHECK(sim.now() == start + 10min);
  }

  TEST_CASE("the timeout of a receive is in virtual time") {
    actors::simulation sim;
    int silences = 0;
    auto ref = sim.spawn([&](actors::context<add> self) -> actors::task<> {
      while (co_await self.receive([](add) {},
                                   actors::after(1s, [&] { ++silences; }))) {
      }
    });
    sim.advance(1500ms);
    CHECK(silences == 1);
    ref.tell(add{1});
    sim.advance(999ms);
    CHECK(silences == 1);
    sim.advance(1ms);
    CHECK(silences == 2);
  }

  TEST_CASE("a stop that takes too long is a kill, in virtual time") {
    actors::simulation sim;
    auto ref = sim.spawn([](actors::context<> self) -> actors::task<> {
      co_await self.until_stop();
      for (;;) co_await self.sleep_for(1h);
    });
    sim.run(ref.started());
    const auto start = sim.now();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::killed);
    CHECK(sim.now() == start + 5s);
  }

  // --- when nothing can go on ------------------------------------------------

  TEST_CASE("when nothing can go on, the error names who waits for whom") {
    actors::simulation sim{{.seed = 17}};
    auto ref = sim.spawn({.name = "silent"}, silent);
    sim.spawn({.name = "busy"},
              [&](actors::context<add, get> self) -> actors::task<> {
                self.ref().tell(add{1});
                self.ref().tell(add{2});
                (void)co_await ref.ask<get>();
              });
    sim.spawn(
        {.name = "handler"}, [&](actors::context<add> self) -> actors::task<> {
          self.ref().tell(add{1});
          while (co_await self.receive(
              [&](add) -> actors::task<> { (void)co_await ref.ask<get>(); })) {
          }
        });
    const std::string text = message_of([&] { (void)sim.run(ref.ask<get>()); });
    CHECK(contains(text,
                   "/user/run-1 waits, and nothing can go on (seed 17, "
                   "0.000000000 s of virtual time):"));
    CHECK(contains(text, "\n  /user/silent waits for a message at "));
    CHECK(contains(text, "testing_test.cpp:"));
    CHECK(contains(text, "\n  /user/busy waits for /user/silent at "));
    CHECK(contains(text, ", 2 messages queued"));
    CHECK(contains(text, "\n  /user/handler waits for /user/silent at "));
    CHECK(contains(text, "add in hand, 0 messages queued"));
    CHECK(contains(text, "\n  /user/run-1 waits for /user/silent"));
  }

  TEST_CASE("an actor that waits for ever does not keep the others") {
    actors::simulation sim;
    auto ref = sim.spawn(silent);
    CHECK_THROWS_AS(sim.run(ref.ask<get>()), actors::simulation_error);
    auto other = sim.spawn(counter);
    CHECK(sim.run(other.ask<get>()) == 0);
  }

  TEST_CASE("what run gave up is not resumed: its locals may be gone") {
    int given_up = 0;
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
      bool resumed = false;
      actors::simulation sim{seed};
      auto ref = sim.spawn(counter);
      sim.spawn([](actors::context<>) -> actors::task<> {
        throw std::runtime_error{"unexpected"};
        co_return;
      });
      try {
        sim.run([&](actors::context<>) -> actors::task<> {
          (void)co_await ref.ask<get>();
          (void)co_await ref.ask<get>();
          resumed = true;
        });
      } catch (const actors::simulation_error&) {
        ++given_up;
        REQUIRE(!resumed);
        sim.run_until_idle();
        REQUIRE(!resumed);
      }
    }
    CHECK(given_up > 10);
  }

  TEST_CASE("what does not end is an error") {
    actors::simulation sim{{.max_steps = 1000}};
    sim.spawn({.name = "ticker"}, [](actors::context<> self) -> actors::task<> {
      for (;;) co_await self.sleep_for(0s);
    });
    const std::string text = message_of([&] { sim.run_until_idle(); });
    CHECK(contains(text, "run_until_idle() has not ended after 1000 steps"));
    CHECK(contains(text, "/user/ticker waits for an operation at "));
  }

  TEST_CASE("options out of range are refused") {
    CHECK_THROWS_AS(actors::simulation{{.max_steps = 0}},
                    std::invalid_argument);
    CHECK_THROWS_AS(actors::simulation{{.io_limit = -1s}},
                    std::invalid_argument);
    CHECK_THROWS_AS(actors::simulation({.system = {.throughput = 0}}),
                    std::invalid_argument);
  }

  // --- I/O -------------------------------------------------------------------

  TEST_CASE("a raw Asio operation is real and waited for") {
    actors::simulation sim;
    const auto start = sim.now();
    sim.run([](actors::context<> self) -> actors::task<> {
      asio::steady_timer timer{self.get_executor(), 1ms};
      co_await timer.async_wait(actors::use_task);
    });
    CHECK(sim.now() == start);
  }

  TEST_CASE("what is posted to an actor's executor is a step") {
    actors::simulation sim;
    bool ran = false;
    sim.run([&](actors::context<> self) -> actors::task<> {
      asio::post(self.get_executor(), [&] { ran = true; });
      co_await asio::post(self.get_executor(), actors::use_task);
    });
    sim.run_until_idle();
    CHECK(ran);
  }

  TEST_CASE("I/O that does not come is an error that says who waits for it") {
    actors::simulation sim{{.io_limit = 1ms}};
    const std::string text = message_of([&] {
      sim.run([](actors::context<> self) -> actors::task<> {
        asio::ip::tcp::acceptor acceptor{self.get_executor(),
                                         {asio::ip::address_v4::loopback(), 0}};
        (void)co_await acceptor.async_accept(actors::use_task);
      });
    });
    CHECK(contains(text,
                   "/user/run-1 waits, and I/O has not come in "
                   "0.001000000 s of real time"));
    CHECK(contains(text, "\n  /user/run-1 waits for an operation at "));
  }

  TEST_CASE("actors talk over real sockets") {
    actors::simulation sim;
    unsigned short port = 0;
    auto server = sim.spawn([&](actors::context<> self) -> actors::task<> {
      asio::ip::tcp::acceptor acceptor{self.get_executor(),
                                       {asio::ip::address_v4::loopback(), 0}};
      port = acceptor.local_endpoint().port();
      self.ready();
      auto socket = co_await acceptor.async_accept(actors::use_task);
      char data[4];
      co_await asio::async_read(socket, asio::buffer(data), actors::use_task);
      co_await asio::async_write(socket, asio::buffer(data), actors::use_task);
    });
    sim.run(server.started());
    const std::string echo = sim.run([&](actors::context<> self)
                                         -> actors::task<std::string> {
      asio::ip::tcp::socket socket{self.get_executor()};
      const asio::ip::tcp::endpoint to{asio::ip::address_v4::loopback(), port};
      co_await socket.async_connect(to, actors::use_task);
      std::string text = "ping";
      co_await asio::async_write(socket, asio::buffer(text), actors::use_task);
      text = "....";
      co_await asio::async_read(socket, asio::buffer(text), actors::use_task);
      co_return text;
    });
    CHECK(echo == "ping");
    CHECK(sim.run(server.stopped()) == actors::exit_reason::normal);
  }

  // --- failures --------------------------------------------------------------

  TEST_CASE("a failure that nobody expects fails whatever drives") {
    actors::simulation sim;
    auto one = sim.spawn({.name = "one"}, fragile);
    one.tell(std::string{"disk full"});
    const std::string text = message_of([&] { sim.run_until_idle(); });
    CHECK(text ==
          "/user/one failed, and nobody expected it: std::runtime_error: disk "
          "full");
    CHECK_NOTHROW(sim.run_until_idle());  // said once
    CHECK_NOTHROW(sim.check());

    auto two = sim.spawn(fragile);
    two.tell(std::string{"no"});
    CHECK_THROWS_AS(while (sim.step()){}, actors::simulation_error);
    auto three = sim.spawn(fragile);
    three.tell(std::string{"no"});
    CHECK_THROWS_AS(sim.advance(1s), actors::simulation_error);
    auto four = sim.spawn(fragile);
    four.tell(std::string{"no"});
    CHECK_THROWS_AS(sim.run(four.stopped()), actors::simulation_error);
  }

  TEST_CASE("a failure that is expected is none of the test's") {
    actors::simulation sim;
    auto ref = sim.spawn_once(fragile);
    sim.expect_failure<std::runtime_error>(ref);
    ref.tell(std::string{"no"});
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::failed);
    CHECK_NOTHROW(sim.check());
  }

  TEST_CASE("a failure of another type than expected is unexpected") {
    actors::simulation sim;
    auto ref = sim.spawn({.name = "one"}, fragile);
    sim.expect_failure<std::logic_error>(ref);
    ref.tell(std::string{"no"});
    CHECK(contains(message_of([&] { sim.run_until_idle(); }), "/user/one"));
    CHECK(contains(message_of([&] { sim.check(); }),
                   "/user/one was expected to fail with std::logic_error and "
                   "has not"));
    CHECK_NOTHROW(sim.check());  // said once
  }

  TEST_CASE("an actor fails where it waits for messages when it is injected") {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
      actors::simulation sim{seed};
      auto ref = sim.spawn_once(counter);
      sim.run(ref.started());
      sim.expect_failure<std::bad_alloc>(ref);
      sim.inject(ref, std::bad_alloc{});
      const actors::exit_reason why = sim.run(ref.stopped());
      REQUIRE(why == actors::exit_reason::failed);
      REQUIRE_THROWS_AS(std::rethrow_exception(why.error()), std::bad_alloc);
      sim.check();
    }
  }

  TEST_CASE("a failure injected into a handler is told to the asker") {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
      actors::simulation sim{seed};
      auto cleaned = std::make_shared<bool>(false);
      auto ref = sim.spawn(
          [](actors::context<get> self,
             std::shared_ptr<bool> flag) -> actors::task<> {
            while (co_await self.receive([&](get) -> actors::task<int> {
              struct guard {
                ~guard() { *flag = true; }
                std::shared_ptr<bool> flag;
              } on_exit{flag};
              co_await self.sleep_for(1h);
              co_return 1;
            })) {
            }
          },
          cleaned);
      sim.expect_failure<std::runtime_error>(ref);
      auto asked = sim.run(
          [&](actors::context<> self) -> actors::task<actors::result<int>> {
            auto question = actors::as_result(ref.ask<get>());
            sim.spawn([&](actors::context<> other) -> actors::task<> {
              co_await other.sleep_for(1s);
              sim.inject(ref, std::make_exception_ptr(std::runtime_error{"x"}));
            });
            (void)self;
            co_return co_await question;
          });
      REQUIRE(asked.error() == actors::errc::actor_failed);
      REQUIRE(*cleaned);
      sim.check();
    }
  }

  TEST_CASE("a failure is injected before the actor has started") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    ref.tell(add{1});
    sim.expect_failure(ref);
    sim.inject(ref, std::runtime_error{"no config"});
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::failed);
    CHECK(sim.system().dead_letter_count() == 1);
    CHECK_THROWS_WITH(sim.run(ref.started()), "no config");
  }

  TEST_CASE("a failure is injected where an actor waits for I/O") {
    actors::simulation sim;
    auto ref = sim.spawn_once([](actors::context<> self) -> actors::task<> {
      asio::ip::tcp::acceptor acceptor{self.get_executor(),
                                       {asio::ip::address_v4::loopback(), 0}};
      (void)co_await acceptor.async_accept(actors::use_task);
    });
    sim.run(ref.started());
    sim.expect_failure<std::runtime_error>(ref);
    sim.inject(ref, std::runtime_error{"cable cut"});
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::failed);
  }

  TEST_CASE("an actor that has ended cannot fail") {
    actors::simulation sim;
    auto ref = sim.spawn(counter);
    ref.stop();
    sim.run_until_idle();
    CHECK_THROWS_AS(sim.inject(ref, std::runtime_error{"late"}),
                    actors::simulation_error);
    CHECK_THROWS_AS(
        sim.inject(actors::any_actor_ref{}, std::runtime_error{"nobody"}),
        actors::simulation_error);
  }

  // --- probes ----------------------------------------------------------------

  TEST_CASE("a probe gives messages in the order in which they came") {
    actors::simulation sim;
    actors::probe<add, std::string, std::unique_ptr<int>> p{sim, "p"};
    CHECK(p.ref().path() == "/user/p");
    p.ref().tell(add{1});
    p.ref().tell(std::string{"two"});
    p.ref().tell(std::make_unique<int>(3));
    CHECK(p.expect<add>().amount == 1);
    CHECK(p.expect<std::string>() == "two");
    CHECK(*p.expect<std::unique_ptr<int>>() == 3);
    CHECK(p.size() == 0);
  }

  TEST_CASE("a probe waits for a message, also over time") {
    actors::simulation sim;
    auto p = sim.probe<add>();
    sim.spawn([to = p.ref()](actors::context<> self) -> actors::task<> {
      co_await self.sleep_for(1h);
      to.tell(add{5});
    });
    p.expect_nothing();
    CHECK(p.expect<add>().amount == 5);
    p.expect_nothing();
  }

  TEST_CASE("another message than the expected one is an error and stays") {
    actors::simulation sim;
    auto p = sim.probe<add, std::string>("p");
    p.ref().tell(std::string{"text"});
    const std::string text = message_of([&] { (void)p.expect<add>(); });
    CHECK(contains(text, "/user/p expected a "));
    CHECK(contains(text, "add, but a "));
    CHECK(p.expect<std::string>() == "text");
  }

  TEST_CASE("no message at all is an error") {
    actors::simulation sim;
    auto p = sim.probe<add>("p");
    CHECK(contains(message_of([&] { (void)p.expect<add>(); }),
                   "/user/p waits, and nothing can go on"));
  }

  TEST_CASE("a message where none was expected is an error") {
    actors::simulation sim;
    auto p = sim.probe<add>("p");
    p.ref().tell(add{1});
    const std::string text = message_of([&] { p.expect_nothing(); });
    CHECK(contains(text, "/user/p expected nothing, but a "));
  }

  TEST_CASE("a probe answers questions") {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
      actors::simulation sim{seed};
      auto p = sim.probe<get_text, flush>();
      auto answers = sim.probe<std::string>();
      sim.spawn([to = p.ref(),
                 out = answers.ref()](actors::context<>) -> actors::task<> {
        std::string one = co_await to.ask<get_text>("a long enough first key");
        out.tell(std::move(one));
        auto two = co_await actors::as_result(to.ask<get_text>("second"));
        out.tell(two.error().message());
        auto three = co_await actors::as_result(to.ask<get_text>("third"));
        out.tell(three.error().message());
        co_await to.ask<flush>();
        out.tell(std::string{"flushed"});
      });
      auto q = p.expect<get_text>();
      REQUIRE(q->key == "a long enough first key");
      REQUIRE(q.message.key == q->key);
      answers.expect_nothing();
      REQUIRE(q.reply(std::string{"a long enough answer to it"}));
      REQUIRE(answers.expect<std::string>() == "a long enough answer to it");
      REQUIRE(p.expect<get_text>().fail(actors::errc::mailbox_full));
      REQUIRE(answers.expect<std::string>() ==
              make_error_code(actors::errc::mailbox_full).message());
      (void)p.expect<get_text>();  // dropped unanswered
      REQUIRE(answers.expect<std::string>() ==
              make_error_code(actors::errc::no_reply).message());
      REQUIRE(p.expect<flush>().reply());
      REQUIRE(answers.expect<std::string>() == "flushed");
      sim.check();
    }
  }

  TEST_CASE("a question that was told has nobody to answer") {
    actors::simulation sim;
    auto p = sim.probe<get>();
    p.ref().tell(get{});
    CHECK(!p.expect<get>().reply(1));
  }

  TEST_CASE("a probe that goes tells those who still ask") {
    actors::simulation sim;
    auto answers = sim.probe<bool>();
    {
      auto p = sim.probe<get>();
      sim.spawn([to = p.ref(),
                 out = answers.ref()](actors::context<>) -> actors::task<> {
        auto r = co_await actors::as_result(to.ask<get>());
        out.tell(r.error() == actors::errc::no_reply);
      });
      sim.run_until_idle();
      CHECK(p.size() == 1);
    }
    CHECK(answers.expect<bool>());
  }

  // --- the end ---------------------------------------------------------------

  TEST_CASE("terminate ends all actors, over time where they need it") {
    actors::simulation sim;
    bool cleaned = false;
    auto ref = sim.spawn([&](actors::context<> self) -> actors::task<> {
      co_await self.until_stop();
      co_await self.sleep_for(3s);
      cleaned = true;
    });
    sim.run(ref.started());
    const auto start = sim.now();
    sim.terminate();
    CHECK(cleaned);
    CHECK(sim.now() == start + 3s);
    auto late = sim.spawn(counter);
    late.tell(add{1});
    CHECK(sim.system().dead_letter_count() == 1);
    sim.terminate();
  }

  TEST_CASE("a simulation that goes leaves nothing behind") {
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
      actors::actor_ref<add, get> outlives;
      auto alive = std::make_shared<int>(0);
      {
        actors::simulation sim{seed};
        outlives = sim.spawn(counter);
        auto to = sim.spawn(silent);
        auto unread = sim.probe<std::string>();
        unread.ref().tell(std::string{"a text that is not read by anybody"});
        for (int i = 0; i != 3; ++i)
          sim.spawn(
              [&to](actors::context<add> self,
                    std::shared_ptr<int> keep) -> actors::task<> {
                auto child =
                    self.spawn([keep](actors::context<> me) -> actors::task<> {
                      co_await me.sleep_for(1h);
                    });
                for (int k = 0; k != 5; ++k) self.ref().tell(add{*keep});
                (void)co_await to.ask<get>();
              },
              alive);
        sim.spawn([keep = alive](actors::context<> self) -> actors::task<> {
          for (;;) {
            try {
              co_await self.sleep_for(1min);
            } catch (const std::system_error&) {
              // does not care
            }
          }
        });
        sim.spawn([keep = alive](actors::context<> self) -> actors::task<> {
          asio::ip::tcp::acceptor acceptor{
              self.get_executor(), {asio::ip::address_v4::loopback(), 0}};
          (void)co_await acceptor.async_accept(actors::use_task);
        });
        for (std::uint64_t i = 0; i != seed; ++i) sim.step();
      }
      REQUIRE(alive.use_count() == 1);
      outlives.tell(add{1});
      REQUIRE(outlives.path() == "/user/$1");
    }
  }

  TEST_CASE("a simulation whose run was given up ends as well") {
    actors::simulation sim;
    auto ref = sim.spawn(silent);
    CHECK_THROWS_AS(sim.run([&](actors::context<>) -> actors::task<> {
      auto text = std::make_unique<std::string>("on the frame");
      (void)co_await ref.ask<get>();
    }),
                    actors::simulation_error);
  }
}
