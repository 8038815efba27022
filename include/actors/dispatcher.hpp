/// Where actors run: the kinds of dispatcher, and placement at spawn.
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace actors {

/// Which threads run actors, and how: for a system of its own, for one of its
/// named pools, or for one actor.
class dispatcher {
 public:
  /// Which of them.
  enum class kind : unsigned char { pool, shared, pinned, named, system };

  /// One `io_context` a thread; an actor stays on one of them for life. The
  /// default, and the fastest: messages between actors of one thread use no
  /// lock and no atomic operation.
  ///
  /// For one actor, as `shared()`: the system's own dispatcher, if it is of
  /// this kind, `std::invalid_argument` otherwise.
  static constexpr dispatcher pool() noexcept { return {kind::pool}; }
  /// All threads run one `io_context`; each actor is a strand on it. What a
  /// guest on a user's own context gets.
  static constexpr dispatcher shared() noexcept { return {kind::shared}; }
  /// A thread of its own for the actor, which may block there without harm to
  /// others. Its children live there, too, unless they choose otherwise. The
  /// thread is made by the spawn (`std::system_error` when there is none to be
  /// had); when all that lived on it have ended it is kept for the next, so
  /// there are as many as are needed at once.
  ///
  /// For a system: each child of `/user` that has not chosen gets its own.
  static constexpr dispatcher pinned() noexcept { return {kind::pinned}; }
  /// A pool of the system's, one of `system_options::pools`, by its name, of 1
  /// to 31 characters (`std::invalid_argument`).
  static constexpr dispatcher named(std::string_view name) {
    if (name.empty() || name.size() >= room)
      throw std::invalid_argument(
          "the name of a pool of threads has 1 to 31 characters");
    dispatcher d{kind::named};
    std::copy(name.begin(), name.end(), d.name_);
    d.length_ = static_cast<unsigned char>(name.size());
    return d;
  }
  /// The threads of the system itself, or of a guest's `io_context`: for a
  /// child of an actor that runs elsewhere.
  static constexpr dispatcher system() noexcept { return {kind::system}; }

  /// Which it is.
  constexpr kind which() const noexcept { return kind_; }
  /// The pool's, of a named one; empty otherwise.
  constexpr std::string_view name() const noexcept { return {name_, length_}; }

 private:
  static constexpr std::size_t room = 32;
  constexpr dispatcher(kind k) noexcept : kind_{k} {}

  kind kind_;
  unsigned char length_ = 0;
  char name_[room] = {};
};

/// `dispatcher::pinned()`: `system.spawn({.dispatcher = pinned()}, f)`.
constexpr dispatcher pinned() noexcept { return dispatcher::pinned(); }

/// Threads of a system beside its own: `{.name = "db", .threads = 4}`.
struct pool_options {
  /// By which `dispatcher::named` chooses it; 1 to 31 characters, and no
  /// other's of the same system.
  std::string name = {};
  /// 1 to 1024.
  std::size_t threads = 1;
  /// `pool()` or `shared()`.
  actors::dispatcher dispatcher = actors::dispatcher::pool();
};

/// On which context (thread, with `dispatcher::pool`) of its dispatcher a new
/// actor lives.
class placement {
 public:
  /// A child beside its parent, unless it has another dispatcher; otherwise in
  /// turn.
  constexpr placement() noexcept = default;
  /// Where the parent lives, so that the two talk without an atomic operation.
  static constexpr placement beside_parent() noexcept { return {parent}; }
  /// The next context in turn; with `dispatcher::pinned` a thread of its own.
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
