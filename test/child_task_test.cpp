// Child tasks: what runs beside an actor's body, and their ends in each order.
#include "actors/child_task.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::context;
using actors::errc;
using actors::exit_reason;
using actors::simulation;
using actors::task;
using support::contains;
using support::counted;
using support::error_of;
using support::message_of;
using texts = std::vector<std::string>;

namespace {

struct go {};
struct work {
  using reply_type = int;
  int value = 0;
};

/// Says when it is destroyed.
class farewell {
 public:
  farewell(texts& log, std::string text) : log_{&log}, text_{std::move(text)} {}
  farewell(farewell&& other) noexcept
      : log_{std::exchange(other.log_, nullptr)},
        text_{std::move(other.text_)} {}
  ~farewell() {
    if (log_) log_->push_back(text_ + " gone");
  }

 private:
  texts* log_;
  std::string text_;
};

/// Waits until it is told to end, and cleans up for a while.
task<> steady(context<> self, texts* log, std::string name) {
  farewell f{*log, name};
  try {
    co_await self.sleep_for(1h);
  } catch (const std::system_error&) {
    log->push_back(name + " told");
  }
  co_await self.sleep_for(1s);
  log->push_back(name + " done");
}

task<int> later(context<> self, int value, std::chrono::seconds delay) {
  co_await self.sleep_for(delay);
  co_return value;
}
task<int> failing(context<> self, std::chrono::seconds delay) {
  co_await self.sleep_for(delay);
  throw std::runtime_error{"the task"};
}

/// `scenario(seed)` for 100 seeds.
template <class F>
void seeds(F scenario) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    scenario(seed);
  }
}

}  // namespace

TEST_SUITE("child_task") {
  TEST_CASE("a child task runs beside the body and gives its value") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const int sum = sim.run([](context<> self) -> task<int> {
        auto a = self.spawn_task(later, 1, 2s);
        auto b = self.spawn_task(later, 2, 1s);
        const auto start = self.now();
        const int first = co_await a;
        const int second = co_await b;  // has ended before
        if (self.now() - start != 2s) co_return -1;
        co_return first + second;
      });
      REQUIRE(sum == 3);
    });
  }

  TEST_CASE("it starts when the body waits, not before") {
    simulation sim;
    texts log;
    sim.run(
        [](context<> self, texts* to) -> task<> {
          auto t = self.spawn_task(
              [](texts* list) -> task<> {
                list->push_back("task");
                co_return;
              },
              to);
          to->push_back("body");
          co_await t;
        },
        &log);
    CHECK(log == texts{"body", "task"});
  }

  TEST_CASE("it owns its callable and its arguments") {
    std::atomic<int> alive{0};
    {
      simulation sim;
      auto ref = sim.spawn(
          [](context<go> self, std::atomic<int>* n) -> task<> {
            {
              counted captured{*n};
              std::optional<counted> argument{counted{*n}};
              const auto f = [captured](context<> c, counted) -> task<> {
                co_await c.sleep_for(1s);
              };
              (void)self.spawn_task(f, std::move(*argument));
            }
            co_await self.until_stop();
          },
          &alive);
      sim.run_until_idle();
      CHECK(alive > 0);
      sim.advance(2s);
      CHECK(alive == 0);
      ref.stop();
    }
    CHECK(alive == 0);
  }

  TEST_CASE("cancel ends the operation it waits for, once") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      sim.run(
          [](context<> self, texts* to) -> task<> {
            auto t = self.spawn_task(steady, to, std::string{"t"});
            co_await self.sleep_for(1s);
            t.cancel();
            t.cancel();
            to->push_back("asked");
            co_await t;
          },
          &log);
      REQUIRE(log == texts{"asked", "t told", "t done", "t gone"});
    });
  }

  TEST_CASE("one that is cancelled before it starts ends at its first await") {
    simulation sim;
    const bool aborted = sim.run([](context<> self) -> task<bool> {
      auto t = self.spawn_task(later, 1, 1s);
      t.cancel();
      auto r = co_await actors::as_result(t.join());
      co_return r.error() == actors::detail::operation_aborted();
    });
    CHECK(aborted);
  }

  TEST_CASE("an exception comes out of the await") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      const std::string what = sim.run([](context<> self) -> task<std::string> {
        auto t = self.spawn_task(failing, 1s);
        try {
          co_await t;
        } catch (const std::exception& e) {
          co_return e.what();
        }
        co_return "";
      });
      REQUIRE(what == "the task");
    });
  }

  TEST_CASE("an exception that nobody awaits makes the actor fail") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn_once(
          [](context<go, work> self, texts* to) -> task<> {
            farewell f{*to, "body"};
            auto kept = self.spawn_task(failing, 1s);
            (void)self.spawn_task(steady, to, std::string{"other"});
            co_await self.serve([](go) {},
                                [&](work) -> task<int> {
                                  co_await self.sleep_for(1h);
                                  co_return 1;
                                });
            to->push_back("went on");
          },
          &log);
      sim.expect_failure<std::runtime_error>(ref);
      const auto error = error_of([&] { return sim.run(ref.ask<work>()); });
      REQUIRE(error == errc::actor_failed);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      // What runs beside the body goes first: it may know the body's locals.
      REQUIRE(log == texts{"other gone", "body gone"});
      sim.check();
    });
  }

  TEST_CASE("the body returns first: its tasks are destroyed") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<> self, texts* to) -> task<> {
            (void)self.spawn_task(steady, to, std::string{"t"});
            co_await self.sleep_for(1s);
            to->push_back("body done");
          },
          &log);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"body done", "t gone"});
    });
  }

  TEST_CASE("the body throws first: its tasks are destroyed") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn_once(
          [](context<> self, texts* to) -> task<> {
            (void)self.spawn_task(steady, to, std::string{"t"});
            co_await self.sleep_for(1s);
            throw std::runtime_error{"the body"};
          },
          &log);
      sim.expect_failure<std::runtime_error>(ref);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
      REQUIRE(log == texts{"t gone"});
    });
  }

  TEST_CASE("a stop tells the tasks and waits for them, then the body") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<go> self, texts* to) -> task<> {
            (void)self.spawn_task(steady, to, std::string{"t"});
            co_await self.receive();
            to->push_back("body told");
          },
          &log);
      sim.run_until_idle();
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"t told", "t done", "t gone", "body told"});
    });
  }

  TEST_CASE("a task that outlives the stop timeout is killed and named") {
    support::log_lines lines;
    simulation sim{actors::simulation_options{
        .system = {.stop_timeout = 2s, .log = lines.sink()}}};
    auto ref = sim.spawn([](context<go> self) -> task<> {
      (void)self.spawn_task([](context<> c) -> task<> {
        for (;;) try {
            co_await c.sleep_for(1h);
          } catch (const std::system_error&) {
          }
      });
      co_await self.receive();
    });
    sim.run_until_idle();
    ref.stop();
    CHECK(sim.run(ref.stopped()) == exit_reason::killed);
    CHECK(contains(lines.find("a stop takes too long"), "child_task_test.cpp"));
  }

  TEST_CASE("a kill destroys tasks and body, nothing is resumed") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<go> self, texts* to) -> task<> {
            farewell f{*to, "body"};
            auto a = self.spawn_task(steady, to, std::string{"a"});
            auto b = self.spawn_task(steady, to, std::string{"b"});
            co_await a;
          },
          &log);
      sim.run_until_idle();
      ref.kill();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::killed);
      REQUIRE(log == texts{"b gone", "a gone", "body gone"});
    });
  }

  TEST_CASE("a killed task whose operation hangs abandons the actor") {
    std::atomic<int> alive{0};
    support::stuck* hangs[2] = {};
    {
      simulation sim;
      auto ref = sim.spawn(
          [](context<> self, std::atomic<int>* n,
             support::stuck** where) -> task<> {
            counted c{*n};
            for (int i = 0; i != 2; ++i)
              (void)self.spawn_task(
                  [](std::atomic<int>* m, support::stuck** at) -> task<> {
                    counted mine{*m};
                    support::stuck op{at};
                    co_await op;
                  },
                  n, where + i);
            co_await self.until_stop();
          },
          &alive, hangs);
      sim.run_until_idle();
      CHECK(alive == 3);
      ref.kill();
      CHECK(sim.run(ref.stopped()) == exit_reason::abandoned);
      CHECK(alive == 3);
      // The first to come frees nothing: the other points into a frame, too.
      hangs[1]->complete();
      sim.run_until_idle();
      CHECK(alive == 3);
      hangs[0]->complete();
      CHECK(alive == 0);
    }
    CHECK(alive == 0);
  }

  TEST_CASE("a task may ask its own actor, a body may not") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([](context<work> self) -> task<> {
        (void)self.spawn_task(
            [](actor_ref<work> me) -> task<> {
              const int answer = co_await me.ask<work>(20);
              if (answer != 21) throw std::logic_error{"another answer"};
            },
            self.ref());
        co_await self.serve([&](work w) -> task<int> {
          auto r = co_await actors::as_result(self.ref().ask<work>(1));
          if (r.error() != errc::would_deadlock)
            throw std::logic_error{"no deadlock"};
          co_return w.value + 1;
        });
      });
      REQUIRE(sim.run(ref.ask<work>(1)) == 2);
      sim.run_until_idle();
    });
  }

  TEST_CASE("receive is not for child tasks") {
    simulation sim;
    auto ref = sim.spawn_once([](context<go> self) -> task<> {
      (void)self.spawn_task(
          [](context<go>* its) -> task<> { co_await its->receive(); }, &self);
      co_await self.until_stop();
    });
    sim.expect_failure<std::logic_error>(ref);
    const exit_reason why = sim.run(ref.stopped());
    CHECK(contains(support::message_of_error(why.error()), "child task"));
  }

  TEST_CASE("a task is awaited once") {
    simulation sim;
    const std::string what = sim.run([](context<> self) -> task<std::string> {
      auto t = self.spawn_task(later, 1, 1s);
      co_await t;
      try {
        co_await t;
      } catch (const std::logic_error& e) {
        co_return e.what();
      }
      co_return "";
    });
    CHECK(contains(what, "awaited once"));
  }

  TEST_CASE("who awaits a task is stopped: the task has ended before") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      texts log;
      auto ref = sim.spawn(
          [](context<> self, texts* to) -> task<> {
            auto t = self.spawn_task(steady, to, std::string{"t"});
            co_await t;
            to->push_back("body goes on");
          },
          &log);
      sim.run_until_idle();
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      REQUIRE(log == texts{"t told", "t done", "t gone", "body goes on"});
    });
  }

  TEST_CASE("10,000 tasks one after another leave nothing behind") {
    simulation sim;
    sim.run([](context<> self) -> task<> {
      for (int i = 0; i != 10'000; ++i) {
        auto t = self.spawn_task([](int n) -> task<int> { co_return n; }, i);
        const int got = co_await t;
        if (got != i) throw std::logic_error{"another value"};
      }
    });
  }

  // --- concurrent
  // -------------------------------------------------------------

  TEST_CASE("a concurrent handler does not keep the next message waiting") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([](context<work> self) -> task<> {
        auto slow = actors::concurrent([&self](work& w) -> task<int> {
          co_await self.sleep_for(std::chrono::seconds{w.value});
          co_return w.value;
        });
        while (co_await self.receive(slow)) {
        }
      });
      texts log;
      sim.run(
          [](context<> self, actor_ref<work> who, texts* to) -> task<> {
            co_await self.with_tasks([&](auto& tasks) -> task<> {
              for (int i : {3, 1, 2})
                tasks.spawn(
                    [](actor_ref<work> w, int n, texts* list) -> task<> {
                      const int got = co_await w.ask<work>(n);
                      list->push_back(std::to_string(got));
                    },
                    who, i, to);
              co_return;
            });
          },
          ref, &log);
      REQUIRE(log == texts{"1", "2", "3"});
    });
  }

  TEST_CASE("a stop lets concurrent handlers answer, and takes no more") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn([](context<work> self) -> task<> {
        auto slow = actors::concurrent([&self](work w) -> task<int> {
          co_await self.sleep_for(1s);
          co_return w.value;
        });
        co_await self.serve(slow);
      });
      auto asker = sim.spawn(
          [](context<go> self, actor_ref<work> w) -> task<> {
            auto got =
                co_await actors::when_all(w.ask<work>(1), w.ask<work>(2));
            if (got != std::tuple{1, 2}) throw std::logic_error{"others"};
            co_await self.until_stop();
          },
          ref);
      sim.run_until_idle();
      ref.stop();
      REQUIRE(sim.run(ref.stopped()) == exit_reason::normal);
      sim.run(asker.started());
    });
  }

  TEST_CASE("a concurrent handler that throws: asker told, actor failed") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto ref = sim.spawn_once([](context<work, go> self) -> task<> {
        auto bad = actors::concurrent([&self](work) -> task<int> {
          co_await self.sleep_for(1s);
          throw std::runtime_error{"bad"};
        });
        while (co_await self.receive(bad, [](go) {})) {
        }
      });
      sim.expect_failure<std::runtime_error>(ref);
      REQUIRE(error_of([&] { return sim.run(ref.ask<work>()); }) ==
              errc::actor_failed);
      REQUIRE(sim.run(ref.stopped()) == exit_reason::failed);
    });
  }

  TEST_CASE("concurrent handlers of a body that ends tell no_reply") {
    simulation sim;
    auto ref = sim.spawn([](context<work, go> self) -> task<> {
      auto slow = actors::concurrent([&self](work) -> task<int> {
        co_await self.sleep_for(1h);
        co_return 1;
      });
      bool more = true;
      while (more) co_await self.receive(slow, [&](go) { more = false; });
    });
    auto asked = sim.spawn(
        [](context<>, actor_ref<work, go> w) -> task<> {
          auto r = co_await actors::as_result(w.ask<work>());
          if (r.error() != errc::no_reply)
            throw std::logic_error{"another end"};
        },
        ref);
    sim.run_until_idle();
    ref.tell(go{});
    CHECK(sim.run(asked.stopped()) == exit_reason::normal);
  }

  TEST_CASE("the message and the sender of a concurrent handler are its own") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      auto out = sim.probe<int>();
      auto ref = sim.spawn([](context<work> self) -> task<> {
        auto slow = actors::concurrent([&self](const work& w) -> task<int> {
          co_await self.sleep_for(std::chrono::seconds{3 - w.value});
          self.sender().tell(w.value);
          co_return w.value;
        });
        co_await self.serve(slow);
      });
      ref.tell(work{1}, out.ref());
      ref.tell(work{2}, out.ref());
      REQUIRE(out.expect<int>() == 2);
      REQUIRE(out.expect<int>() == 1);
    });
  }
}
