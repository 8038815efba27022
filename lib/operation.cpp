#include "actors/operation.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "actors/detail/handler.hpp"
#include "actors/exit_reason.hpp"
#include "actors/ref.hpp"
#include "ask_link.hpp"
#include "cell.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

// How a question that an actor awaits ends. Five things race for it: the
// answer (any thread), the timeout, a stop and a kill of the asker, the end of
// the question on whose behalf it asks (its strand). The last four are of one
// strand, so they come one after another; each of them and the answer meet in
// `abandon`:
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
  if (on_behalf_) disinherit();
  if (ask_state* s = std::exchange(state_, nullptr)) s->leave();
  outcome_ = outcome::error;
  error_ = why;
  return false;
}

/// As an answer, which there is a place for.
bool operation_base::refuse(std::exception_ptr why) noexcept {
  state_->type->put_error(*state_, std::move(why));
  outcome_ = outcome::answered;
  return false;
}

/// Ends it when nobody but its own actor could answer it, or, where that is
/// looked for, one that waits for its end.
bool operation_base::deadlocks(cell& c, fiber& f) {
  ask_state& s = *state_;
  if (s.type->is_send) {
    s.may_not_wait = target_.get() == &c && c.blocked_by(f);
    return false;
  }
  if (target_.get() == &c && c.blocked_by(f)) {
    if (s.type->put_error)
      (void)refuse(cycle_of_one(c));
    else
      (void)refuse(errc::would_deadlock);
    return true;
  }
  if (!s.type->inherits || !c.core().detects_deadlocks()) return false;
  const ask_link* const above = link_above(f);
  if (above) {
    if (std::exception_ptr error = cycle(above, c, *target_.get())) {
      (void)refuse(std::move(error));
      return true;
    }
  }
  s.from.link = make_node<ask_link>(c, blocks(c, f), above);
  s.by = ask_state::asked_by::linked_actor;
  s.outcome.store(ask_state::linked, std::memory_order_relaxed);
  return false;
}

// --- what is inherited ------------------------------------------------------

namespace {

/// The question that an operation of `f` inherits from; null: none. What has
/// been told to end cleans up, and inherits nothing.
ask_state* inherited_by(const fiber& f) noexcept {
  for (const fiber* i = &f; i; i = static_cast<const child_fiber*>(i)->parent) {
    if (i->told || i->shielded) return nullptr;
    if (i->hand)
      return i->hand->type->question ? i->hand->type->question(i->hand)
                                     : nullptr;
    if (!i->child) return nullptr;
  }
  return nullptr;
}

}  // namespace

/// False: it has ended, because nobody waits for what it is asked for.
bool operation_base::inherit(cell& c, const fiber& f) noexcept {
  ask_state* const q = inherited_by(f);
  if (!q) return true;
  std::uint8_t how = q->how();
  if (how == ask_state::pending) how = q->watch(c);
  switch (how) {
    case ask_state::answered:
      return true;
    case ask_state::abandoned:
      outcome_ = outcome::aborted;
      return false;
    case ask_state::expired:
      return refuse(errc::timed_out);
  }
  if (q->deadline != never) {
    // Before its asker may have found the time to see it.
    if (c.home().now() >= q->deadline) return refuse(errc::timed_out);
    state_->deadline = q->deadline;
  }
  on_behalf_ = q;
  next_heir_ = q->heirs;
  if (next_heir_) next_heir_->previous_heir_ = this;
  q->heirs = this;
  return true;
}

void operation_base::disinherit() noexcept {
  (previous_heir_ ? previous_heir_->next_heir_ : on_behalf_->heirs) =
      next_heir_;
  if (next_heir_) next_heir_->previous_heir_ = previous_heir_;
  on_behalf_ = nullptr;
  next_heir_ = previous_heir_ = nullptr;
}

/// The asker of a question that is in hand, or was, has left: what waits on
/// its behalf ends, and so tells whom it has asked.
void operation_base::asker_left(cell& c, system_node& n) noexcept {
  auto& q = static_cast<ask_state&>(n);
  const std::uint8_t how = q.how();
  // Whoever goes on may end others of them, and what he has in hand.
  while (operation_base* op = q.heirs) {
    op->disinherit();
    if (!op->abandon(how)) continue;  // the answer is on its way
    if (how == ask_state::expired) {
      op->outcome_ = outcome::error;
      op->error_ = errc::timed_out;
    } else {
      op->outcome_ = outcome::aborted;
    }
    op->finish(c);
  }
  q.leave();
}

bool ask_state::give_up(std::uint8_t how) noexcept {
  std::uint8_t found = outcome.load(std::memory_order_acquire);
  if (found & linked) from.link->waits.store(false, std::memory_order_release);
  do {
    if (found & how_it_ended) return false;
  } while (!outcome.compare_exchange_weak(
      found, static_cast<std::uint8_t>((found & watched) | how),
      std::memory_order_acq_rel));
  // From here on it belongs to the asked side, unless it is watched.
  if (!(found & watched)) return true;
  arrive = &operation_base::asker_left;
  if (!to_cell(*watcher).push_system(*this)) leave();
  return true;
}

bool ask_state::win_beside(std::uint8_t found) noexcept {
  if (found & linked) from.link->waits.store(false, std::memory_order_release);
  while (!(found & how_it_ended)) {
    if (!outcome.compare_exchange_weak(found, answered,
                                       std::memory_order_acq_rel))
      continue;
    // Nobody is going to tell the watcher.
    if (found & watched) holders.fetch_sub(1, std::memory_order_acq_rel);
    return true;
  }
  return false;
}

std::uint8_t ask_state::watch(cell_base& c) noexcept {
  if (watcher) return pending;  // is told, should it have left meanwhile
  c.add_ref();
  watcher = &c;
  add_holder();
  const auto found = static_cast<std::uint8_t>(
      outcome.fetch_or(watched, std::memory_order_acq_rel) & how_it_ended);
  // Who came first has not seen the mark.
  if (found != pending) holders.fetch_sub(1, std::memory_order_acq_rel);
  return found;
}

void ask_state::leave_hand() noexcept {
  forget_heirs();
  if (!watcher) return;
  const std::uint8_t found =
      outcome.fetch_and(static_cast<std::uint8_t>(~watched));
  if (found & how_it_ended) return;  // the news is on its way, and finds nobody
  holders.fetch_sub(1, std::memory_order_acq_rel);
  std::exchange(watcher, nullptr)->release();
}

void ask_state::unlink_heirs() noexcept {
  while (heirs) heirs->disinherit();
}

// --- the wait ---------------------------------------------------------------

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
  ask_state& s = *state_;
  if ((target_.get() == &c || c.core().detects_deadlocks()) && deadlocks(c, f))
      [[unlikely]]
    return false;
  if ((f.hand || f.child) && !shielded_ && s.type->inherits && !inherit(c, f))
    return false;

  fiber_ = &f;
  waiter = frame;
  wait::cancel = &cancel_wait;
  s.asker = this;
  if (s.by == ask_state::asked_by::function) {
    c.add_ref();
    s.from.actor = &c;
    s.by = ask_state::asked_by::actor;
  }
  if (timeout_ >= duration::zero()) {
    timer_ = start_timer(c, timeout_, &expire, this);
    s.deadline = std::min(s.deadline, timer_->due);
  }
  f.waiting = this;
  if (s.type->submit(s, *target_.get())) return true;
  f.waiting = nullptr;
  cancel_timer(std::exchange(timer_, nullptr));
  return refuse(errc::actor_stopped);
}

void ask_state::deliver_to_actor(ask_state& s) noexcept {
  s.arrive = &operation_base::arrive;
  if (!to_cell(*s.asker_cell()).push_system(s)) s.leave();
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
  if (on_behalf_) disinherit();
  cancel_timer(std::exchange(timer_, nullptr));
  if (outcome_ == outcome::none) outcome_ = outcome::answered;
  c.resume(*fiber_, *this);
}

/// Leaves the question to the asked side; false when the answer came first.
bool operation_base::abandon(std::uint8_t how) noexcept {
  if (!state_->give_up(how)) return false;
  state_ = nullptr;
  return true;
}

void operation_base::expire(cell& c, void* op) noexcept {
  auto& self = *static_cast<operation_base*>(op);
  self.timer_ = nullptr;
  if (!self.abandon(ask_state::expired)) return;
  self.outcome_ = outcome::error;
  self.error_ = errc::timed_out;
  self.finish(c);
}

bool operation_base::cancel_wait(wait& w, fiber& f, cancellation how) noexcept {
  auto& self = static_cast<operation_base&>(w);
  if (how == cancellation::kill && self.on_behalf_) self.disinherit();
  if (self.abandon(ask_state::abandoned)) {
    if (self.on_behalf_) self.disinherit();
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

time_point deadline_in(const cell_base* target, duration timeout) noexcept {
  if (!target || static_cast<const cell*>(target)->core().which() ==
                     system_core::kind::manual)
    return never;
  return std::chrono::steady_clock::now() + std::min(timeout, longest);
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
  state_->from.function = &blocked_thread::deliver;
  if (timeout_ >= duration::zero())
    state_->deadline = deadline_in(&target, timeout_);
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
    if (abandon(ask_state::expired)) {
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
