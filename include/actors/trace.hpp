/// `trace_event`: what a trace hook is told of each message.
#pragma once

#include <string>
#include <string_view>
#include <typeinfo>

#include "actors/message.hpp"
#include "actors/ref.hpp"

namespace actors {

/// A step of one message on its way, for `system_options::trace`.
struct trace_event {
  /// Which step.
  enum class kind : unsigned char {
    /// It is told, or handed on by `forward`. On the sender's thread, before
    /// anything becomes of it: should it not arrive, a dead letter follows.
    told,
    /// As above: it is asked.
    asked,
    /// As above: it is sent, by `send`, which may have to wait.
    sent,
    /// The actor takes it from its mailbox. On the actor's strand, as the next.
    taken,
    /// The actor is done with it: it looks for the next one, or has ended. The
    /// handler of a `concurrent` message may be running still.
    done,
  };

  kind what = kind::told;
  /// The recipient.
  any_actor_ref who;
  /// The type of the message.
  const std::type_info* message = nullptr;
  /// Null when the message named none.
  any_actor_ref sender;
  /// The runtime's clock, virtual in a simulation.
  time_point when{};

  /// The message's name as in the source, where the platform can tell.
  std::string message_name() const;
  /// A line for a log: "told greeting to /user/bob from /user/alice".
  std::string to_string() const;
};

/// "told", "asked", …
std::string_view to_string(trace_event::kind value) noexcept;

}  // namespace actors
