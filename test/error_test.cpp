#include "actors/error.hpp"

#include <doctest/doctest.h>

#include <iterator>
#include <ostream>
#include <set>
#include <string>
#include <system_error>
#include <type_traits>

using actors::errc;

namespace {

constexpr errc all[] = {errc::actor_stopped,  errc::mailbox_full,
                        errc::would_deadlock, errc::actor_failed,
                        errc::no_reply,       errc::timed_out,
                        errc::name_taken};

}  // namespace

TEST_SUITE("error") {
  static_assert(std::is_base_of_v<std::system_error, actors::actor_error>);

  TEST_CASE("errc converts to an error_code of the category \"actors\"") {
    const std::error_code code = errc::no_reply;
    CHECK(code);
    CHECK(code == errc::no_reply);
    CHECK(code != errc::actor_failed);
    CHECK(code.category() == actors::error_category());
    CHECK(std::string{code.category().name()} == "actors");
  }

  TEST_CASE("every errc has a message of its own") {
    std::set<std::string> messages;
    for (const errc e : all)
      messages.insert(actors::make_error_code(e).message());
    CHECK(messages.size() == std::size(all));
    CHECK(messages.count("") == 0);
    const std::error_code unknown{99, actors::error_category()};
    CHECK(unknown.message() == "unknown error 99");
  }

  TEST_CASE("errc compares with std::errc where one fits") {
    const auto code = [](errc e) { return actors::make_error_code(e); };
    CHECK(code(errc::actor_stopped) == std::errc::no_such_process);
    CHECK(code(errc::mailbox_full) == std::errc::no_buffer_space);
    CHECK(code(errc::would_deadlock) ==
          std::errc::resource_deadlock_would_occur);
    CHECK(code(errc::timed_out) == std::errc::timed_out);
    CHECK(code(errc::name_taken) == std::errc::address_in_use);
    CHECK(code(errc::actor_failed) != std::errc::timed_out);
    CHECK(code(errc::no_reply) != std::errc::no_such_process);
    CHECK(code(errc::no_reply).default_error_condition().category() ==
          actors::error_category());
  }

  TEST_CASE("not_handled is true for what is safe to repeat") {
    CHECK(actors::not_handled(errc::actor_stopped));
    CHECK(actors::not_handled(errc::mailbox_full));
    CHECK(actors::not_handled(errc::would_deadlock));
    CHECK(!actors::not_handled(errc::actor_failed));
    CHECK(!actors::not_handled(errc::no_reply));
    CHECK(!actors::not_handled(errc::timed_out));
    CHECK(!actors::not_handled({}));
    CHECK(
        !actors::not_handled(std::make_error_code(std::errc::no_such_process)));
  }

  TEST_CASE("an actor_error is caught as a std::system_error with its code") {
    try {
      actors::detail::throw_error(errc::timed_out);
    } catch (const std::system_error& e) {
      CHECK(e.code() == errc::timed_out);
      CHECK(dynamic_cast<const actors::actor_error*>(&e));
    }
  }

  TEST_CASE("a foreign code is thrown as a std::system_error") {
    try {
      actors::detail::throw_error(std::make_error_code(std::errc::io_error));
    } catch (const std::system_error& e) {
      CHECK(e.code() == std::errc::io_error);
      CHECK(!dynamic_cast<const actors::actor_error*>(&e));
    }
  }

  TEST_CASE("operation_aborted is known without Asio") {
    const std::error_code aborted = actors::detail::operation_aborted();
    CHECK(actors::detail::is_operation_aborted(
        std::make_exception_ptr(std::system_error{aborted})));
    CHECK(!actors::detail::is_operation_aborted(
        std::make_exception_ptr(actors::actor_error{errc::timed_out})));
    CHECK(!actors::detail::is_operation_aborted(std::make_exception_ptr(5)));
    CHECK(!actors::detail::is_operation_aborted(nullptr));
  }
}
