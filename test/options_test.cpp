#include "actors/system.hpp"

#include <doctest/doctest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "actors/testing.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::context;
using actors::spawn_options;
using actors::system_options;
using actors::task;
using support::message_of;

namespace {

std::string refusal(const system_options& options) {
  return message_of<std::invalid_argument>(
      [&] { actors::actor_system system{options}; });
}

task<> idle(context<> self) { co_await self.until_stop(); }

}  // namespace

TEST_SUITE("options") {
  TEST_CASE("a system with options out of range says what is allowed") {
    CHECK(refusal({.threads = 0}) == "threads has to be 1 to 1024, not 0");
    CHECK(refusal({.threads = 1025}) ==
          "threads has to be 1 to 1024, not 1025");
    CHECK(refusal({.threads = 1, .throughput = 0}) ==
          "throughput has to be 1 to 1000000, not 0");
    CHECK(refusal({.threads = 1, .throughput = 1'000'001}) ==
          "throughput has to be 1 to 1000000, not 1000001");
    CHECK(refusal({.threads = 1, .stop_timeout = -1s}) ==
          "stop_timeout may not be negative");
    CHECK(refusal({.threads = 1, .kill_timeout = -1ns}) ==
          "kill_timeout may not be negative");
  }

  TEST_CASE("the shared dispatcher refuses the same") {
    CHECK(refusal({.threads = 0, .dispatcher = actors::dispatcher::shared()}) ==
          "threads has to be 1 to 1024, not 0");
    CHECK(refusal({.threads = 1,
                   .dispatcher = actors::dispatcher::shared(),
                   .throughput = 0}) ==
          "throughput has to be 1 to 1000000, not 0");
  }

  TEST_CASE("options at the edge of their range are allowed") {
    CHECK(refusal({.threads = 1,
                   .throughput = 1,
                   .stop_timeout = 0s,
                   .kill_timeout = 0s}) == "");
    CHECK(refusal({.threads = 1, .throughput = 1'000'000}) == "");
    CHECK(refusal({}) == "");
  }

  TEST_CASE("a spawn with options out of range says what is allowed") {
    actors::simulation sim;
    const auto refused = [&](const spawn_options& options) {
      const std::string from_system = message_of<std::invalid_argument>(
          [&] { return sim.spawn(options, idle); });
      const std::string from_actor = sim.run(
          [](context<> self, spawn_options o) -> task<std::string> {
            co_return message_of<std::invalid_argument>(
                [&] { return self.spawn(o, idle); });
          },
          options);
      CHECK(from_system == from_actor);
      return from_system;
    };
    CHECK(refused({.name = "a/b"}) ==
          "an actor's name may not contain '/': \"a/b\"");
    CHECK(refused({.throughput = 0}) ==
          "throughput has to be 1 to 1000000, not 0");
    CHECK(refused({.stop_timeout = -5s}) == "stop_timeout may not be negative");
    CHECK(refused({.name = "fine", .stop_timeout = 0s, .throughput = 1}) == "");
  }

  TEST_CASE("a spawn that was refused leaves nothing behind") {
    std::atomic<int> alive{0};
    {
      actors::actor_system system{support::quiet(1)};
      for (int i = 0; i != 10; ++i)
        CHECK_THROWS_AS(
            (void)system.spawn(
                {.name = "a/b"},
                [](context<>, support::counted) -> task<> { co_return; },
                support::counted{alive}),
            std::invalid_argument);
      CHECK(alive == 0);
    }
  }

  TEST_CASE("a placement on a context beyond the last one wraps round") {
    actors::actor_system system{{.threads = 2}};
    const auto thread_of = [&](std::size_t index) {
      std::thread::id id;
      auto ref = system.spawn(
          {.placement = actors::placement::on(index)},
          [](context<>, std::thread::id* to) -> task<> {
            *to = std::this_thread::get_id();
            co_return;
          },
          &id);
      ref.stopped().get();
      return id;
    };
    CHECK(thread_of(0) == thread_of(2));
    CHECK(thread_of(1) == thread_of(3));
    CHECK(thread_of(0) != thread_of(1));
  }

  TEST_CASE("children live beside their parent, or where they are placed") {
    actors::actor_system system{{.threads = 2}};
    const bool beside = system.run([](context<> self) -> task<bool> {
      const auto here = std::this_thread::get_id();
      bool all = true;
      for (int i = 0; i != 4; ++i) {
        std::thread::id there;
        auto child = self.spawn(
            [](context<>, std::thread::id* to) -> task<> {
              *to = std::this_thread::get_id();
              co_return;
            },
            &there);
        co_await child.stopped();
        all &= here == there;
      }
      co_return all;
    });
    CHECK(beside);
    const int apart = system.run([](context<> self) -> task<int> {
      const auto here = std::this_thread::get_id();
      int elsewhere = 0;
      for (int i = 0; i != 4; ++i) {
        std::thread::id there;
        auto child = self.spawn(
            {.placement = actors::placement::round_robin()},
            [](context<>, std::thread::id* to) -> task<> {
              *to = std::this_thread::get_id();
              co_return;
            },
            &there);
        co_await child.stopped();
        elsewhere += here != there;
      }
      co_return elsewhere;
    });
    CHECK(apart == 2);
  }

  TEST_CASE("all lines go to the log, and nothing to standard error") {
    std::fflush(stderr);
    const int before = ::dup(2);
    std::FILE* const file = std::tmpfile();
    REQUIRE(file);
    ::dup2(::fileno(file), 2);
    support::log_lines lines;
    {
      const support::at_exit restore{[&] {
        std::fflush(stderr);
        ::dup2(before, 2);
        ::close(before);
      }};
      system_options options;
      options.threads = 1;
      options.log = lines.sink();
      options.on_failure = [](const actors::any_actor_ref&,
                              const std::exception_ptr&) {
        throw std::runtime_error{"not here"};
      };
      options.trace = [](const actors::trace_event&) {
        throw std::runtime_error{"nor here"};
      };
      actors::actor_system system{options};
      auto slow = system.spawn(
          {.name = "slow", .stop_timeout = 1ms},
          [](context<int> self) -> task<> {
            self.supervise(
                actors::one_for_one{.decide = {actors::on<std::exception>(
                                        actors::directive::escalate)}});
            for (int i = 0; i != 10'000; ++i) self.ref().tell(i);
            co_await self.receive([](int) {});
            (void)co_await actors::as_result(self.sleep_for(1h));
            co_await self.sleep_for(1h);
          });
      slow.started().get();
      slow.stop();
      slow.stopped().get();
      slow.tell(1);
      auto bad = system.spawn_once([](context<>) -> task<> {
        throw std::runtime_error{"broken"};
        co_return;
      });
      bad.stopped().get();
    }
    CHECK(std::ftell(file) <= 0);
    std::fseek(file, 0, SEEK_END);
    CHECK(std::ftell(file) == 0);
    std::fclose(file);
    CHECK(lines.find("dead letter") != "");
    CHECK(lines.find("broken") != "");
    CHECK(lines.find("takes too long") != "");
    CHECK(lines.find("is behind") != "");
    CHECK(lines.find("trace threw") != "");
  }

  TEST_CASE("a log that throws does no harm") {
    system_options options;
    options.threads = 1;
    options.log = [](std::string_view) { throw std::runtime_error{"full"}; };
    actors::actor_system system{options};
    auto ref = system.spawn([](context<>) -> task<> {
      throw std::runtime_error{"broken"};
      co_return;
    });
    CHECK(ref.stopped().get() == actors::exit_reason::failed);
  }
}
