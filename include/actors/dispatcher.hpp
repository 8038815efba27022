/// Where actors run: the kinds of dispatcher, and placement at spawn.
#pragma once

#include <cstddef>

namespace actors {

/// How the threads of a system of its own run actors.
class dispatcher {
 public:
  /// Which of the two.
  enum class kind : unsigned char { pool, shared };

  /// One `io_context` a thread; an actor stays on one of them for life. The
  /// default, and the fastest: messages between actors of one thread use no
  /// lock and no atomic operation.
  static constexpr dispatcher pool() noexcept { return {kind::pool}; }
  /// All threads run one `io_context`; each actor is a strand on it. What a
  /// guest on a user's own context gets.
  static constexpr dispatcher shared() noexcept { return {kind::shared}; }

  /// Which it is.
  constexpr kind which() const noexcept { return kind_; }

 private:
  constexpr dispatcher(kind k) noexcept : kind_{k} {}
  kind kind_;
};

/// On which context (thread, with `dispatcher::pool`) a new actor lives.
class placement {
 public:
  /// A child beside its parent; children of the system in turn.
  constexpr placement() noexcept = default;
  /// Where the parent lives, so that the two talk without an atomic operation.
  static constexpr placement beside_parent() noexcept { return {parent}; }
  /// The next context in turn.
  static constexpr placement round_robin() noexcept { return {turn}; }
  /// Context number `index`, modulo how many there are.
  static constexpr placement on(std::size_t index) noexcept {
    return {static_cast<long>(index)};
  }

  /// For the runtime.
  static constexpr long automatic = -1, parent = -2, turn = -3;
  constexpr long value() const noexcept { return value_; }

 private:
  constexpr placement(long value) noexcept : value_{value} {}
  long value_ = automatic;
};

}  // namespace actors
