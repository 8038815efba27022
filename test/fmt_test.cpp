// <actors/fmt.hpp>: what handles, ends and events look like in a line.
#include "actors/fmt.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "actors/actors.hpp"
#include "actors/testing.hpp"

namespace {

using actors::actor_ref;
using actors::any_actor_ref;

actors::task<> idle(actors::context<int> self) { co_await self.until_stop(); }

}  // namespace

TEST_SUITE("fmt") {
  TEST_CASE("a ref is formatted as its path") {
    actors::simulation sim;
    const auto log = sim.spawn({.name = "log"}, idle);
    CHECK(fmt::format("{}", log) == "/user/log");
    CHECK(fmt::format("{}", any_actor_ref{log}) == "/user/log");
    CHECK(fmt::format("{:>12}|", log) == "   /user/log|");
    CHECK(fmt::format("{}", actor_ref<int>{}) == "(null)");
  }

  TEST_CASE("ends, directives and codes are formatted as their texts") {
    CHECK(fmt::format("{}", actors::exit_reason{}) ==
          actors::exit_reason{}.to_string());
    const auto error = std::make_exception_ptr(std::runtime_error{"disk full"});
    CHECK(fmt::format("{}", actors::exit_reason{error}) ==
          "failed: std::runtime_error: disk full");
    CHECK(fmt::format("{}", actors::directive::escalate) == "escalate");
    CHECK(fmt::format("{}", actors::errc::timed_out) ==
          actors::make_error_code(actors::errc::timed_out).message());
  }

  TEST_CASE("events, dead letters and snapshots are formatted as lines") {
    std::string line, letter;
    actors::simulation sim;
    sim.system().on_event([&](const actors::lifecycle_event& e) {
      if (e.what == actors::lifecycle_event::kind::stopped)
        line = fmt::format("{}: {}", e.what, e);
    });
    sim.system().on_dead_letter(
        [&](const actors::dead_letter& d) { letter = fmt::format("{}", d); });
    const auto log = sim.spawn({.name = "log"}, idle);
    const auto all = sim.run(sim.system().snapshot());
    REQUIRE(all.size() >= 1);
    CHECK(fmt::format("{}", all.front()) == all.front().to_string());
    CHECK(fmt::format("{}", all.front().now) == to_string(all.front().now));
    const actors::ended end{log, actors::exit_reason::killed};
    CHECK(fmt::format("{}", end) == "/user/log has ended: killed");
    log.stop();
    sim.run_until_idle();
    log.tell(1);
    CHECK(line.find("stopped: ") == 0);
    CHECK(line.find("/user/log") != std::string::npos);
    CHECK(letter.find("/user/log") != std::string::npos);
  }
}
