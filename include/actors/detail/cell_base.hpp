/// What a handle knows of an actor: identity, lifetime, where to put a message.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "actors/message.hpp"

namespace actors::detail {

struct ask_state;
struct envelope;

/// The public face of a cell (`lib/cell.hpp`), the fixed part of an actor.
class cell_base {
 public:
  cell_base(const cell_base&) = delete;
  cell_base& operator=(const cell_base&) = delete;

  void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }

 protected:
  cell_base() noexcept = default;
  ~cell_base() = default;

  /// Handles and runtime parts that hold the memory; starts with the creator's.
  std::atomic<std::uint32_t> refs_{1};
  /// Among its siblings, when it has no name; 0 when it has.
  std::uint32_t number_ = 0;

 private:
  void destroy() noexcept;
};

/// What becomes of a message that is put in a mailbox. But for `in` the caller
/// keeps it.
enum class pushed : unsigned char {
  /// A question may wait for room.
  in,
  closed,
  full,
};

/// Puts a message in the mailbox. Any thread.
pushed enqueue(cell_base& to, envelope* message) noexcept;

/// The same for a sender that waits until it is in, and gets the answer. False
/// when the mailbox is closed; the caller keeps both then. Any thread.
bool enqueue_sent(cell_base& to, envelope* message, ask_state& sender) noexcept;

/// `enqueue`, or a dead letter. `to` may be null. Any thread.
void tell(cell_base* to, envelope* message) noexcept;

/// Whether the actor's message types include this one. Any thread.
bool accepts(const cell_base& cell, const message_type& type) noexcept;

/// Whether it takes no message any more, for good. Any thread.
bool closed(const cell_base& cell) noexcept;

/// Ends that handles ask for; `cell` may be null. Any thread.
void request_stop(cell_base* cell) noexcept;
void request_drain(cell_base* cell) noexcept;
void request_kill(cell_base* cell) noexcept;

/// "/user/bank/log"; "(null)" for none. Any thread.
std::string path_of(const cell_base* cell);

/// A counted pointer to a cell.
class cell_ptr {
 public:
  cell_ptr() noexcept = default;
  /// Shares the cell.
  explicit cell_ptr(cell_base* cell) noexcept : cell_{cell} {
    if (cell_) cell_->add_ref();
  }
  /// Takes over a count that the caller owns.
  static cell_ptr adopt(cell_base* cell) noexcept {
    cell_ptr p;
    p.cell_ = cell;
    return p;
  }
  cell_ptr(const cell_ptr& other) noexcept : cell_ptr{other.cell_} {}
  cell_ptr(cell_ptr&& other) noexcept
      : cell_{std::exchange(other.cell_, nullptr)} {}
  cell_ptr& operator=(cell_ptr other) noexcept {
    std::swap(cell_, other.cell_);
    return *this;
  }
  ~cell_ptr() {
    if (cell_) cell_->release();
  }

  cell_base* get() const noexcept { return cell_; }
  cell_base* detach() noexcept { return std::exchange(cell_, nullptr); }
  explicit operator bool() const noexcept { return cell_ != nullptr; }

 private:
  cell_base* cell_ = nullptr;
};

}  // namespace actors::detail
