// The everyday kit together, on threads: objects behind bounded mailboxes, with
// timers, names and deadlines, that crash and are restarted, while clients ask.
// Each ask ends, whatever happens, and nothing is left.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::as_result;
using actors::context;
using actors::count_down_latch;
using actors::errc;
using actors::mailbox;
using actors::overflow;
using actors::task;
using support::each_system;

struct job {
  using reply_type = int;
  int number;
};
struct tick {};
struct price {
  int value;
};

struct totals {
  std::atomic<int> alive = 0;
  std::atomic<int> starts = 0;
  std::atomic<int> last_words = 0;
  std::atomic<int> answered = 0;
  std::atomic<int> failed = 0;
  std::atomic<int> late = 0;
  std::atomic<int> refused = 0;
};

class worker : public actors::actor<job, tick, price> {
 public:
  explicit worker(totals& t) : totals_{&t} { ++t.alive; }
  ~worker() { --totals_->alive; }

  void pre_start() {
    ++totals_->starts;
    (void)self().send_every(200us, tick{});
  }
  void pre_restart(std::exception_ptr) { ++totals_->last_words; }
  task<> post_stop() {
    co_await self().sleep_for(1us);
    ++totals_->last_words;
  }

  void receive(tick) {}
  void receive(price) {}
  task<int> receive(job j) {
    if (j.number % 4 == 0) co_await self().sleep_for(20us);
    if (j.number % 61 == 0) throw std::runtime_error{"a bad job"};
    co_return j.number;
  }

 private:
  totals* totals_;
};

/// Has three workers, and asks them on behalf of its askers.
task<> front(context<job> self, totals& t) {
  self.supervise(actors::one_for_one{.max_restarts = actors::unlimited});
  std::array<actor_ref<job, tick, price>, 3> workers;
  constexpr std::array kinds{overflow::wait, overflow::drop_oldest,
                             overflow::fail};
  for (std::size_t i = 0; i != workers.size(); ++i) {
    workers[i] = self.spawn<worker>(
        {.name = "worker" + std::to_string(i),
         .mailbox = mailbox::bounded(4, kinds[i])
                        .limit<tick>(1, overflow::drop_newest)},
        std::ref(t));
    self.system().subscribe<price>(workers[i]);
  }
  const auto handle =
      actors::concurrent([&](job j) -> task<actors::result<int>> {
        auto& to = workers[static_cast<std::size_t>(j.number) % workers.size()];
        co_return co_await as_result(to.ask<job>(j.number));
      });
  co_await self.serve(handle);
}

task<> client(context<> self, totals& t, count_down_latch done, int first,
              int count) {
  auto at = co_await self.system().wait_for<job>("/user/front");
  for (int i = 0; i != count; ++i) {
    const int number = first + i;
    if (number % 7 == 0) self.system().publish(price{number});
    const actors::duration patience =
        number % 3 == 0 ? number % 500 * 1us : actors::duration{1h};
    auto got = co_await as_result(at.ask<job>(number).within(patience));
    if (got) {
      CHECK(*got == number);
      ++t.answered;
    } else if (got.error() == errc::timed_out) {
      ++t.late;
    } else if (got.error() == errc::mailbox_full) {
      ++t.refused;
    } else {
      // Also those that were in hand when another one's crash came.
      CHECK(got.error() == errc::actor_failed);
      ++t.failed;
    }
  }
  done.count_down();
}

}  // namespace

TEST_SUITE("kit_stress") {
  TEST_CASE("objects, limits, timers, deadlines and crashes at once") {
    each_system([](actors::actor_system& system) {
      constexpr int clients = 8;
      constexpr int each = support::sanitized ? 150 : 600;
      totals t;
      count_down_latch done{system, clients};
      for (int i = 0; i != clients; ++i)
        system.spawn(client, std::ref(t), done, i * each + 1, each);
      const auto asked = system.spawn({.name = "front"}, front, std::ref(t));
      done.wait().get();
      CHECK(t.answered + t.failed + t.late + t.refused == clients * each);
      CHECK(t.answered > 0);
      CHECK(t.failed > 0);
      asked.stop();
      (void)asked.stopped().get();
      CHECK(t.alive == 0);
      // Each object that started has had its last word.
      CHECK(t.starts == t.last_words);
      CHECK_FALSE(system.find("/user/front/worker0"));
    });
  }
}
