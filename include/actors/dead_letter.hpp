/// What became of a message that could not be delivered.
#pragma once

#include <memory>
#include <string>
#include <typeinfo>

#include "actors/ref.hpp"

namespace actors {

/// A message that nobody handled: counted always, logged at a limited rate,
/// and given to subscribers. A message in its own right, so that actors can
/// subscribe. A question is none, because its asker is told; but for one that
/// made its actor fail.
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
    /// The recipient failed while it handled the message, perhaps in part. It
    /// is not given to the next incarnation, which might fail by it, too.
    failed,
    /// The recipient's mailbox is bounded, and had no room for it, or for it
    /// any more. One that comes about while an event is handed out is counted
    /// and logged, but not handed out: that could go on for ever.
    mailbox_full,
  };

  /// The type of the message.
  const std::type_info* type = nullptr;
  /// Why nobody handled it.
  reason why = reason::actor_stopped;
  /// Null when the message named none.
  any_actor_ref sender;
  /// Null for `no_recipient`.
  any_actor_ref recipient;
  /// The message, for `get`. Null when its handler had taken it by value.
  std::shared_ptr<const void> value;

  /// The message itself; null when it is no `M`, or its handler took it by
  /// value. It lives as long as this, or a copy of it.
  template <class M>
  const M* get() const noexcept {
    return value && *type == typeid(M) ? static_cast<const M*>(value.get())
                                       : nullptr;
  }

  /// The type's name as in the source, where the platform can tell.
  std::string message_name() const;
  /// A line for a log.
  std::string to_string() const;
};

}  // namespace actors
