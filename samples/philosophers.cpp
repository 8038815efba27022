// philosophers: forks that are asked for, a dinner that cannot stand still, and
// one that would: the ask that closes the cycle fails
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

constexpr std::array names{"plato", "kant", "hume", "marx", "mill"};

// --- A dinner ----------------------------------------------------------------

struct take {
  using reply_type = void;
};
struct put {};
using fork_ref = actors::actor_ref<take, put>;

// It lies here, or somebody has it and others wait: the fork keeps their reply
// slots, and answers one when it comes back. So it never waits itself.
actors::task<> fork_actor(actors::context<take, put> self) {
  bool taken = false;
  std::deque<actors::reply_to<void>> waiting;
  co_await self.serve(
      [&](take, actors::reply_to<void> slot) {
        if (std::exchange(taken, true))
          waiting.push_back(std::move(slot));
        else
          taken = slot.reply();
      },
      [&](put) {
        taken = false;
        while (!taken && !waiting.empty()) {
          taken = waiting.front().reply();  // false: has left
          waiting.pop_front();
        }
      });
}

// Takes the fork with the lower number first. Were there a cycle of those who
// have one fork and wait for another, each would wait for a higher one than he
// has, all round: there is none.
actors::task<> philosopher(actors::context<> self, fork_ref low, fork_ref high,
                           int meals) {
  for (; meals != 0; --meals) {
    co_await low.ask<take>();
    co_await high.ask<take>();
    co_await self.sleep_for(1ms);  // eats
    high.tell(put{});
    low.tell(put{});
  }
}

actors::task<> dinner(actors::context<> self) {
  constexpr std::size_t n = names.size();
  constexpr int meals = 20;
  std::vector<fork_ref> forks;
  for (std::size_t i = 0; i != n; ++i) forks.push_back(self.spawn(fork_actor));
  std::vector<actors::any_actor_ref> guests;
  for (std::size_t i = 0; i != n; ++i) {
    const auto [low, high] = std::minmax({i, (i + 1) % n});
    guests.push_back(self.spawn({.name = names[i]}, philosopher, forks[low],
                                forks[high], meals));
  }
  for (const auto& guest : guests) co_await guest.stopped();
  fmt::print("dinner: {} philosophers have eaten {} times each\n", n, meals);
}

// --- One without forks -------------------------------------------------------

// Each asks his neighbour for the fork between them, who first gets his own
// other one, from his neighbour: round the table nobody can answer.
struct lend {
  using reply_type = void;
};
struct sit_beside {
  actors::actor_ref<lend> neighbour;
};
struct eat {
  using reply_type = void;
};

actors::task<> naive(actors::context<lend, sit_beside, eat> self) {
  actors::actor_ref<lend> neighbour;
  const auto fetch = [&]() -> actors::task<actors::result<void>> {
    co_return co_await actors::as_result(neighbour.ask<lend>());
  };
  co_await self.serve([&](sit_beside s) { neighbour = s.neighbour; },
                      [&](lend) { return fetch(); },
                      [&](eat) { return fetch(); });
}

actors::task<> naive_dinner(actors::context<> self) {
  std::vector<actors::actor_ref<lend, sit_beside, eat>> guests;
  for (const char* name : names)
    guests.push_back(self.system().spawn({.name = name}, naive));
  for (std::size_t i = 0; i != guests.size(); ++i)
    guests[i].tell(sit_beside{guests[(i + 1) % guests.size()]});
  try {
    co_await guests.front().ask<eat>();
  } catch (const actors::actor_error& e) {
    fmt::print("naive dinner: {}\n", e.what());
  }
}

int main() {
  // By default cycles are looked for in builds without NDEBUG only.
  actors::actor_system system{{.detect_deadlocks = true}};
  system.run(dinner);
  system.run(naive_dinner);
}
