// Crashes, restarts, watches and looks from many threads at once, for
// ThreadSanitizer. Nothing is timed: at the end all must be accounted for.

#include "actors/asio.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace std::chrono_literals;

namespace {

struct work {
  unsigned kind;
};
/// Answered when all that was told before has been handled, or lost.
struct done {
  using reply_type = void;
};
using child_ref = actors::actor_ref<work, done>;

struct ledger {
  std::atomic<std::int64_t> told{0};
  std::atomic<std::int64_t> handled{0};
  std::atomic<std::int64_t> thrown{0};
  std::atomic<std::int64_t> ends{0};
  std::atomic<std::int64_t> bodies{0};
};

class crowd {
 public:
  void add(child_ref c) {
    std::lock_guard lock{mutex_};
    members_.push_back(std::move(c));
  }
  std::vector<child_ref> all() const {
    std::lock_guard lock{mutex_};
    return members_;
  }
  child_ref pick(unsigned n) const {
    std::lock_guard lock{mutex_};
    return members_.empty() ? child_ref{} : members_[n % members_.size()];
  }

 private:
  mutable std::mutex mutex_;
  std::vector<child_ref> members_;
};

/// Counts incarnations: there is never more than one.
struct alive {
  explicit alive(ledger& l, std::atomic<int>& n) : book{&l}, count{&n} {
    ++book->bodies;
    if (++*count != 1) throw std::logic_error{"two incarnations"};
  }
  alive(const alive&) = delete;
  alive& operator=(const alive&) = delete;
  ~alive() { --*count; }
  ledger* book;
  std::atomic<int>* count;
};

actors::task<> child(actors::context<work, done> self, ledger& l,
                     std::shared_ptr<std::atomic<int>> incarnations,
                     bool serves) {
  const alive one{l, *incarnations};
  int inside = 0;  // not atomic: for ThreadSanitizer to see
  const auto handle = [&](const work& w) {
    ++inside;
    if (w.kind % 8 == 0) {
      ++l.thrown;
      throw std::runtime_error{"blown"};
    }
    ++l.handled;
  };
  const auto slow = [&](work w) -> actors::task<> {
    ++inside;
    if (w.kind % 8 == 1) co_await self.sleep_for(5us);
    if (w.kind % 8 < 2) {
      ++l.thrown;
      throw std::runtime_error{"blown, slowly"};
    }
    ++l.handled;
  };
  if (serves) {
    co_await self.serve(handle, [](done) {});
  } else {
    while (co_await self.receive(slow, [](done) {})) {
      if (inside % 32 == 0)
        (void)self.spawn_task([](actors::context<> its) -> actors::task<> {
          co_await its.sleep_for(20us);
          throw std::runtime_error{"a task"};
        });
    }
  }
}

/// Watches all of its children, and whoever else it is told of.
template <class Strategy>
actors::task<> parent(actors::context<actors::ended> self, Strategy strategy,
                      crowd& all, ledger& l) {
  self.supervise(strategy);
  for (int i = 0; i != 6; ++i) {
    auto c = self.spawn({.placement = actors::placement::round_robin(),
                         .restart = i == 5 ? actors::restart_policy::never
                                           : actors::restart_policy::transient},
                        child, std::ref(l),
                        std::make_shared<std::atomic<int>>(0), i % 2 == 0);
    self.watch(c);
    if (i % 3 == 0) {
      self.unwatch(c);
      self.watch(c);
    }
    all.add(std::move(c));
  }
  while (co_await self.receive([&](const actors::ended&) { ++l.ends; })) {
  }
}

void storm(actors::dispatcher kind, std::size_t threads) {
  CAPTURE(threads);
  CAPTURE((kind.which() == actors::dispatcher::kind::pool));
  constexpr int senders = 3;
  constexpr int rounds = support::sanitized ? 500 : 3000;
  ledger l;
  std::uint64_t dead = 0;
  std::atomic<std::int64_t> failed{0};
  std::atomic<std::int64_t> looks{0};
  {
    crowd all;
    actors::system_options options = support::quiet(threads);
    options.dispatcher = kind;
    options.throughput = 8;
    actors::actor_system system{options};
    system.on_dead_letter([&](const actors::dead_letter& d) {
      if (d.why == actors::dead_letter::reason::failed) ++failed;
    });
    const actors::backoff soon{.min = 1us, .max = 20us, .jitter = 1};
    const auto up = actors::on<std::logic_error>(actors::directive::escalate);
    actors::actor_ref<actors::ended> last;
    for (int i = 0; i != 2; ++i) {
      system.spawn(parent<actors::one_for_one>,
                   actors::one_for_one{.max_restarts = actors::unlimited,
                                       .backoff = soon,
                                       .decide = {up}},
                   std::ref(all), std::ref(l));
      system.spawn(parent<actors::one_for_all>,
                   actors::one_for_all{.max_restarts = actors::unlimited,
                                       .decide = {up}},
                   std::ref(all), std::ref(l));
      last = system.spawn(
          parent<actors::rest_for_one>,
          actors::rest_for_one{
              .max_restarts = actors::unlimited,
              .decide = {up, actors::on<std::runtime_error>(
                                 i == 0 ? actors::directive::resume
                                        : actors::directive::restart)}},
          std::ref(all), std::ref(l));
    }
    (void)last.started().get();  // so that there is somebody to tell
    std::vector<std::thread> plain;
    for (int t = 0; t != senders; ++t) {
      plain.emplace_back([&, t] {
        std::minstd_rand random{static_cast<unsigned>(t + 99)};
        for (int i = 0; i != rounds; ++i) {
          auto c = all.pick(static_cast<unsigned>(random()));
          switch (random() % 2048) {
            case 0:
              c.stop();
              break;
            case 1:
              c.kill();
              break;
            case 2:
            case 3:
            case 4:
            case 5:
              looks +=
                  static_cast<std::int64_t>(system.snapshot().get().size());
              break;
            default:
              ++l.told;
              c.tell(work{static_cast<unsigned>(random())});
          }
        }
      });
    }
    for (std::thread& t : plain) t.join();
    for (const child_ref& c : all.all()) {
      const std::error_code e =
          support::error_of([&] { c.ask<done>().get(60s); });
      CHECK((!e || actors::not_handled(e) || e == actors::errc::actor_failed ||
             e == actors::errc::no_reply));
    }
    system.async_terminate().get();
    dead = system.dead_letter_count();
  }
  // A message is handled, or a dead letter; or it was in the hand of one that
  // was killed, or in that of one whose child task failed.
  const auto handled = l.handled + static_cast<std::int64_t>(dead);
  CHECK(handled <= l.told);
  CHECK(handled >= l.told - senders * rounds / 20);
  CHECK(failed >= l.thrown);
  CHECK(l.thrown > 0);
  MESSAGE("told " << l.told.load() << ", handled " << l.handled.load()
                  << ", thrown " << l.thrown.load() << ", dead letters " << dead
                  << ", failed " << failed.load() << ", bodies "
                  << l.bodies.load() << ", ends " << l.ends.load() << ", seen "
                  << looks.load());
  CHECK(l.bodies > 36);
}

}  // namespace

TEST_SUITE("healing_stress") {
  TEST_CASE("crashes on several threads lose nothing and end in order") {
    for (const std::size_t threads : {2, 4}) {
      storm(actors::dispatcher::pool(), threads);
      storm(actors::dispatcher::shared(), threads);
    }
  }
}
