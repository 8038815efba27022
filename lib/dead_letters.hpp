/// Counts, logs and hands out what could not be delivered.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "actors/dead_letter.hpp"
#include "actors/detail/envelope.hpp"

namespace actors::detail {

class system_core;

/// The dead letters of a system. Any thread.
class dead_letters {
 public:
  dead_letters(system_core& core, std::size_t logged_per_second) noexcept
      : core_{&core}, logged_per_second_{logged_per_second} {}

  /// Reports a message; the envelope stays the caller's.
  void report(envelope& e, cell_base* recipient,
              dead_letter::reason why) noexcept;

  std::uint64_t count() const noexcept {
    return count_.load(std::memory_order_relaxed);
  }
  /// `f` gives false when it wants no more.
  std::uint64_t subscribe(std::function<bool(const dead_letter&)> f);
  void unsubscribe(std::uint64_t id) noexcept;

 private:
  struct subscriber {
    std::uint64_t id;
    std::function<bool(const dead_letter&)> f;
  };
  using list = std::vector<subscriber>;

  void log(const dead_letter& letter);

  system_core* core_;
  const std::size_t logged_per_second_;
  std::atomic<std::uint64_t> count_{0};
  std::mutex mutex_;
  /// Copied on write, so that subscribers run without the lock.
  std::shared_ptr<const list> subscribers_ = std::make_shared<list>();
  std::uint64_t last_id_ = 0;
  time_point second_{};
  std::size_t logged_ = 0;
  std::size_t silent_ = 0;
};

/// Ends a message that was told and cannot be delivered; a question's asker is
/// told instead. `to` may be null. Any thread.
void report_undelivered(cell_base* to, envelope* message,
                        dead_letter::reason why) noexcept;

}  // namespace actors::detail
