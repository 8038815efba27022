/// Who has subscribed to messages of which type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>
#include <vector>

#include "actors/publish.hpp"
#include "events.hpp"

namespace actors::detail {

/// Lists of subscribers, copied on write, so that a publisher tells them, and
/// calls their filters, without the lock. Those that have ended are left out of
/// the next copy. Any thread.
class topics {
 public:
  explicit topics(system_core& core) noexcept : core_{&core} {}

  /// Once an actor and type: a second time it replaces the filter.
  std::uint64_t subscribe(const std::type_info& type, const cell_ptr& who,
                          std::function<bool(const void*)> filter);
  /// False for a number that is not of here.
  bool unsubscribe(std::uint64_t id) noexcept;
  std::size_t publish(const std::type_info& type, const void* message,
                      envelope* (*copy)(const void*));
  /// Drops all, and keeps nobody from here on: the actors have ended, and
  /// their memory holds the system's.
  void close() noexcept;
  /// How many there are of a type, some of them ended perhaps.
  std::size_t count(const std::type_info& type);

 private:
  struct subscriber {
    std::uint64_t id;
    cell_ptr who;
    std::function<bool(const void*)> filter;
  };
  using list = std::vector<std::shared_ptr<const subscriber>>;

  bool wants(const subscriber& s, const void* message) noexcept;
  void prune(const std::type_info& type) noexcept;
  /// Under the lock: those of `l` that have not ended, but for `without`.
  static std::shared_ptr<list> living(const list& l, std::uint64_t without);

  /// Of event subscriptions it is not set.
  static constexpr std::uint64_t mark = std::uint64_t{1} << 63;

  system_core* core_;
  std::mutex mutex_;
  std::unordered_map<std::type_index, std::shared_ptr<const list>> lists_;
  std::uint64_t last_id_ = mark;
  bool closed_ = false;
  log_limit logged_{1};
};

}  // namespace actors::detail
