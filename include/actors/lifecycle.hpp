/// `lifecycle_event`: what happens to actors, as a stream to subscribe to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <source_location>
#include <string>
#include <typeinfo>

#include "actors/dead_letter.hpp"
#include "actors/directive.hpp"
#include "actors/exit_reason.hpp"
#include "actors/message.hpp"
#include "actors/ref.hpp"

namespace actors {

/// Something that happened to an actor. Those of one actor come in their
/// order. A message in its own right, so that actors can subscribe:
/// `system.on_event(…)`. The log is a subscriber.
struct lifecycle_event {
  /// What happened, and which members say more.
  enum class kind : unsigned char {
    /// The body begins, for the first time.
    started,
    /// It has failed: `error`, `message`; and what is done about it:
    /// `decision`, `delay`, `instead_of_resume`.
    failed,
    /// A new incarnation begins: `restarts`.
    restarted,
    /// It has ended, and its cleanup is complete: `why`.
    stopped,
    /// Its stop takes longer than `stop_timeout` and becomes a kill: `message`,
    /// `where`, `queued`.
    late,
    /// Its kill takes longer than `kill_timeout`; nobody waits for it any more:
    /// `message`, `where`, `queued`.
    abandoned,
    /// A message to it was not handled: `letter`.
    dead_letter,
    /// Messages come faster than it handles them: an unbounded mailbox has
    /// grown to 10,000, 20,000, 40,000, …: `queued`. Again when it had fallen
    /// below half of that. Looked at with every 256th message, from other
    /// threads with every 4,096th.
    crowded,
  };

  kind what = kind::started;
  /// The actor; for a dead letter its recipient, which may be null.
  any_actor_ref who;
  /// What it failed with.
  std::exception_ptr error;
  /// What its supervisor decided.
  directive decision = directive::stop;
  /// The decision was `resume`, where that means `restart`.
  bool instead_of_resume = false;
  /// How long the restart waits.
  duration delay = {};
  /// How often it has been restarted, this time included.
  std::uint32_t restarts = 0;
  /// How it ended.
  exit_reason why;
  /// The type of the message in hand; null when there was none.
  const std::type_info* message = nullptr;
  /// The `co_await` it hangs at; line 0 when it has not come to one.
  std::source_location where;
  /// Messages that wait, or that the stop left over.
  std::size_t queued = 0;
  /// The message that was not handled.
  std::optional<actors::dead_letter> letter;

  /// A line for a log.
  std::string to_string() const;
};

/// "started", "failed", …
std::string_view to_string(lifecycle_event::kind value) noexcept;

}  // namespace actors
