#include "shared.hpp"

#include <memory>
#include <new>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "cell.hpp"
#include "system_core.hpp"

namespace actors::detail {

namespace {

/// A cell with the strand it runs on, until it has ended.
class strand_cell final : public cell {
 public:
  strand_cell(scheduler& home, const actor_type& type,
              const net::io_context::executor_type& executor)
      : cell{home, type}, strand{std::in_place, executor} {}

  std::optional<shared_scheduler::strand> strand;
};

strand_cell& with_strand(cell& c) noexcept {
  return static_cast<strand_cell&>(c);
}

}  // namespace

std::size_t shared_scheduler::cell_size() const noexcept {
  return sizeof(strand_cell);
}
cell* shared_scheduler::make_cell(void* memory, const actor_type& type) {
  return ::new (memory) strand_cell(*this, type, io_->get_executor());
}
void shared_scheduler::end_cell(cell& c) noexcept {
  with_strand(c).strand.reset();
}
void shared_scheduler::destroy_cell(cell& c) noexcept {
  with_strand(c).~strand_cell();
}

void shared_scheduler::wake(cell& c, lane_id which) noexcept {
  // The cell cannot end before this wake has come, so `c` and its strand are
  // there, now and in the handler.
  if (!io_) return;
  net::post(*with_strand(c).strand, [&c, which] {
    c.woken(which);
    c.run();
  });
}
void shared_scheduler::post_run(cell& c) noexcept {
  if (!io_) return;
  net::post(*with_strand(c).strand, [&c] { c.run_queued(); });
}

net::any_io_executor shared_scheduler::executor(cell& c) {
  return *with_strand(c).strand;
}

void shared_scheduler::alarm(time_point due) {
  std::lock_guard lock{mutex_};
  if (alarm_) start_alarm(due);
}

void shared_scheduler::start_alarm(time_point due) {
  if (due >= alarm_at_) return;
  alarm_at_ = due;
  alarm_->expires_at(due);
  alarm_->async_wait([this](std::error_code e) {
    if (e) return;  // another alarm has taken its place
    {
      std::lock_guard lock{mutex_};
      alarm_at_ = time_point::max();
    }
    timers().fire(now());
    const time_point next = timers().next();
    if (next != time_point::max()) alarm(next);
  });
}

void shared_scheduler::close() noexcept {
  std::lock_guard lock{mutex_};
  io_ = nullptr;
  alarm_.reset();
}

namespace {

/// Threads of its own on one io_context.
class shared_owner final : public system_core {
 public:
  shared_owner(const system_options& options, std::size_t threads)
      : system_core{options, kind::owner},
        io_{std::in_place, static_cast<int>(threads)},
        work_{std::in_place, io_->get_executor()} {
    auto s = std::make_unique<shared_scheduler>(*this, *io_);
    scheduler_ = s.get();
    schedulers_.push_back(std::move(s));
    start_guardian();
    for (std::size_t i = 0; i != threads; ++i)
      threads_.emplace_back([this] { io_->run(); });
  }

  bool on_runtime_thread() const noexcept override {
    return system_core::on_runtime_thread() ||
           (io_ && io_->get_executor().running_in_this_thread());
  }

  void shut_down() noexcept override {
    work_.reset();
    io_->stop();
    for (std::thread& t : threads_) t.join();
    scheduler_->close();
    io_.reset();
  }

 private:
  /// Mutable, because Asio has no const way to an executor.
  mutable std::optional<net::io_context> io_;
  std::optional<net::executor_work_guard<net::io_context::executor_type>> work_;
  shared_scheduler* scheduler_ = nullptr;
  std::vector<std::thread> threads_;
};

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
  }

 private:
  void shutdown() override;

  std::mutex mutex_;
  std::vector<guest*> guests_;
};

net::execution_context::id guest_service::id;

/// A system on a user's io_context.
class guest final : public system_core {
 public:
  guest(net::io_context& io, const system_options& options)
      : system_core{options, kind::guest},
        io_{&io},
        service_{&net::use_service<guest_service>(io)} {
    auto s = std::make_unique<shared_scheduler>(*this, io);
    scheduler_ = s.get();
    schedulers_.push_back(std::move(s));
    service_->add(*this);
    start_guardian();
  }
  ~guest() override {
    if (service_) service_->remove(*this);
  }

  bool on_runtime_thread() const noexcept override {
    return system_core::on_runtime_thread() ||
           (io_ && io_->get_executor().running_in_this_thread());
  }

  /// The io_context is going, and nothing runs on it any more.
  void shut_down() noexcept override {
    add_ref();
    service_ = nullptr;
    scheduler_->close();
    io_ = nullptr;
    guardian().tear_down();
    release();
  }

 private:
  net::io_context* io_;
  guest_service* service_;
  shared_scheduler* scheduler_ = nullptr;
};

void guest_service::shutdown() {
  std::vector<guest*> guests;
  {
    std::lock_guard lock{mutex_};
    guests = std::exchange(guests_, {});
  }
  for (guest* g : guests) g->shut_down();
}

}  // namespace

system_core* make_pool(const system_options& options, std::size_t threads);

system_core* make_owner(const system_options& options) {
  check_options(options);
  std::size_t threads = options.threads.value_or(0);
  if (threads == 0) threads = std::thread::hardware_concurrency();
  if (threads == 0) threads = 1;
  if (options.dispatcher.which() == dispatcher::kind::pool)
    return make_pool(options, threads);
  return new shared_owner{options, threads};
}

system_core* make_guest(net::io_context& context,
                        const system_options& options) {
  check_options(options);
  return new guest{context, options};
}

}  // namespace actors::detail
