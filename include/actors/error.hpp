/// What can go wrong when actors talk: codes, their category, the exception.
#pragma once

#include <exception>
#include <system_error>

namespace actors {

/// Why an operation of the runtime did not give what was asked for.
///
/// The values compare equal to the `std::errc` noted beside them, where one
/// fits. How an *actor* ended is another matter: see `exit_reason`.
enum class errc {
  /// The actor had ended, or ended before it took the message; or the ref is
  /// null. The message was not handled. (`std::errc::no_such_process`)
  actor_stopped = 1,
  /// A bounded mailbox refused or evicted the message. It was not handled.
  /// (`std::errc::no_buffer_space`)
  mailbox_full,
  /// The wait could only be ended by the one who waits: an actor's main
  /// coroutine asks its own actor, or one that waits in a chain of asks for
  /// its answer (`system_options::detect_deadlocks`; the exception's text has
  /// the chain), or `.get()` is called on a thread of the runtime. Nothing was
  /// sent, unless it was a hand-over that closed the cycle.
  /// (`std::errc::resource_deadlock_would_occur`)
  would_deadlock,
  /// The actor failed while it handled the message, or while it held the
  /// reply. The message may have been handled in part.
  actor_failed,
  /// The message was taken but no answer can come any more: the actor was
  /// killed while handling it, or whoever held the reply dropped it.
  no_reply,
  /// The timeout given ended first. The message may still be handled.
  /// (`std::errc::timed_out`)
  timed_out,
  /// `spawn` was given the name of an actor that lives beside. Nothing was
  /// started. (`std::errc::address_in_use`)
  name_taken,
};

/// The category of `errc`, named "actors".
const std::error_category& error_category() noexcept;

/// Makes `errc` convert to `std::error_code`.
std::error_code make_error_code(errc value) noexcept;

/// True for the errors after which the message has certainly not been handled,
/// so that it is safe to repeat it: `actor_stopped`, `mailbox_full`,
/// `would_deadlock`.
bool not_handled(const std::error_code& error) noexcept;

/// What an await throws for an `errc`. Portable code that also awaits through
/// Asio catches its base, `std::system_error`.
class actor_error : public std::system_error {
 public:
  using std::system_error::system_error;
};

namespace detail {

/// Throws `actor_error` for our own codes, `std::system_error` for others.
[[noreturn]] void throw_error(const std::error_code& error);

/// `asio::error::operation_aborted`, for headers that know no Asio.
std::error_code operation_aborted() noexcept;

/// True for `operation_aborted`.
bool is_operation_aborted(const std::exception_ptr& error) noexcept;

}  // namespace detail

}  // namespace actors

template <>
struct std::is_error_code_enum<actors::errc> : std::true_type {};
