/// Fibers beside the body's: child tasks, and what ends them.
#include <exception>
#include <utility>

#include "actors/child_task.hpp"
#include "actors/error.hpp"
#include "actors/supervision.hpp"
#include "cell.hpp"
#include "events.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

void run_child(child_fiber& f, std::coroutine_handle<> frame) noexcept {
  child_fiber* const before = std::exchange(here.task, &f);
  f.run(frame);
  here.task = before;
  if (f.frame.done()) f.ended(f);
}

void child_task_base::on_end(child_fiber& f) noexcept {
  auto& t = static_cast<child_task_base&>(f);
  t.owner->task_ended(t, t.finish(t));
}

void child_task_base::on_arrival(cell& c, system_node& n) noexcept {
  auto& t = static_cast<child_task_base&>(n);
  t.on_its_way = false;
  if (t.killed || t.has_ended || c.killed()) {
    // Nothing is to be started or told any more.
  } else if (t.frame) {
    c.cancel(t);
  } else {
    try {
      t.start(t);
    } catch (
        ...) {  // by a callable that is no coroutine, or for want of memory
      c.task_ended(t, std::current_exception());
    }
  }
  t.release();
}

void start_child_task(cell& c, child_task_base& t) {
  t.owner = &c;
  c.start_task(t);
}

void cancel_child_task(child_task_base& t) noexcept {
  if (t.has_ended || t.killed || t.told) return;
  if (!t.frame) {
    t.told = t.abort = true;  // its first operation tells it
    return;
  }
  // Not here: the task would go on in the middle of whoever cancels it.
  if (t.on_its_way) return;
  t.on_its_way = true;
  ++t.refs;
  if (!t.owner->push_system(t)) t.release();
}

void cell::start_task(child_task_base& t) {
  const bool has_failed = failing() && !(lasts() && stop_ == stop_phase::told);
  if (body_ended_ || killed_ || has_failed)
    throw_error(make_error_code(errc::actor_stopped));
  cell_extras& x = extras();
  t.next_task = x.tasks;
  if (x.tasks) x.tasks->previous_task = &t;
  x.tasks = &t;
  if (t.is_handler) ++x.handlers;
  ++t.refs;  // the node's
  t.on_its_way = true;
  // Its own strand: never refused.
  if (!push_system(t)) t.release();
}

void cell::task_ended(child_task_base& t, std::exception_ptr error) noexcept {
  t.has_ended = true;
  t.error = error;
  cell_extras& x = *extras_;
  (t.previous_task ? t.previous_task->next_task : x.tasks) = t.next_task;
  if (t.next_task) t.next_task->previous_task = t.previous_task;
  if (t.is_handler) --x.handlers;
  if (t.is_policy) {
    t.destroy_frame(t);  // its `failures` count for the task
    policy_ended(static_cast<policy_task_base&>(t), std::move(error));
    t.release();
    return;
  }
  if (wait* w = std::exchange(t.joined, nullptr))
    resume(*t.joined_by, *w);
  else if (error && !((t.told || stopping()) && is_operation_aborted(error)))
    // Not told yet, it may have waited for one that was.
    fail(std::move(error), &t);
  drop_hand(t);
  t.release();
}

void cell::cancel(fiber& f) noexcept {
  if (f.told) return;
  f.told = f.abort = true;
  wait* const w = f.waiting;
  if (w && w->cancel(*w, f, cancellation::stop)) resume(f, *w);
}

void cell::kill(fiber& f) noexcept {
  if (f.killed) return;
  f.killed = true;
  wait* const w = f.waiting;
  if (!w) return;
  if (w->cancel(*w, f, cancellation::kill))
    f.waiting = nullptr;
  else
    extras().to_come.fetch_add(1, std::memory_order_relaxed);
}

/// False: they have all been told before.
bool cell::cancel_tasks() noexcept {
  bool any = false;
  // One that is told may end, and others with it, or start.
  for (child_task_base* t = extras_->tasks; t;) {
    if (t->told) {
      t = t->next_task;
      continue;
    }
    any = true;
    cancel(*t);
    t = extras_->tasks;
  }
  return any;
}

void cell::kill_tasks() noexcept {
  if (!extras_) return;
  for (child_task_base* t = extras_->tasks; t; t = t->next_task) kill(*t);
}

/// Destroys the frames of all that have not ended, newest first.
void cell::free_tasks() noexcept {
  if (!extras_) return;
  while (child_task_base* t = extras_->tasks) {
    extras_->tasks = t->next_task;
    if (t->next_task) t->next_task->previous_task = nullptr;
    t->has_ended = true;
    if (t->is_handler) --extras_->handlers;
    if (t->frame) t->destroy_frame(*t);
    drop_hand(*t);
    t->release();
  }
}

void hand_failed(fiber& f, bool whole) noexcept {
  if (ask_state* s = f.hand->type->take_slot(f.hand))
    s->type->fail(*s, errc::actor_failed);
  f.whole = whole;
}

bool end_with_asker(fiber& f) noexcept {
  if (!f.hand || !f.hand->type->question) return false;
  const ask_state* q = f.hand->type->question(f.hand);
  if (!q) return false;
  try {
    throw;
  } catch (const std::system_error& e) {
    const bool timed_out = e.code() == errc::timed_out;
    if (!timed_out && e.code() != operation_aborted()) return false;
    // It may be known here that the time is over before the asker knows.
    if (!q->gone() && !(timed_out && q->deadline != never &&
                        f.owner->home().now() >= q->deadline))
      return false;
  } catch (...) {
    return false;
  }
  f.whole = false;
  envelope* const e = std::exchange(f.hand, nullptr);
  e->type->drop(e, errc::timed_out);
  return true;
}

void drop_hand(fiber& f) noexcept {
  if (!f.hand) return;
  cell& c = *f.owner;
  if (c.failing()) {
    fail_asker(f);
    // Whoever wants dead letters may keep it, on other threads.
    if (f.hand->type->question)
      if (ask_state* q = f.hand->type->question(f.hand)) q->forget_heirs();
    c.core().events().undelivered(
        std::exchange(f.hand, nullptr), &c, dead_letter::reason::failed,
        errc::actor_failed, std::exchange(f.whole, false));
    return;
  }
  f.whole = false;
  envelope* const e = std::exchange(f.hand, nullptr);
  e->type->drop(e, errc::no_reply);
}

void fail_asker(fiber& f) noexcept {
  if (!f.hand) return;
  if (ask_state* s = f.hand->type->take_slot(f.hand))
    s->type->fail(*s, f.owner->failing() ? errc::actor_failed : errc::no_reply);
}

void cell::fail_hands() noexcept {
  fail_asker(main_);
  if (!extras_) return;
  for (child_task_base* t = extras_->tasks; t; t = t->next_task) fail_asker(*t);
}

/// A child task may ask its own actor. The body may not, and neither what it
/// waits for, unless it receives beside that.
bool cell::blocked_by(const fiber& f) const noexcept {
  if (receiver_) return false;
  const fiber* i = &f;
  while (i && i->child) i = static_cast<const child_fiber*>(i)->parent;
  return i == &main_;
}

}  // namespace actors::detail
