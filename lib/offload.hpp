/// The threads for `self.offload`.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "actors/message.hpp"
#include "actors/offload.hpp"
#include "net.hpp"

namespace actors::detail {

/// As many threads as there is work, up to a limit; they stay. A function that
/// never returns keeps its thread, which shares what it needs of the pool.
class offload_pool {
 public:
  /// `io`: what is a guest there; functions are work that keeps its `run()`.
  offload_pool(std::size_t threads, net::io_context* io);
  offload_pool(const offload_pool&) = delete;
  offload_pool& operator=(const offload_pool&) = delete;
  /// Nothing runs and nothing waits any more.
  ~offload_pool();

  /// Throws when there is no thread and none is to be had.
  void push(offload_base& op);
  /// False: it runs, or has run.
  bool remove(offload_base& op) noexcept;
  /// Calls no more functions. Returns when none runs; calls `late` if that
  /// takes longer. Those that wait for a thread can still be removed.
  void close(duration limit, const std::function<void()>& late);
  /// Whether no function runs before `limit` is over.
  bool idle_within(duration limit);
  /// From here on functions are no work, and the `io_context` may go.
  void drop_work() noexcept;

 private:
  struct state {
    bool done() const noexcept { return running == 0 && !first; }

    std::mutex mutex;
    std::condition_variable work;
    std::condition_variable idle;
    offload_base* first = nullptr;
    offload_base* last = nullptr;
    std::size_t queued = 0;
    std::size_t waiting = 0;
    std::size_t running = 0;
    bool closed = false;
    bool stop = false;
    /// While there are functions that run or wait.
    std::optional<net::executor_work_guard<net::io_context::executor_type>>
        work_of_guest;
  };
  static void loop(const std::shared_ptr<state>& s) noexcept;

  const std::shared_ptr<state> state_ = std::make_shared<state>();
  const std::size_t limit_;
  net::io_context* io_;               // guarded likewise
  std::vector<std::thread> threads_;  // guarded by the state's mutex
};

}  // namespace actors::detail
