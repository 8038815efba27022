#include "shared.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "cell.hpp"
#include "recycling_allocator.hpp"
#include "strand.hpp"
#include "system_core.hpp"

namespace actors::detail {

namespace {

// `wakes` of a cell. Who sets `busy` sees to it that a turn is taken; who takes
// it clears the other bits, and `busy` too if there are no new ones at its end:
//
//   0             nobody is at it
//   busy + wakes  a turn is queued, or runs and another is wanted
//   busy          a turn runs
enum : std::uint8_t { busy = 1, user_wake = 2, system_wake = 4, again = 8 };

}  // namespace

/// The cells that one thread runs in a row, without going back to the
/// io_context for each: what a cell wakes while it runs on this thread runs
/// here next. So a question and its answer, or a ring, stay on one thread and
/// in one cache, and the reactor is polled once a burst. Where there are other
/// threads, they get whatever is more than one.
class shared_scheduler::burst {
 public:
  explicit burst(shared_scheduler& s) noexcept
      : scheduler_{&s}, before_{std::exchange(current, this)} {}
  burst(const burst&) = delete;
  burst& operator=(const burst&) = delete;
  ~burst() {
    current = before_;
    while (count_ != 0) scheduler_->post(take());
  }

  /// False when it has no room.
  static bool add(const shared_scheduler& s, cell& c) noexcept {
    burst* b = current;
    if (!b || b->scheduler_ != &s || b->count_ == (s.alone_ ? room : 1))
      return false;
    b->cells_[(b->first_ + b->count_++) % room] = &c;
    return true;
  }
  void run(cell& c) noexcept {
    scheduler_->take_turn(c);
    for (int i = 1; i != turns && count_ != 0; ++i)
      scheduler_->take_turn(take());
    scheduler_->rest();
  }

 private:
  /// Turns before the io_context gets its turn.
  static constexpr int turns = 128;
  static constexpr unsigned room = 64;
  static constinit thread_local burst* current;

  cell& take() noexcept {
    cell& c = *cells_[first_];
    first_ = (first_ + 1) % room;
    --count_;
    return c;
  }

  shared_scheduler* scheduler_;
  burst* before_;
  unsigned first_ = 0;
  unsigned count_ = 0;
  cell* cells_[room];
};

constinit thread_local shared_scheduler::burst*
    shared_scheduler::burst::current = nullptr;

// The cell cannot end before a wake that it is owed has come, nor while it is
// queued; so it is there in all of these.

void shared_scheduler::take_turn(cell& c) noexcept {
  const auto bits = c.wakes.exchange(busy, std::memory_order_acq_rel);
  if (bits & user_wake) c.woken(lane_id::user);
  if (bits & system_wake) c.woken(lane_id::system);
  const bool alive = bits & again ? c.run_queued() : c.run();
  if (!alive) return;
  std::uint8_t nothing_new = busy;
  if (c.wakes.compare_exchange_strong(nothing_new, 0,
                                      std::memory_order_acq_rel))
    return;
  // Others come first, and I/O among them.
  if (!alone_ || !burst::add(*this, c)) post(c);
}

void shared_scheduler::signal(cell& c, std::uint8_t what) noexcept {
  const auto before = c.wakes.fetch_or(static_cast<std::uint8_t>(what | busy),
                                       std::memory_order_acq_rel);
  if (!(before & busy) && !burst::add(*this, c)) post(c);
}

void shared_scheduler::post(cell& c) noexcept {
  if (!io_) return;
  auto run =
      recycled{[this, &c, keep = core_ptr{core()}] { burst{*this}.run(c); }};
  if (core().which() == system_core::kind::guest) {
    // Who destroys a context when its `run()` returns may do so, other than
    // Asio itself says, when the thread that posted last is not yet out of it.
    const auto work = net::make_work_guard(*io_);
    net::post(*io_, std::move(run));
  } else {
    posting p;
    p.begin(*this);
    net::post(*io_, std::move(run));
  }
}

void shared_scheduler::wake(cell& c, lane_id which) noexcept {
  signal(c, which == lane_id::user ? user_wake : system_wake);
}
void shared_scheduler::post_run(cell& c) noexcept { signal(c, again); }

net::any_io_executor shared_scheduler::executor(cell& c) {
  if (!io_) return net::system_executor{};
  return actor_strand{cell_ptr{&c}, io_->get_executor()};
}

void shared_scheduler::alarm(time_point due) {
  std::lock_guard lock{mutex_};
  if (io_) start_alarm(due);
}

void shared_scheduler::start_alarm(time_point due) {
  if (due >= alarm_at_) return;
  if (due <= now()) {
    // Who only gives others their turn needs no timer of the system's.
    if (!std::exchange(ringing_, true))
      net::post(*io_, recycled{[this, keep = core_ptr{core()}] {
        {
          std::lock_guard lock{mutex_};
          ringing_ = false;
        }
        ring();
      }});
    return;
  }
  alarm_at_ = due;
  if (!alarm_) alarm_.emplace(*io_);
  alarm_->expires_at(due);
  armed_.store(true, std::memory_order_relaxed);
  alarm_->async_wait([this, keep = core_ptr{core()}](std::error_code e) {
    if (e) return;  // another alarm has taken its place
    {
      std::lock_guard lock{mutex_};
      alarm_at_ = time_point::max();
    }
    ring();
  });
}

void shared_scheduler::ring() {
  timers().fire(now());
  std::lock_guard lock{mutex_};
  if (!io_) return;
  // Said before the look: who cancels the last timer after it then sees that
  // there may be an alarm, waits for this lock, and ends it.
  armed_.store(true, std::memory_order_relaxed);
  const time_point next = timers().next();
  if (next != time_point::max())
    start_alarm(next);
  else if (alarm_at_ == time_point::max())
    armed_.store(false, std::memory_order_relaxed);
}

/// An alarm for timers that have all been cancelled would keep `io.run()` of a
/// guest from returning.
void shared_scheduler::rest() noexcept {
  if (!armed_.load(std::memory_order_relaxed)) return;
  std::lock_guard lock{mutex_};
  if (!alarm_ || timers().next() != time_point::max()) return;
  armed_.store(false, std::memory_order_relaxed);
  alarm_at_ = time_point::max();
  alarm_->cancel();
}

void shared_scheduler::close() noexcept {
  std::lock_guard lock{mutex_};
  io_ = nullptr;
  alarm_.reset();
}

shared_threads::shared_threads(system_core& core, std::size_t count)
    : core_{&core},
      count_{count},
      io_{static_cast<int>(count)},
      work_{io_.get_executor()},
      scheduler_{new shared_scheduler{core, io_, count == 1}} {}

void shared_threads::start() {
  for (std::size_t i = 0; i != count_; ++i)
    threads_.emplace_back([this] {
      core_->joined();
      io_.run();
      core_->left();
    });
}

void shared_threads::stop() noexcept {
  if (!work_.owns_work()) return;
  work_.reset();
  // After what has been posted before, also by a thread to itself, which
  // comes into the queue later: handlers of questions are owed it.
  net::post(io_, [this] { net::post(io_, [this] { io_.stop(); }); });
}

void shared_threads::join() noexcept {
  for (std::thread& t : threads_) t.join();
  threads_.clear();
}

void shared_threads::close() noexcept {
  scheduler_->close();
  io_.close();
}

namespace {

class guest;

/// Tells guests that their io_context is being destroyed.
class guest_service final : public net::execution_context::service {
 public:
  static net::execution_context::id id;

  explicit guest_service(net::execution_context& context) : service{context} {}

  void add(guest& g) {
    std::lock_guard lock{mutex_};
    guests_.push_back(&g);
  }
  void remove(guest& g) noexcept {
    std::lock_guard lock{mutex_};
    std::erase(guests_, &g);
    removed_.notify_all();
  }
  void wait_for_offloaded();

 private:
  void shutdown() override;

  std::mutex mutex_;
  std::condition_variable removed_;
  std::vector<guest*> guests_;
};

net::execution_context::id guest_service::id;

/// Waits for the functions that guests have offloaded. Asio ends the newest
/// service first: this one is made after the reactor, which they may use, and
/// not before there is such a function, because with a reactor the io_context
/// looks at it between any two handlers.
class offload_service final : public net::execution_context::service {
 public:
  static net::execution_context::id id;

  explicit offload_service(net::execution_context& context)
      : service{context}, guests_{&net::use_service<guest_service>(context)} {}

 private:
  void shutdown() override { guests_->wait_for_offloaded(); }

  guest_service* guests_;
};

net::execution_context::id offload_service::id;

/// A system on a user's io_context.
class guest final : public system_core {
 public:
  guest(net::io_context& io, const system_options& options)
      : system_core{options, kind::guest},
        io_{&io},
        service_{&net::use_service<guest_service>(io)} {
    auto s = std::make_unique<shared_scheduler>(*this, io, false);
    scheduler_ = s.get();
    add_context(std::move(s));
    service_->add(*this);
    start_guardian();
  }
  ~guest() override {
    if (!service_) return;
    drop_offload_work();
    // The context may be waiting for the next line to go, and the alarm's
    // service with it.
    scheduler_->close();
    service_->remove(*this);
  }

  using system_core::wait_for_offloaded;

  bool on_runtime_thread() const noexcept override {
    return system_core::on_runtime_thread() ||
           (io_ && io_->get_executor().running_in_this_thread());
  }

  void raise(const std::exception_ptr& e) noexcept override {
    if (io_) net::post(*io_, [e] { std::rethrow_exception(e); });
  }

  /// The io_context is going, and nothing runs on it any more.
  void shut_down() noexcept override {
    // What they end may own parts of the io_context.
    wait_for_offloaded();
    service_ = nullptr;
    scheduler_->close();
    io_ = nullptr;
    // Of a guardian that has ended even the memory may be gone.
    if (!ended()) guardian().tear_down();
    release();  // the service's, see there
  }

 private:
  net::io_context* before_offloads() override {
    if (io_) {
      const net::steady_timer makes_the_reactor{*io_};
      net::use_service<offload_service>(*io_);
    }
    return io_;
  }

  net::io_context* io_;
  guest_service* service_;
  shared_scheduler* scheduler_ = nullptr;
};

void guest_service::wait_for_offloaded() {
  std::vector<guest*> all;
  {
    // Not under the lock, which a guest that ends takes.
    std::lock_guard lock{mutex_};
    all.reserve(guests_.size());
    for (guest* g : guests_)
      if (g->add_ref_if_any()) all.push_back(g);
  }
  for (guest* g : all) {
    g->wait_for_offloaded();
    g->release();
  }
}

void guest_service::shutdown() {
  for (;;) {
    guest* g;
    {
      // One by one: the end of one may be the end of another.
      std::unique_lock lock{mutex_};
      if (guests_.empty()) return;
      g = guests_.back();
      if (!g->add_ref_if_any()) {
        // Another thread has dropped the last ref to one of its actors, and is
        // about to remove it.
        removed_.wait(lock);
        continue;
      }
      guests_.pop_back();
    }
    g->shut_down();
  }
}

}  // namespace

system_core* make_guest(net::io_context& context,
                        const system_options& options) {
  check_options(options);
  return new guest{context, options};
}

}  // namespace actors::detail
