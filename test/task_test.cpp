#include "actors/task.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using support::at_exit;
using support::message_of;

namespace {

actors::task<int> number(int n) { co_return n; }
actors::task<> nothing() { co_return; }
actors::task<std::unique_ptr<std::string>> boxed(std::string text) {
  co_return std::make_unique<std::string>(std::move(text));
}
actors::task<int> failing(std::string why) {
  throw std::runtime_error{why};
  co_return 0;
}

/// Suspends at the bottom, so that all of the chain waits.
actors::task<int> chain(actors::context<>& self, int depth) {
  if (depth == 0) {
    co_await self.sleep_for(1s);
    co_return 0;
  }
  int below = co_await chain(self, depth - 1);
  co_return below + 1;
}

actors::task<> failing_chain(actors::context<>& self, int depth, int& frames) {
  const at_exit leave{[&] { ++frames; }};
  if (depth == 0) {
    co_await self.sleep_for(1s);
    throw std::runtime_error{"from the bottom"};
  }
  co_await failing_chain(self, depth - 1, frames);
}

}  // namespace

TEST_SUITE("task") {
  TEST_CASE("a frame is aligned for what is in it") {
    // clang gives some frames a size that says nothing of their alignment.
    struct alignas(16) vector {
      float f[4];
    };
    actors::actor_system system{support::quiet(1)};
    const auto body = [](actors::context<int> self, int) -> actors::task<> {
      vector v{};
      co_await self.receive([&](int) {
        CHECK(reinterpret_cast<std::uintptr_t>(&v) % alignof(vector) == 0);
      });
    };
    std::vector<actors::actor_ref<int>> all;
    for (int i = 0; i != 10; ++i) all.push_back(system.spawn(body, i));
    for (auto& ref : all) ref.tell(1);
    for (auto& ref : all)
      CHECK(ref.stopped().get() == actors::exit_reason::normal);
  }

  static_assert(std::is_nothrow_move_constructible_v<actors::task<int>>);
  static_assert(!std::is_copy_constructible_v<actors::task<int>>);

  TEST_CASE("a task starts when it is awaited, not before") {
    actors::simulation sim;
    sim.run([](actors::context<>) -> actors::task<> {
      bool started = false;
      auto body = [&]() -> actors::task<int> {
        started = true;
        co_return 7;
      };
      actors::task<int> t = body();
      CHECK(!started);
      const int got = co_await t;
      CHECK(started);
      CHECK(got == 7);
    });
  }

  TEST_CASE("a task gives its value") {
    actors::simulation sim;
    CHECK(sim.run(number(3)) == 3);
    CHECK(*sim.run(boxed("text")) == "text");
    sim.run(nothing());
  }

  TEST_CASE("a value that owns memory is moved, not copied") {
    actors::simulation sim;
    std::vector<int> big(1000, 1);
    const int* memory = big.data();
    auto pass = [](std::vector<int> v) -> actors::task<std::vector<int>> {
      co_return std::move(v);
    };
    std::vector<int> got = sim.run(pass(std::move(big)));
    CHECK(got.data() == memory);
  }

  TEST_CASE("a value converts to the task's type") {
    actors::simulation sim;
    auto text = []() -> actors::task<std::string> { co_return "literal"; };
    CHECK(sim.run(text()) == "literal");
  }

  TEST_CASE("an exception that leaves a task comes out of the await") {
    actors::simulation sim;
    sim.run([](actors::context<>) -> actors::task<> {
      std::string got;
      try {
        co_await failing("no luck");
      } catch (const std::runtime_error& e) {
        got = e.what();
      }
      CHECK(got == "no luck");
      const int after = co_await number(1);  // the awaiting task goes on
      CHECK(after == 1);
    });
    CHECK(message_of<std::runtime_error>(
              [&] { return sim.run(failing("out of run")); }) == "out of run");
  }

  TEST_CASE("an exception passes through tasks that do not catch it") {
    actors::simulation sim;
    auto middle = []() -> actors::task<int> {
      int n = co_await failing("deep");
      co_return n;
    };
    auto outer = [&]() -> actors::task<int> {
      int n = co_await middle();
      co_return n;
    };
    CHECK(message_of([&] { return sim.run(outer()); }) == "deep");
  }

  TEST_CASE("an exception may have any type") {
    actors::simulation sim;
    auto t = []() -> actors::task<> {
      throw 5;
      co_return;
    };
    int got = 0;
    try {
      sim.run(t());
    } catch (int n) {
      got = n;
    }
    CHECK(got == 5);
  }

  TEST_CASE("tasks nest, and their locals end innermost first") {
    actors::simulation sim;
    std::vector<int> order;
    auto inner = [&]() -> actors::task<> {
      const at_exit leave{[&] { order.push_back(1); }};
      co_await nothing();
    };
    auto outer = [&]() -> actors::task<> {
      const at_exit leave{[&] { order.push_back(2); }};
      co_await inner();
      order.push_back(0);
    };
    sim.run(outer());
    CHECK(order == std::vector{1, 0, 2});
  }

  TEST_CASE("the frame of a task is gone after the await") {
    actors::simulation sim;
    std::atomic<int> alive{0};
    sim.run(
        [](actors::context<>, std::atomic<int>* n) -> actors::task<> {
          auto keeps = [](support::counted) -> actors::task<> { co_return; };
          support::counted argument{*n};
          co_await keeps(std::move(argument));
          CHECK(*n == 0);
        },
        &alive);
  }

  TEST_CASE("a dropped task destroys its arguments and runs nothing") {
    std::atomic<int> alive{0};
    bool ran = false;
    auto body = [&](support::counted) -> actors::task<> {
      ran = true;
      co_return;
    };
    {
      actors::task<> t = body(support::counted{alive});
      CHECK(alive == 1);
      actors::task<> moved = std::move(t);
      CHECK(alive == 1);
    }
    CHECK(alive == 0);
    CHECK(!ran);
  }

  TEST_CASE("assigning to a task drops what it was, at the end of the other") {
    std::atomic<int> alive{0};
    auto body = [](support::counted) -> actors::task<> { co_return; };
    actors::task<> a = body(support::counted{alive});
    {
      actors::task<> b = body(support::counted{alive});
      CHECK(alive == 2);
      a = std::move(b);
    }
    CHECK(alive == 1);
  }

  TEST_CASE("a task that suspends goes on where it was") {
    actors::simulation sim;
    const auto start = sim.now();
    auto naps = [](actors::context<> self) -> actors::task<int> {
      int sum = 0;
      for (int i = 0; i != 10; ++i) {
        co_await self.sleep_for(1s);
        sum += co_await number(i);
      }
      co_return sum;
    };
    CHECK(sim.run(naps) == 45);
    CHECK(sim.now() - start == 10s);
  }

  TEST_CASE("a deep chain of tasks suspends and comes back") {
    actors::simulation sim;
    auto body = [](actors::context<> self, int depth) -> actors::task<int> {
      int reached = co_await chain(self, depth);
      co_return reached;
    };
    CHECK(sim.run(body, 1000) == 1000);
  }

  TEST_CASE("an exception climbs a deep chain and unwinds each frame") {
    actors::simulation sim;
    int frames = 0;
    auto body = [](actors::context<> self, int* n) -> actors::task<> {
      co_await failing_chain(self, 999, *n);
    };
    CHECK(message_of([&] { sim.run(body, &frames); }) == "from the bottom");
    CHECK(frames == 1000);
  }

  TEST_CASE("ten million awaits that do not suspend need no stack") {
    actors::actor_system system{{.threads = 1}};
    auto body = [](actors::context<>) -> actors::task<std::int64_t> {
      std::int64_t sum = 0;
      for (int i = 0; i != 10'000'000; ++i) sum += co_await number(i & 1);
      co_return sum;
    };
    CHECK(system.run(body) == 5'000'000);
  }

  TEST_CASE("awaits that suspend need no stack either") {
    actors::actor_system system{{.threads = 1}};
    auto body = [](actors::context<> self) -> actors::task<int> {
      int n = 0;
      auto nap = [&]() -> actors::task<> {
        co_await self.sleep_for(0s);
        ++n;
      };
      while (n != 20'000) co_await nap();
      co_return n;
    };
    CHECK(system.run(body) == 20'000);
  }
}
