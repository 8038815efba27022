/// What happens to actors and to messages that nobody handles: counted, logged
/// and handed out.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "actors/dead_letter.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/lifecycle.hpp"

namespace actors::detail {

class system_core;

/// So many lines a second, and how many there were besides.
class log_limit {
 public:
  explicit log_limit(std::size_t per_second) noexcept
      : per_second_{per_second} {}
  /// False when it is one too many; else `silent` is how many were before it.
  bool allows(std::size_t& silent) noexcept;

 private:
  const std::size_t per_second_;
  std::mutex mutex_;
  time_point second_{};
  std::size_t logged_ = 0;
  std::size_t silent_ = 0;
};

/// The events of a system. Any thread.
class event_stream {
 public:
  using kind = lifecycle_event::kind;
  /// Gives false when it wants no more.
  using function = std::function<bool(const lifecycle_event&)>;

  event_stream(system_core& core, std::size_t letters_per_second,
               std::size_t failures_per_second, bool silent);

  /// Whether somebody listens: nobody makes an event otherwise.
  bool wanted(kind k) const noexcept {
    return wanted_.load(std::memory_order_relaxed) & bit(k);
  }
  void publish(const lifecycle_event& e) noexcept;
  /// Ends a message that nobody handles: a dead letter. An asker that still
  /// waits is told `tell`. `whole`: nobody has moved from it.
  void undelivered(envelope* e, cell_base* recipient, dead_letter::reason why,
                   errc tell, bool whole = true) noexcept;

  std::uint64_t dead_letters() const noexcept {
    return dead_letters_.load(std::memory_order_relaxed);
  }

  enum class whose : std::uint8_t { runtime, function, actor };

  using mask = std::uint16_t;
  static constexpr mask bit(kind k) noexcept {
    return static_cast<mask>(1u << static_cast<unsigned>(k));
  }
  static constexpr mask all = 0xffff;
  /// `kinds`: their bits.
  std::uint64_t subscribe(mask kinds, function f, whose from = whose::function);
  void unsubscribe(std::uint64_t id) noexcept;
  /// The actors have ended: keeps none of them from here on, for their memory
  /// holds the system's.
  void close() noexcept;
  /// The owner of the system has let go: when the actors have ended, functions
  /// are kept no longer, for they may hold refs.
  void orphan() noexcept;

 private:
  struct subscriber {
    std::uint64_t id;
    mask kinds;
    function f;
    whose from;
  };
  /// What is in them is neither copied nor dropped under the lock.
  using list = std::vector<std::shared_ptr<const subscriber>>;

  /// Gives the list that was; to be dropped after the lock.
  std::shared_ptr<const list> set(std::shared_ptr<const list> next) noexcept;
  std::shared_ptr<const list> keep_wanted() noexcept;
  void log(const lifecycle_event& e);

  system_core* core_;
  const bool silent_;
  std::atomic<mask> wanted_{0};
  /// Whether anybody but the log listens, which needs no message.
  std::atomic<bool> keeps_messages_{false};
  std::atomic<std::uint64_t> dead_letters_{0};
  std::mutex mutex_;
  /// Copied on write, so that subscribers run without the lock.
  std::shared_ptr<const list> subscribers_ = std::make_shared<list>();
  std::uint64_t last_id_ = 0;
  bool closed_ = false;
  bool orphan_ = false;
  log_limit letters_logged_;
  log_limit failures_logged_;
};

/// Ends a message that was told and cannot be delivered; a question's asker is
/// told instead. `to` may be null. Any thread.
void report_undelivered(cell_base* to, envelope* message,
                        dead_letter::reason why) noexcept;

}  // namespace actors::detail
