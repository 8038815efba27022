#include "actors/result.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "support.hpp"

using actors::errc;
using actors::result;
using support::error_of;
using support::message_of;

TEST_SUITE("result") {
  static_assert(std::is_convertible_v<int, result<int>>);
  static_assert(std::is_convertible_v<const char*, result<std::string>>);
  static_assert(std::is_convertible_v<errc, result<int>>);
  static_assert(std::is_convertible_v<std::error_code, result<void>>);
  static_assert(std::is_convertible_v<std::exception_ptr, result<int>>);
  static_assert(!std::is_convertible_v<std::string, result<int>>);
  static_assert(std::is_default_constructible_v<result<void>>);
  static_assert(!std::is_default_constructible_v<result<int>>);
  static_assert(!std::is_copy_constructible_v<result<std::unique_ptr<int>>>);

  TEST_CASE("a result has a value") {
    result<std::string> r = "text";
    CHECK(r);
    CHECK(r.has_value());
    CHECK(r.value() == "text");
    CHECK(*r == "text");
    CHECK(r->size() == 4);
    CHECK(!r.error());
    CHECK(!r.exception());
  }

  TEST_CASE("a value is moved out of a temporary result") {
    result<std::unique_ptr<int>> r = std::make_unique<int>(7);
    std::unique_ptr<int> taken = std::move(r).value();
    CHECK(*taken == 7);
  }

  TEST_CASE("a result has a code, which value() throws") {
    const result<int> r = std::make_error_code(std::errc::io_error);
    CHECK(!r);
    CHECK(r.error() == std::errc::io_error);
    CHECK(!r.exception());
    CHECK(error_of([&] { return r.value(); }) == std::errc::io_error);
    const result<int> own = errc::timed_out;
    CHECK(own.error() == errc::timed_out);
    CHECK_THROWS_AS((void)own.value(), actors::actor_error);
  }

  TEST_CASE("a result has an exception, which value() throws") {
    const result<int> r = std::make_exception_ptr(std::runtime_error{"broken"});
    CHECK(!r);
    CHECK(r.exception());
    CHECK(r.error() == errc::actor_failed);
    CHECK(message_of<std::runtime_error>([&] { return r.value(); }) ==
          "broken");
  }

  TEST_CASE("the code of a std::system_error kept is that error's") {
    const result<int> r = std::make_exception_ptr(
        std::system_error{std::make_error_code(std::errc::io_error)});
    CHECK(r.error() == std::errc::io_error);
  }

  TEST_CASE("a code of zero is a mistake and counts as no_reply") {
    const result<int> r = std::error_code{};
    CHECK(!r);
    CHECK(r.error() == errc::no_reply);
  }

  TEST_CASE("a result without a value says success or error") {
    const result<void> good;
    CHECK(good);
    good.value();
    result<void> bad = errc::no_reply;
    CHECK(!bad);
    CHECK(error_of([&] {
            std::move(bad).value();
            return 0;
          }) == errc::no_reply);
  }

  TEST_CASE("results copy and assign") {
    result<std::string> a = "one";
    result<std::string> b = a;
    CHECK(*b == "one");
    b = errc::no_reply;
    CHECK(!b);
    b = a;
    CHECK(*b == "one");
    b = "two";
    CHECK(*b == "two");
    CHECK(*a == "one");
  }
}
