/// `actor_snapshot`: what an actor is doing, for whoever looks after a server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <typeinfo>

#include "actors/ref.hpp"

namespace actors {

/// One actor as `system.snapshot()` found it. Each is looked at on its own
/// strand, so that those of several are not of the same moment.
struct actor_snapshot {
  /// Where in its life it was.
  enum class state : unsigned char {
    /// It has not begun, or has not been ready yet.
    starting,
    /// It waits for messages, or handles one.
    running,
    /// It has failed, and its supervisor has not decided.
    failed,
    /// Its incarnation ends, or the next one waits for its time.
    restarting,
    /// It ends.
    stopping,
    /// It did not come back from its code in time: nothing but `who` and `path`
    /// is known.
    busy,
  };

  /// The actor.
  any_actor_ref who;
  /// "/user/bank/log"
  std::string path;
  /// Where in its life it was.
  state now = state::busy;
  /// The type of the message in hand; null when there was none.
  const std::type_info* message = nullptr;
  /// The innermost `co_await` that it waits at; line 0: it has not begun.
  std::source_location where;
  /// Messages in its mailbox.
  std::size_t queued = 0;
  /// Child tasks that have not ended.
  std::size_t tasks = 0;
  /// Children that have not ended; they follow in the list.
  std::size_t children = 0;
  /// How often it has been restarted.
  std::uint32_t restarts = 0;
  /// How many messages it has taken.
  std::uint64_t handled = 0;

  /// A line for a log, or an answer over the network.
  std::string to_string() const;
};

/// "starting", "running", …
std::string_view to_string(actor_snapshot::state value) noexcept;

}  // namespace actors
