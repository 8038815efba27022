#include "cell.hpp"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "actors/context.hpp"
#include "actors/error.hpp"
#include "events.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "supervision.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

cell::cell(scheduler& home, const actor_type& type) noexcept
    : throughput_{home.core().throughput()},
      home_{&home},
      type_{&type},
      main_{*this} {}

cell::~cell() {
  if (parent_) parent_->release();
}

system_core& cell::core() const noexcept { return home_->core(); }

cell_extras::cell_extras() = default;
cell_extras::~cell_extras() = default;

cell_extras& cell::extras() {
  if (!extras_) extras_ = std::make_unique<cell_extras>();
  return *extras_;
}

std::string cell::path() const {
  std::string path;
  if (parent_) path = parent_->path();
  path += '/';
  // Any thread: of the extras, only those that were there from the start.
  if (number_ == 0)
    path += extras_->name;
  else
    (path += '$') += std::to_string(number_);
  return path;
}

exit_reason cell::why() const {
  if (kind_ == exit_reason::failed) return exit_reason{extras_->error};
  return kind_;
}

// --- mailbox ----------------------------------------------------------------

/// A message has come on the actor's own thread.
inline void cell::news_at_home() noexcept {
  looked_ = false;
  // A body that is not in `receive` finds it when it gets there; one that
  // tells itself something lets others have their turn before.
  if (receiver_) {
    if (!queued_) home_->queue(*this);
  } else if (here.running() == this) {
    yields_ = true;
    handled_ -= std::exchange(budget_, 0);  // as if it had not been granted
  }
}

void cell::news_elsewhere() noexcept { news_at_home(); }

void cell::news_and_crowd() noexcept {
  news_at_home();
  check_crowd();
}

inline bool cell::push_plain(envelope* e) noexcept {
  if (here.home == home_ && user_.passable()) {
    // The consumer's own thread: no atomic operation. It may be done only
    // while the lane is empty, because what is in the lane came first.
    inbox_.push(e);
    if (++received_ % crowd_stride == 0) [[unlikely]]
      news_and_crowd();
    else
      news_at_home();
    return true;
  }
  switch (user_.push(e)) {
    case lane<envelope>::pushed::refused:
      return false;
    case lane<envelope>::pushed::owing_a_wake:
      home_->wake(*this, lane_id::user);
      return true;
    case lane<envelope>::pushed::quietly:
      // One that is stuck takes nothing, and does not see how much there is.
      if (++here.pushes % remote_stride == 0) [[unlikely]]
        look_at_crowd();
      return true;
  }
  return true;
}

pushed cell::push_user(envelope* e) noexcept {
  if (traits_ & elsewhere) [[unlikely]]
    return push_elsewhere(e, false);
  return push_plain(e) ? pushed::in : pushed::closed;
}

/// All that it calls it calls last, so that the plain way needs no frame.
inline void cell::tell(envelope* e) noexcept {
  if (traits_ & elsewhere) [[unlikely]]
    tell_elsewhere(e);
  else if (!push_plain(e)) [[unlikely]]
    report_undelivered(this, e, dead_letter::reason::actor_stopped);
}

bool cell::push_system(system_node& n) noexcept {
  if (here.home == home_) {
    if (system_.closed()) return false;
    local_system_.push(&n);
    // A cell that runs looks again before its turn ends.
    if (!queued_ && here.running() != this) home_->queue(*this);
    return true;
  }
  switch (system_.push(&n)) {
    case lane<system_node>::pushed::refused:
      return false;
    case lane<system_node>::pushed::owing_a_wake:
      home_->wake(*this, lane_id::system);
      return true;
    case lane<system_node>::pushed::quietly:
      return true;
  }
  return true;
}

bool cell::refill() noexcept {
  envelope* last = nullptr;
  std::uint32_t count;
  envelope* list = user_.take_all(last, count);
  if (!list) return false;
  // It may have fallen below what it was, and be there again.
  if (extras_ && extras_->crowded_at != 0) [[unlikely]]
    check_crowd();
  inbox_.append(list, last);
  received_ += count;
  if (received_ % crowd_stride < count) [[unlikely]]
    check_crowd();
  return true;
}

envelope* cell::next_message(const message_filter* filter) noexcept {
  if (traits_ & elsewhere) [[unlikely]]
    return take_elsewhere(filter);
  if (filter) return filter->count == 0 ? nullptr : scan(*filter);
  if (extras_) extras_->scanned_for = nullptr;
  if (inbox_.empty() && !refill()) return nullptr;
  return inbox_.pop();
}

envelope* cell::scan(const message_filter& filter) noexcept {
  cell_extras& x = extras();
  envelope* before =
      std::exchange(x.scanned_for, &filter) == &filter ? x.scanned_to : nullptr;
  do {
    for (envelope* e = before ? before->next : inbox_.front(); e;
         before = e, e = e->next) {
      if (filter.accepts(e->type->message)) {
        inbox_.unlink(before, e);
        x.scanned_to = before;
        return e;
      }
    }
  } while (refill());
  x.scanned_to = before;
  return nullptr;
}

std::uint32_t cell::flush_mailbox() noexcept {
  if (extras_) extras_->scanned_for = nullptr;
  std::uint32_t count = 0;
  if (bounded_mailbox* m = mailbox()) {
    send_away();
    queue<envelope> all = m->take_all();
    for (; envelope* e = all.pop(); ++count)
      report_undelivered(this, e, dead_letter::reason::actor_stopped);
    return count;
  }
  do {
    for (; envelope* e = inbox_.pop(); ++count) {
      report_undelivered(this, e, dead_letter::reason::actor_stopped);
    }
  } while (refill());
  return count;
}

// --- turns ------------------------------------------------------------------

bool cell::run() noexcept {
  turn t{*this};
  handled_ += throughput_ - budget_;  // what the last turn has not taken
  budget_ = throughput_;
  looked_ = yields_ = false;
  return work();
}

void cell::completed(fiber& f, wait& w) noexcept {
  if (here.running() == this && std::exchange(here.at_top, false) &&
      !published_)
    resume(f, w);  // its executor is its own turn
  else
    dropped(f, w);
}

void cell::dropped(fiber& f, wait& w) noexcept {
  struct news final : system_node {
    fiber* f;
    wait* w;
  };
  auto* n = make_node<news>();
  n->f = &f;
  n->w = &w;
  n->arrive = [](cell& c, system_node& node) noexcept {
    auto* self = static_cast<news*>(&node);
    fiber& waiting = *self->f;
    wait& ended = *self->w;
    destroy_and_free(self);
    c.resume(waiting, ended);
  };
  if (push_system(*n)) return;
  // Abandoned, and ended for everybody but the frames.
  destroy_and_free(n);
  turn t{*this};
  resume(f, w);
}

void cell::resume(fiber& f, wait& w) noexcept {
  f.waiting = nullptr;
  if (f.killed) {
    if (extras_->to_come.fetch_sub(1, std::memory_order_acq_rel) == 1 &&
        abandoned_ && published_)
      free_abandoned();
  } else if (!killed_) {
    run_frame(f, w.waiter);
  }
}

/// The last that an abandoned actor waited for came after all. Nobody is left
/// to know but the frames.
void cell::free_abandoned() noexcept {
  free_tasks();
  free_frames();
  type_->destroy(holder_of(*this));
  release();
}

/// As nearly always on one thread, where nobody pushes to the lanes.
inline bool cell::asleep() const noexcept {
  return system_.asleep() && user_.asleep() && local_system_.empty();
}

inline void cell::run_frame(fiber& f, std::coroutine_handle<> frame) noexcept {
  f.waiting = nullptr;
  if (f.child) [[unlikely]] {
    run_child(static_cast<child_fiber&>(f), frame);
    return;
  }
  main_.run(frame);
  if (body_.done())
    body_done();
  else if (!ready_ && type_->accepts->count == 0 && !type_->object)
    mark_ready();
}

namespace {

/// What takes a message wins against what is awaited beside it.
void claim(fiber& f) noexcept {
  for (fiber* i = &f; i->child; i = static_cast<child_fiber*>(i)->parent) {
    auto& c = static_cast<child_fiber&>(*i);
    if (!c.claim) return;
    (void)c.claim(c, true);
  }
}

}  // namespace

inline void cell::deliver(receiver& r, receive_event what,
                          envelope* e) noexcept {
  receiver_ = nullptr;
  if (extras_ && extras_->alarm) [[unlikely]]
    cancel_timer(std::exchange(extras_->alarm, nullptr));
  fiber& f = *r.on;
  if (f.child && !r.type->loop) [[unlikely]]
    win(f);
  std::coroutine_handle<> frame = r.waiter;
  if (!r.type->deliver)
    f.hand = e;
  else
    frame = r.type->deliver(r, what, e);
  if (frame)
    run_frame(f, frame);
  else if (!held())
    receiver_ = &r;  // a loop that wants the next
}

/// While it is drained: a message that the body waits for; false: there is
/// none.
bool cell::give_chosen() noexcept {
  envelope* e = next_message(receiver_->type->filter);
  if (!e) return false;
  --budget_;
  deliver(*receiver_, receive_event::message, e);
  return true;
}

inline bool cell::deliver_next() noexcept {
  if (!receiver_ || looked_) return false;
  receiver& r = *receiver_;
  envelope* e;
  if (budget_ != 0 && !inbox_.empty() && !selective_ &&
      (!extras_ || !extras_->scanned_for)) [[likely]] {
    e = inbox_.pop();
  } else {
    e = look_for(r);
    if (!e) return false;
  }
  --budget_;
  deliver(r, receive_event::message, e);
  return true;
}

/// The message for `r`, when it takes some effort to find one.
envelope* cell::look_for(receiver& r) noexcept {
  if (r.type->filter && r.type->filter->count == 0) return nullptr;
  if (budget_ == 0) {
    if (has_messages())
      yields_ ? home_->queue(*this) : home_->queue_busy(*this);
    return nullptr;
  }
  return next_message(r.type->filter);
}

/// Does all there is to do, then sleeps. False when the cell has ended:
/// `*this` may be gone then.
bool cell::work() noexcept {
  std::uint32_t nodes = throughput_;
  for (;;) {
    if (special_ || has_system()) {
      if (step(nodes)) continue;
    } else if (deliver_next()) {
      // The usual end: that was all there was, and they sleep already.
      if (!special_ && inbox_.empty() && asleep()) return true;
      continue;
    }
    looked_ = false;
    // Out of budget: others come first.
    if (queued_) return true;
    if (published_ && finish()) return false;
    if (sleep()) return true;
  }
}

bool cell::sleep() noexcept {
  if (asleep()) return true;
  if (!local_system_.empty() || !system_.sleep()) return false;
  // A body that does not wait for messages need not be woken by them: it
  // looks for itself when it comes to `receive`.
  if (receiver_ &&
      !(receiver_->type->filter && receiver_->type->filter->count == 0) &&
      stop_ < stop_phase::requested && !killed_ && !held()) {
    if (bounded_mailbox* m = mailbox())
      return m->sleep(receiver_->type->filter);
    return user_.sleep();
  }
  return true;
}

/// Does one thing; false when there is nothing, or when others come first.
/// `nodes` is how many system nodes this turn may still take: a body whose
/// operations end at once makes them without end, and would never hear of a
/// stop, nor let others have their turn.
bool cell::step(std::uint32_t& nodes) noexcept {
  if (nodes != 0 && take_system()) {
    --nodes;
    return true;
  }
  if (!published_ && step_life()) return true;
  if (has_system()) {
    home_->queue(*this);
    return false;
  }
  if (published_ || body_ended_ || stop_ >= stop_phase::requested ||
      renewal_ != renewal::no)
    return false;
  return deliver_next();
}

/// As above: its start, and the ways to its end.
bool cell::step_life() noexcept {
  if (killed_ && !body_ended_) return step_kill();
  if (!started_) {
    if (stop_ == stop_phase::requested)
      started_ = body_ended_ = true;
    else
      start_body();
    return true;
  }
  // A handler that waits while its object has failed is not to go on.
  if (failing() && in_handler_ && !main_.told && lasts()) {
    cancel(main_);
    return true;
  }
  if (renewal_ != renewal::no) return step_renewal();
  if (body_ended_) return step_end();
  if (failing() && !lasts()) return wait_for_frames();
  return stop_ != stop_phase::no && step_stop();
}

bool cell::take_system() noexcept {
  // What has come from afar takes its turn: nodes of this thread may never
  // run out.
  system_node* last = nullptr;
  if (system_node* list = system_.take_all(last))
    local_system_.append(list, last);
  if (local_system_.empty()) return false;
  system_node* n = local_system_.pop();
  n->arrive(*this, *n);
  return true;
}

void cell::start_body() noexcept {
  started_ = true;
  using kind = lifecycle_event::kind;
  const bool again = extras_ && extras_->restarts != 0;
  const kind what = again ? kind::restarted : kind::started;
  if (core().events().wanted(what)) {
    lifecycle_event event;
    event.what = what;
    event.who = any_actor_ref{cell_ptr{this}};
    if (again) event.restarts = extras_->restarts;
    core().events().publish(event);
  }
  try {
    task<> body = type_->start(holder_of(*this), *this);
    body_ = task_access::release(body);
  } catch (...) {
    body_ended_ = true;
    failed(std::current_exception(), nullptr, false);
    return;
  }
  body_.promise().start_detached(main_, {});
  special_ = stop_ != stop_phase::no || killed_;
  run_frame(main_, body_);
}

void cell::body_done() noexcept {
  std::exception_ptr error = body_.promise().error();
  if (error) {
    // Not told yet, it may have waited for a child task that was.
    if (stop_ >= stop_phase::requested && is_operation_aborted(error))
      error = nullptr;
  } else if (supervised() && !held() && policy() == restart_policy::permanent) {
    error = std::make_exception_ptr(actor_returned{});
  }
  const std::type_info* const message = message_of(nullptr);
  if (error) kind_ = exit_reason::failed;  // which the last askers are told
  free_frames();
  // They have nobody left to work for.
  kill_tasks();
  if (error) failed(std::move(error), message, false);
}

/// Destroys the body's frames, innermost first, and ends what it had in hand.
void cell::free_frames() noexcept {
  receiver_ = nullptr;
  if (body_) std::exchange(body_, {}).destroy();
  drop_hand(main_);
  if (traits_ & elsewhere) trace_done();
  body_ended_ = special_ = true;
  in_handler_ = last_words_ = false;
}

// --- receive ----------------------------------------------------------------

poll_result cell::poll(receiver& r) {
  if (here.running() != this)
    throw std::logic_error(
        "receive is for the actor's own coroutine, on its strand; tell the "
        "actor from elsewhere");
  if (in_handler_) [[unlikely]]
    throw std::logic_error(
        "receive is not for handlers, nor beside one: while a handler awaits, "
        "the actor takes no other message; take it in the body, after it");
  r.on = &main_;
  if (here.task) [[unlikely]]
    check_branch(r, *here.task);
  if (special_ || !ready_ || main_.hand) [[unlikely]] {
    drop_hand(main_);
    mark_ready();
    if (stop_ == stop_phase::told) {
      r.on->abort = false;
      return {poll_result::empty, nullptr};
    }
    if (stop_ == stop_phase::requested || held())
      return {poll_result::wait, nullptr};
  }
  if (budget_ == 0 || has_system()) {
    looked_ = false;  // another receive may have, for something else
    return {poll_result::wait, nullptr};
  }
  envelope* e = next_message(r.type->filter);
  if (!e) {
    looked_ = true;
    return {poll_result::wait, nullptr};
  }
  // None is left when the search has made it tell itself something.
  if (budget_ != 0) --budget_;
  if (r.on->child && !r.type->loop) [[unlikely]]
    win(*r.on);
  return {poll_result::message, e};
}

/// A message has been found for `f`. Those that lose by it run, and may not
/// take another one before that one is in hand.
void cell::win(fiber& f) noexcept {
  in_handler_ = true;
  claim(f);
  in_handler_ = false;
}

/// Of the fibers beside the body those may receive that it waits for, while
/// they have not lost against others.
void cell::check_branch(receiver& r, child_fiber& f) {
  for (fiber* i = &f; i->child; i = static_cast<child_fiber*>(i)->parent) {
    auto& c = static_cast<child_fiber&>(*i);
    if (c.beside)
      throw std::logic_error(
          "receive is not for child tasks: they run beside the actor's body, "
          "which takes the messages");
    if (c.claim && !c.claim(c, false)) throw_error(operation_aborted());
  }
  if (receiver_)
    throw std::logic_error(
        "the actor waits for a message already: of operations that are awaited "
        "at once only one may receive");
  r.on = &f;
  if (stop_ != stop_phase::told && take_abort(f))
    throw_error(operation_aborted());
  // What it, or who waits for it, has taken before has had its time.
  for (fiber* i = &f; i->child; i = static_cast<child_fiber&>(*i).parent)
    drop_hand(*i);
}

void cell::suspend(receiver& r, duration timeout) {
  if (timeout >= duration::zero()) [[unlikely]]
    extras().alarm = start_timer(
        *this, timeout, [](cell& c, void*) noexcept { c.receive_expired(); },
        nullptr);
  receiver_ = &r;
  selective_ = r.type->filter != nullptr;
  r.on->waiting = &r;
}

/// At the actor's stop it gives no message; else it says that it was
/// cancelled, as any other operation.
void cell::cancel_receive(receiver& r, fiber& f, cancellation how) noexcept {
  receiver_ = nullptr;
  release_held(r);
  if (extras_) cancel_timer(std::exchange(extras_->alarm, nullptr));
  if (how != cancellation::stop) return;
  (void)take_abort(f);
  if (stop_ != stop_phase::told) r.on = nullptr;
}

void cell::receive_expired() noexcept {
  extras_->alarm = nullptr;
  if (!receiver_) return;
  if (stop_ < stop_phase::requested && !killed_ && !held())
    deliver(*receiver_, receive_event::timeout, nullptr);
}

void cell::mark_ready() noexcept {
  if (ready_) return;
  ready_ = was_ready_ = true;
  if (!extras_) return;
  if (tells_up_) {
    tells_up_ = false;
    tell_supervisor([](cell& parent, cell& c) noexcept { parent.child_up(c); });
  }
  for (ask_state* s : std::exchange(extras_->started, {}))
    static_cast<reply_state<void>*>(s)->answer({});
}

// --- what headers call ------------------------------------------------------

void complete(fiber& f, wait& w) noexcept { f.owner->completed(f, w); }

poll_result poll(receiver& r) { return r.main->owner->poll(r); }
void suspend(receiver& r, duration timeout) {
  r.main->owner->suspend(r, timeout);
}
bool cancel_receive(wait& w, fiber& f, cancellation how) noexcept {
  f.owner->cancel_receive(static_cast<receiver&>(w), f, how);
  return true;
}
void check_cancelled(receiver& r) {
  if (!r.on) throw_error(operation_aborted());
}
fiber& main_fiber(cell& c) noexcept { return c.main(); }
void enter_handler(cell& c) noexcept { c.enter_handler(); }
void leave_handler(cell& c) noexcept { c.leave_handler(); }

void check_timeout(duration timeout) {
  if (timeout < duration::zero())
    throw std::invalid_argument("a timeout may not be negative");
}

pushed enqueue(cell_base& to, envelope* message) noexcept {
  return to_cell(to).push_user(message);
}

bool enqueue_sent(cell_base& to, envelope* message,
                  ask_state& sender) noexcept {
  return to_cell(to).push_sent(message, sender);
}

void tell(cell_base* to, envelope* message) noexcept {
  if (to) [[likely]]
    to_cell(*to).tell(message);
  else
    report_undelivered(to, message, dead_letter::reason::no_recipient);
}

bool accepts(const cell_base& cell, const message_type& type) noexcept {
  return static_cast<const detail::cell&>(cell).type().accepts->accepts(&type);
}

bool closed(const cell_base& cell) noexcept {
  return static_cast<const detail::cell&>(cell).closed();
}

}  // namespace actors::detail
