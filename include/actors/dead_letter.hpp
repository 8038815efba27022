/// What became of a message that could not be delivered.
#pragma once

#include <string>
#include <typeinfo>

#include "actors/ref.hpp"

namespace actors {

/// A message that nobody handled: counted always, logged at a limited rate,
/// and given to subscribers. A message in its own right, so that actors can
/// subscribe. A question is none: its asker is told.
struct dead_letter {
  /// Why nobody handled it.
  enum class reason : unsigned char {
    /// The recipient had ended, or ended before it took the message.
    actor_stopped,
    /// The recipient does not take messages of this type (a tell through an
    /// `any_actor_ref`).
    not_accepted,
    /// The ref was null; so was `self.sender()` of a message without sender.
    no_recipient,
  };

  /// The type of the message.
  const std::type_info* type = nullptr;
  /// Why nobody handled it.
  reason why = reason::actor_stopped;
  /// Null when the message named none.
  any_actor_ref sender;
  /// Null for `no_recipient`.
  any_actor_ref recipient;

  /// The type's name as in the source, where the platform can tell.
  std::string message_name() const;
  /// A line for a log.
  std::string to_string() const;
};

}  // namespace actors
