/// `ended`: what `self.watch(ref)` delivers.
#pragma once

#include "actors/exit_reason.hpp"
#include "actors/ref.hpp"

namespace actors {

/// An actor that was watched has ended, and its cleanup is complete. Comes
/// after all that it told the watcher before.
struct ended {
  /// The actor; equals the ref that was watched.
  any_actor_ref who;
  /// How it ended.
  exit_reason why;
};

}  // namespace actors
