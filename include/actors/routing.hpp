/// How a pool chooses the worker for a message.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace actors::routing {

/// See `round_robin`.
struct round_robin_t {};
/// See `least_busy`.
struct least_busy_t {};
/// See `broadcast`.
struct broadcast_t {};

/// One worker after another.
inline constexpr round_robin_t round_robin{};
/// The worker that has the fewest messages, what it handles counted in but not
/// what went to all; among equals one after another. It looks for one that has
/// nothing to do, so with all of them busy a message costs the more the more
/// workers there are.
inline constexpr least_busy_t least_busy{};
/// All workers: each gets a copy. For messages that are only told. When a copy
/// throws the message is a dead letter for the workers that come after.
inline constexpr broadcast_t broadcast{};

/// See `consistent_hash`.
template <class... Keys>
struct by_key {
  std::tuple<Keys...> keys;

  /// Which of `keys` is for messages of type `M`; how many there are: none.
  template <class M>
  static constexpr std::size_t index() {
    constexpr bool fits[] = {std::is_invocable_v<const Keys&, const M&>...};
    std::size_t i = 0;
    while (i != sizeof...(Keys) && !fits[i]) ++i;
    return i;
  }
  /// The hash of the message's key.
  template <class M>
  std::size_t operator()(const M& message) const {
    decltype(auto) key = std::invoke(std::get<index<M>()>(keys), message);
    return std::hash<std::remove_cvref_t<decltype(key)>>{}(key);
  }
};

/// Messages of one key go to one worker, in their order, also after it was
/// restarted. Each of `keys` gives the key of some message types, a member
/// (`&job::user`) or a function (`[](const job& j) { return j.user; }`); the
/// first that takes a message is for it. Keys have a `std::hash`. When a worker
/// has ended for good its keys go to others, and only those.
///
/// They are copied to, and called by, the router. When one throws its message
/// is a dead letter, and its asker is told `actor_failed`.
template <class... Keys>
requires(sizeof...(Keys) != 0) constexpr auto consistent_hash(Keys... keys) {
  return by_key<Keys...>{{std::move(keys)...}};
}

}  // namespace actors::routing
