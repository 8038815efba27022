/// A system with threads of its own: the dispatchers `pool` and `shared`, named
/// pools of either kind, and threads for pinned actors.
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "shared.hpp"
#include "system_core.hpp"
#include "worker.hpp"

namespace actors::detail {

namespace {

class owner final : public system_core {
 public:
  explicit owner(const system_options& options)
      : system_core{options, kind::owner} {
    // Of a system whose actors have threads of their own: for all else.
    std::size_t threads = options.dispatcher.which() == dispatcher::kind::pinned
                              ? options.threads.value_or(1)
                              : options.threads.value_or(0);
    if (threads == 0) threads = std::thread::hardware_concurrency();
    if (threads == 0) threads = 1;
    add_threads(threads);
    for (const pool_options& p : options.pools) {
      groups_.emplace_back(p.name, p.dispatcher.which());
      add_threads(p.threads);
    }
    try {
      for (worker* w : workers_) w->start();
      for (shared_threads& s : shared_) s.start();
    } catch (...) {
      // No more threads are to be had. Nothing has run on those there are.
      ask_threads_to_stop();
      join();
      throw;
    }
    start_guardian();
  }

  bool on_runtime_thread() const noexcept override {
    if (system_core::on_runtime_thread()) return true;
    for (const shared_threads& s : shared_)
      if (s.runs_here()) return true;
    return false;
  }

  void ask_threads_to_stop() noexcept override {
    for (worker* w : workers_) w->stop();
    for (shared_threads& s : shared_) s.stop();
    const std::lock_guard lock{pinned_mutex_};
    for (const auto& w : pinned_) w->stop();
    pins_nobody_ = true;
  }

  void shut_down() noexcept override {
    join();
    each_context([](scheduler& s) { s.wait_for_posts(); });
    wait_for_offloaded();
    for (worker* w : workers_) w->close();
    for (const auto& w : pinned_) w->close();
    for (shared_threads& s : shared_) s.close();
  }

 private:
  /// For the last group.
  void add_threads(std::size_t count) {
    if (groups_.back().which() == dispatcher::kind::shared) {
      shared_.emplace_back(*this, count);
      add_context(std::unique_ptr<scheduler>{shared_.back().scheduler()});
      return;
    }
    for (std::size_t i = 0; i != count; ++i) {
      auto w = std::make_unique<worker>(*this, spins_);
      workers_.push_back(w.get());
      add_context(std::move(w));
    }
  }
  void join() noexcept {
    for (worker* w : workers_) w->join();
    for (shared_threads& s : shared_) s.join();
    // Nobody is pinned any more.
    for (const auto& w : pinned_) w->join();
  }

  scheduler& pin() override {
    {
      const std::lock_guard lock{pinned_mutex_};
      // All actors have ended, and so does this one, before it begins.
      if (pins_nobody_) return context(0);
      if (!idle_.empty()) {
        worker* w = idle_.back();
        idle_.pop_back();
        w->add_cell();
        return *w;
      }
      pinned_.reserve(pinned_.size() + 1);
      idle_.reserve(pinned_.capacity());
      pinned_.push_back(std::make_unique<worker>(*this, spins_, true));
      try {
        pinned_.back()->start();
      } catch (...) {
        pinned_.pop_back();
        throw;
      }
      pinned_.back()->add_cell();
      return *pinned_.back();
    }
  }
  void idle(scheduler& home) noexcept override {
    const std::lock_guard lock{pinned_mutex_};
    idle_.push_back(static_cast<worker*>(&home));  // there is room for all
  }
  void each_context(const std::function<void(scheduler&)>& f) override {
    system_core::each_context(f);
    const std::lock_guard lock{pinned_mutex_};
    for (const auto& w : pinned_) f(*w);
  }

  const bool spins_ = std::thread::hardware_concurrency() > 1;
  std::vector<worker*> workers_;
  std::list<shared_threads> shared_;
  std::mutex pinned_mutex_;  // guards what follows
  /// A thread each; they stay, and actors come and go.
  std::vector<std::unique_ptr<worker>> pinned_;
  std::vector<worker*> idle_;
  bool pins_nobody_ = false;
};

}  // namespace

system_core* make_owner(const system_options& options) {
  check_options(options);
  return new owner{options};
}

}  // namespace actors::detail
