// Order, exclusion, fairness: what design 2.1 promises.
#include "actors/actors.hpp"

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

#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::context;
using actors::dispatcher;
using actors::placement;
using actors::system_options;
using actors::task;

namespace {

/// The `number`-th message of a sender.
struct item {
  int sender;
  int number;
};
struct go {};
struct get {
  using reply_type = int;
};

system_options on(dispatcher d, std::size_t threads = 2) {
  system_options options = support::quiet(threads);
  options.dispatcher = d;
  return options;
}

constexpr dispatcher dispatchers[] = {dispatcher::pool(), dispatcher::shared()};
constexpr int many = support::sanitized ? 2'000 : 20'000;

/// Notes when two are inside at once. Not atomic where it counts, so that
/// ThreadSanitizer sees what a lucky run does not.
class exclusive {
 public:
  void enter() {
    if (inside_.exchange(true)) ++collisions_;
    ++entered_;
  }
  void leave() { inside_ = false; }
  int collisions() const { return collisions_; }
  int entered() const { return entered_; }

 private:
  std::atomic<bool> inside_{false};
  std::atomic<int> collisions_{0};
  int entered_ = 0;
};

/// Checks that each sender's numbers count up from 0.
class in_order {
 public:
  explicit in_order(std::size_t senders) : next_(senders) {}
  void see(item i) {
    if (next_[static_cast<std::size_t>(i.sender)]++ != i.number) wrong_ = true;
    ++seen_;
  }
  bool good() const { return !wrong_; }
  int seen() const { return seen_; }

 private:
  std::vector<int> next_;
  int seen_ = 0;
  bool wrong_ = false;
};

task<> reader(context<item, get> self, in_order* order) {
  while (co_await self.receive([&](item i) { order->see(i); },
                               [&](get) { return order->seen(); })) {
  }
}

}  // namespace

TEST_SUITE("order") {
  // --- exclusion -------------------------------------------------------------

  TEST_CASE("an actor runs on one thread at a time, whatever runs") {
    for (const dispatcher d : dispatchers) {
      exclusive body;
      {
        actor_system system{on(d, 4)};
        auto other = system.spawn([](context<get> self) -> task<> {
          while (co_await self.receive([](get) { return 1; })) {
          }
        });
        // Messages, timers, replies and completions of Asio.
        auto ref = system.spawn(
            [](context<item> self, exclusive* e,
               actor_ref<get> answers) -> task<> {
              asio::steady_timer timer{self.get_executor()};
              bool more = true;
              while (more) {
                more = co_await self.receive([&](item i) -> task<> {
                  e->enter();
                  e->leave();
                  if (i.number % 64 == 0) co_await self.sleep_for(1us);
                  e->enter();
                  e->leave();
                  if (i.number % 64 == 1) co_await answers.ask<get>();
                  e->enter();
                  e->leave();
                  if (i.number % 64 == 2) {
                    timer.expires_after(1us);
                    co_await timer.async_wait(actors::use_task);
                  }
                  e->enter();
                  e->leave();
                });
              }
            },
            &body, other);
        std::vector<std::thread> threads;
        for (int t = 0; t != 3; ++t)
          threads.emplace_back([&, t] {
            for (int i = 0; i != many / 10; ++i) ref.tell(item{t, i});
          });
        for (auto& t : threads) t.join();
        ref.drain();
        ref.stopped().get();
      }
      CHECK(body.collisions() == 0);
      CHECK(body.entered() == 4 * 3 * (many / 10));
    }
  }

  TEST_CASE("on a pool, an actor stays on its thread for life") {
    actor_system system{on(dispatcher::pool())};
    std::atomic<int> moved{0};
    auto ref = system.spawn(
        {.placement = placement::on(1)},
        [](context<go> self, std::atomic<int>* n) -> task<> {
          const auto home = std::this_thread::get_id();
          while (co_await self.receive([&](go) -> task<> {
            if (std::this_thread::get_id() != home) ++*n;
            co_await self.sleep_for(1us);
            if (std::this_thread::get_id() != home) ++*n;
          })) {
          }
          if (std::this_thread::get_id() != home) ++*n;
        },
        &moved);
    for (int i = 0; i != 100; ++i) ref.tell(go{});
    ref.drain();
    ref.stopped().get();
    CHECK(moved == 0);
  }

  // --- order of one sender ---------------------------------------------------

  TEST_CASE("what plain threads tell arrives in order, exactly once") {
    for (const dispatcher d : dispatchers) {
      in_order order{3};
      actor_system system{on(d)};
      auto ref = system.spawn(reader, &order);
      std::vector<std::thread> threads;
      for (int t = 0; t != 3; ++t)
        threads.emplace_back([&, t] {
          for (int i = 0; i != many; ++i) ref.tell(item{t, i});
        });
      for (auto& t : threads) t.join();
      CHECK(ref.ask<get>().get() == 3 * many);
      CHECK(order.good());
    }
  }

  TEST_CASE("what actors of this and of other threads tell arrives in order") {
    // Local senders use another lane than remote ones; both tell at once.
    for (const dispatcher d : dispatchers) {
      in_order order{4};
      actor_system system{on(d)};
      auto to = system.spawn({.placement = placement::on(0)}, reader, &order);
      const auto sender = [](context<go> self, actor_ref<item> ref,
                             int me) -> task<> {
        int n = 0;
        while (co_await self.receive([&](go) {
          for (int i = 0; i != 10; ++i) ref.tell(item{me, n++});
          if (n < many)
            self.ref().tell(go{});
          else
            self.stop();
        })) {
        }
      };
      std::vector<actor_ref<go>> senders;
      for (int s = 0; s != 4; ++s) {
        senders.push_back(system.spawn(
            {.placement = placement::on(static_cast<std::size_t>(s))}, sender,
            to, s));
        senders.back().tell(go{});
      }
      for (const auto& s : senders) s.stopped().get();
      CHECK(to.ask<get>().get() == 4 * many);
      CHECK(order.good());
    }
  }

  TEST_CASE("a question stays in line with what its sender told before") {
    for (const dispatcher d : dispatchers) {
      in_order order{1};
      actor_system system{on(d)};
      auto ref = system.spawn({.placement = placement::on(0)}, reader, &order);
      for (std::size_t place = 0; place != 2; ++place) {
        auto asker = system.spawn(
            {.placement = placement::on(place)},
            [](context<> self, actor_ref<item, get> to, int start) -> task<> {
              int n = start;
              for (int round = 0; round != 200; ++round) {
                for (int i = 0; i != 5; ++i) to.tell(item{0, n++});
                const int seen = co_await to.ask<get>();
                CHECK(seen == n);
              }
              self.stop();
            },
            ref, static_cast<int>(place) * 1000);
        CHECK(asker.stopped().get() == actors::exit_reason::normal);
      }
      CHECK(order.good());
    }
  }

  TEST_CASE("order holds on every seed") {
    actors::explore(200, [](actors::simulation& sim) {
      in_order order{3};
      auto to = sim.spawn(reader, &order);
      for (int s = 1; s != 3; ++s) {
        auto sender = sim.spawn(
            [](context<go> self, actor_ref<item> ref, int me) -> task<> {
              int n = 0;
              while (co_await self.receive([&](go) {
                ref.tell(item{me, n++});
                ref.tell(item{me, n++});
                if (n < 20) self.ref().tell(go{});
              })) {
              }
            },
            to, s);
        sender.tell(go{});
      }
      for (int i = 0; i != 20; ++i) {
        to.tell(item{0, i});
        if (i % 3 == 0) sim.step();
      }
      sim.run_until_idle();
      if (!order.good() || order.seen() != 60)
        throw std::runtime_error{"out of order, or lost"};
    });
  }

  // --- happens-before --------------------------------------------------------

  TEST_CASE("what the sender did before tell happens before the handler") {
    // For ThreadSanitizer: nothing here is atomic but the runtime.
    for (const dispatcher d : dispatchers) {
      actor_system system{on(d)};
      std::vector<int> shared(100);
      auto ref = system.spawn(
          [](context<item, get> self, std::vector<int>* data) -> task<> {
            while (co_await self.receive(
                [&](item i) { ++(*data)[static_cast<std::size_t>(i.number)]; },
                [&](get) {
                  int sum = 0;
                  for (int n : *data) sum += n;
                  return sum;
                })) {
            }
          },
          &shared);
      for (int round = 0; round != 20; ++round) {
        for (int i = 0; i != 100; ++i) {
          // The answer to the ask below gave the data back.
          shared[static_cast<std::size_t>(i)] += 1;
          if (i == 99)
            for (int k = 0; k != 100; ++k) ref.tell(item{0, k});
        }
        CHECK(ref.ask<get>().get() == (round + 1) * 200);
      }
    }
  }

  TEST_CASE(
      "an actor's state needs no lock when it is handed from turn to "
      "turn") {
    for (const dispatcher d : dispatchers) {
      actor_system system{on(d, 4)};
      auto ref = system.spawn([](context<go, get> self) -> task<> {
        int count = 0;  // not atomic
        while (co_await self.receive([&](go) { ++count; },
                                     [&](get) { return count; })) {
        }
      });
      std::vector<std::thread> threads;
      for (int t = 0; t != 4; ++t)
        threads.emplace_back([&] {
          for (int i = 0; i != many / 4; ++i) ref.tell(go{});
        });
      for (auto& t : threads) t.join();
      CHECK(ref.ask<get>().get() == many / 4 * 4);
    }
  }

  // --- tell ------------------------------------------------------------------

  TEST_CASE("a destructor may tell, also while its system ends") {
    struct tells {
      explicit tells(actor_ref<item> ref) : to{std::move(ref)} {}
      tells(tells&& other) noexcept : to{std::exchange(other.to, {})} {}
      tells(const tells&) = delete;
      ~tells() {
        if (to) to.tell(item{0, 0});
      }
      actor_ref<item> to;
    };
    std::uint64_t letters = 0;
    {
      actors::simulation sim;
      auto last = sim.probe<item>();
      auto ref = sim.spawn_once(
          [](context<> self, tells) -> task<> { co_await self.until_stop(); },
          tells{last.ref()});
      sim.run(ref.started());
      ref.kill();
      sim.run(ref.stopped());
      last.expect<item>();
      last.ref().stop();
      sim.run(last.ref().stopped());
      { const tells late{last.ref()}; }
      letters = sim.system().dead_letter_count();
    }
    CHECK(letters == 1);
  }

  TEST_CASE("an actor may tell itself") {
    actors::simulation sim;
    auto ref = sim.spawn([](context<go, get> self) -> task<> {
      int n = 0;
      while (co_await self.receive(
          [&](go) {
            if (++n < 100) self.ref().tell(go{});
          },
          [&](get) { return n; })) {
      }
    });
    ref.tell(go{});
    sim.run_until_idle();
    CHECK(sim.run(ref.ask<get>()) == 100);
  }

  // --- system messages -------------------------------------------------------

  TEST_CASE("a stop goes before the messages that were told before it") {
    actors::explore(50, [](actors::simulation& sim) {
      int handled = 0;
      auto ref = sim.spawn(
          [](context<go> self, int* n) -> task<> {
            while (co_await self.receive([&](go) { ++*n; })) {
            }
          },
          &handled);
      sim.run(ref.started());
      for (int i = 0; i != 100; ++i) ref.tell(go{});
      ref.stop();
      sim.run(ref.stopped());
      if (handled != 0) throw std::runtime_error{"a message came first"};
      if (sim.system().dead_letter_count() != 100)
        throw std::runtime_error{"a message was lost silently"};
    });
  }

  TEST_CASE("a stop reaches an actor that never runs out of messages") {
    for (const dispatcher d : dispatchers) {
      actor_system system{on(d, 1)};
      auto ref = system.spawn([](context<go> self) -> task<> {
        while (co_await self.receive([&](go) { self.ref().tell(go{}); })) {
        }
      });
      ref.tell(go{});
      ref.started().get();
      ref.stop();
      CHECK(ref.stopped().get() == actors::exit_reason::normal);
    }
  }

  TEST_CASE("an actor stops in the middle of its batch") {
    actors::simulation sim;
    int handled = 0;
    auto ref = sim.spawn(
        [](context<go> self, int* n) -> task<> {
          while (co_await self.receive([&](go) {
            if (++*n == 3) self.stop();
          })) {
          }
        },
        &handled);
    for (int i = 0; i != 50; ++i) ref.tell(go{});
    CHECK(sim.run(ref.stopped()) == actors::exit_reason::normal);
    CHECK(handled == 3);
    CHECK(sim.system().dead_letter_count() == 47);
  }

  // --- fairness --------------------------------------------------------------

  TEST_CASE(
      "an actor that tells itself something lets others have their turn") {
    auto options = support::quiet(1);
    actor_system system{options};
    std::string turns;
    const auto talk = [](context<int> self, char name,
                         std::string* to) -> task<> {
      co_await self.serve([&](int left) {
        to->push_back(name);
        if (left != 0)
          self.ref().tell(left - 1);
        else
          self.stop();
      });
    };
    system.run([&](context<> self) -> task<> {
      auto a = self.spawn(talk, 'a', &turns);
      auto b = self.spawn(talk, 'b', &turns);
      a.tell(3);
      b.tell(3);
      (void)co_await a.stopped();
      (void)co_await b.stopped();
    });
    CHECK(turns == "abababab");
  }

  TEST_CASE("half of the turns are for those with more than they can handle") {
    auto options = support::quiet(1);
    options.throughput = 1;
    actor_system system{options};
    std::string turns;
    const auto note_down = [](context<int> self, char name,
                              std::string* to) -> task<> {
      co_await self.serve([&](int) { to->push_back(name); });
    };
    system.run([&](context<> self) -> task<> {
      auto busy = self.spawn(note_down, 'x', &turns);
      for (int i = 0; i != 4; ++i) busy.tell(i);
      for (const char name : {'a', 'b', 'c'})
        self.spawn(note_down, name, &turns).tell(0);
      co_await self.sleep_for({});
      busy.drain();
      (void)co_await busy.stopped();
    });
    CHECK(turns == "xaxbxcx");
  }

  TEST_CASE("an actor gives its strand up after `throughput` messages") {
    // On one thread, with their messages waiting, actors take turns.
    actor_system system{on(dispatcher::pool(), 1)};
    const std::string turns =
        system.run([](context<> self) -> task<std::string> {
          std::string log;
          const auto worker = [](context<go> me, std::string* to,
                                 char name) -> task<> {
            while (co_await me.receive([&](go) { to->push_back(name); })) {
            }
          };
          auto a = self.spawn({.throughput = 3}, worker, &log, 'a');
          auto b = self.spawn({.throughput = 2}, worker, &log, 'b');
          co_await a.started();
          co_await b.started();
          for (int i = 0; i != 6; ++i) {
            a.tell(go{});
            b.tell(go{});
          }
          a.drain();
          b.drain();
          co_await a.stopped();
          co_await b.stopped();
          co_return log;
        });
    CHECK(turns == "aaabbaaabbbb");
  }

  TEST_CASE("an actor that floods itself does not starve the others") {
    for (const dispatcher d : dispatchers) {
      actor_system system{on(d, 1)};
      auto flood = system.spawn([](context<go> self) -> task<> {
        while (co_await self.receive([&](go) { self.ref().tell(go{}); })) {
        }
      });
      auto other = system.spawn([](context<get> self) -> task<> {
        int n = 0;
        while (co_await self.receive([&](get) { return ++n; })) {
        }
      });
      flood.tell(go{});
      flood.started().get();
      for (int i = 1; i != 20; ++i) CHECK(other.ask<get>().get() == i);
      flood.stop();
    }
  }

  TEST_CASE("timers and I/O do not starve behind messages") {
    for (const dispatcher d : dispatchers) {
      actor_system system{on(d, 1)};
      // Two that never stop talking, on the only thread.
      const auto talk = [](context<go, actor_ref<go>> self) -> task<> {
        actor_ref<go> other;
        while (co_await self.receive(
            [&](go) { other.tell(go{}); },
            [&](const actor_ref<go>& who) { other = who; })) {
        }
      };
      auto a = system.spawn(talk);
      auto b = system.spawn(talk);
      a.tell<actor_ref<go>>(b);
      b.tell<actor_ref<go>>(a);
      a.tell(go{});
      a.tell(go{});
      a.started().get();
      const int done = system.run([](context<> self) -> task<int> {
        int n = 0;
        co_await self.sleep_for(100us);
        ++n;
        asio::steady_timer timer{self.get_executor(), 100us};
        co_await timer.async_wait(actors::use_task);
        ++n;
        asio::local::stream_protocol::socket x{self.get_executor()};
        asio::local::stream_protocol::socket y{self.get_executor()};
        asio::local::connect_pair(x, y);
        std::array<char, 4> data{};
        asio::write(x, asio::buffer("ping", 4));
        co_await asio::async_read(y, asio::buffer(data), actors::use_task);
        ++n;
        co_return n;
      });
      CHECK(done == 3);
      a.stop();
      b.stop();
    }
  }
}
