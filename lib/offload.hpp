/// The threads for `self.offload`.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "actors/message.hpp"
#include "actors/offload.hpp"

namespace actors::detail {

/// As many threads as there is work, up to a limit; they stay. A function that
/// never returns keeps its thread, which shares what it needs of the pool.
class offload_pool {
 public:
  explicit offload_pool(std::size_t threads);
  offload_pool(const offload_pool&) = delete;
  offload_pool& operator=(const offload_pool&) = delete;
  /// Nothing runs and nothing waits any more.
  ~offload_pool();

  /// Throws when there is no thread and none is to be had.
  void push(offload_base& op);
  /// False: it runs, or has run.
  bool remove(offload_base& op) noexcept;
  /// Returns when no function runs; calls `late` if that takes longer.
  void wait_until_idle(duration limit, const std::function<void()>& late);

 private:
  struct state {
    std::mutex mutex;
    std::condition_variable work;
    std::condition_variable idle;
    offload_base* first = nullptr;
    offload_base* last = nullptr;
    std::size_t waiting = 0;
    std::size_t running = 0;
    bool stop = false;
  };
  static void loop(const std::shared_ptr<state>& s) noexcept;

  const std::shared_ptr<state> state_ = std::make_shared<state>();
  const std::size_t limit_;
  std::vector<std::thread> threads_;  // guarded by the state's mutex
};

}  // namespace actors::detail
