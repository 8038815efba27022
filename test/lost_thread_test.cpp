// A runtime thread that never comes back from a user's code: the system ends
// without it, says who holds it, and does the rest should it come back.
#include "actors/system.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "actors/asio.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_system;
using actors::context;
using actors::dispatcher;
using actors::system_options;
using actors::task;
using support::at_exit;
using support::contains;
using support::flag;

namespace {

struct block {};

/// What the test and the thread that hangs share: it outlives the system.
struct shared_flags {
  flag blocked;
  flag go_on;
  flag body_gone;
};

task<> hanging(context<block> self, shared_flags* f) {
  at_exit gone{[f] { f->body_gone.set(); }};
  while (co_await self.receive([&](block) {
    f->blocked.set();
    f->go_on.wait();
  })) {
  }
}

template <class F>
void each_dispatcher(F test) {
  for (const auto& d : {dispatcher::pool(), dispatcher::shared()})
    for (const std::size_t threads : {1u, 2u}) {
      CAPTURE(threads);
      test(d, threads);
    }
}

system_options impatient(const dispatcher& d, std::size_t threads,
                         support::log_lines& lines) {
  return {.threads = threads,
          .dispatcher = d,
          .stop_timeout = 20ms,
          .kill_timeout = 20ms,
          .log = lines.sink()};
}

}  // namespace

TEST_SUITE("lost_thread") {
  TEST_CASE("terminate and destructor return, the log names the actor") {
    each_dispatcher([](const dispatcher& d, std::size_t threads) {
      shared_flags flags;
      support::log_lines lines;
      {
        actor_system system{impatient(d, threads, lines)};
        auto ref = system.spawn({.name = "hanging"}, hanging, &flags);
        ref.tell(block{});
        flags.blocked.wait();
        system.terminate();
        CHECK(contains(lines.find("does not come back"), "/user/hanging"));
      }
      // It has come back after all: its frame goes, and the system with it.
      flags.go_on.set();
      flags.body_gone.wait();
    });
  }

  TEST_CASE("wait() returns when a signal's stop meets a lost thread") {
    each_dispatcher([](const dispatcher& d, std::size_t threads) {
      shared_flags flags;
      support::log_lines lines;
      {
        actor_system system{impatient(d, threads, lines)};
        auto ref = system.spawn(hanging, &flags);
        ref.tell(block{});
        flags.blocked.wait();
        (void)system.async_terminate();
        system.wait();
      }
      flags.go_on.set();
      flags.body_gone.wait();
    });
  }

  TEST_CASE("a handler that does not come back is left alone, too") {
    each_dispatcher([](const dispatcher& d, std::size_t threads) {
      shared_flags flags;
      support::log_lines lines;
      {
        actor_system system{impatient(d, threads, lines)};
        asio::post(system.next_executor(), [&flags] {
          at_exit gone{[&flags] { flags.body_gone.set(); }};
          flags.blocked.set();
          flags.go_on.wait();
        });
        flags.blocked.wait();
      }
      CHECK(lines.find("without") != "");
      flags.go_on.set();
      flags.body_gone.wait();
    });
  }

  TEST_CASE("an actor that works long and comes back is waited for") {
    each_dispatcher([](const dispatcher& d, std::size_t threads) {
      support::log_lines lines;
      std::atomic<int> handled{0};
      {
        actor_system system{{.threads = threads,
                             .dispatcher = d,
                             .throughput = 1,
                             .log = lines.sink()}};
        auto ref = system.spawn(
            [](context<block> self, std::atomic<int>* n) -> task<> {
              co_await self.serve([&](block) { ++*n; });
            },
            &handled);
        for (int i = 0; i != 10'000; ++i) ref.tell(block{});
      }
      CHECK(handled == 10'000);
      CHECK(lines.find("come back") == "");
    });
  }
}
