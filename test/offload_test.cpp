// Functions that block, on threads that are there for that.
#include "actors/offload.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::context;
using actors::dispatcher;
using actors::errc;
using actors::exit_reason;
using actors::simulation;
using actors::system_options;
using actors::task;
using support::counted;
using support::error_of;
using support::flag;
using support::message_of;
using support::quiet;
using texts = std::vector<std::string>;

namespace {

struct go {};
struct work {
  using reply_type = int;
  int value = 0;
};

/// `scenario(options)` for both dispatchers.
template <class F>
void dispatchers(F scenario) {
  for (const auto kind : {dispatcher::pool(), dispatcher::shared()}) {
    CAPTURE((kind.which() == dispatcher::kind::pool));
    system_options options = quiet(2);
    options.dispatcher = kind;
    scenario(options);
  }
}

/// `scenario(seed)` for 100 seeds.
template <class F>
void seeds(F scenario) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    scenario(seed);
  }
}

/// Options of a guest that says nothing.
system_options silent() {
  system_options options;
  options.log.emplace();
  return options;
}

/// A function of somebody's that blocks until it is let go.
struct gate {
  flag running;
  flag open;
  std::atomic<int> calls{0};
  void pass() {
    ++calls;
    running.set();
    open.wait();
  }
};

/// Has no messages, so `started()` says that it waits for its function.
task<> in_gate(context<> self, gate* g, std::atomic<int>* alive,
               flag* gone = nullptr) {
  support::at_exit say{[gone] {
    if (gone) gone->set();
  }};
  counted c{*alive};
  co_await self.offload([g] { g->pass(); });
}

}  // namespace

TEST_SUITE("offload") {
  // --- what it gives ---------------------------------------------------------

  TEST_CASE("it gives the function's value") {
    dispatchers([](const system_options& options) {
      actor_system system{options};
      auto main = [](context<> self) -> task<int> {
        const int n = co_await self.offload([] { return 20; });
        const std::string s =
            co_await self.offload([] { return std::string(100, 'x'); });
        co_return n + static_cast<int>(s.size());
      };
      CHECK(system.run(main) == 120);
    });
  }

  TEST_CASE("it gives nothing where the function does") {
    dispatchers([](const system_options& options) {
      actor_system system{options};
      bool called = false;
      auto main = [&](context<> self) -> task<> {
        co_await self.offload([&] { called = true; });
      };
      system.run(main);
      CHECK(called);
    });
  }

  TEST_CASE("it throws what the function throws") {
    dispatchers([](const system_options& options) {
      actor_system system{options};
      auto main = [](context<> self) -> task<> {
        co_await self.offload([] { throw std::runtime_error{"blocked"}; });
      };
      CHECK(message_of<std::runtime_error>([&] {
              system.run(main);
              return 0;
            }) == "blocked");
    });
  }

  TEST_CASE("it takes and gives what can only be moved") {
    dispatchers([](const system_options& options) {
      actor_system system{options};
      auto main = [](context<> self) -> task<int> {
        auto add = [one = std::make_unique<int>(1)] {
          return std::make_unique<int>(*one + 1);
        };
        const std::unique_ptr<int> two = co_await self.offload(add);
        co_return *two;
      };
      CHECK(system.run(main) == 2);
    });
  }

  TEST_CASE("its end comes as a result, too") {
    actor_system system{quiet()};
    auto main = [](context<> self) -> task<bool> {
      auto value = co_await actors::as_result(self.offload([] { return 7; }));
      auto none = co_await actors::as_result(self.offload([] {}));
      auto error = co_await actors::as_result(self.offload([]() -> int {
        throw std::system_error{make_error_code(errc::timed_out)};
      }));
      co_return value.has_value() && *value == 7 && none.has_value() &&
          error.error() == errc::timed_out;
    };
    CHECK(system.run(main));
  }

  TEST_CASE("a function with a name is called where it is, not copied") {
    dispatchers([](const system_options& options) {
      actor_system system{options};
      auto main = [](context<> self) -> task<int> {
        auto count = [n = 0, only = std::make_unique<int>(1)]() mutable {
          return n += *only;
        };
        co_await self.offload(count);
        co_return co_await self.offload(count);
      };
      CHECK(system.run(main) == 2);
    });
  }

#if !ACTORS_CO_AWAIT_TEMPORARIES_BUG
  TEST_CASE("a function that is handed over lives as long as the operation") {
    std::atomic<int> alive{0};
    {
      actor_system system{quiet()};
      auto main = [&](context<> self) -> task<bool> {
        {
          auto f = [c = counted{alive}] {};
          auto op = self.offload(std::move(f));
          co_await op;
          if (alive != 1) co_return false;
        }
        co_return alive == 0;
      };
      CHECK(system.run(main));
    }
    CHECK(alive == 0);
  }
#endif

  // --- where it runs ---------------------------------------------------------

  TEST_CASE("the function runs elsewhere, the actor goes on where it was") {
    system_options options = quiet(2);
    actor_system system{options};
    auto main = [](context<> self) -> task<bool> {
      // On a pool an actor stays on one thread.
      const auto before = std::this_thread::get_id();
      const auto there =
          co_await self.offload([] { return std::this_thread::get_id(); });
      const auto after = std::this_thread::get_id();
      co_return before == after&& before != there;
    };
    CHECK(system.run(main));
  }

  TEST_CASE("the actor comes back on its strand, on 4 shared threads") {
    system_options options = quiet(4);
    options.dispatcher = dispatcher::shared();
    options.offload_threads = 4;
    actor_system system{options};
    // Neither of them is atomic: ThreadSanitizer sees who is beside whom.
    int count = 0;
    auto main = [&](context<> self) -> task<> {
      auto body = [&](actors::task_group& tasks) -> task<> {
        for (int i = 0; i != 20; ++i)
          tasks.spawn(
              [](context<> me, int* n) -> task<> {
                for (int k = 0; k != 50; ++k) {
                  co_await me.offload([] {});
                  ++*n;
                }
              },
              &count);
        co_return;
      };
      co_await self.with_tasks(body);
    };
    system.run(main);
    CHECK(count == 1'000);
  }

  TEST_CASE("a function may block in an ask") {
    dispatchers([](const system_options& options) {
      actor_system system{options};
      auto server = [](context<work> self) -> task<> {
        co_await self.serve([](work w) { return w.value + 1; });
      };
      auto main = [&](context<> self) -> task<int> {
        const auto ref = self.spawn(server);
        const int n = co_await self.offload(
            [&] { return ref.template ask<work>(1).get(); });
        co_return n;
      };
      CHECK(system.run(main) == 2);
    });
  }

  TEST_CASE("in a guest it is work that keeps the loop") {
    asio::io_context io;
    actor_system system{io, silent()};
    int got = 0;
    auto body = [&](context<> self) -> task<> {
      got = co_await self.offload([] { return 7; });
    };
    const auto ref = system.spawn_once(body);
    const auto work_of_mine = asio::make_work_guard(io);
    ref.stopped()([&](std::error_code, exit_reason) { io.stop(); });
    io.run();
    CHECK(got == 7);
  }

  // --- messages meanwhile ----------------------------------------------------

  TEST_CASE("a handler that offloads keeps the next message waiting") {
    dispatchers([](const system_options& options) {
      gate g;
      texts log;
      {
        actor_system system{options};
        auto body = [&](context<work, go> self) -> task<> {
          auto slow = [&](work) -> task<int> {
            co_await self.offload([&] { g.pass(); });
            log.push_back("work");
            co_return 1;
          };
          while (
              co_await self.receive(slow, [&](go) { log.push_back("go"); })) {
          }
        };
        const auto ref = system.spawn_once(body);
        ref.tell(work{});
        g.running.wait();
        ref.tell(go{});
        g.open.set();
      }
      CHECK(log == texts{"work", "go"});
    });
  }

  TEST_CASE("a concurrent handler that offloads does not") {
    dispatchers([](const system_options& options) {
      gate g;
      texts log;
      actor_system system{options};
      auto body = [&](context<work, go> self) -> task<> {
        auto slow = actors::concurrent([&](work) -> task<int> {
          co_await self.offload([&] { g.pass(); });
          log.push_back("work");
          co_return 1;
        });
        const auto open = [&](go) {
          log.push_back("go");
          g.open.set();
        };
        while (co_await self.receive(slow, open)) {
        }
      };
      const auto ref = system.spawn_once(body);
      auto answer = ref.ask<work>()(asio::use_future);
      ref.tell(go{});
      CHECK(answer.get() == 1);
      CHECK(log == texts{"go", "work"});
    });
  }

  TEST_CASE("nor does a child task that offloads") {
    dispatchers([](const system_options& options) {
      gate g;
      actor_system system{options};
      auto body = [&](context<work> self) -> task<> {
        auto child = [](context<> me, gate* at) -> task<> {
          co_await me.offload([at] { at->pass(); });
        };
        auto t = self.spawn_task(child, &g);
        co_await self.receive([&](work w) { return w.value; });
        g.open.set();
        co_await t;
      };
      const auto ref = system.spawn_once(body);
      g.running.wait();
      CHECK(ref.ask<work>(1).get() == 1);
      CHECK(ref.stopped().get() == exit_reason::normal);
    });
  }

  TEST_CASE("what a function tells comes in the actor's order") {
    constexpr int rounds = 300;
    dispatchers([](const system_options& options) {
      std::vector<int> got;
      {
        actor_system system{options};
        auto sink = [&](context<int> self) -> task<> {
          co_await self.serve([&](int n) { got.push_back(n); });
        };
        const auto to =
            system.spawn_once({.placement = actors::placement::on(1)}, sink);
        auto main = [&](context<> self) -> task<> {
          for (int i = 0; i != rounds; ++i) {
            to.tell(3 * i);
            co_await self.offload([&] { to.tell(3 * i + 1); });
            to.tell(3 * i + 2);
          }
        };
        system.run(main);
      }
      bool in_order = got.size() == 3 * rounds;
      for (std::size_t i = 0; i != got.size(); ++i)
        in_order &= got[i] == static_cast<int>(i);
      CHECK(in_order);
    });
  }

  // --- threads ---------------------------------------------------------------

  TEST_CASE("more functions than threads wait in a queue") {
    system_options options = quiet(2);
    options.offload_threads = 1;
    actor_system system{options};
    std::atomic<int> at_once{0}, most{0}, calls{0};
    std::vector<int> order;
    auto main = [&](context<> self) -> task<> {
      auto body = [&](actors::task_group& tasks) -> task<> {
        auto one = [](context<> me, std::function<void(int)> f,
                      int n) -> task<> { co_await me.offload([&] { f(n); }); };
        const auto blocking = [&](int n) {
          most = std::max(most.load(), ++at_once);
          ++calls;
          order.push_back(n);  // there is one thread
          --at_once;
        };
        for (int i = 0; i != 50; ++i) tasks.spawn(one, blocking, i);
        co_return;
      };
      co_await self.with_tasks(body);
    };
    system.run(main);
    CHECK(calls == 50);
    CHECK(most == 1);
    bool in_order = order.size() == 50;
    for (std::size_t i = 0; i != order.size(); ++i)
      in_order &= order[i] == static_cast<int>(i);
    CHECK(in_order);
  }

  TEST_CASE("none waits for another while there may be more threads") {
    // The first can end only when the second has run. A thread that is idle
    // is not there for both.
    for (int i = 0; i != 50; ++i) {
      system_options options = quiet(1);
      options.offload_threads = 2;
      actor_system system{options};
      std::promise<void> second;
      auto main = [&](context<> self) -> task<bool> {
        co_await self.offload([] {});  // now there may be a thread that idles
        auto met = second.get_future();
        const auto both = co_await actors::when_all(self.offload([&] {
          return met.wait_for(10s) == std::future_status::ready;
        }),
                                                    self.offload([&] {
                                                      second.set_value();
                                                      return true;
                                                    }));
        co_return std::get<0>(both);
      };
      REQUIRE(system.run(main));
    }
  }

  TEST_CASE("10,000 one after another") {
    dispatchers([](const system_options& options) {
      actor_system system{options};
      auto main = [](context<> self) -> task<int> {
        int sum = 0;
        for (int i = 0; i != 10'000; ++i)
          sum += co_await self.offload([i] { return i % 2; });
        co_return sum;
      };
      CHECK(system.run(main) == 5'000);
    });
  }

  TEST_CASE("many at once, of many actors") {
    dispatchers([](system_options options) {
      options.offload_threads = 4;
      std::atomic<int> calls{0}, ended{0};
      {
        actor_system system{options};
        auto body = [](context<go> self, std::atomic<int>* c,
                       std::atomic<int>* e) -> task<> {
          for (int i = 0; i != 50; ++i) co_await self.offload([c] { ++*c; });
          ++*e;
        };
        for (int i = 0; i != 100; ++i) (void)system.spawn(body, &calls, &ended);
        auto wait = [&](context<> self) -> task<> {
          while (ended != 100) co_await self.offload([] {});
        };
        system.run(wait);
      }
      CHECK(calls == 5'000);
    });
  }

  TEST_CASE("a number of threads out of range is refused") {
    for (const std::size_t n : {std::size_t{0}, std::size_t{1025}}) {
      system_options options = quiet();
      options.offload_threads = n;
      const std::string what = message_of<std::invalid_argument>([&] {
        actor_system system{options};
        return 0;
      });
      CHECK(support::contains(what, "offload_threads"));
      CHECK(message_of<std::invalid_argument>([&] {
              simulation sim{actors::simulation_options{.system = options}};
              return 0;
            }) == what);
    }
  }

  // --- ends ------------------------------------------------------------------

  TEST_CASE("a stop drops a function that waits for a thread") {
    dispatchers([](system_options options) {
      options.offload_threads = 1;
      gate first, second;
      std::atomic<int> alive{0};
      std::error_code how;
      actor_system system{options};
      const auto a = system.spawn_once(in_gate, &first, &alive, nullptr);
      first.running.wait();
      auto queued = [&](context<> self) -> task<> {
        auto r =
            co_await actors::as_result(self.offload([&] { second.pass(); }));
        how = r.error();
      };
      const auto b = system.spawn_once(queued);
      b.started().get();
      b.stop();
      CHECK(b.stopped().get() == exit_reason::normal);
      CHECK(how == actors::detail::operation_aborted());
      first.open.set();
      CHECK(a.stopped().get() == exit_reason::normal);
      CHECK(second.calls == 0);
      CHECK(alive == 0);
    });
  }

  TEST_CASE("so does a kill") {
    dispatchers([](system_options options) {
      options.offload_threads = 1;
      gate first, second;
      std::atomic<int> alive{0};
      actor_system system{options};
      const auto a = system.spawn_once(in_gate, &first, &alive, nullptr);
      first.running.wait();
      const auto b = system.spawn_once(in_gate, &second, &alive, nullptr);
      b.started().get();
      b.kill();
      CHECK(b.stopped().get() == exit_reason::killed);
      CHECK(alive == 1);
      first.open.set();
      CHECK(a.stopped().get() == exit_reason::normal);
      CHECK(second.calls == 0);
    });
  }

  TEST_CASE("of a queue the one that is dropped goes, the others stay") {
    system_options options = quiet(1);
    options.offload_threads = 1;
    for (std::size_t dropped = 0; dropped != 3; ++dropped) {
      CAPTURE(dropped);
      gate first;
      gate others[3];
      std::atomic<int> alive{0};
      actor_system system{options};
      const auto a = system.spawn_once(in_gate, &first, &alive, nullptr);
      first.running.wait();
      std::vector<actor_ref<>> refs;
      for (gate& g : others) {
        g.open.set();
        refs.push_back(system.spawn_once(in_gate, &g, &alive, nullptr));
        refs.back().started().get();
      }
      refs[dropped].kill();
      CHECK(refs[dropped].stopped().get() == exit_reason::killed);
      first.open.set();
      for (std::size_t i = 0; i != 3; ++i) {
        (void)refs[i].stopped().get();
        CHECK(others[i].calls == (i == dropped ? 0 : 1));
      }
      // The queue is whole: it takes more.
      gate more;
      more.open.set();
      const auto b = system.spawn_once(in_gate, &more, &alive, nullptr);
      CHECK(b.stopped().get() == exit_reason::normal);
    }
  }

  TEST_CASE("a stop waits for a function that runs, and gives its value") {
    dispatchers([](const system_options& options) {
      gate g;
      int got = 0;
      std::error_code next;
      actor_system system{options};
      auto body = [&](context<> self) -> task<> {
        got = co_await self.offload([&] {
          g.pass();
          return 7;
        });
        auto r = co_await actors::as_result(self.offload([] {}));
        next = r.error();
      };
      const auto ref = system.spawn_once(body);
      g.running.wait();
      ref.stop();
      CHECK(error_of([&] { return ref.stopped().get(1ms); }) ==
            errc::timed_out);
      g.open.set();
      CHECK(ref.stopped().get() == exit_reason::normal);
      CHECK(got == 7);
      CHECK(next == actors::detail::operation_aborted());
    });
  }

  TEST_CASE("a kill waits for a function that runs") {
    dispatchers([](system_options options) {
      options.kill_timeout = 1h;
      gate g;
      std::atomic<int> alive{0};
      actor_system system{options};
      const auto ref = system.spawn_once(in_gate, &g, &alive, nullptr);
      g.running.wait();
      ref.kill();
      CHECK(error_of([&] { return ref.stopped().get(1ms); }) ==
            errc::timed_out);
      CHECK(alive == 1);  // the function may use what is in the frame
      g.open.set();
      CHECK(ref.stopped().get() == exit_reason::killed);
      CHECK(alive == 0);
    });
  }

  TEST_CASE("with a stop timeout a stop becomes a kill, and waits as well") {
    support::log_lines lines;
    system_options options = quiet(2);
    options.stop_timeout = 0s;
    options.kill_timeout = 1h;
    options.log = lines.sink();
    gate g;
    std::atomic<int> alive{0};
    actor_system system{options};
    const auto ref = system.spawn_once(in_gate, &g, &alive, nullptr);
    g.running.wait();
    ref.stop();
    CHECK(error_of([&] { return ref.stopped().get(1ms); }) == errc::timed_out);
    g.open.set();
    // The function may have come back before the timeout was looked at.
    (void)ref.stopped().get();
    CHECK(alive == 0);
  }

  TEST_CASE("after the kill timeout its actor is abandoned, its frames stay") {
    dispatchers([](system_options options) {
      support::log_lines lines;
      options.kill_timeout = 0s;
      options.log = lines.sink();
      gate g;
      flag gone;
      std::atomic<int> alive{0};
      std::optional<actor_system> system{options};
      const auto ref = system->spawn_once(in_gate, &g, &alive, &gone);
      g.running.wait();
      ref.kill();
      CHECK(ref.stopped().get() == exit_reason::abandoned);
      CHECK(support::contains(lines.find("a kill takes too long"),
                              "offload_test.cpp"));
      CHECK(alive == 1);
      g.open.set();
      gone.wait();
      CHECK(alive == 0);
      system.reset();
    });
  }

  TEST_CASE("a function may come back after its system has ended") {
    dispatchers([](system_options options) {
      options.kill_timeout = 0s;
      gate g;
      flag gone;
      std::atomic<int> alive{0};
      {
        actor_system system{options};
        const auto ref = system.spawn_once(in_gate, &g, &alive, &gone);
        g.running.wait();
        ref.kill();
        CHECK(ref.stopped().get() == exit_reason::abandoned);
      }
      CHECK(alive == 1);
      g.open.set();
      gone.wait();
      CHECK(alive == 0);
    });
  }

  TEST_CASE("an io_context that goes waits for functions of its guest") {
    gate g;
    std::atomic<int> alive{0};
    flag gone;
    std::optional<asio::io_context> io{std::in_place};
    std::optional<actor_system> system{std::in_place, *io, silent()};
    (void)system->spawn_once(in_gate, &g, &alive, &gone);
    io->poll();
    g.running.wait();
    system.reset();
    std::thread opener{[&] { g.open.set(); }};
    io.reset();
    opener.join();
    CHECK(alive == 0);
  }

  TEST_CASE("one that loses against others is waited for") {
    actor_system system{quiet()};
    gate g;
    bool returned = false;
    auto main = [&](context<> self) -> task<bool> {
      auto open = [](context<> me, gate* at) -> task<> {
        co_await me.offload([at] { at->running.wait(); });
        at->open.set();
      };
      (void)self.spawn_task(open, &g);
      co_await actors::when_any(self.offload([&] {
        g.pass();
        returned = true;
      }),
                                self.offload([&] { g.running.wait(); }));
      co_return returned;
    };
    CHECK(system.run(main));
  }

  // --- in a simulation -------------------------------------------------------

  TEST_CASE("in a simulation it is a step, on the one thread there is") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const auto here = std::this_thread::get_id();
      auto main = [here](context<> self) -> task<int> {
        const auto start = self.now();
        const auto there =
            co_await self.offload([] { return std::this_thread::get_id(); });
        if (there != here || self.now() != start) co_return 0;
        const int n = co_await self.offload([] { return 7; });
        co_return n;
      };
      REQUIRE(sim.run(main) == 7);
    });
  }

  TEST_CASE("in a simulation an exception comes out as well") {
    simulation sim;
    auto main = [](context<> self) -> task<> {
      co_await self.offload([] { throw std::runtime_error{"blocked"}; });
    };
    CHECK(message_of<std::runtime_error>([&] {
            sim.run(main);
            return 0;
          }) == "blocked");
  }

  TEST_CASE("the same seed gives the same order, others give others") {
    const auto run = [](std::uint64_t seed) {
      std::vector<int> order;
      simulation sim{seed};
      auto body = [](context<go> self, std::vector<int>* to,
                     int who) -> task<> {
        for (int i = 0; i != 5; ++i) {
          co_await self.offload([&] { to->push_back(who); });
          to->push_back(-who);
        }
      };
      for (int who = 1; who != 5; ++who)
        (void)sim.spawn_once(body, &order, who);
      sim.run_until_idle();
      return std::pair{order, sim.steps()};
    };
    bool differ = false;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      const auto first = run(seed);
      REQUIRE(first == run(seed));
      REQUIRE(first.first.size() == 40);
      differ |= first.first != run(seed + 1).first;
    }
    CHECK(differ);
  }

  TEST_CASE("what a function tells comes in order, whatever the seed") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto out = sim.probe<int>();
      auto main = [](context<> self, actor_ref<int> to) -> task<> {
        for (int i = 0; i != 5; ++i) {
          to.tell(3 * i);
          co_await self.offload([&] { to.tell(3 * i + 1); });
          to.tell(3 * i + 2);
        }
      };
      sim.run(main, out.ref());
      for (int i = 0; i != 15; ++i) REQUIRE(out.expect<int>() == i);
    });
  }

  TEST_CASE("a stop and a kill meet it at every point") {
    seeds([](std::uint64_t seed) {
      for (const bool kill : {false, true}) {
        std::atomic<int> alive{0};
        {
          simulation sim{seed};
          auto body = [](context<> self, std::atomic<int>* n) -> task<> {
            counted c{*n};
            for (;;) co_await self.offload([n] { return counted{*n}; });
          };
          const auto ref = sim.spawn_once(body, &alive);
          for (std::uint64_t i = 0; i != seed; ++i) (void)sim.step();
          kill ? ref.kill() : ref.stop();
          const exit_reason why = sim.run(ref.stopped());
          REQUIRE((why == exit_reason::normal || why == exit_reason::killed));
        }
        REQUIRE(alive == 0);
      }
    });
  }
}
