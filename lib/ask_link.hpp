/// The chain of those who wait for one another: how a cycle of asks is seen.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#include "actors/detail/cell_base.hpp"

namespace actors::detail {

class cell;
struct ask_state;
struct envelope;
struct fiber;

/// One ask of an actor, while it is not answered, where cycles are looked for.
/// All but `waits` and the count never changes; so whoever has a question in
/// hand may walk up from it on his own strand, across all the others.
struct ask_link {
  ask_link(cell_base& who, bool blocked, const ask_link* a) noexcept
      : asker{&who}, blocks{blocked}, above{a} {
    if (above) above->refs.fetch_add(1, std::memory_order_relaxed);
  }

  const cell_ptr asker;
  /// The asker takes no message before the answer.
  const bool blocks;
  /// Of the question that the asker had in hand; counted.
  const ask_link* const above;
  /// `true -> false` when it is answered or given up, by whoever does that.
  mutable std::atomic<bool> waits{true};
  mutable std::atomic<std::uint32_t> refs{1};
};

/// Gives up one count.
void release(const ask_link* link) noexcept;

/// The link of the question that `f` works on, when nobody but `f` is going to
/// answer it; null: none. Strand.
const ask_link* link_above(const fiber& f) noexcept;

/// Whether `c` takes no message before the ask of `f` ends. Strand.
bool blocks(const cell& c, const fiber& f) noexcept;

/// Where `to` waits for the end of `above`: the error that says so, of an ask
/// of `c`. Null: it does not.
std::exception_ptr cycle(const ask_link* above, cell_base& c, cell_base& to);
/// As above, of an actor that asks itself.
std::exception_ptr cycle_of_one(cell_base& c);

}  // namespace actors::detail
