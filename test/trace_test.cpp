#include "actors/trace.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <chrono>
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace traced {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::context;
using actors::mailbox;
using actors::overflow;
using actors::simulation;
using actors::simulation_options;
using actors::task;
using actors::trace_event;
using support::contains;
using texts = std::vector<std::string>;
using kind = trace_event::kind;

struct note {
  int n;
};
struct query {
  using reply_type = int;
  int n;
};

task<> echo(context<note, query> self) {
  while (co_await self.receive([](note) {}, [](query q) { return q.n; })) {
  }
}

simulation_options with(std::function<void(const trace_event&)> f) {
  simulation_options options;
  options.system.trace = std::move(f);
  return options;
}

}  // namespace traced

TEST_SUITE("trace") {
  using namespace traced;

  TEST_CASE("each message is told, taken and done, and by whom") {
    texts seen;
    simulation sim{with([&](const trace_event& e) {
      if (contains(e.who.path(), "echo")) seen.push_back(e.to_string());
    })};
    const auto to = sim.spawn({.name = "echo"}, echo);
    const auto from = sim.spawn({.name = "from"}, echo);
    to.tell(note{1}, from);
    sim.run_until_idle();
    CHECK(seen == texts{"told traced::note to /user/echo from /user/from",
                        "taken traced::note by /user/echo from /user/from",
                        "done traced::note by /user/echo from /user/from"});
    seen.clear();
    const auto asks = [](context<>, actor_ref<note, query> t) -> task<> {
      (void)co_await t.ask<query>(1);
      co_await t.send<note>(2);
    };
    sim.spawn({.name = "asks"}, asks, to);
    sim.run_until_idle();
    REQUIRE(seen.size() == 6);
    CHECK(seen[0] == "asked traced::query to /user/echo from /user/asks");
    CHECK(seen[1] == "taken traced::query by /user/echo from /user/asks");
    CHECK(seen[3] == "sent traced::note to /user/echo");
    CHECK(seen[5] == "done traced::note by /user/echo");
  }

  TEST_CASE("a message is done when its handler has ended, or its actor") {
    std::map<kind, std::vector<actors::time_point>> seen;
    simulation sim{with([&](const trace_event& e) {
      if (e.who.path() == "/user/slow") seen[e.what].push_back(e.when);
    })};
    const auto start = sim.now();
    const auto slow =
        sim.spawn({.name = "slow"}, [](context<note> self) -> task<> {
          while (co_await self.receive(
              [&](note) -> task<> { co_await self.sleep_for(1s); })) {
          }
        });
    slow.tell(note{1});
    slow.tell(note{2});
    slow.tell(note{3});
    sim.advance(2500ms);
    slow.kill();
    sim.run_until_idle();
    using times = std::vector<actors::time_point>;
    CHECK(seen[kind::told] == times(3, start));
    CHECK(seen[kind::taken] == times{start, start + 1s, start + 2s});
    CHECK(seen[kind::done] == times{start + 1s, start + 2s, start + 2500ms});
  }

  TEST_CASE("what a bounded mailbox refuses was told, and is never taken") {
    std::map<kind, int> seen;
    simulation sim{with([&](const trace_event& e) { ++seen[e.what]; })};
    actors::spawn_options options;
    options.mailbox = mailbox::bounded(2, overflow::fail);
    const auto to = sim.spawn(options, echo);
    for (int i = 0; i != 5; ++i) to.tell(note{i});
    sim.run_until_idle();
    CHECK(seen[kind::told] == 5);
    CHECK(seen[kind::taken] == 2);
    CHECK(seen[kind::done] == 2);
    CHECK(sim.system().dead_letter_count() == 3);
  }

  TEST_CASE("a hook that throws is caught, and logged once") {
    support::log_lines lines;
    auto options =
        with([](const trace_event&) { throw std::runtime_error{"no disk"}; });
    options.system.log = lines.sink();
    simulation sim{options};
    const auto to = sim.spawn(echo);
    to.tell(note{1});
    to.tell(note{2});
    sim.run_until_idle();
    CHECK(lines.size() == 1);
    CHECK(contains(lines.find("trace threw"), "no disk"));
  }

  TEST_CASE("what the hook itself tells is not traced") {
    int count = 0;
    std::optional<actor_ref<note>> log;
    simulation sim{with([&](const trace_event& e) {
      if (e.what != kind::told) return;
      ++count;
      if (log) log->tell(note{1});
    })};
    log = sim.spawn(echo);
    const auto to = sim.spawn(echo);
    to.tell(note{1});
    sim.run_until_idle();
    CHECK(count == 1);
    log.reset();
  }

  TEST_CASE("traced actors do all that others do") {
    // Selective, with a timeout, under any order of events.
    actors::explore(
        {.seeds = support::sanitized ? 20u : 100u,
         .simulation = with([](const trace_event&) {})},
        [](simulation& sim) {
          std::vector<int> got;
          const auto body = [&got](context<note, query> self) -> task<> {
            bool late = false;
            auto on_query = [](query q) { return q.n; };
            co_await self.receive<query>(
                on_query, actors::after(1s, [&] { late = true; }));
            while (got.size() != 3) {
              auto take = [&](note m) { got.push_back(m.n); };
              co_await self.receive<note>(take);
            }
            co_await self.receive<query>(on_query);
            CHECK(late);
          };
          const auto to = sim.spawn(body);
          to.tell(note{1});
          to.tell(note{2});
          sim.advance(1s);
          to.tell(note{3});
          CHECK(sim.run(to.ask<query>(7)) == 7);
          CHECK(got == std::vector{1, 2, 3});
        });
  }

  TEST_CASE("on threads each message is told before it is taken, then done") {
    struct book {
      std::mutex mutex;
      std::map<kind, int> count;
      int in_hand = 0;
      bool in_order = true;
    };
    const auto run = [](auto make) {
      book b;
      const auto hook = [&b](const trace_event& e) {
        if (!contains(e.who.path(), "echo")) return;
        std::lock_guard lock{b.mutex};
        ++b.count[e.what];
        b.in_order = b.in_order &&
                     b.count[kind::taken] <= b.count[kind::told] &&
                     b.count[kind::taken] - b.count[kind::done] <= 1;
      };
      constexpr int count = support::sanitized ? 500 : 5'000;
      make(hook, [](actors::actor_system& system) {
        const auto to = system.spawn({.name = "echo"}, echo);
        const auto flood = [](context<>, actor_ref<note> t) -> task<> {
          for (int i = 0; i != count; ++i) t.tell(note{i});
          co_return;
        };
        const auto one = system.spawn(flood, to);
        const auto two = system.spawn(flood, to);
        one.stopped().get();
        two.stopped().get();
        to.drain();
        to.stopped().get();
      });
      CHECK(b.in_order);
      CHECK(b.count[kind::told] == 2 * count);
      CHECK(b.count[kind::taken] == 2 * count);
      CHECK(b.count[kind::done] == 2 * count);
    };
    for (const auto& d :
         {actors::dispatcher::pool(), actors::dispatcher::shared()})
      run([&](auto hook, auto test) {
        actors::system_options options = support::quiet(2);
        options.dispatcher = d;
        options.trace = hook;
        actors::actor_system system{options};
        test(system);
      });
    run([](auto hook, auto test) {
      asio::io_context io;
      support::runners threads{io, 2};
      actors::system_options options = support::quiet();
      options.threads.reset();
      options.trace = hook;
      actors::actor_system system{io, options};
      test(system);
      system.async_terminate().get();
    });
  }
}
