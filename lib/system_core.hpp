/// The inside of an `actor_system`, shared with its cells.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "actors/system.hpp"
#include "events.hpp"
#include "net.hpp"
#include "offload.hpp"
#include "registry.hpp"
#include "scheduler.hpp"
#include "topics.hpp"

namespace actors::detail {

class cell;
class scheduler;
struct thread_state;

/// Throws `std::invalid_argument` with a sentence.
void check_options(const system_options& options);
void check_options(const spawn_options& options);

/// What a system is made of. It lives as long as its last cell, so that a ref
/// may outlive the system; threads and contexts end before.
class system_core {
 public:
  enum class kind : unsigned char { owner, guest, manual };

  system_core(const system_options& options, kind k);
  virtual ~system_core();
  system_core(const system_core&) = delete;
  system_core& operator=(const system_core&) = delete;

  void release() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  /// False: it is being destroyed.
  bool add_ref_if_any() noexcept {
    auto n = refs_.load(std::memory_order_relaxed);
    while (n != 0)
      if (refs_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed))
        return true;
    return false;
  }

  // --- any thread -----------------------------------------------------------

  actor_system& facade() noexcept { return facade_; }
  cell& guardian() const noexcept { return *guardian_; }
  event_stream& events() noexcept { return events_; }
  registry& names() noexcept { return names_; }
  topics& subscriptions() noexcept { return subscriptions_; }
  /// Where a new cell is to live; a pinned one has it counted. Throws
  /// `std::invalid_argument` for a dispatcher that is not there,
  /// `std::system_error` when there is no thread for it.
  scheduler& place(cell* parent, const spawn_options* options);
  /// Throws `std::invalid_argument` for a dispatcher that is not there.
  void check(const dispatcher& d) const;
  /// That cell has ended, or was not made after all.
  void unplace(scheduler& home) noexcept {
    if (home.pinned() && home.remove_cell()) idle(home);
  }
  /// Of the system's own dispatcher.
  scheduler& context(std::size_t index) noexcept {
    return groups_.front().at(index);
  }
  scheduler& next_context() noexcept { return groups_.front().next(); }
  std::uint32_t next_number() noexcept {
    const auto n = numbers_.fetch_add(1, std::memory_order_relaxed) + 1;
    return n != 0 ? n : next_number();
  }
  std::uint32_t throughput() const noexcept { return throughput_; }
  duration stop_timeout(const cell& c) const noexcept;
  duration stop_timeout() const noexcept { return options_.stop_timeout; }
  duration kill_timeout() const noexcept { return options_.kill_timeout; }
  kind which() const noexcept { return kind_; }
  /// Whether an ask that closes a cycle is to end at once.
  bool detects_deadlocks() const noexcept { return detects_deadlocks_; }
  /// `/user` is being drained: children handle what they have.
  bool draining() const noexcept {
    return draining_.load(std::memory_order_relaxed);
  }
  void log(std::string_view line) const noexcept;
  /// Whether each message is to be given to `trace`.
  bool traces() const noexcept { return bool{options_.trace}; }
  void trace(const trace_event& e) noexcept;
  /// An actor has failed; what comes of it is an event. For the test kit.
  virtual void report_failure(cell&, const std::exception_ptr&) noexcept {}
  /// Between 0 and 1.
  virtual double random() noexcept;
  /// Starts the policy of one that has set none.
  void default_policy(cell& c);
  /// A failure at the top: gives it to the user's handler. False: there is
  /// none, or it threw.
  bool handle_failure(cell& child, const std::exception_ptr& e) noexcept;
  /// The system ends by it.
  void failed_for_good(const std::exception_ptr& e) noexcept;
  /// Has whoever runs the system learn what it has ended by. On the guardian's
  /// strand, after all actors.
  virtual void raise(const std::exception_ptr&) noexcept {}
  /// What the system has ended by, or is about to; null: nothing.
  std::exception_ptr failure() noexcept;
  /// Whether a wait here could keep the system from going on.
  virtual bool on_runtime_thread() const noexcept;
  void stop_on_signals(std::initializer_list<int> signals);
  void guardian_ended() noexcept;
  void drain() noexcept;
  void stop() noexcept;
  /// Has a blocking function called, on a thread for that.
  virtual void offload(offload_base& op);
  /// Whether it was not called yet, and is not going to be.
  virtual bool take_back(offload_base& op) noexcept;
  /// Keeps the contexts from being closed until `leave`. False: they are, or
  /// are about to be.
  bool enter() noexcept;
  void leave() noexcept;

  /// Called when a cell's memory goes: not while somebody reads its name.
  void before_memory_goes() noexcept {
    if (!watching_.load(std::memory_order_relaxed)) [[likely]]
      return;
    const std::lock_guard lock{mutex_};
  }

  // --- its threads ----------------------------------------------------------

  /// From here to `left`, the calling thread is one of the system's.
  void joined();
  void left() noexcept;

  // --- owner ----------------------------------------------------------------

  /// Blocks; false when `timeout` ended first.
  bool wait_until_ended(std::optional<duration> timeout) noexcept;
  /// Blocks until the end of a system, however it is asked for. False: one of
  /// its threads has not come back from an actor's code for so long that it
  /// never will; the log says so.
  bool wait_until_ended_or_lost() noexcept;
  /// After all actors have ended: tells the threads to end. False: one does not
  /// in time, because it does not come back from a handler; the log says so.
  bool stop_threads() noexcept;
  /// Ends contexts, after all actors and `stop_threads`.
  virtual void shut_down() noexcept {}

 protected:
  /// Called once the schedulers are there.
  void start_guardian();
  /// Has the threads end when they have done what is posted.
  virtual void ask_threads_to_stop() noexcept {}
  /// Returns when nobody is inside any more; nobody gets in after that.
  void lock_out() noexcept;
  /// Whether all actors have.
  bool ended() noexcept {
    std::lock_guard lock{mutex_};
    return ended_;
  }
  /// Returns when no offloaded function runs; none is called after that.
  void wait_for_offloaded() noexcept;
  /// Offloaded functions are no work of the `io_context` any more.
  void drop_offload_work() noexcept;
  /// Before the first. Gives the user's `io_context`; null when it is our own.
  virtual net::io_context* before_offloads() { return nullptr; }

  /// A thread of its own for one cell, and those beside it; the cell is
  /// counted.
  virtual scheduler& pin();
  /// Nobody lives there any more.
  virtual void idle(scheduler&) noexcept {}

  /// The contexts of one dispatcher.
  class group {
   public:
    group(std::string_view name, dispatcher::kind kind)
        : name_{name}, kind_{kind} {}

    void add(scheduler& s) { contexts_.push_back(&s); }
    std::string_view name() const noexcept { return name_; }
    dispatcher::kind which() const noexcept { return kind_; }
    scheduler& at(std::size_t i) const noexcept {
      return *contexts_[i % contexts_.size()];
    }
    scheduler& next() noexcept {
      if (contexts_.size() == 1) return *contexts_.front();
      return at(turn_.fetch_add(1, std::memory_order_relaxed));
    }
    bool has(const scheduler& s) const noexcept {
      return std::find(contexts_.begin(), contexts_.end(), &s) !=
             contexts_.end();
    }

   private:
    const std::string name_;
    const dispatcher::kind kind_;
    std::vector<scheduler*> contexts_;
    std::atomic<std::uint32_t> turn_{0};
  };

  /// Makes a context the last one of the last group.
  void add_context(std::unique_ptr<scheduler> s) {
    schedulers_.push_back(std::move(s));
    groups_.back().add(*schedulers_.back());
  }
  /// Calls `f` with each context there is.
  virtual void each_context(const std::function<void(scheduler&)>& f);

  /// The system's own dispatcher first, then named ones.
  std::deque<group> groups_;
  std::vector<std::unique_ptr<scheduler>> schedulers_;

 private:
  scheduler& place_in(group& g, cell* parent, long where);
  class signals;
  class watch;

  std::atomic<std::uint32_t> refs_{1};
  const system_options options_;
  const std::uint32_t throughput_;
  const kind kind_;
  const bool detects_deadlocks_;
  /// Children of `/user` are pinned, unless they choose otherwise.
  const bool pins_;
  actor_system facade_;
  event_stream events_;
  registry names_;
  topics subscriptions_{*this};
  /// Counted until it is released by the owner of the system.
  cell* guardian_ = nullptr;
  std::atomic<std::uint32_t> numbers_{0};
  std::atomic<bool> draining_{false};
  /// It has thrown, and the log says so.
  std::atomic<bool> trace_threw_{false};
  /// How many are inside; `locked` when nobody may enter any more.
  std::atomic<std::uint32_t> visitors_{0};
  static constexpr std::uint32_t locked = std::uint32_t{1} << 31;
  /// Whether somebody looks at what the threads are doing.
  std::atomic<bool> watching_{false};
  std::mutex mutex_;
  std::condition_variable ended_changed_;
  /// The threads of its own.
  std::vector<const thread_state*> threads_;
  bool stopping_ = false;
  bool ended_ = false;
  bool lost_ = false;
  std::exception_ptr failure_;
  /// The last visitor has left after the lock.
  bool visitors_left_ = false;
  std::shared_ptr<signals> signals_;
  /// Made when it is first needed.
  std::unique_ptr<offload_pool> offloads_;
};

/// Keeps a system's inside while something of it waits in an `io_context`.
class core_ptr {
 public:
  explicit core_ptr(system_core& c) noexcept : core_{&c} { c.add_ref(); }
  core_ptr(core_ptr&& other) noexcept
      : core_{std::exchange(other.core_, nullptr)} {}
  core_ptr(const core_ptr& other) noexcept : core_ptr{*other.core_} {}
  core_ptr& operator=(core_ptr) = delete;
  ~core_ptr() {
    if (core_) core_->release();
  }

 private:
  system_core* core_;
};

/// An `io_context` that outlives what was posted to it: closing destroys that,
/// and who still has an executor, a timer or a work guard of it does no harm.
class closable_context : public net::io_context {
 public:
  using io_context::io_context;
  void close() { shutdown(); }
};

/// The guardian's cell, whose holder is raw memory still.
cell& make_root(system_core& core, scheduler& home, const actor_type& type);

/// A system with threads of its own. Throws `std::invalid_argument`.
system_core* make_owner(const system_options& options);
/// A guest on `context`. Throws `std::invalid_argument`.
system_core* make_guest(net::io_context& context,
                        const system_options& options);

}  // namespace actors::detail
