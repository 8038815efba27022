// Cycles of asks: the one that closes a cycle ends at once. Design 2.4.
#include "actors/system.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "actors/asio.hpp"
#include "actors/shield.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

using namespace std::chrono_literals;
using actors::actor_error;
using actors::actor_ref;
using actors::as_result;
using actors::context;
using actors::errc;
using actors::reply_to;
using actors::result;
using actors::simulation;
using actors::task;
using actors::when_all;
using actors::when_any;
using actors::with_timeout;
using support::contains;
using support::error_of;
using support::message_of;

namespace {

/// Asks the next one of `path`, or answers.
struct go {
  using reply_type = int;
  std::vector<actor_ref<go>> path = {};
};
struct start {
  std::vector<actor_ref<go>> path = {};
};
struct stay {
  using reply_type = int;
};

/// How asks have ended, in their order.
struct ends {
  std::vector<std::error_code> codes;
  std::vector<std::string> texts;

  template <class T>
  void note(const result<T>& r) {
    codes.push_back(r.error());
    texts.push_back(support::message_of_error(r.exception()));
  }
};

task<result<int>> pass_on(std::vector<actor_ref<go>> path, ends* log) {
  if (path.empty()) co_return 1;
  const actor_ref<go> next = path.front();
  path.erase(path.begin());
  auto r = co_await as_result(next.ask<go>(std::move(path)));
  log->note(r);
  if (!r) co_return r;
  co_return *r + 1;
}

/// Goes the way it is told, in a handler.
task<> walker(context<go, start> self, ends* log) {
  while (co_await self.receive(
      [&](go g) -> task<result<int>> {
        return pass_on(std::move(g.path), log);
      },
      [&](start s) -> task<> {
        auto r = co_await pass_on(std::move(s.path), log);
      })) {
  }
}
/// The same, and takes the next message meanwhile.
task<> quick_walker(context<go, start> self, ends* log) {
  auto handler = [log](go g) -> task<result<int>> {
    return pass_on(std::move(g.path), log);
  };
  auto starter = [log](start s) -> task<> {
    auto r = co_await pass_on(std::move(s.path), log);
  };
  co_await self.serve(actors::concurrent(handler), actors::concurrent(starter));
}
/// Hands all on to the first of the path.
task<> post_office(context<go> self) {
  co_await self.serve([&](go g) {
    const actor_ref<go> next = g.path.front();
    g.path.erase(g.path.begin());
    self.forward(next, std::move(g));
  });
}

std::string says(std::string chain) {
  chain += ": the wait could only be ended by the one who waits";
  return chain;
}

}  // namespace

TEST_SUITE("cycle") {
  // --- cycles ----------------------------------------------------------------

  TEST_CASE("the ask that closes a cycle fails, and says of whom it is made") {
    ends log;
    simulation sim;
    auto a = sim.spawn({.name = "a"}, walker, &log);
    auto b = sim.spawn({.name = "b"}, walker, &log);
    const auto before = sim.now();
    a.tell(start{{b, a}});
    sim.run_until_idle();
    REQUIRE(log.codes.size() == 2);
    CHECK(log.codes[0] == errc::would_deadlock);
    CHECK(log.codes[0] == std::errc::resource_deadlock_would_occur);
    CHECK(actors::not_handled(log.codes[0]));
    CHECK(log.texts[0] == says("/user/a asks /user/b asks /user/a"));
    // It went on to the one who asked.
    CHECK(log.codes[1] == errc::would_deadlock);
    CHECK(sim.now() == before);
    CHECK(sim.run(b.ask<go>()) == 1);
  }

  TEST_CASE("an await throws the same, and a timeout makes no difference") {
    std::string text, timed;
    actor_ref<stay> up;
    simulation sim;
    auto a = sim.spawn_once({.name = "a"}, [&](context<stay> self) -> task<> {
      auto b =
          self.spawn_once({.name = "b"}, [&](context<stay> other) -> task<> {
            co_await other.receive([&](stay) -> task<int> {
              try {
                (void)co_await up.ask<stay>();
              } catch (const actor_error& e) {
                text = e.what();
                CHECK(e.code() == errc::would_deadlock);
              }
              try {
                (void)co_await with_timeout(1h, up.ask<stay>().within(2h));
              } catch (const actor_error& e) {
                timed = e.what();
              }
              co_return 1;
            });
          });
      up = self.ref();
      CHECK(co_await b.ask<stay>() == 1);
    });
    const auto before = sim.now();
    (void)sim.run(a.stopped());
    CHECK(text == says("/user/a asks /user/a/b asks /user/a"));
    CHECK(timed == text);
    CHECK(sim.now() == before);
  }

  TEST_CASE("a cycle may be as long as it likes, and begin with others") {
    for (const std::size_t length : {3u, 4u, 50u}) {
      ends log;
      simulation sim;
      std::vector<actor_ref<go>> path;
      actor_ref<start> first;
      for (std::size_t i = 0; i != length; ++i) {
        auto ref = sim.spawn({.name = "n" + std::to_string(i)}, walker, &log);
        if (i == 0) first = ref;
        path.push_back(ref);
      }
      // n0 asks n1 … asks the last, which asks n1.
      std::vector<actor_ref<go>> way(path.begin() + 1, path.end());
      way.push_back(path[1]);
      first.tell(start{way});
      sim.run_until_idle();
      REQUIRE(log.codes.size() == length);
      CHECK(log.codes[0] == errc::would_deadlock);
      std::string chain;
      for (std::size_t i = 1; i != length; ++i)
        chain += "/user/n" + std::to_string(i) + " asks ";
      CHECK(log.texts[0] == says(chain + "/user/n1"));
    }
  }

  TEST_CASE("an actor that asks itself is told so whatever the option") {
    for (const bool on : {true, false}) {
      ends log;
      simulation sim{{.system = {.detect_deadlocks = on}}};
      auto a = sim.spawn({.name = "a"}, walker, &log);
      a.tell(start{{a}});
      sim.run_until_idle();
      CHECK(log.codes == std::vector<std::error_code>{errc::would_deadlock});
      CHECK(log.texts[0] == says("/user/a asks /user/a"));
    }
  }

  TEST_CASE("a cycle through one who hands on is seen") {
    ends log;
    simulation sim;
    auto a = sim.spawn({.name = "a"}, walker, &log);
    auto b = sim.spawn({.name = "b"}, walker, &log);
    auto post = sim.spawn({.name = "post"}, post_office);
    a.tell(start{{post, b, a}});
    sim.run_until_idle();
    REQUIRE(log.codes.size() == 2);
    CHECK(log.texts[0] == says("/user/a asks /user/b asks /user/a"));
  }

  TEST_CASE("a hand-over that closes a cycle fails the ask") {
    ends log;
    simulation sim;
    auto a = sim.spawn({.name = "a"}, walker, &log);
    auto b = sim.spawn({.name = "b"}, walker, &log);
    auto post = sim.spawn({.name = "post"}, post_office);
    a.tell(start{{b, post, a}});
    sim.run_until_idle();
    REQUIRE(log.codes.size() == 2);
    CHECK(log.codes[0] == errc::would_deadlock);
    CHECK(log.texts[0] ==
          says("/user/a asks /user/b asks /user/post hands on to "
               "/user/a"));
    log = {};
    a.tell(start{{post, a}});
    sim.run_until_idle();
    REQUIRE(log.codes.size() == 1);
    CHECK(log.texts[0] == says("/user/a asks /user/post hands on to /user/a"));
  }

  TEST_CASE("one who waits for several answers at once waits for each") {
    ends log;
    std::optional<std::error_code> end;
    simulation sim;
    auto b = sim.spawn({.name = "b"}, walker, &log);
    auto c = sim.spawn({.name = "c"}, walker, &log);
    auto a = sim.spawn({.name = "a"}, [&](context<go> self) -> task<> {
      std::vector<actor_ref<go>> back{self.ref()};
      auto r = co_await as_result(when_all(b.ask<go>(back), c.ask<go>()));
      end = r.error();
      co_await self.until_stop();
    });
    sim.run_until_idle();
    CHECK(end == errc::would_deadlock);
    REQUIRE(log.codes.size() == 1);
    CHECK(log.texts[0] == says("/user/a asks /user/b asks /user/a"));
  }

  TEST_CASE("a shielded ask closes a cycle as any other") {
    std::error_code error;
    actor_ref<stay> up;
    simulation sim;
    auto a = sim.spawn_once([&](context<stay> self) -> task<> {
      up = self.ref();
      auto b = self.spawn_once([&](context<stay> other) -> task<> {
        co_await other.receive([&](stay) -> task<int> {
          auto r = co_await as_result(actors::shield(up.ask<stay>()));
          error = r.error();
          co_return 1;
        });
      });
      CHECK(co_await b.ask<stay>() == 1);
    });
    (void)sim.run(a.stopped());
    CHECK(error == errc::would_deadlock);
  }

  // --- what is none ----------------------------------------------------------

  TEST_CASE("with detection off nothing is looked for") {
    ends log;
    simulation sim{{.system = {.detect_deadlocks = false}}};
    auto a = sim.spawn(walker, &log);
    auto b = sim.spawn(walker, &log);
    a.tell(start{{b, a}});
    sim.run_until_idle();
    CHECK(log.codes.empty());
    a.kill();
    b.kill();
  }

  TEST_CASE("who takes messages meanwhile is not waited for in vain") {
    ends log;
    simulation sim;
    auto a = sim.spawn(quick_walker, &log);
    auto b = sim.spawn(walker, &log);
    a.tell(start{{b, a}});
    sim.run_until_idle();
    CHECK(log.codes == std::vector<std::error_code>(2));
    // But in the middle it is in the way as anybody.
    log = {};
    b.tell(start{{a, b}});
    sim.run_until_idle();
    REQUIRE(log.codes.size() == 2);
    CHECK(log.codes[0] == errc::would_deadlock);
    log = {};
    a.tell(start{{a}});
    sim.run_until_idle();
    CHECK(log.codes == std::vector<std::error_code>(1));
  }

  TEST_CASE("a child task that asks leaves its actor free") {
    ends log;
    int got = 0;
    simulation sim;
    auto b = sim.spawn(walker, &log);
    auto a = sim.spawn([&](context<go> self) -> task<> {
      auto child = self.spawn_task(
          [&](actor_ref<go> me) -> task<> {
            std::vector<actor_ref<go>> back{me};
            got = co_await b.ask<go>(back);
          },
          self.ref());
      while (co_await self.receive([](go) { return 1; })) {
      }
    });
    sim.run_until_idle();
    CHECK(got == 2);
    a.stop();
    sim.run_until_idle();
  }

  TEST_CASE("who receives beside his ask is free") {
    ends log;
    for (const bool first : {true, false}) {
      int got = 0;
      simulation sim;
      auto b = sim.spawn(walker, &log);
      (void)sim.spawn([&](context<go> self) -> task<> {
        auto handler = [](go) { return 1; };
        std::vector<actor_ref<go>> back{self.ref()};
        if (first)
          got = std::get<0>(
              co_await when_all(b.ask<go>(back), self.receive(handler)));
        else
          got = std::get<1>(
              co_await when_all(self.receive(handler), b.ask<go>(back)));
        co_await self.until_stop();
      });
      sim.run_until_idle();
      CHECK(got == 2);
    }
  }

  TEST_CASE("one of several that are awaited is no certain cycle") {
    ends log;
    std::size_t which = 9;
    simulation sim;
    auto b = sim.spawn(walker, &log);
    auto a = sim.spawn([&](context<go> self) -> task<> {
      std::vector<actor_ref<go>> back{self.ref()};
      auto r = co_await when_any(b.ask<go>(back), self.sleep_for(1s));
      which = r.index();
      while (co_await self.receive([](go) { return 1; })) {
      }
    });
    sim.advance(2s);
    CHECK(which == 1);
    // b's ask went with it, or was answered first.
    REQUIRE(log.codes.size() == 1);
    CHECK(log.codes[0] != errc::would_deadlock);
    CHECK(sim.run(a.ask<go>()) == 1);
  }

  TEST_CASE("who has been answered early does not wait any more") {
    int got = 0;
    actor_ref<stay> up;
    simulation sim;
    auto b = sim.spawn([&](context<stay> self) -> task<> {
      while (co_await self.receive([&](stay) -> task<int> {
        CHECK(self.reply(1));
        got = co_await up.ask<stay>();
        co_return 2;
      })) {
      }
    });
    auto a = sim.spawn([&](context<stay> self) -> task<> {
      up = self.ref();
      CHECK(co_await b.ask<stay>() == 1);
      while (co_await self.receive([](stay) { return 5; })) {
      }
    });
    sim.run_until_idle();
    CHECK(got == 5);
  }

  TEST_CASE("a reply slot that was taken out may be answered by anybody") {
    int got = 0;
    actor_ref<stay> up;
    simulation sim;
    auto b = sim.spawn([&](context<stay> self) -> task<> {
      auto handler = [&](stay, reply_to<int> reply) -> task<> {
        CHECK(reply.reply(1));
        got = co_await up.ask<stay>();
      };
      while (co_await self.receive(handler)) {
      }
    });
    (void)sim.spawn([&](context<stay> self) -> task<> {
      up = self.ref();
      CHECK(co_await b.ask<stay>() == 1);
      while (co_await self.receive([](stay) { return 5; })) {
      }
    });
    sim.run_until_idle();
    CHECK(got == 5);
  }

  TEST_CASE("one who answers in the middle breaks the chain") {
    // a asks b, b asks c; b's question is answered by another member while c
    // asks a.
    int got = 0;
    actor_ref<stay> up;
    simulation sim;
    auto c = sim.spawn([&](context<stay> self) -> task<> {
      while (co_await self.receive([&](stay) -> task<int> {
        co_await self.sleep_for(1s);
        got = co_await up.ask<stay>();
        co_return 2;
      })) {
      }
    });
    auto b = sim.spawn([&](context<stay> self) -> task<> {
      auto answer = [&]() -> task<> {
        co_await self.sleep_for(500ms);
        CHECK(self.reply(1));
      };
      while (co_await self.receive([&](stay) -> task<int> {
        (void)co_await when_all(c.ask<stay>(), answer());
        co_return 2;
      })) {
      }
    });
    (void)sim.spawn([&](context<stay> self) -> task<> {
      up = self.ref();
      CHECK(co_await b.ask<stay>() == 1);
      while (co_await self.receive([](stay) { return 5; })) {
      }
    });
    sim.advance(2s);
    CHECK(got == 5);
  }

  TEST_CASE("who has given up is none of the chain") {
    int got = 0;
    std::error_code error;
    actor_ref<stay> up;
    simulation sim;
    auto b = sim.spawn([&](context<stay> self) -> task<> {
      while (co_await self.receive([&](stay) -> task<int> {
        co_await self.sleep_for(2s);
        got = co_await actors::shield(up.ask<stay>());
        co_return 2;
      })) {
      }
    });
    (void)sim.spawn([&](context<stay> self) -> task<> {
      up = self.ref();
      auto r = co_await as_result(b.ask<stay>().within(1s));
      error = r.error();
      while (co_await self.receive([](stay) { return 5; })) {
      }
    });
    sim.advance(3s);
    CHECK(error == errc::timed_out);
    CHECK(got == 5);
  }

  TEST_CASE("a send and a wait for an end are no asks") {
    int taken = 0;
    actor_ref<stay> up;
    simulation sim;
    auto b = sim.spawn([&](context<stay> self) -> task<> {
      while (co_await self.receive([&](stay) -> task<int> {
        co_await up.send<stay>();
        co_return 1;
      })) {
      }
    });
    auto a = sim.spawn([&](context<stay> self) -> task<> {
      up = self.ref();
      CHECK(co_await b.ask<stay>() == 1);
      co_await self.receive([&](stay) { return ++taken; });
    });
    (void)sim.run(a.stopped());
    CHECK(taken == 1);
  }

  TEST_CASE("askers that are no actors begin a chain of their own") {
    support::each_system([](actors::actor_system& system) {
      ends log;
      auto a = system.spawn(walker, &log);
      CHECK(a.ask<go>().get() == 1);
      auto future = a.ask<go>()(asio::use_future);
      CHECK(future.get() == 1);
    });
  }

  // --- where it is looked for
  // -------------------------------------------------

  TEST_CASE("cycles are looked for by default where there is no NDEBUG") {
    ends of_a, of_b;
    actors::actor_system system{support::quiet(2)};
    auto a = system.spawn({.name = "a"}, walker, &of_a);
    auto b = system.spawn({.name = "b"}, walker, &of_b);
    const auto end = error_of([&] {
      (void)a.ask<go>(std::vector<actor_ref<go>>{b, a}).get(1s);
    });
#ifdef NDEBUG
    CHECK(end == errc::timed_out);
#else
    CHECK(end == errc::would_deadlock);
#endif
  }

  TEST_CASE("a cycle across two systems is seen where both look for it") {
    for (const bool both : {true, false}) {
      ends of_a, of_b;
      actors::system_options options = support::quiet(1);
      options.detect_deadlocks = true;
      actors::actor_system one{options};
      options.detect_deadlocks = both;
      actors::actor_system two{options};
      auto a = one.spawn({.name = "a"}, walker, &of_a);
      auto b = two.spawn({.name = "b"}, walker, &of_b);
      const auto end = error_of([&] {
        (void)a.ask<go>(std::vector<actor_ref<go>>{b, a})
            .get(both ? 10s : 100ms);
      });
      CHECK(end == (both ? errc::would_deadlock : errc::timed_out));
    }
  }

  TEST_CASE("cycles on threads are found wherever their actors live") {
    for (const auto& d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      ends log[8];
      actors::system_options options = support::quiet(3);
      options.dispatcher = d;
      options.detect_deadlocks = true;
      actors::actor_system system{options};
      std::vector<actor_ref<go>> all;
      for (auto& l : log) all.push_back(system.spawn(walker, &l));
      for (int n = 0; n != (support::sanitized ? 50 : 300); ++n) {
        // Round the ring from somewhere, to the one who was asked first.
        std::vector<actor_ref<go>> path;
        for (std::size_t i = 1; i != 9; ++i)
          path.push_back(all[(static_cast<std::size_t>(n) + i) % 8]);
        CHECK(error_of([&] {
                (void)all[static_cast<std::size_t>(n) % 8].ask<go>(path).get();
              }) == errc::would_deadlock);
      }
    }
  }

  TEST_CASE("there is no false alarm among actors that ask in one direction") {
    actors::explore(support::sanitized ? 30 : 200, [](simulation& sim) {
      ends log;
      std::vector<actor_ref<go>> all;
      for (int i = 0; i != 5; ++i) all.push_back(sim.spawn(walker, &log));
      std::vector<actor_ref<start>> quick;
      for (int i = 0; i != 4; ++i)
        quick.push_back(sim.spawn(quick_walker, &log));
      for (const auto& q : quick) {
        q.tell(start{all});
        q.tell(start{{all[2], all[4]}});
        q.tell(start{{all[0], all[1], all[3]}});
      }
      sim.advance(1s);
      for (const auto& code : log.codes) CHECK(!code);
      CHECK(log.codes.size() == 4 * (5 + 2 + 3));
      sim.terminate();
    });
  }
}
