/// How an actor ended: what `co_await ref.stopped()` gives.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace actors {

/// How an actor ended, with the exception when it failed.
///
/// A value type; compares with its enumerators: `why == exit_reason::failed`.
class exit_reason {
 public:
  enum kind : unsigned char {
    /// The body returned, or the actor was stopped or drained and cleaned up.
    normal,
    /// An exception left it; `error()` is that exception.
    failed,
    /// `ref.kill()`, or a stop that took longer than `stop_timeout`.
    killed,
    /// A kill that took longer than `kill_timeout`: its frame still waits for
    /// an operation that does not end.
    abandoned,
    /// It never ran: spawned when its system or its parent was ending.
    not_started,
  };

  /// Any thread.
  exit_reason(kind value = normal) noexcept : kind_{value} {}
  /// `failed`, with its exception.
  explicit exit_reason(std::exception_ptr error) noexcept
      : kind_{failed}, error_{std::move(error)} {}

  /// Which of the kinds it is; usable in a `switch`.
  operator kind() const noexcept { return kind_; }
  /// The exception of `failed`; null otherwise.
  const std::exception_ptr& error() const noexcept { return error_; }
  /// A few words for a log: "failed: disk full".
  std::string to_string() const;

 private:
  kind kind_;
  std::exception_ptr error_;
};

namespace detail {
/// What an exception says of itself, whatever its type.
std::string describe(const std::exception_ptr& error);
}  // namespace detail

}  // namespace actors
