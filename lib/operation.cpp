#include "actors/operation.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "actors/detail/handler.hpp"
#include "actors/exit_reason.hpp"
#include "actors/ref.hpp"
#include "cell.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

// How a question that an actor awaits ends. Four things race for it: the
// answer (any thread), the timeout, a stop and a kill of the asker (its
// strand). The last three are of one strand, so they come one after another;
// each of them and the answer meet in `abandon`:
//
//   answer first    the node is in the asker's system lane, or on its way
//                   there: a timeout and a stop leave it to arrive; a kill
//                   takes `asker` out, and its arrival frees the node
//   answer second   the node is the asked side's, which frees it; the
//                   operation has forgotten it

void operation_base::set_timeout(duration timeout) {
  check_timeout(timeout);
  timeout_ = std::min(timeout, longest);
}

bool operation_base::refuse(errc why) noexcept {
  if (ask_state* s = std::exchange(state_, nullptr)) s->leave();
  outcome_ = outcome::error;
  error_ = why;
  return false;
}

/// False: it has ended at once, and the frame goes on.
bool operation_base::start(fiber& f, std::coroutine_handle<> frame) {
  cell& c = *f.owner;
  if (!state_ || outcome_ != outcome::none) [[unlikely]]
    return refuse(errc::no_reply);  // used twice
  if (take_abort(f)) {
    outcome_ = outcome::aborted;
    return false;
  }
  if (!target_) return refuse(errc::actor_stopped);
  if (target_.get() == &c && c.blocked_by(f)) {
    if (!state_->type->is_send) return refuse(errc::would_deadlock);
    state_->may_not_wait = true;
  }

  fiber_ = &f;
  waiter = frame;
  wait::cancel = &cancel_wait;
  ask_state& s = *state_;
  s.asker = this;
  s.asker_cell = &c;
  c.add_ref();
  s.deliver = &deliver_to_cell;
  if (timeout_ >= duration::zero())
    timer_ = start_timer(c, timeout_, &expire, this);
  f.waiting = this;
  if (s.type->submit(s, *target_.get())) return true;
  f.waiting = nullptr;
  cancel_timer(std::exchange(timer_, nullptr));
  return refuse(errc::actor_stopped);
}

void operation_base::deliver_to_cell(ask_state& s) noexcept {
  s.arrive = &arrive;
  if (!to_cell(*s.asker_cell).push_system(s)) s.leave();
}

void operation_base::arrive(cell& c, system_node& n) noexcept {
  auto& s = static_cast<ask_state&>(n);
  auto* op = static_cast<operation_base*>(s.asker);
  if (!op) {
    s.leave();
    return;
  }
  op->finish(c);
}

void operation_base::finish(cell& c) noexcept {
  cancel_timer(std::exchange(timer_, nullptr));
  if (outcome_ == outcome::none) outcome_ = outcome::answered;
  c.resume(*fiber_, *this);
}

/// Leaves the question to the asked side; false when the answer came first.
bool operation_base::abandon() noexcept {
  if (state_->outcome.exchange(ask_state::abandoned,
                               std::memory_order_acq_rel) != ask_state::pending)
    return false;
  state_ = nullptr;
  return true;
}

void operation_base::expire(cell& c, void* op) noexcept {
  auto& self = *static_cast<operation_base*>(op);
  self.timer_ = nullptr;
  if (!self.abandon()) return;
  self.outcome_ = outcome::error;
  self.error_ = errc::timed_out;
  self.finish(c);
}

bool operation_base::cancel_wait(wait& w, fiber& f, cancellation how) noexcept {
  auto& self = static_cast<operation_base&>(w);
  if (self.abandon()) {
    cancel_timer(std::exchange(self.timer_, nullptr));
    self.outcome_ = outcome::aborted;
    if (how == cancellation::stop) (void)take_abort(f);
    return true;
  }
  if (how == cancellation::stop) return false;
  cancel_timer(std::exchange(self.timer_, nullptr));
  std::exchange(self.state_, nullptr)->asker = nullptr;
  return true;
}

namespace {

/// A plain thread that waits in `get()`.
struct blocked_thread {
  std::mutex mutex;
  std::condition_variable changed;
  bool answered = false;

  static void deliver(ask_state& s) noexcept {
    auto& self = *static_cast<blocked_thread*>(s.asker);
    // Notified under the lock: the waiter may be gone right after it.
    std::lock_guard lock{self.mutex};
    self.answered = true;
    self.changed.notify_one();
  }
};

}  // namespace

void operation_base::block() {
  if (!state_ || outcome_ != outcome::none) {
    (void)refuse(errc::no_reply);  // used twice
    return;
  }
  if (!target_) {
    (void)refuse(errc::actor_stopped);
    return;
  }
  cell& target = to_cell(*target_.get());
  if (target.core().on_runtime_thread()) {
    (void)refuse(errc::would_deadlock);
    return;
  }
  blocked_thread self;
  state_->asker = &self;
  state_->deliver = &blocked_thread::deliver;
  if (!state_->type->submit(*state_, target)) {
    (void)refuse(errc::actor_stopped);
    return;
  }
  std::unique_lock lock{self.mutex};
  const auto answered = [&] { return self.answered; };
  if (timeout_ < duration::zero()) {
    self.changed.wait(lock, answered);
  } else if (!self.changed.wait_for(lock, timeout_, answered)) {
    lock.unlock();
    if (abandon()) {
      outcome_ = outcome::error;
      error_ = errc::timed_out;
      return;
    }
    // The answer came first: it is being delivered right now.
    lock.lock();
    self.changed.wait(lock, answered);
  }
  outcome_ = outcome::answered;
}

namespace {

/// A question to the runtime's part of an actor, about its life.
template <class R, void (cell::*Wait)(ask_state&)>
struct life_question final : reply_state<R> {
  life_question() noexcept : reply_state<R>{type} {}

  static bool submit(ask_state& s, cell_base& to) noexcept {
    s.arrive = [](cell& c, system_node& n) noexcept {
      (c.*Wait)(static_cast<ask_state&>(n));
    };
    if (to_cell(to).push_system(s)) return true;
    // It has ended for good, so this may be read here.
    auto& self = static_cast<life_question&>(s);
    if constexpr (std::is_same_v<R, exit_reason>)
      self.answer(to_cell(to).why());
    else
      self.answer(to_cell(to).how_started());
    return true;
  }
  static void free(ask_state& s) noexcept {
    destroy_and_free(static_cast<life_question*>(&s));
  }
  static constexpr ask_type type{&submit, &free, &reply_state<R>::fail};
};

}  // namespace

operation<void> make_started(cell_ptr target) {
  return {std::move(target),
          make_node<life_question<void, &cell::wait_for_start>>()};
}
operation<exit_reason> make_stopped(cell_ptr target) {
  return {std::move(target),
          make_node<life_question<exit_reason, &cell::wait_for_end>>()};
}

}  // namespace actors::detail
