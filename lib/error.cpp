#include "actors/error.hpp"

#include <string>

#include "net.hpp"

namespace actors {

namespace {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "actors"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::actor_stopped:
        return "the actor has ended";
      case errc::mailbox_full:
        return "the mailbox is full";
      case errc::would_deadlock:
        return "the wait could only be ended by the one who waits";
      case errc::actor_failed:
        return "the actor failed while handling the message";
      case errc::no_reply:
        return "no answer can come any more";
      case errc::timed_out:
        return "the timeout ended before the answer came";
      case errc::name_taken:
        return "the name is taken";
    }
    return "unknown error " + std::to_string(value);
  }

  std::error_condition default_error_condition(
      int value) const noexcept override {
    switch (static_cast<errc>(value)) {
      case errc::actor_stopped:
        return std::errc::no_such_process;
      case errc::mailbox_full:
        return std::errc::no_buffer_space;
      case errc::would_deadlock:
        return std::errc::resource_deadlock_would_occur;
      case errc::timed_out:
        return std::errc::timed_out;
      case errc::name_taken:
        return std::errc::address_in_use;
      case errc::actor_failed:
      case errc::no_reply:
        break;
    }
    return {value, *this};
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  static const category instance;
  return instance;
}

std::error_code make_error_code(errc value) noexcept {
  return {static_cast<int>(value), error_category()};
}

bool not_handled(const std::error_code& error) noexcept {
  return error == errc::actor_stopped || error == errc::mailbox_full ||
         error == errc::would_deadlock;
}

namespace detail {

void throw_error(const std::error_code& error) {
  if (error.category() == error_category()) throw actor_error(error);
  throw std::system_error(error);
}

std::error_code operation_aborted() noexcept {
  return net::error::operation_aborted;
}

bool is_operation_aborted(const std::exception_ptr& error) noexcept {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const std::system_error& e) {
    return e.code() == operation_aborted();
  } catch (...) {
    return false;
  }
}

}  // namespace detail

}  // namespace actors
