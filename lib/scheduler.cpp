#include "scheduler.hpp"

#include <chrono>
#include <ctime>

namespace actors::detail {

time_point scheduler::now() const noexcept {
  return std::chrono::steady_clock::now();
}

time_point scheduler::deadline(duration delay) const noexcept {
  if (delay > longest) delay = longest;
  if (delay < duration::zero()) delay = duration::zero();
#ifdef CLOCK_MONOTONIC_COARSE
  constexpr duration coarse_enough = std::chrono::milliseconds{100};
  if (delay >= coarse_enough) {
    static const duration tick = [] {
      timespec t{};
      ::clock_getres(CLOCK_MONOTONIC_COARSE, &t);
      return std::chrono::seconds{t.tv_sec} +
             std::chrono::nanoseconds{t.tv_nsec};
    }();
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return time_point{std::chrono::seconds{t.tv_sec} +
                      std::chrono::nanoseconds{t.tv_nsec}} +
           tick + delay;
  }
#endif
  return scheduler::now() + delay;
}

}  // namespace actors::detail
