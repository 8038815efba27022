// A mailbox for code that is no actor: who waits, who leaves, who comes first.
#include "actors/inbox.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_system;
using actors::context;
using actors::errc;
using actors::inbox;
using actors::simulation;
using actors::task;
using support::counted;
using support::error_of;
using support::quiet;

namespace {

using boxed = std::unique_ptr<int>;

struct riddle {
  using reply_type = int;
};
struct order {
  using reply_type = void;
};

/// 0, 1, … n - 1.
std::vector<int> first_numbers(int n) {
  std::vector<int> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

/// Receives with a callback, and can be told to leave. Stays where it is.
class leaver {
 public:
  leaver(inbox<int>& in, std::vector<int>& got) {
    in.receive(asio::bind_cancellation_slot(
        signal_.slot(), [this, &got](std::error_code e, int n) {
          error_ = e;
          ended_ = true;
          if (!e) got.push_back(n);
        }));
  }
  leaver(const leaver&) = delete;
  leaver& operator=(const leaver&) = delete;

  void leave() { signal_.emit(asio::cancellation_type::all); }
  bool ended() const { return ended_; }
  std::error_code error() const { return error_; }

 private:
  asio::cancellation_signal signal_;
  bool ended_ = false;
  std::error_code error_;
};

/// `scenario(seed)` for 100 seeds.
template <class F>
void seeds(F scenario) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    scenario(seed);
  }
}

/// Takes `count` messages, then says so.
asio::awaitable<void> read(inbox<int>& in, int count, std::vector<int>& got) {
  for (int i = 0; i != count; ++i) {
    const int n = co_await in.receive(asio::use_awaitable);
    got.push_back(n);
  }
}

/// Receives until the inbox ends.
task<> reader(context<>, inbox<int>* in, std::vector<int>* got) {
  for (;;) {
    auto n = co_await actors::as_result(in->receive());
    if (!n) break;
    got->push_back(*n);
  }
}

}  // namespace

TEST_SUITE("inbox") {
  // --- who receives ----------------------------------------------------------

  TEST_CASE("a plain thread gets what came, oldest first") {
    actor_system system{quiet()};
    inbox<int> in{system};
    for (int i = 0; i != 100; ++i) in.ref().tell(i);
    std::vector<int> got;
    for (int i = 0; i != 100; ++i) got.push_back(in.receive().get());
    CHECK(got == first_numbers(100));
  }

  TEST_CASE("a plain thread waits for what has not come") {
    actor_system system{quiet()};
    inbox<int> in{system};
    std::thread teller{[to = in.ref()] { to.tell(7); }};
    CHECK(in.receive().get() == 7);
    teller.join();
  }

  TEST_CASE("an asio::awaitable gets what came, oldest first") {
    std::vector<int> got;
    asio::io_context io;
    actor_system system{io};
    inbox<int> in{system};
    for (int i = 0; i != 10; ++i) in.ref().tell(i);
    asio::co_spawn(io, read(in, 20, got), asio::detached);
    asio::post(io, [&] {
      for (int i = 10; i != 20; ++i) in.ref().tell(i);
    });
    io.run();
    CHECK(got == first_numbers(20));
  }

  TEST_CASE("a callback gets what came, oldest first") {
    actor_system system{quiet()};
    inbox<int> in{system};
    asio::io_context io;
    std::vector<int> got;
    std::function<void()> next = [&] {
      in.receive(asio::bind_executor(io, [&](std::error_code e, int n) {
        CHECK(!e);
        got.push_back(n);
        if (got.size() != 100) next();
      }));
    };
    next();
    std::thread teller{[to = in.ref()] {
      for (int i = 0; i != 100; ++i) to.tell(i);
    }};
    io.run();
    teller.join();
    CHECK(got == first_numbers(100));
  }

  TEST_CASE("a future gets what came, oldest first") {
    actor_system system{quiet()};
    inbox<boxed> in{system};
    std::future<boxed> early = in.receive(asio::use_future);
    in.ref().tell(std::make_unique<int>(1));
    in.ref().tell(std::make_unique<int>(2));
    CHECK(*early.get() == 1);
    CHECK(*in.receive(asio::use_future).get() == 2);
  }

  TEST_CASE("a task gets what came, oldest first") {
    for (const auto kind :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      actors::system_options options = quiet();
      options.dispatcher = kind;
      actor_system system{options};
      inbox<int> in{system};
      std::thread teller{[to = in.ref()] {
        for (int i = 0; i != 1'000; ++i) to.tell(i);
      }};
      auto main = [&](context<>) -> task<std::vector<int>> {
        std::vector<int> got;
        for (int i = 0; i != 1'000; ++i) {
          const int n = co_await in.receive();
          got.push_back(n);
        }
        co_return got;
      };
      CHECK(system.run(main) == first_numbers(1'000));
      teller.join();
    }
  }

  TEST_CASE("messages come oldest first, whatever the order of events") {
    seeds([](std::uint64_t seed) {
      std::vector<int> got;
      simulation sim{seed};
      inbox<int> in{sim.system()};
      auto teller = [](context<> self, actors::actor_ref<int> to) -> task<> {
        for (int i = 0; i != 20; ++i) {
          to.tell(i);
          if (i % 3 == 0) co_await self.sleep_for(0s);
          if (i % 7 == 0) co_await self.sleep_for(1s);
        }
      };
      (void)sim.spawn(teller, in.ref());
      for (int i = 0; i != 20; ++i) got.push_back(sim.run(in.receive()));
      REQUIRE(got == first_numbers(20));
    });
  }

  TEST_CASE("of several types it gives a variant") {
    simulation sim;
    inbox<int, std::string, boxed> in{sim.system()};
    static_assert(std::is_same_v<decltype(in)::value_type,
                                 std::variant<int, std::string, boxed>>);
    in.ref().tell(std::make_unique<int>(1));
    in.ref().tell<std::string>("two");
    in.ref().tell(3);
    CHECK(*std::get<boxed>(sim.run(in.receive())) == 1);
    CHECK(std::get<std::string>(sim.run(in.receive())) == "two");
    CHECK(std::get<int>(sim.run(in.receive())) == 3);
  }

  TEST_CASE("who knows a part of the types may tell those") {
    simulation sim;
    inbox<int, std::string> in{sim.system()};
    const actors::actor_ref<std::string> words = in.ref();
    words.tell<std::string>("one");
    CHECK(std::get<std::string>(sim.run(in.receive())) == "one");
  }

  TEST_CASE("on a thread of the runtime nobody blocks") {
    actor_system system{quiet()};
    inbox<int> in{system};
    auto main = [&](context<>) -> task<bool> {
      co_return error_of([&] { return in.receive().get(); }) ==
          errc::would_deadlock;
    };
    CHECK(system.run(main));
  }

  // --- several ---------------------------------------------------------------

  TEST_CASE("of several that wait each message goes to one") {
    seeds([](std::uint64_t seed) {
      std::vector<int> got[3];
      simulation sim{seed};
      std::optional<inbox<int>> in{sim.system()};
      for (auto& g : got) (void)sim.spawn(reader, &*in, &g);
      for (int i = 0; i != 30; ++i) {
        in->ref().tell(i);
        if (i % 5 == 0) (void)sim.step();
      }
      sim.run_until_idle();
      std::vector<int> all;
      for (const auto& g : got) {
        REQUIRE(std::is_sorted(g.begin(), g.end()));
        all.insert(all.end(), g.begin(), g.end());
      }
      std::sort(all.begin(), all.end());
      REQUIRE(all == first_numbers(30));
      (void)inbox<int>{std::move(*in)};
      sim.run_until_idle();
    });
  }

  TEST_CASE("who waits longest is served first") {
    seeds([](std::uint64_t seed) {
      std::vector<int> served;
      simulation sim{seed};
      inbox<int> in{sim.system()};
      for (int who = 0; who != 10; ++who)
        in.receive([&served, who](std::error_code e, int n) {
          if (!e && n == who) served.push_back(n);
        });
      for (int i = 0; i != 10; ++i) in.ref().tell(i);
      sim.run_until_idle();
      REQUIRE(served == first_numbers(10));
    });
  }

  TEST_CASE("many threads share an inbox: each message goes to one") {
    constexpr int count = 1'000;
    actor_system system{quiet()};
    inbox<int> in{system};
    std::vector<int> got[2];
    std::vector<std::thread> threads;
    for (auto& g : got)
      threads.emplace_back([&in, &g] {
        for (int i = 0; i != count; ++i) g.push_back(in.receive().get());
      });
    for (int first : {0, count})
      threads.emplace_back([to = in.ref(), first] {
        for (int i = 0; i != count; ++i) to.tell(first + i);
      });
    for (std::thread& t : threads) t.join();
    std::vector<int> all(got[0]);
    all.insert(all.end(), got[1].begin(), got[1].end());
    std::sort(all.begin(), all.end());
    CHECK(all == first_numbers(2 * count));
  }

  // --- who leaves has taken none ---------------------------------------------

  TEST_CASE("a receive that its timeout ends has taken none") {
    seeds([](std::uint64_t seed) {
      std::vector<int> got;
      simulation sim{seed};
      inbox<int> in{sim.system()};
      auto teller = [](context<> self, actors::actor_ref<int> to,
                       std::uint64_t chance) -> task<> {
        std::mt19937_64 dice{chance};
        for (int i = 0; i != 30; ++i) {
          co_await self.sleep_for(std::chrono::seconds{dice() % 3});
          to.tell(i);
        }
      };
      auto taker = [](context<>, inbox<int>* from, std::vector<int>* to,
                      std::uint64_t chance) -> task<int> {
        std::mt19937_64 dice{chance + 1};
        int timeouts = 0;
        while (to->size() != 30) {
          auto n = co_await actors::as_result(
              from->receive().within(std::chrono::seconds{dice() % 3}));
          if (n)
            to->push_back(*n);
          else if (n.error() == errc::timed_out)
            ++timeouts;
          else
            co_return -1;
        }
        co_return timeouts;
      };
      (void)sim.spawn(teller, in.ref(), seed);
      REQUIRE(sim.run(taker, &in, &got, seed) > 0);
      REQUIRE(got == first_numbers(30));
    });
  }

  TEST_CASE("a receive that its cancellation slot ends has taken none") {
    int left = 0;
    seeds([&](std::uint64_t seed) {
      std::vector<int> got;
      std::deque<leaver> waiting;
      simulation sim{seed};
      inbox<int> in{sim.system()};
      std::mt19937_64 dice{seed};
      int told = 0;
      for (int i = 0; i != 200; ++i) {
        switch (dice() % 4) {
          case 0:
            in.ref().tell(told++);
            break;
          case 1:
            waiting.emplace_back(in, got);
            break;
          case 2:
            if (!waiting.empty()) waiting[dice() % waiting.size()].leave();
            break;
          default:
            for (auto n = dice() % 6; n != 0; --n) (void)sim.step();
        }
      }
      for (leaver& l : waiting) l.leave();
      sim.run_until_idle();
      for (leaver& l : waiting) {
        REQUIRE(l.ended());
        if (l.error() == asio::error::operation_aborted) ++left;
        REQUIRE((!l.error() || l.error() == asio::error::operation_aborted));
      }
      while (got.size() != static_cast<std::size_t>(told))
        got.push_back(sim.run(in.receive()));
      REQUIRE(got == first_numbers(told));
      REQUIRE(sim.system().dead_letter_count() == 0);
    });
    CHECK(left > 0);
  }

  TEST_CASE("a receive that loses against others has taken none") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      inbox<int> in{sim.system()};
      auto main = [](context<> self, inbox<int>* from) -> task<bool> {
        const auto won =
            co_await actors::when_any(from->receive(), self.sleep_for(1s));
        if (won.index() != 1) co_return false;
        from->ref().tell(1);
        const int n = co_await from->receive();
        co_return n == 1;
      };
      REQUIRE(sim.run(main, &in));
    });
  }

  TEST_CASE("with threads, too, all come in order, between those that leave") {
    constexpr int count = support::sanitized ? 2'000 : 10'000;
    actor_system system{quiet()};
    inbox<int> in{system};
    std::thread teller{[to = in.ref()] {
      for (int i = 0; i != count; ++i) to.tell(i);
    }};
    std::vector<int> got;
    bool strange = false;
    asio::io_context io;
    for (unsigned turn = 0; got.size() != count; ++turn) {
      if (turn % 3 == 0) {
        got.push_back(in.receive().get());
      } else if (turn % 3 == 1) {
        try {
          got.push_back(in.receive().get(turn % 2 * 1us));
        } catch (const std::system_error& e) {
          strange |= e.code() != errc::timed_out;
        }
      } else {
        asio::cancellation_signal signal;
        in.receive(asio::bind_cancellation_slot(
            signal.slot(),
            asio::bind_executor(io, [&](std::error_code e, int n) {
              if (!e) got.push_back(n);
              strange |= e && e != asio::error::operation_aborted;
            })));
        asio::post(io, [&] { signal.emit(asio::cancellation_type::all); });
        io.restart();
        io.run();
      }
    }
    teller.join();
    CHECK(!strange);
    CHECK(got == first_numbers(count));
    CHECK(system.dead_letter_count() == 0);
  }

  TEST_CASE("what came for somebody who left is kept for the next") {
    simulation sim;
    std::vector<int> got;
    inbox<int> in{sim.system()};
    leaver first{in, got};
    sim.run_until_idle();
    first.leave();
    in.ref().tell(1);
    sim.run_until_idle();
    CHECK(first.error() == asio::error::operation_aborted);
    in.ref().tell(2);
    CHECK(sim.run(in.receive()) == 1);
    CHECK(sim.run(in.receive()) == 2);
  }

  TEST_CASE("a long queue is no long wait, nor are many that have left") {
    // Each message is looked at once, and so is each receive. With a walk over
    // all of them for each this would take very long.
    constexpr int count = support::sanitized ? 10'000 : 50'000;
    actor_system system{quiet(1)};
    inbox<int> in{system};
    for (int i = 0; i != count; ++i)
      (void)error_of([&] { return in.receive().get(0s); });
    for (int i = 0; i != count; ++i) in.ref().tell(i);
    bool in_order = true;
    for (int i = 0; i != count; ++i) in_order &= in.receive().get() == i;
    CHECK(in_order);
  }

  // --- the end ---------------------------------------------------------------

  TEST_CASE("its destructor ends all that wait") {
    actor_system system{quiet()};
    std::optional<inbox<int>> in{system};
    std::vector<std::future<int>> waiting;
    for (int i = 0; i != 3; ++i)
      waiting.push_back(in->receive(asio::use_future));
    in.reset();
    for (auto& w : waiting)
      CHECK(error_of([&] { return w.get(); }) == errc::actor_stopped);
  }

  TEST_CASE("after its destructor a tell is a dead letter") {
    actor_system system{quiet()};
    std::optional<inbox<int>> in{system};
    const auto to = in->ref();
    in.reset();
    to.tell(1);
    to.stopped().get();
    CHECK(system.dead_letter_count() == 1);
  }

  TEST_CASE("what is left becomes dead letters") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<std::string> letters;
      sim.system().on_dead_letter([&](const actors::dead_letter& d) {
        letters.push_back(d.message_name());
      });
      {
        inbox<int, std::string> in{sim.system()};
        in.ref().tell(1);
        in.ref().tell<std::string>("two");
        in.ref().tell(3);
        REQUIRE(std::get<int>(sim.run(in.receive())) == 1);
      }
      sim.run_until_idle();
      REQUIRE(letters.size() == 2);
      REQUIRE(support::contains(letters[0], "string"));
      REQUIRE(letters[1] == "int");
    });
  }

  TEST_CASE("so does what was kept for somebody who left") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<int> got;
      std::optional<inbox<int>> in{sim.system()};
      leaver first{*in, got};
      sim.run_until_idle();
      first.leave();
      for (int i = 0; i != 3; ++i) in->ref().tell(i);
      sim.run_until_idle();
      in.reset();
      sim.run_until_idle();
      REQUIRE(got.empty());
      REQUIRE(sim.system().dead_letter_count() == 3);
    });
  }

  TEST_CASE("dead letters name who told them") {
    simulation sim;
    std::string who;
    sim.system().on_dead_letter(
        [&](const actors::dead_letter& d) { who = d.sender.path(); });
    std::optional<inbox<int>> in{sim.system()};
    auto sender = [](context<> self, actors::actor_ref<int> to) -> task<> {
      to.tell(1, self.any_ref());
      co_await self.until_stop();
    };
    (void)sim.spawn({.name = "someone"}, sender, in->ref());
    sim.run_until_idle();
    in.reset();
    sim.run_until_idle();
    CHECK(who == "/user/someone");
  }

  TEST_CASE("killed, it loses none either, and tells those that wait") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::vector<int> got;
      inbox<int> in{sim.system()};
      inbox<int> other{sim.system()};
      for (int i = 0; i != 3; ++i) in.ref().tell(i);
      leaver waiting{other, got};
      sim.run_until_idle();
      in.ref().kill();
      other.ref().kill();
      in.ref().tell(3);
      sim.run_until_idle();
      REQUIRE(sim.system().dead_letter_count() == 4);
      REQUIRE(waiting.error() == errc::actor_stopped);
    });
  }

  TEST_CASE("none is lost: taken, or a dead letter") {
    seeds([](std::uint64_t seed) {
      simulation sim{seed};
      std::mt19937_64 dice{seed};
      std::vector<int> got;
      std::deque<leaver> waiting;
      std::optional<inbox<int>> in{sim.system()};
      const auto to = in->ref();
      const auto end = dice() % 100;
      for (std::uint64_t i = 0; i != 100; ++i) {
        if (i == end) in.reset();
        to.tell(static_cast<int>(i));
        if (in && dice() % 2) waiting.emplace_back(*in, got);
        if (!waiting.empty() && dice() % 2)
          waiting[dice() % waiting.size()].leave();
        for (auto n = dice() % 4; n != 0; --n) (void)sim.step();
      }
      sim.run_until_idle();
      for (leaver& l : waiting) {
        REQUIRE(l.ended());
        REQUIRE((!l.error() || l.error() == errc::actor_stopped ||
                 l.error() == asio::error::operation_aborted));
      }
      REQUIRE(got == first_numbers(static_cast<int>(got.size())));
      REQUIRE(got.size() + sim.system().dead_letter_count() == 100);
    });
  }

  TEST_CASE("what it holds is destroyed with it") {
    std::atomic<int> alive{0};
    {
      actor_system system{quiet()};
      using shared = std::shared_ptr<counted>;
      inbox<shared> in{system};
      for (int i = 0; i != 10; ++i)
        in.ref().tell(std::make_shared<counted>(alive));
      const shared first = in.receive().get();
    }
    CHECK(alive == 0);
  }

  TEST_CASE("the system may end first") {
    for (const auto kind :
         {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
      std::atomic<int> letters{0};
      actors::system_options options = quiet();
      options.dispatcher = kind;
      std::optional<actor_system> system{options};
      system->on_dead_letter([&](const actors::dead_letter&) { ++letters; });
      inbox<int> full{*system};
      inbox<int> in{*system};
      full.ref().tell(1);
      std::future<int> waiting = in.receive(asio::use_future);
      system.reset();
      CHECK(error_of([&] { return waiting.get(); }) == errc::actor_stopped);
      CHECK(error_of([&] { return in.receive().get(); }) ==
            errc::actor_stopped);
      CHECK(letters == 1);
      in.ref().tell(2);
    }
  }

  TEST_CASE("a guest and its io_context may end first") {
    std::vector<int> got;
    std::optional<asio::io_context> io{std::in_place};
    std::optional<actor_system> system{std::in_place, *io, quiet()};
    inbox<int> in{*system};
    in.ref().tell(1);
    std::optional<leaver> waiting{std::in_place, in, got};
    system.reset();
    io.reset();
    CHECK(got.empty());
    CHECK(error_of([&] { return in.receive().get(); }) == errc::actor_stopped);
  }

  TEST_CASE("in a system that has ended it has ended") {
    actor_system system{quiet()};
    system.terminate();
    inbox<int> in{system};
    in.ref().tell(1);
    CHECK(error_of([&] { return in.receive().get(); }) == errc::actor_stopped);
    CHECK(system.dead_letter_count() == 1);
  }

  // --- the rest --------------------------------------------------------------

  TEST_CASE("a question asked of it gets no reply") {
    seeds([](std::uint64_t seed) {
      std::error_code number, nothing;
      simulation sim{seed};
      inbox<riddle, order> in{sim.system()};
      auto asker = [&](context<>) -> task<> {
        auto n = co_await actors::as_result(in.ref().ask<riddle>());
        number = n.error();
        auto o = co_await actors::as_result(in.ref().ask<order>());
        nothing = o.error();
      };
      const auto asking = sim.spawn_once(asker);
      (void)sim.run(in.receive());
      (void)sim.run(in.receive());
      sim.run(asking.stopped());
      REQUIRE(number == errc::no_reply);
      REQUIRE(nothing == errc::no_reply);
    });
  }

  TEST_CASE("a question that is told is a message as others are") {
    simulation sim;
    inbox<order> in{sim.system()};
    in.ref().tell(order{});
    (void)sim.run(in.receive());
  }

  TEST_CASE("moved, it is the same inbox") {
    actor_system system{quiet()};
    inbox<int> first{system};
    first.ref().tell(1);
    const auto to = first.ref();
    inbox<int> second{std::move(first)};
    to.tell(2);
    CHECK(second.ref() == to);
    CHECK(second.receive().get() == 1);
    CHECK(error_of([&] { return first.receive().get(); }) ==
          errc::actor_stopped);
    inbox<int> third{system};
    third.ref().tell(3);
    third = std::move(second);
    CHECK(third.receive().get() == 2);
    CHECK(second.receive().get() == 3);  // exchanged
  }

  TEST_CASE("dropped unused, a receive takes nothing") {
    simulation sim;
    inbox<int> in{sim.system()};
    in.ref().tell(1);
    { auto unused = in.receive(); }
    sim.run_until_idle();
    CHECK(sim.run(in.receive()) == 1);
  }
}
