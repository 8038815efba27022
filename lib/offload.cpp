#include "offload.hpp"

#include <utility>

#include "cell.hpp"
#include "system_core.hpp"

namespace actors::detail {

offload_pool::offload_pool(std::size_t threads, net::io_context* io)
    : limit_{threads}, io_{io} {}

offload_pool::~offload_pool() {
  {
    std::lock_guard lock{state_->mutex};
    state_->stop = true;
    state_->work.notify_all();
  }
  for (std::thread& t : threads_) {
    // The last work done may have been the end of the system.
    if (t.get_id() == std::this_thread::get_id())
      t.detach();
    else
      t.join();
  }
}

void offload_pool::push(offload_base& op) {
  std::lock_guard lock{state_->mutex};
  if (state_->queued >= state_->waiting && threads_.size() < limit_) {
    try {
      threads_.emplace_back([s = state_] { loop(s); });
    } catch (...) {
      if (threads_.empty()) throw;  // the others will come to it
    }
  }
  if (io_ && !state_->work_of_guest)
    state_->work_of_guest.emplace(io_->get_executor());
  op.next = nullptr;
  ++state_->queued;
  (state_->first ? state_->last->next : state_->first) = &op;
  state_->last = &op;
  state_->work.notify_one();
}

bool offload_pool::remove(offload_base& op) noexcept {
  std::lock_guard lock{state_->mutex};
  offload_base* before = nullptr;
  for (offload_base* o = state_->first; o; before = o, o = o->next) {
    if (o != &op) continue;
    --state_->queued;
    (before ? before->next : state_->first) = o->next;
    if (state_->last == o) state_->last = before;
    if (state_->done()) state_->work_of_guest.reset();
    return true;
  }
  return false;
}

void offload_pool::close(duration limit, const std::function<void()>& late) {
  std::unique_lock lock{state_->mutex};
  // One that starts now would outlive what its frame has of the io_context.
  state_->closed = true;
  const auto idle = [this] { return state_->running == 0; };
  if (state_->idle.wait_for(lock, limit, idle)) return;
  late();
  state_->idle.wait(lock, idle);
}

bool offload_pool::idle_within(duration limit) {
  std::unique_lock lock{state_->mutex};
  return state_->idle.wait_for(lock, limit,
                               [this] { return state_->running == 0; });
}

void offload_pool::drop_work() noexcept {
  std::lock_guard lock{state_->mutex};
  io_ = nullptr;
  state_->work_of_guest.reset();
}

void offload_pool::loop(const std::shared_ptr<state>& s) noexcept {
  std::unique_lock lock{s->mutex};
  for (;;) {
    while (offload_base* op = s->closed ? nullptr : s->first) {
      --s->queued;
      s->first = op->next;
      if (!s->first) s->last = nullptr;
      ++s->running;
      lock.unlock();
      op->run_and_tell();  // it is gone
      lock.lock();
      if (--s->running == 0) s->idle.notify_all();
      // What it told the actor is work by now.
      if (s->done()) s->work_of_guest.reset();
    }
    if (s->stop) return;
    ++s->waiting;
    s->work.wait(lock);
    --s->waiting;
  }
}

// Who may end the wait: the function's return, on a thread of the pool, which
// is told by a node to the cell; a stop or a kill, on the strand, while the
// function still waits for a thread. Who takes it out of the queue, under its
// lock, is the one.

bool offload_base::start(fiber& f, std::coroutine_handle<> frame) {
  if (take_abort(f)) {
    aborted_ = true;
    return false;
  }
  fiber_ = &f;
  waiter = frame;
  wait::cancel = &cancel_wait;
  f.waiting = this;
  try {
    f.owner->core().offload(*this);
  } catch (...) {
    f.waiting = nullptr;
    throw;
  }
  return true;
}

void offload_base::run_and_tell() noexcept {
  run();
  fiber_->owner->dropped(*fiber_, *this);
}

bool offload_base::cancel_wait(wait& w, fiber& f, cancellation how) noexcept {
  auto& self = static_cast<offload_base&>(w);
  if (!f.owner->core().take_back(self)) return false;
  self.aborted_ = true;
  if (how == cancellation::stop) (void)take_abort(f);
  return true;
}

}  // namespace actors::detail
