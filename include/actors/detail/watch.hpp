/// `self.watch(ref)`: one actor is told when another has ended.
#pragma once

#include "actors/detail/cell_base.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/ended.hpp"
#include "actors/exit_reason.hpp"

namespace actors::detail {

/// Takes over the message. `finish`, if any, puts in how `who` ended. Strand of
/// the watcher.
void start_watch(cell& watcher, const cell_ptr& who, envelope* message,
                 void (*finish)(envelope*, const exit_reason&) noexcept);
void end_watch(cell& watcher, const cell_ptr& who) noexcept;

inline void set_reason(envelope* e, const exit_reason& why) noexcept {
  static_cast<told<ended>*>(e)->payload.why = why;
}

}  // namespace actors::detail
