/// `count_down_latch`: waits until something has happened so many times.
#pragma once

#include <cstddef>
#include <memory>

#include "actors/fwd.hpp"
#include "actors/operation.hpp"

namespace actors {

namespace detail {
class latch;
}  // namespace detail

/// Opens when it has been counted down to zero, and stays open.
///
/// A handle, cheap to copy: those who count and those who wait have one each,
/// in a message or by an argument of `spawn`. When the last one goes, and it
/// has not been opened, whoever waits is told `errc::no_reply`. Any thread. As
/// Java's `java.util.concurrent.CountDownLatch`, but that nobody blocks.
class count_down_latch {
 public:
  /// Opens after `count` times; with 0 it is open.
  count_down_latch(actor_system& system, std::size_t count);

  /// Counts down by `times`; below zero it does not go. Those who wait are told
  /// when it is zero.
  void count_down(std::size_t times = 1) const;
  /// How many times are left.
  std::size_t count() const noexcept;
  /// Ready when the count is zero.
  operation<void> wait() const;

 private:
  std::shared_ptr<detail::latch> latch_;
};

}  // namespace actors
