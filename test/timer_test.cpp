// Messages that an actor sends itself for later, and sleeps until a time.
#include "actors/timer.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::context;
using actors::count_down_latch;
using actors::directive;
using actors::errc;
using actors::on;
using actors::simulation;
using actors::task;
using actors::time_point;
using actors::timer_handle;
using support::counted;
using support::each_system;
using support::error_of;
using support::message_of;

struct tick {};
struct crash {};
struct heavy {
  counted weight;
};
using times = std::vector<actors::duration>;

/// When each `tick` came, counted from the start of the simulation.
struct watch {
  explicit watch(simulation& s) : sim{&s}, start{s.now()} {}
  void operator()(tick) { came.push_back(sim->now() - start); }
  simulation* sim;
  time_point start;
  times came;
};

struct crashed : std::runtime_error {
  using runtime_error::runtime_error;
};

}  // namespace

TEST_SUITE("timer") {
  TEST_CASE("a message sent for later comes after its delay, once") {
    times came;
    simulation sim;
    watch on_tick{sim};
    sim.spawn([&](context<tick> self) -> task<> {
      (void)self.send_after(3s, tick{});
      (void)self.send_after<tick>(1s);
      (void)self.send_after(0s, tick{});
      co_await self.serve(on_tick);
    });
    sim.advance(10s);
    CHECK(on_tick.came == times{0s, 1s, 3s});
  }

  TEST_CASE("one sent every period comes until it is cancelled") {
    simulation sim;
    watch on_tick{sim};
    sim.spawn([&](context<tick, crash> self) -> task<> {
      timer_handle beat = self.send_every(250ms, tick{});
      (void)self.send_after(1s + 100ms, crash{});
      co_await self.serve(on_tick, [&](crash) {
        CHECK(beat.cancel());
        CHECK_FALSE(beat.cancel());
      });
    });
    sim.advance(1h);
    CHECK(on_tick.came == times{250ms, 500ms, 750ms, 1s});
  }

  TEST_CASE("the rhythm does not drift by what each beat takes") {
    simulation sim;
    times came;
    const time_point start = sim.now();
    sim.spawn([&](context<tick> self) -> task<> {
      (void)self.send_every<tick>(100ms);
      const auto beat = [&](tick) -> task<> {
        came.push_back(self.now() - start);
        co_await self.sleep_for(70ms);
      };
      co_await self.serve(beat);
    });
    sim.advance(10s);
    REQUIRE(came.size() == 100);
    for (std::size_t i = 0; i != came.size(); ++i)
      CHECK(came[i] == (i + 1) * 100ms);
  }

  TEST_CASE("beats wait in the mailbox of an actor that is slower") {
    simulation sim;
    int handled = 0;
    sim.spawn([&](context<tick> self) -> task<> {
      timer_handle beat = self.send_every(100ms, tick{});
      const auto slow = [&](tick) -> task<> {
        if (++handled == 5) CHECK(beat.cancel());
        co_await self.sleep_for(1s);
      };
      co_await self.serve(slow);
    });
    sim.advance(1h);
    // Five handled by 4.1 s, when it was cancelled; 41 had been sent by then.
    CHECK(handled == 41);
  }

  TEST_CASE("a cancelled message does not come, wherever it is") {
    // The timer may have fired, and be on its way to the actor.
    const auto scenario = [](simulation& sim) {
      int ticks = 0;
      bool too_late = false;
      sim.spawn([&](context<tick, crash> self) -> task<> {
        timer_handle t = self.send_after(1s, tick{});
        (void)self.send_after(1s, crash{});
        co_await self.serve([&](tick) { ++ticks; },
                            [&](crash) { too_late = !t.cancel(); });
      });
      sim.advance(5s);
      CHECK(ticks == (too_late ? 1 : 0));
    };
    actors::explore({.seeds = 200}, scenario);
  }

  TEST_CASE("dropping the handle does not cancel") {
    simulation sim;
    watch on_tick{sim};
    sim.spawn([&](context<tick> self) -> task<> {
      {
        timer_handle t = self.send_after(1s, tick{});
        timer_handle other = std::move(t);
        CHECK_FALSE(t.cancel());  // NOLINT: moved from
        t = std::move(other);
      }
      co_await self.serve(on_tick);
    });
    sim.advance(2s);
    CHECK(on_tick.came == times{1s});
  }

  TEST_CASE("they are gone when the actor stops, and no dead letters") {
    const auto scenario = [](simulation& sim) {
      std::atomic<int> alive = 0;
      const auto a = sim.spawn([&](context<heavy> self) -> task<> {
        for (int i = 0; i != 10; ++i) {
          (void)self.send_after<heavy>(1s, counted{alive});
          (void)self.send_every<heavy>(700ms, counted{alive});
        }
        co_await self.serve([](heavy) {});
      });
      sim.advance(sim.seed() % 2 ? 900ms : 100ms);
      switch (sim.seed() % 3) {
        case 0:
          a.stop();
          break;
        case 1:
          a.drain();
          break;
        default:
          a.kill();
      }
      sim.run(a.stopped());
      CHECK(alive == 0);
      sim.advance(10s);
      CHECK(sim.system().dead_letter_count() == 0);
    };
    actors::explore({.seeds = 200}, scenario);
  }

  TEST_CASE("they are gone when the actor is restarted, with its group too") {
    const auto scenario = [](simulation& sim) {
      std::array<int, 2> incarnations{};
      std::array<int, 2> ticks{};
      actor_ref<crash, tick> first;
      const auto child = [&](context<crash, tick> self,
                             std::size_t me) -> task<> {
        if (++incarnations[me] == 1) {
          (void)self.send_every(1s, tick{});
          (void)self.send_after(2s + 1ms, tick{});
        }
        co_await self.serve([&](tick) { ++ticks[me]; },
                            [](crash) { throw crashed{"as told"}; });
      };
      sim.spawn([&](context<> self) -> task<> {
        self.supervise(actors::one_for_all{});
        first = self.spawn(child, 0);
        self.spawn(child, 1);
        co_await self.until_stop();
      });
      sim.advance(1500ms);
      CHECK(ticks == std::array{1, 1});
      sim.expect_failure<crashed>(first);
      first.tell(crash{});
      sim.advance(10s);
      CHECK(incarnations == std::array{2, 2});
      CHECK(ticks == std::array{1, 1});
    };
    actors::explore({.seeds = 100}, scenario);
  }

  TEST_CASE("what a handler starts while its group falls is gone as well") {
    int incarnations = 0, ticks = 0;
    actor_ref<crash, tick> first, second;
    simulation sim;
    const auto fails = [](context<crash, tick> self) -> task<> {
      co_await self.serve([](crash) { throw crashed{"as told"}; }, [](tick) {});
    };
    const auto works = [&](context<crash, tick> self) -> task<> {
      ++incarnations;
      co_await self.serve(
          [&](crash) -> task<> {
            co_await self.sleep_for(1s);
            (void)self.send_every(1s, tick{});
          },
          [&](tick) { ++ticks; });
    };
    sim.spawn([&](context<> self) -> task<> {
      self.supervise(actors::one_for_all{});
      first = self.spawn(fails);
      second = self.spawn(works);
      co_await self.until_stop();
    });
    sim.run_until_idle();
    sim.expect_failure<crashed>(first);
    second.tell(crash{});
    sim.advance(1ms);
    first.tell(crash{});
    sim.advance(10s);
    CHECK(incarnations == 2);
    CHECK(ticks == 0);
  }

  TEST_CASE("they go on after a resume, and while a failure is decided") {
    simulation sim;
    watch on_tick{sim};
    actor_ref<crash, tick> child;
    sim.spawn([&](context<> self) -> task<> {
      self.supervise(
          actors::one_for_one{.decide = {on<crashed>(directive::resume)}});
      child = self.spawn([&](context<crash, tick> me) -> task<> {
        (void)me.send_every(1s, tick{});
        co_await me.serve(on_tick, [](crash) { throw crashed{"as told"}; });
      });
      co_await self.until_stop();
    });
    sim.advance(1500ms);
    sim.expect_failure<crashed>(child);
    child.tell(crash{});
    sim.advance(1s);
    CHECK(on_tick.came == times{1s, 2s});
  }

  TEST_CASE("a message that may only be moved may be sent later") {
    simulation sim;
    int got = 0;
    sim.spawn([&](context<std::unique_ptr<int>> self) -> task<> {
      (void)self.send_after(1s, std::make_unique<int>(7));
      co_await self.serve([&](std::unique_ptr<int> p) { got = *p; });
    });
    sim.advance(2s);
    CHECK(got == 7);
  }

  TEST_CASE("a copy that throws fails the actor") {
    struct fragile {
      explicit fragile(int l) : left{std::make_shared<int>(l)} {}
      fragile(fragile&&) = default;
      fragile(const fragile& other) : left{other.left} {
        if ((*left)-- == 0) throw crashed{"no copy"};
      }
      std::shared_ptr<int> left;
    };
    simulation sim;
    int got = 0;
    const auto a = sim.spawn({.restart = actors::restart_policy::never},
                             [&](context<fragile> self) -> task<> {
                               (void)self.send_every<fragile>(1s, 2);
                               co_await self.serve([&](fragile&) { ++got; });
                             });
    sim.expect_failure<crashed>(a);
    sim.advance(10s);
    CHECK(got == 2);
    CHECK(sim.run(a.stopped()) == actors::exit_reason::failed);
  }

  TEST_CASE("delays and periods out of range are refused in a sentence") {
    simulation sim;
    sim.run([](context<tick> self) -> task<> {
      CHECK(message_of<std::invalid_argument>([&] {
              (void)self.send_after(-1s, tick{});
            }) == "a delay may not be negative");
      CHECK(message_of<std::invalid_argument>([&] {
              (void)self.send_every(0s, tick{});
            }) == "a period has to be more than zero");
      CHECK(message_of<std::invalid_argument>([&] {
              (void)self.send_every(-1s, tick{});
            }) == "a period has to be more than zero");
      // For ever, and nothing overflows.
      (void)self.send_after(actors::duration::max(), tick{});
      (void)self.send_every(actors::duration::max(), tick{});
      co_return;
    });
  }

  TEST_CASE("an actor that ends sends itself nothing") {
    std::error_code after, every;
    simulation sim;
    const auto a = sim.spawn([&](context<tick> self) -> task<> {
      co_await self.until_stop();
      after = error_of([&] {
        (void)self.send_after(1s, tick{});
        return 0;
      });
      every = error_of([&] {
        (void)self.send_every(1s, tick{});
        return 0;
      });
    });
    sim.run_until_idle();
    a.stop();
    sim.run(a.stopped());
    CHECK(after == errc::actor_stopped);
    CHECK(every == errc::actor_stopped);
  }

  TEST_CASE("a handle outlives its actor, and cancels on no other strand") {
    timer_handle left;
    std::string said;
    simulation sim;
    const auto a = sim.spawn([&](context<tick> self) -> task<> {
      left = self.send_after(1h, tick{});
      co_await self.until_stop();
    });
    sim.run_until_idle();
    sim.run([&](context<>) -> task<> {
      said = message_of<std::logic_error>([&] { left.cancel(); });
      co_return;
    });
    CHECK(support::contains(said, "by the actor that has started it"));
    a.stop();
    sim.run(a.stopped());
    CHECK_FALSE(timer_handle{}.cancel());
  }

  TEST_CASE(
      "`sleep_until` wakes at its time, or at once when that has passed") {
    simulation sim;
    const time_point start = sim.now();
    sim.run([&](context<> self) -> task<> {
      co_await self.sleep_until(start + 3s);
      CHECK(self.now() == start + 3s);
      co_await self.sleep_until(start + 1s);
      CHECK(self.now() == start + 3s);
      co_await self.sleep_until(start);
      CHECK(self.now() == start + 3s);
    });
    const auto forever = sim.spawn([](context<> self) -> task<> {
      co_await self.sleep_until(time_point::max());
    });
    sim.advance(24h);
    forever.stop();
    CHECK(sim.run(forever.stopped()) == actors::exit_reason::normal);
  }

  TEST_CASE("a million pending timers are no problem") {
    constexpr int many = 1'000'000;
    actors::actor_system system{support::quiet(1)};
    int fired = 0;
    count_down_latch done{system, 1};
    const auto a = system.spawn([&](context<tick> self) -> task<> {
      for (int i = 0; i != many; ++i)
        (void)self.send_after(1h + i * 1us, tick{});
      std::vector<timer_handle> cancelled;
      for (int i = 0; i != 1000; ++i)
        cancelled.push_back(self.send_after(1ms, tick{}));
      for (auto& t : cancelled) CHECK(t.cancel());
      (void)self.send_after(1us, tick{});
      co_await self.serve([&](tick) {
        ++fired;
        done.count_down();
      });
    });
    done.wait().get();
    a.stop();
    a.stopped().get();
    CHECK(fired == 1);
  }

  TEST_CASE("on threads each comes once, unless it was cancelled") {
    each_system([](actors::actor_system& system) {
      constexpr int actors_count = 8, timers = 200;
      std::atomic<int> came = 0, cancelled = 0;
      count_down_latch done{system, actors_count};
      const auto body = [&](context<int> self) -> task<> {
        std::vector<timer_handle> handles;
        for (int i = 0; i != timers; ++i)
          handles.push_back(self.send_after(i * 10us, i));
        int left = timers;
        while (left > 0) {
          const bool got = co_await self.receive([&](int i) {
            ++came;
            --left;
            // Some neighbours: those that have fired cannot be cancelled.
            for (int k = i + 1; k < std::min(timers, i + 3); ++k)
              if (handles[static_cast<std::size_t>(k)].cancel()) {
                ++cancelled;
                --left;
              }
          });
          if (!got) break;
        }
        done.count_down();
      };
      for (int i = 0; i != actors_count; ++i) system.spawn(body);
      done.wait().get();
      CHECK(came + cancelled == actors_count * timers);
    });
  }

  TEST_CASE("chance is the seed's in a simulation, and below one") {
    const auto numbers = [](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<double> got;
      sim.run([&](context<> self) -> task<> {
        for (int i = 0; i != 100; ++i) got.push_back(self.random());
        co_return;
      });
      return got;
    };
    CHECK(numbers(1) == numbers(1));
    CHECK(numbers(1) != numbers(2));
    for (double x : numbers(3)) CHECK((x >= 0 && x < 1));
  }
}
