/// What a supervisor may do about a failure, and whom it restarts.
#pragma once

#include <string_view>

namespace actors {

/// What is to become of an actor that has failed.
enum class directive : unsigned char {
  /// A new incarnation, from the callable and copies of its arguments: same
  /// ref, mailbox and name. Its children end first.
  restart,
  /// It goes on with the next message as if nothing had happened. Only where
  /// the runtime owns the loop, in `serve`; elsewhere it counts as `restart`.
  resume,
  /// It ends, with `exit_reason::failed`.
  stop,
  /// Its supervisor fails in turn, with the same exception.
  escalate,
};

/// "restart", "resume", …
std::string_view to_string(directive value) noexcept;

/// After which ends an actor is started again. An end that somebody asked for
/// (`stop`, `drain`, `kill`, `self.stop()`) is final with all of them. After
/// OTP's `restart` of a child specification
/// (https://www.erlang.org/doc/apps/stdlib/supervisor.html).
enum class restart_policy : unsigned char {
  /// After a failure; the default for `spawn`.
  transient,
  /// Also when its body returns.
  permanent,
  /// After none, and not with a group either; what `spawn_once` gives. Its
  /// failures count for no limit.
  never,
};

}  // namespace actors
