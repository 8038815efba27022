/// What becomes of a cell whose incarnation has failed, or is restarted with
/// others: held, falling, down, and the next incarnation.
#include <utility>

#include "actors/detail/receiver.hpp"
#include "cell.hpp"
#include "events.hpp"
#include "scheduler.hpp"
#include "supervision.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

// --- failure ----------------------------------------------------------------

failure_record::failure_record(cell& failed, std::exception_ptr e) noexcept
    : child{&failed}, supervisor{failed.parent()}, error{std::move(e)} {
  child->add_ref();
  supervisor->add_ref();
}

failure_record::~failure_record() {
  child->release();
  supervisor->release();
}

void cell::fail(std::exception_ptr error, fiber* by) noexcept {
  // One that is held in `serve` may fail again, by a child task.
  const bool in_serve = held() && !main_.killed;
  if (published_ || body_ended_ || killed_) return;
  if (failing() && !in_serve) {
    if (lasts()) failed_again(std::move(error));
    return;
  }
  kind_ = exit_reason::failed;
  special_ = true;
  const std::type_info* const message = message_of(by);
  if (lasts()) {
    wind_up();
  } else {
    unlimit();
    if (started_)
      destroy_incarnation();
    else
      started_ = body_ended_ = true;
  }
  failed(std::move(error), message, false);
}

/// The type of the message that a failure was about.
const std::type_info* cell::message_of(const fiber* by) const noexcept {
  const envelope* e = by && by->hand ? by->hand : main_.hand;
  return e ? e->type->message->info : nullptr;
}

/// Frames go as soon as nothing is to come that points into them. Their askers
/// need not wait for that.
void cell::destroy_incarnation() noexcept {
  if (extras_) extras_->held = nullptr;
  fail_hands();
  kill(main_);
  kill_tasks();
}

void cell::hold(fiber& f, wait& w, std::exception_ptr error,
                bool loop) noexcept {
  f.waiting = &w;
  if (loop) receiver_ = nullptr;
  if (!supervised() || failing()) {
    fail(std::move(error), &f);
    return;
  }
  cell_extras& x = extras();
  x.held = &w;
  x.held_in = &f;
  x.held_loop = loop;
  kind_ = exit_reason::failed;
  const std::type_info* const message = message_of(&f);
  drop_hand(f);
  failed(std::move(error), message, true);
}

/// `kind_` says so already, and what could go has gone.
void cell::failed(std::exception_ptr error, const std::type_info* message,
                  bool resumable) noexcept {
  kind_ = exit_reason::failed;
  core().report_failure(*this, error);
  if (held()) {
    report_failed(error, message, directive::stop, {}, false);
    return;
  }
  cell_extras& x = extras();
  if (!x.error) {
    x.error = error;  // the first is why it ends
    x.last_word_threw =
        renewal_ == renewal::falling && stop_ == stop_phase::told;
  }
  special_ = true;
  if (renewal_ == renewal::falling) {
    // As of any that ends: it is reported, and the end goes on.
    if (!body_ended_ && !lasts()) hard_ = true;
    report_failed(error, message, directive::restart, {}, false);
    return;
  }
  if (!supervised()) {
    report_failed(error, message, directive::stop, {}, false);
    return;
  }
  renewal_ = renewal::held;
  x.undecided = true;
  x.failed_on = message;
  auto* r = make_node<failure_record>(*this, std::move(error));
  r->message = message;
  r->when = home_->now();
  r->uptime = x.restarts == 0 ? duration::max() : r->when - x.restarted_at;
  r->generation = x.generation;
  r->initial = !was_ready_;
  r->resumable = resumable;
  r->arrive = [](cell& supervisor, system_node& n) noexcept {
    supervisor.child_failed(static_cast<failure_record&>(n));
  };
  if (!parent_->push_system(*r)) r->release();
}

void cell::report_failed(const std::exception_ptr& error,
                         const std::type_info* message, directive decision,
                         duration delay,
                         bool instead_of_resume) const noexcept {
  if (!core().events().wanted(lifecycle_event::kind::failed)) return;
  lifecycle_event event;
  event.what = lifecycle_event::kind::failed;
  event.who = any_actor_ref{cell_ptr{const_cast<cell*>(this)}};
  event.error = error;
  event.message = message;
  event.decision = decision;
  event.delay = delay;
  event.instead_of_resume = instead_of_resume;
  core().events().publish(event);
}

/// The failure that holds it. Said by the child, so that its events come in
/// their order: it may end before its supervisor has decided.
void cell::report_decided(directive decision, duration delay,
                          bool instead_of_resume) noexcept {
  cell_extras& x = *extras_;
  if (!x.undecided) return;
  x.undecided = false;
  report_failed(x.error, x.failed_on, decision, delay, instead_of_resume);
}

// --- orders -----------------------------------------------------------------

void cell::directed(child_order what, duration delay, std::uint32_t generation,
                    bool instead) noexcept {
  // One that ends does so whatever is decided; its supervisor hears of it.
  if (published_ || killed_) return;
  if (renewal_ == renewal::no &&
      (stop_ != stop_phase::no || body_ended_ || failing()))
    return;
  cell_extras& x = extras();
  // Orders may overtake one another, by the way of another lane.
  if (static_cast<std::int32_t>(generation - x.generation) < 0) return;
  if (what == child_order::restart && policy() == restart_policy::never)
    what = child_order::stop;
  switch (what) {
    case child_order::resume:
      if (!held()) return;
      if (!body_ended_ && !main_.killed && (extras_->held || !lasts())) {
        report_decided(directive::resume, {}, false);
        resume_held();
        return;
      }
      report_decided(directive::restart, {}, true);
      // It has failed once more while it was held.
      x.delay = {};
      rises_ = true;
      begin_fall();
      return;
    case child_order::stop:
      if (!held()) return;
      // `instead`: of ending the system.
      if (instead) report_decided(directive::escalate, {}, false);
      end_renewal();
      return;
    case child_order::restart:
      report_decided(directive::restart, delay, instead);
      x.generation = generation;
      x.delay = delay;
      rises_ = true;
      begin_fall();
      return;
    case child_order::fall:
      report_decided(directive::restart, delay, instead);
      x.generation = generation;
      rises_ = tells_up_ = false;
      tells_down_ = true;
      begin_fall();
      return;
    case child_order::rise:
      x.generation = generation;
      x.delay = delay;
      tells_up_ = rises_ = true;
      if (renewal_ == renewal::down) rise();
      return;
  }
}

void cell::resume_held() noexcept {
  renewal_ = renewal::no;
  kind_ = exit_reason::normal;
  special_ = looked_ = false;
  cell_extras& x = *extras_;
  x.error = nullptr;
  // None: it was cancelled, and the body has gone on.
  wait* const w = std::exchange(x.held, nullptr);
  if (!w) return;
  if (x.held_loop) {
    receiver_ = static_cast<receiver*>(w);
    selective_ = receiver_->type->filter != nullptr;
  } else {
    resume(*x.held_in, *w);
  }
}

void release(fiber& f, wait& w) noexcept { f.owner->release_held(w); }
void hold(fiber& f, wait& w, std::exception_ptr error, bool loop) noexcept {
  f.owner->hold(f, w, std::move(error), loop);
}

// --- renewal ----------------------------------------------------------------

void cell::begin_fall() noexcept {
  special_ = true;
  end_timers();
  switch (renewal_) {
    case renewal::held:
      if (!lasts()) {
        fall_hard();
        return;
      }
      renewal_ = renewal::falling;
      stop_ = stop_phase::requested;
      return;
    case renewal::down:
      unlimit();
      went_down();
      return;
    case renewal::falling:
      return;
    case renewal::no:
      renewal_ = renewal::falling;
      if (!started_)
        started_ = body_ended_ = hard_ = extras().unbegun = true;
      else
        stop_ = stop_phase::requested;
      return;
  }
}

void cell::fall_hard() noexcept {
  renewal_ = renewal::falling;
  hard_ = special_ = true;
  unlimit();
  if (!body_ended_) destroy_incarnation();
}

bool cell::step_renewal() noexcept {
  switch (renewal_) {
    case renewal::held: {
      const bool over = body_ended_ ? has_tasks() : main_.killed;
      if (!over || !settled()) return false;
      free_tasks();
      if (!body_ended_) free_frames();
      return true;
    }
    case renewal::falling:
      if (!hard_ && !body_ended_) return step_stop();
      if (!body_ended_ || has_tasks()) return wait_for_frames();
      unlimit();
      if (!children_ended()) return false;
      went_down();
      return true;
    case renewal::down:
    case renewal::no:
      return false;
  }
  return false;
}

/// Nothing is left of the incarnation but mailbox, name and refs.
void cell::went_down() noexcept {
  renewal_ = renewal::down;
  cell_extras& x = extras();
  end_supervision();
  end_watches();
  end_timers();  // of what ran after the fall had begun
  receiver_ = nullptr;
  stop_ = stop_phase::no;
  in_handler_ = ready_ = hard_ = looked_ = selective_ = false;
  x.scanned_for = nullptr;
  x.left = 0;
  main_.waiting = nullptr;
  main_.next = nullptr;
  main_.where = {};
  main_.abort = main_.told = main_.killed = main_.whole = false;
  main_.shielded = false;  // its frame may have gone inside of a `shield`
  if (tells_down_) {
    tells_down_ = false;
    tell_supervisor([](cell& supervisor, cell& child) noexcept {
      supervisor.child_down(child);
    });
  }
  if (rises_) rise();
}

/// Begins the next incarnation, after the delay if there is one.
void cell::rise() noexcept {
  cell_extras& x = *extras_;
  if (x.delay > duration::zero()) {
    limit(std::exchange(x.delay, {}), [](cell& c) noexcept { c.rise(); });
    return;
  }
  unlimit();
  renewal_ = renewal::no;
  kind_ = exit_reason::normal;
  if (!std::exchange(x.last_word_threw, false) && type_->object && x.error)
    x.cause = x.error;
  x.error = nullptr;
  if (!std::exchange(x.unbegun, false)) ++x.restarts;
  x.restarted_at = home_->now();
  rises_ = started_ = body_ended_ = false;
  special_ = true;
}

/// A stop or a kill is final.
void cell::end_renewal() noexcept {
  rises_ = tells_down_ = tells_up_ = false;
  const renewal before = renewal_;
  renewal_ = renewal::no;
  switch (before) {
    case renewal::held:
      report_decided(directive::stop, {}, false);
      if (lasts() && !killed_) {
        close();
        end_timers();
        if (stop_ == stop_phase::no) stop_ = stop_phase::requested;
      } else if (!body_ended_) {
        destroy_incarnation();
      }
      return;
    case renewal::falling:
      // Its frames are going, and it has not failed.
      if (hard_ && !body_ended_ && !failing()) kill_requested();
      return;
    case renewal::down:
      unlimit();
      return;
    case renewal::no:
      return;
  }
}

// --- news for the supervisor ------------------------------------------------

namespace {

struct child_news final : system_node {
  cell* child;
  void (*what)(cell&, cell&) noexcept;
  std::uint32_t generation;
};

}  // namespace

void cell::tell_supervisor(void (*what)(cell&, cell&) noexcept) noexcept {
  auto* n = make_node<child_news>();
  add_ref();
  n->child = this;
  n->what = what;
  n->generation = extras_->generation;
  n->arrive = [](cell& supervisor, system_node& node) noexcept {
    auto* self = static_cast<child_news*>(&node);
    cell& child = *self->child;
    // Not of what it was told before: it may be otherwise by now.
    if (child.linked_ && child.as_child().generation == self->generation)
      self->what(supervisor, child);
    destroy_and_free(self);
    child.release();
  };
  if (parent_->push_system(*n)) return;
  destroy_and_free(n);
  release();
}

}  // namespace actors::detail
