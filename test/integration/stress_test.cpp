// Many actors and threads at once, for ThreadSanitizer. Nothing is timed: at
// the end all must be accounted for.

#include "actors/asio.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <random>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace std::chrono_literals;

namespace {

struct work {
  int hops;
};
struct query {
  using reply_type = int;
  int n;
};
/// Sometimes not answered, sometimes answered by somebody else.
struct hard_query {
  using reply_type = int;
  int n;
};

using worker_ref = actors::actor_ref<work, query, hard_query>;

/// What happened to the messages and the questions, counted where it happens.
struct ledger {
  std::atomic<std::int64_t> told{0};
  std::atomic<std::int64_t> handled{0};
  std::atomic<std::int64_t> asked{0};
  std::atomic<std::int64_t> answered{0};
  std::atomic<std::int64_t> refused{0};
  std::atomic<std::int64_t> wrong{0};
  std::atomic<std::int64_t> abandoned{0};

  void ended(std::error_code e, int got, int wanted) {
    if (e)
      ++refused;
    else if (got == wanted)
      ++answered;
    else
      ++wrong;
  }
};

/// A question of an actor, which may be killed while it waits.
class pending {
 public:
  explicit pending(ledger& l) : ledger_{&l} { ++l.asked; }
  pending(const pending&) = delete;
  pending& operator=(const pending&) = delete;
  ~pending() {
    if (!ended_) ++ledger_->abandoned;
  }
  void end(const actors::result<int>& got, int wanted) {
    ended_ = true;
    ledger_->ended(got.error(), got ? *got : 0, wanted);
  }

 private:
  ledger* ledger_;
  bool ended_ = false;
};

/// All workers that are known, the dead ones among them.
class crowd {
 public:
  void add(worker_ref w) {
    std::lock_guard lock{mutex_};
    if (members_.size() < room)
      members_.push_back(std::move(w));
    else
      members_[next_++ % room] = std::move(w);
  }
  worker_ref pick(std::minstd_rand& random) const {
    std::lock_guard lock{mutex_};
    return members_.empty() ? worker_ref{}
                            : members_[random() % members_.size()];
  }

 private:
  static constexpr std::size_t room = 64;
  mutable std::mutex mutex_;
  std::vector<worker_ref> members_;
  std::size_t next_ = 0;
};

actors::task<> worker(actors::context<work, query, hard_query> self,
                      crowd& others, ledger& l, unsigned seed) {
  std::minstd_rand random{seed};
  std::vector<actors::reply_to<int>> kept;
  int inside = 0;  // not atomic: for ThreadSanitizer to see
  while (co_await self.receive(
      [&](work w) -> actors::task<> {
        ++inside;
        ++l.handled;
        const auto what = random() % 16;
        auto other = others.pick(random);
        if (w.hops > 0 && other) {
          ++l.told;
          other.tell(work{w.hops - 1});
        }
        if (what < 4 && w.hops > 0) {
          pending question{l};
          // In time, because two may ask each other.
          auto got =
              co_await actors::as_result(other.ask<query>(w.hops).within(1ms));
          question.end(got, w.hops);
        } else if (what < 6 && w.hops > 0) {
          pending question{l};
          auto got = co_await actors::as_result(
              other.ask<hard_query>(w.hops).within(100us));
          question.end(got, w.hops);
        } else if (what == 6) {
          co_await self.sleep_for(10us);
        } else if (what == 7 && random() % 8 == 0) {
          kept.clear();
        }
      },
      [&](query q) {
        ++inside;
        return q.n;
      },
      [&](hard_query q, actors::reply_to<int> slot) {
        switch (random() % 3) {
          case 0:
            slot.reply(q.n);
            break;
          case 1:
            if (kept.size() < 8) kept.push_back(std::move(slot));
            break;
          default:
            break;  // dropped: no_reply
        }
      })) {
  }
}

/// Spawns workers, stops and kills them, until it is stopped.
actors::task<> breeder(actors::context<work> self, crowd& others, ledger& l,
                       actors::actor_system& system) {
  std::minstd_rand random{7};
  unsigned seed = 1000;
  while (co_await self.receive([&](work) {
    ++l.handled;
    switch (random() % 4) {
      case 0:
        others.pick(random).stop();
        break;
      case 1:
        others.pick(random).kill();
        break;
      case 2:
        others.pick(random).drain();
        break;
      default:
        break;
    }
    others.add(self.spawn(worker, std::ref(others), std::ref(l), ++seed));
    others.add(system.spawn(worker, std::ref(others), std::ref(l), ++seed));
  })) {
  }
}

void storm(actors::dispatcher kind, std::size_t threads) {
  CAPTURE(threads);
  CAPTURE((kind.which() == actors::dispatcher::kind::pool));
  constexpr int senders = 3;
  constexpr int rounds = support::sanitized ? 600 : 3000;
  ledger l;
  std::uint64_t dead = 0;
  {
    crowd all;
    actors::system_options options = support::quiet(threads);
    options.dispatcher = kind;
    options.throughput = 8;
    actors::actor_system system{options};
    for (unsigned i = 0; i != 32; ++i)
      all.add(system.spawn(worker, std::ref(all), std::ref(l), i + 1));
    auto mother =
        system.spawn(breeder, std::ref(all), std::ref(l), std::ref(system));
    std::vector<std::thread> plain;
    for (int t = 0; t != senders; ++t) {
      plain.emplace_back([&, t] {
        std::minstd_rand random{static_cast<unsigned>(t + 99)};
        for (int i = 0; i != rounds; ++i) {
          auto w = all.pick(random);
          switch (random() % 16) {
            case 0: {
              ++l.asked;
              try {
                const int got = w.ask<query>(i).get();
                l.ended({}, got, i);
              } catch (const std::system_error& e) {
                l.ended(e.code(), 0, i);
              }
              break;
            }
            case 1: {
              ++l.asked;
              try {
                const int got = w.ask<hard_query>(i).get(200us);
                l.ended({}, got, i);
              } catch (const std::system_error& e) {
                l.ended(e.code(), 0, i);
              }
              break;
            }
            case 2:
              ++l.asked;
              w.ask<query>(i)(
                  [&l, i](std::error_code e, int n) { l.ended(e, n, i); });
              break;
            case 3:
              ++l.asked;
              w.ask<hard_query>(i).within(100us)(
                  [&l, i](std::error_code e, int n) { l.ended(e, n, i); });
              break;
            case 4:
              ++l.told;
              mother.tell(work{0});
              break;
            default:
              ++l.told;
              w.tell(work{static_cast<int>(random() % 4)});
              break;
          }
        }
      });
    }
    for (std::thread& t : plain) t.join();
    system.async_terminate().get();
    dead = system.dead_letter_count();
  }
  CHECK(l.asked == l.answered + l.refused + l.abandoned);
  CHECK(l.told == l.handled + static_cast<std::int64_t>(dead));
  CHECK(l.wrong == 0);
  CHECK(l.answered > 0);
}

}  // namespace

TEST_SUITE("stress") {
  TEST_CASE("every ask ends once, every message is handled or a dead letter") {
    for (const std::size_t threads : {2, 4}) {
      storm(actors::dispatcher::pool(), threads);
      storm(actors::dispatcher::shared(), threads);
    }
  }
}
