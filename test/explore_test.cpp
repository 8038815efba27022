#include "actors/testing.hpp"

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "testing_core.hpp"

using namespace std::chrono_literals;

namespace {

/// Fails the scenario, and so the seed.
void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error{what};
}

/// How `explore` fails; empty when it does not.
template <class F>
std::optional<actors::exploration_failed> failure_of(F&& f) {
  try {
    f();
  } catch (const actors::exploration_failed& e) {
    return e;
  }
  return {};
}

// --- a scenario with everything that can end an ask --------------------------

/// Told. Owns memory, so that AddressSanitizer sees what becomes of it.
struct work {
  std::string text;
};

enum class style { at_once, late, kept, refused, thrown };

struct query {
  using reply_type = std::string;
  style how;
  std::string text;
};

/// What came of the asks.
struct outcomes {
  int asked = 0;
  int answered = 0;
  int stopped = 0;
  int failed = 0;
  int no_reply = 0;
  int timed_out = 0;
  int refused = 0;
  int aborted = 0;
  /// The asker was killed, so nobody is left to be told.
  int asker_gone = 0;
  int ended() const {
    return answered + stopped + failed + no_reply + timed_out + refused +
           aborted + asker_gone;
  }
};

struct world {
  std::vector<actors::actor_ref<work, query>> servers;
  std::vector<actors::actor_ref<>> clients;
  outcomes asks;
  std::uint64_t told = 0;
  std::uint64_t handled = 0;
  /// Everything that happened, in order.
  std::string log;
};

/// Sees one ask to its end, whatever that is.
class one_ask {
 public:
  explicit one_ask(world& w) : world_{&w} { ++w.asks.asked; }
  one_ask(const one_ask&) = delete;
  one_ask& operator=(const one_ask&) = delete;
  ~one_ask() {
    if (!ended_) ++world_->asks.asker_gone;
  }

  void end(const actors::result<std::string>& r, const std::string& expected) {
    require(!ended_, "an ask ended twice");
    ended_ = true;
    outcomes& o = world_->asks;
    const std::error_code e = r.error();
    if (r.has_value()) {
      require(*r == expected, "an ask got the answer to another one");
      ++o.answered;
    } else if (e == actors::errc::actor_stopped) {
      ++o.stopped;
    } else if (e == actors::errc::actor_failed) {
      ++o.failed;
    } else if (e == actors::errc::no_reply) {
      ++o.no_reply;
    } else if (e == actors::errc::timed_out) {
      ++o.timed_out;
    } else if (e == actors::errc::mailbox_full) {
      ++o.refused;
    } else if (e == actors::detail::operation_aborted()) {
      ++o.aborted;
    } else {
      require(false, "an ask ended with " + e.message());
    }
  }

 private:
  world* world_;
  bool ended_ = false;
};

actors::task<> server(actors::context<work, query> self, world* w) {
  std::vector<actors::reply_to<std::string>> kept;
  for (;;) {
    bool more = true;
    try {
      more = co_await self.receive(
          [&](work m) {
            ++w->handled;
            w->log += m.text;
          },
          [&](query q, actors::reply_to<std::string> reply) -> actors::task<> {
            switch (q.how) {
              case style::late:
                co_await self.sleep_for(2ms);
                [[fallthrough]];
              case style::at_once:
                reply.reply("answer to " + q.text);
                break;
              case style::kept:
                kept.push_back(std::move(reply));
                if (kept.size() == 3) kept.clear();
                break;
              case style::refused:
                reply.fail(make_error_code(actors::errc::mailbox_full));
                break;
              case style::thrown:
                throw std::out_of_range{q.text};
            }
          });
    } catch (const std::out_of_range&) {
      w->log += '!';
    }
    if (!more) break;
  }
}

actors::task<> client(actors::context<> self, world* w, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  for (int i = 0; i != 6; ++i) {
    const auto to = w->servers[random() % w->servers.size()];
    for (auto n = random() % 4; n != 0; --n) {
      ++w->told;
      to.tell(work{"a text that does not fit into the string itself"});
    }
    const std::string text = "question " + std::to_string(random());
    auto ask = to.ask<query>(static_cast<style>(random() % 5), text);
    if (random() % 2 == 0)
      (void)std::move(ask).within(std::chrono::milliseconds{random() % 4});
    one_ask guard{*w};
    auto awaited = actors::as_result(std::move(ask));
    const auto r = co_await awaited;
    guard.end(r, "answer to " + text);
    w->log += r.has_value() ? "+" : "-";
    if (random() % 4 == 0) co_await self.sleep_for(1ms);
  }
}

/// Stops, drains and kills the others.
actors::task<> chaos(actors::context<> self, world* w, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  for (int i = 0; i != 5; ++i) {
    co_await self.sleep_for(std::chrono::milliseconds{random() % 3});
    const auto n = random() % (w->servers.size() + w->clients.size());
    const actors::any_actor_ref victim =
        n < w->servers.size()
            ? actors::any_actor_ref{w->servers[n]}
            : actors::any_actor_ref{w->clients[n - w->servers.size()]};
    switch (random() % 3) {
      case 0:
        victim.stop();
        break;
      case 1:
        victim.drain();
        break;
      case 2:
        victim.kill();
        break;
    }
  }
}

/// Ends when everybody has; `w` has what came of it.
void asks_stops_and_kills(actors::simulation& sim, world& w) {
  const std::uint64_t seed = sim.seed() * 100;
  for (int i = 0; i != 3; ++i) w.servers.push_back(sim.spawn(server, &w));
  for (std::uint64_t i = 0; i != 4; ++i)
    w.clients.push_back(sim.spawn(client, &w, seed + i));
  sim.spawn(chaos, &w, seed + 50);
  sim.advance(10ms);
  sim.terminate();
}

// --- a bug put in on purpose -------------------------------------------------

struct add {
  using reply_type = int;
  int amount;
};

/// A client that asks a counter ten times; the wake-up that is the `lost`-th
/// to be owed is dropped by the scheduler, as if a dispatcher had a race there.
void counting(actors::simulation& sim, std::uint64_t lost) {
  actors::detail::manual_scheduler& scheduler =
      actors::detail::testing_access::core(sim).home();
  scheduler.drop_wake(lost);
  auto counter = sim.spawn(
      {.name = "counter"}, [](actors::context<add> self) -> actors::task<> {
        int sum = 0;
        while (co_await self.receive([&](add a) { return sum += a.amount; })) {
        }
      });
  const int sum = sim.run([&](actors::context<>) -> actors::task<int> {
    int last = 0;
    for (int i = 0; i != 10; ++i) last = co_await counter.ask<add>(i);
    co_return last;
  });
  require(sum == 45, "the sum is wrong");
}

/// `ACTORS_SEED` for a scope.
class seed_variable {
 public:
  explicit seed_variable(const char* value) {
    if (value)
      ::setenv("ACTORS_SEED", value, 1);
    else
      ::unsetenv("ACTORS_SEED");
  }
  seed_variable(const seed_variable&) = delete;
  seed_variable& operator=(const seed_variable&) = delete;
  ~seed_variable() { ::unsetenv("ACTORS_SEED"); }
};

}  // namespace

TEST_SUITE("explore") {
  TEST_CASE("every seed is run once, each with its own") {
    const seed_variable none{nullptr};
    std::vector<std::uint64_t> seeds;
    actors::explore(
        3, [&](actors::simulation& sim) { seeds.push_back(sim.seed()); });
    CHECK(seeds == std::vector<std::uint64_t>{1, 2, 3});
    seeds.clear();
    actors::explore({.seeds = 2, .first = 17}, [&](actors::simulation& sim) {
      seeds.push_back(sim.seed());
    });
    CHECK(seeds == std::vector<std::uint64_t>{17, 18});
    CHECK_THROWS_AS(actors::explore({.seeds = 0}, [](actors::simulation&) {}),
                    std::invalid_argument);
  }

  TEST_CASE("the first seed that fails is reported, with what it said") {
    const seed_variable none{nullptr};
    int runs = 0;
    const auto failed = failure_of([&] {
      actors::explore(100, [&](actors::simulation& sim) {
        ++runs;
        require(sim.seed() != 17, "it was seventeen");
      });
    });
    REQUIRE(failed);
    CHECK(runs == 17);
    CHECK(failed->seed() == 17);
    CHECK(failed->message() == "it was seventeen");
    CHECK(std::string{failed->what()} ==
          "seed 17 fails: it was seventeen\nto replay it: ACTORS_SEED=17, or "
          "explore({.seeds = 1, .first = 17}, ...)");
    CHECK_THROWS_AS(std::rethrow_exception(failed->cause()),
                    std::runtime_error);
  }

  TEST_CASE("ACTORS_SEED runs that seed alone") {
    std::vector<std::uint64_t> seeds;
    const auto note = [&](actors::simulation& sim) {
      seeds.push_back(sim.seed());
    };
    {
      const seed_variable seventeen{"17"};
      actors::explore(5, note);
    }
    CHECK(seeds == std::vector<std::uint64_t>{17});
    const seed_variable nonsense{"1x"};
    CHECK_THROWS_AS(actors::explore(5, note), std::invalid_argument);
  }

  TEST_CASE("a failure after the scenario fails its seed as well") {
    const seed_variable none{nullptr};
    const auto unexpected = failure_of([] {
      actors::explore(3, [](actors::simulation& sim) {
        auto ref = sim.spawn({.name = "one"},
                             [](actors::context<> self) -> actors::task<> {
                               co_await self.until_stop();
                               throw std::runtime_error{"in its cleanup"};
                             });
        sim.run(ref.started());
      });
    });
    REQUIRE(unexpected);
    CHECK(unexpected->message() ==
          "/user/one failed, and nobody expected it: std::runtime_error: in "
          "its cleanup");
    const auto missing = failure_of([] {
      actors::explore(3, [](actors::simulation& sim) {
        auto ref = sim.spawn([](actors::context<> self) -> actors::task<> {
          co_await self.until_stop();
        });
        sim.expect_failure<std::runtime_error>(ref);
      });
    });
    REQUIRE(missing);
    CHECK(missing->seed() == 1);
  }

  TEST_CASE("every ask ends exactly once and nothing is lost, 1,000 seeds") {
    const seed_variable none{nullptr};
    outcomes all;
    std::uint64_t told = 0;
    std::uint64_t dead = 0;
    actors::explore(1000, [&](actors::simulation& sim) {
      world w;
      asks_stops_and_kills(sim, w);
      require(w.asks.ended() == w.asks.asked,
              std::to_string(w.asks.asked) + " asks, but " +
                  std::to_string(w.asks.ended()) + " ends");
      const std::uint64_t letters = sim.system().dead_letter_count();
      require(w.told == w.handled + letters,
              std::to_string(w.told) + " messages told, but " +
                  std::to_string(w.handled) + " handled and " +
                  std::to_string(letters) + " dead letters");
      auto& scheduler = actors::detail::testing_access::core(sim).home();
      require(scheduler.double_wakes() == 0,
              "a wake was owed while one was on its way");
      told += w.told;
      dead += letters;
      all.asked += w.asks.asked;
      all.answered += w.asks.answered;
      all.stopped += w.asks.stopped;
      all.failed += w.asks.failed;
      all.no_reply += w.asks.no_reply;
      all.timed_out += w.asks.timed_out;
      all.refused += w.asks.refused;
      all.aborted += w.asks.aborted;
      all.asker_gone += w.asks.asker_gone;
    });
    MESSAGE("asked " << all.asked << ": answered " << all.answered
                     << ", actor_stopped " << all.stopped << ", actor_failed "
                     << all.failed << ", no_reply " << all.no_reply
                     << ", timed_out " << all.timed_out << ", refused "
                     << all.refused << ", aborted " << all.aborted
                     << ", asker killed " << all.asker_gone << "; told " << told
                     << ", dead letters " << dead);
    // The scenario is no good if it does not get everywhere.
    CHECK(all.asked == all.ended());
    CHECK(all.asked > 10'000);
    CHECK(all.answered > 100);
    CHECK(all.stopped > 100);
    CHECK(all.failed > 100);
    CHECK(all.no_reply > 100);
    CHECK(all.timed_out > 100);
    CHECK(all.refused > 100);
    CHECK(all.aborted > 100);
    CHECK(all.asker_gone > 100);
    CHECK(dead > 100);
    CHECK(told > dead);
  }

  TEST_CASE("a seed has the same course each time") {
    const auto course = [](std::uint64_t seed) {
      actors::simulation sim{seed};
      world w;
      asks_stops_and_kills(sim, w);
      return std::pair{sim.steps(), w.log};
    };
    int different = 0;
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
      const auto once = course(seed);
      REQUIRE(once == course(seed));
      if (once != course(seed + 1)) ++different;
    }
    CHECK(different == 50);
  }

  // How it was seen that exploration finds a lost wake-up: the scheduler drops
  // one. Whether that matters is a matter of the seed, because with many the
  // messages take the local lane, and fewer wakes are owed than it takes. The
  // seeds for which it does stop dead: the question lies in the mailbox of an
  // actor that waits for one, or the answer beside one that waits for it. Each
  // of these seeds fails again, and in the same words.
  TEST_CASE("a lost wake-up is found, and its seed replays it") {
    const seed_variable none{nullptr};
    constexpr std::uint64_t never = 0;
    CHECK_NOTHROW(actors::explore(
        300, [](actors::simulation& sim) { counting(sim, never); }));

    const auto buggy = [](actors::simulation& sim) { counting(sim, 20); };
    const auto found = failure_of([&] { actors::explore(1000, buggy); });
    REQUIRE(found);
    MESSAGE(std::string{found->what()});
    CHECK(found->seed() > 1);  // others pass
    const std::string seed = std::to_string(found->seed());
    const std::string what = found->what();
    CHECK(what.find("seed " + seed + " fails: ") == 0);
    CHECK(what.find("nothing can go on") != std::string::npos);
    CHECK(what.find("waits for /user/counter") != std::string::npos);
    CHECK(what.find("ACTORS_SEED=" + seed) != std::string::npos);

    for (int i = 0; i != 3; ++i) {
      const auto again = failure_of([&] {
        actors::explore({.seeds = 1, .first = found->seed()}, buggy);
      });
      REQUIRE(again);
      CHECK(again->message() == found->message());
    }
    {
      const seed_variable replay{seed.c_str()};
      const auto again = failure_of([&] { actors::explore(1000, buggy); });
      REQUIRE(again);
      CHECK(again->message() == found->message());
    }

    int passed = 0;
    int failed = 0;
    for (std::uint64_t other = 1; other <= 100; ++other)
      ++(failure_of(
             [&] { actors::explore({.seeds = 1, .first = other}, buggy); })
             ? failed
             : passed);
    MESSAGE("of 100 seeds " << failed << " find it");
    CHECK(passed > 0);
    CHECK(failed > 0);
  }
}
