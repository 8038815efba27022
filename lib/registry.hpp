/// The actors that have names, by their paths, and those who wait for one.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "actors/registry.hpp"

namespace actors::detail {

class cell;

/// Only actors with a name are here: a spawn without one does not come by. Any
/// thread.
///
/// A place is taken by `reserve`, before the actor can run, so that of two
/// threads that want one name one gets it; it is seen from `appear` on, and is
/// free again after `leave`, which comes before anybody is told of the end. So
/// a cell that is found here has not ended, and its memory is there.
class registry {
 public:
  struct entry {
    cell* who;
    /// It has been launched.
    bool there = false;
  };
  using map = std::unordered_map<std::string, entry>;
  using place = map::value_type;

  /// Throws `actor_error` with `errc::name_taken`.
  place* reserve(cell& c);
  /// Answers those who wait for it.
  void appear(place* p) noexcept;
  void leave(place* p) noexcept;

  cell_ptr find(const std::string& path);
  void wait(path_question& q) noexcept;
  /// How many wait, or have given up and are still here.
  std::size_t waiting_count() {
    const std::lock_guard lock{mutex_};
    return waiting_.size();
  }
  /// Nobody appears any more: tells all who wait.
  void close() noexcept;

 private:
  using waiting = std::unordered_multimap<std::string_view, path_question*>;

  path_question* take_abandoned() noexcept;

  std::mutex mutex_;
  map places_;
  /// By their own copies of the path.
  waiting waiting_;
  /// How many may wait before it is looked who has given up.
  std::size_t sweep_at_ = 16;
  bool closed_ = false;
};

}  // namespace actors::detail
