#include "actors/exit_reason.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "support.hpp"

using actors::exit_reason;

TEST_SUITE("exit_reason") {
  TEST_CASE("an exit_reason is normal by default") {
    const exit_reason why;
    CHECK(why == exit_reason::normal);
    CHECK(!why.error());
    CHECK(why.to_string() == "normal");
  }

  TEST_CASE("a failure keeps its exception") {
    const exit_reason why{
        std::make_exception_ptr(std::runtime_error{"disk full"})};
    CHECK(why == exit_reason::failed);
    CHECK(support::message_of_error(why.error()) == "disk full");
    CHECK(why.to_string() == "failed: std::runtime_error: disk full");
    const exit_reason copy = why;
    CHECK(copy == exit_reason::failed);
    CHECK(copy.error() == why.error());
  }

  TEST_CASE("a failure may be any exception, or say none") {
    CHECK(exit_reason{std::make_exception_ptr(5)}.to_string() ==
          "failed: an exception that is no std::exception");
    CHECK(exit_reason{exit_reason::failed}.to_string() ==
          "failed: no exception");
  }

  TEST_CASE("an exit_reason may be switched over, and says what it is") {
    const auto name = [](const exit_reason& why) -> std::string {
      switch (why) {
        case exit_reason::normal:
          return "normal";
        case exit_reason::failed:
          return "failed";
        case exit_reason::killed:
          return "killed";
        case exit_reason::abandoned:
          return "abandoned";
        case exit_reason::not_started:
          return "not started";
      }
      return "?";
    };
    for (const auto kind : {exit_reason::normal, exit_reason::killed,
                            exit_reason::abandoned, exit_reason::not_started})
      CHECK(exit_reason{kind}.to_string() == name(kind));
  }
}
