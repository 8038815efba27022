/// The life of a cell: how it is stopped and killed, how it ends, its children.
#include <algorithm>
#include <utility>
#include <vector>

#include "actors/detail/group.hpp"
#include "cell.hpp"
#include "events.hpp"
#include "names.hpp"
#include "questions.hpp"
#include "scheduler.hpp"
#include "supervision.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

// --- ends -------------------------------------------------------------------

void cell::stop_requested(bool drain) noexcept {
  close();
  end_timers();
  send_away();
  // What has failed handles nothing any more.
  if (renewal_ != renewal::no) {
    drain = false;
    end_renewal();
  }
  const auto wanted = drain ? stop_phase::drain : stop_phase::requested;
  if (stop_ < wanted) stop_ = wanted;
  drains_children_ = drain && type_->drains_children;
  special_ = true;
  if (drain || !first_child_) return;
  // Children that were only drained are told again.
  cell* c = first_child_;
  do {
    c->told_to_stop_ = false;
    c = c->next_sibling_;
  } while (c != first_child_);
}

void cell::kill_requested() noexcept {
  if (killed_) return;
  if (renewal_ == renewal::down && !failing()) kind_ = exit_reason::killed;
  killed_ = special_ = true;
  end_renewal();
  close();
  end_timers();
  send_away();
  if (body_ended_) kill_children();
}

bool cell::step_stop() noexcept {
  if (stop_ == stop_phase::told) return false;
  if (stop_ == stop_phase::drain) {
    // What the body can still take, it takes; `until_stop` takes nothing.
    const bool takes_none = receiver_ && receiver_->type->filter &&
                            receiver_->type->filter->count == 0;
    if (in_handler_) return false;
    if (!takes_none && has_messages()) {
      if (!receiver_ || !receiver_->type->filter) return false;
      // Selective: what it does not want now is left over.
      if (budget_ == 0) return false;
      if (give_chosen()) return true;
    }
    stop_ = stop_phase::requested;
  }
  if (!flushed_ && renewal_ == renewal::no) {
    // At once: what is in hand may wait for the answer to a question in it.
    flushed_ = true;
    if (const std::uint32_t count = flush_mailbox()) extras().left = count;
  }
  // First the messages in hand, then what runs beside them.
  const bool in_hand = in_handler_ || (extras_ && extras_->handlers != 0);
  if (in_hand || has_tasks()) {
    limit(core().stop_timeout(*this), [](cell& c) noexcept { c.stop_late(); });
    return !in_hand && cancel_tasks();
  }
  unlimit();
  if (!children_ended()) return false;
  stop_ = stop_phase::told;
  limit(core().stop_timeout(*this), [](cell& c) noexcept { c.stop_late(); });
  // An operation that has just succeeded is not undone; the next one is
  // aborted then. A `receive` gives nothing.
  cancel(main_);
  if (receiver_) {
    // In a fiber that had been told before: this is no abort, but how it is.
    receiver& r = *receiver_;
    fiber& f = *r.on;
    cancel_receive(r, f, cancellation::stop);
    resume(f, r);
  }
  return true;
}

bool cell::step_kill() noexcept {
  if (!kill_sent_) {
    kill_sent_ = true;
    unlimit();
    kill_children();
    if (!started_) {
      started_ = body_ended_ = true;
      kind_ = exit_reason::killed;
      return true;
    }
    limit(core().kill_timeout(), [](cell& c) noexcept { c.abandon(); });
    kill(main_);
    kill_tasks();
    return true;
  }
  // A failure may have had to wait for the same.
  if (settled() && kind_ != exit_reason::failed) kind_ = exit_reason::killed;
  return wait_for_frames();
}

/// Destroys all frames as soon as nothing is to come that points into them.
/// False: it is, on this strand.
bool cell::wait_for_frames() noexcept {
  if (!settled()) {
    limit(core().kill_timeout(), [](cell& c) noexcept { c.abandon(); });
    if (!abandoned_ || first_child_) return false;
    add_ref();  // the frames'
    publish_end();
    return true;
  }
  abandoned_ = false;  // it came late, but it came
  free_tasks();
  free_frames();
  return true;
}

bool cell::step_end() noexcept {
  close();
  end_timers();
  if (!flushed_) {
    flushed_ = true;
    flush_mailbox();
  }
  if (has_tasks()) return wait_for_frames();
  unlimit();
  if (!children_ended()) return false;
  publish_end();
  return true;
}

void cell::stop_late() noexcept {
  if (published_ || killed_) return;
  report_late(lifecycle_event::kind::late);
  // One that is restarted with others is restarted all the same.
  if (renewal_ == renewal::falling)
    fall_hard();
  else
    kill_requested();
}

void cell::abandon() noexcept {
  abandoned_ = true;
  kind_ = exit_reason::abandoned;
  report_late(lifecycle_event::kind::abandoned);
}

/// The children have ended; orders the next to stop otherwise, last first.
bool cell::children_ended() noexcept {
  if (extras_ && extras_->supervising) extras_->supervising->group.forget();
  if (!first_child_) {
    if (extras_) {
      cancel_timer(std::exchange(extras_->children_deadline, nullptr));
      extras_->children_late = false;
    }
    return true;
  }
  const bool drains =
      stop_ != stop_phase::no && (core().draining() || drains_children_);
  if (!killed_ && !drains) limit_children();
  cell& last = *first_child_->previous_sibling_;
  if (!killed_ && !last.told_to_stop_) {
    last.told_to_stop_ = true;
    if (drains)
      request_drain(&last);
    else
      request_stop(&last);
  }
  return false;
}

/// How long its stop may take; nothing: as long as its children need.
std::optional<duration> cell::stop_limit() const noexcept {
  if (!(traits_ & own_stop_timeout) &&
      has_had_children_.load(std::memory_order_relaxed))
    return std::nullopt;
  return traits_ & own_stop_timeout ? *extras_->stop_timeout
                                    : core().stop_timeout();
}

/// The children have one deadline together, the largest of theirs.
void cell::limit_children() noexcept {
  cell_extras& x = extras();
  if (x.children_deadline || x.children_late) return;
  duration largest{};
  const cell* c = first_child_;
  do {
    const auto limit = c->stop_limit();
    if (!limit) return;
    largest = std::max(largest, *limit);
    c = c->next_sibling_;
  } while (c != first_child_);
  x.children_deadline = start_timer(
      *this, largest,
      [](cell& self, void*) noexcept {
        self.extras_->children_deadline = nullptr;
        self.extras_->children_late = true;
        self.children_late();
      },
      nullptr);
}

void cell::children_late() noexcept {
  cell* c = first_child_;
  if (c) do {
      // Who was not told yet is not late.
      if (!c->told_to_stop_)
        request_kill(c);
      else
        (void)send_order(
            *c, [](cell& late, cell*) noexcept { late.stop_late(); }, nullptr);
      c = c->next_sibling_;
    } while (c != first_child_);
}

void cell::kill_children() noexcept {
  if (cell* first = first_child_) {
    cell* c = first;
    do {
      request_kill(c);
      c = c->next_sibling_;
    } while (c != first);
  }
}

void cell::limit(duration d, void (*expire)(cell&) noexcept) noexcept {
  cell_extras& x = extras();
  if (x.deadline) return;
  x.deadline = start_timer(
      *this, d,
      [](cell& c, void* f) noexcept {
        c.extras_->deadline = nullptr;
        reinterpret_cast<void (*)(cell&) noexcept>(f)(c);
      },
      reinterpret_cast<void*>(expire));
}

void cell::unlimit() noexcept {
  if (extras_ && extras_->deadline)
    cancel_timer(std::exchange(extras_->deadline, nullptr));
}

void cell::report_late(lifecycle_event::kind what) noexcept {
  if (!core().events().wanted(what)) return;
  lifecycle_event event;
  event.what = what;
  event.who = any_actor_ref{cell_ptr{this}};
  event.queued = extras().left + count_messages();
  // Child tasks end before the body is told.
  const bool in_task =
      has_tasks() && !in_handler_ && (stop_ != stop_phase::told || body_ended_);
  const fiber& late = group::innermost(
      in_task ? static_cast<const fiber&>(*extras_->tasks) : main_);
  event.where = late.where;
  if (late.hand) event.message = late.hand->type->message->info;
  core().events().publish(event);
}

/// Tells whoever asked how it ended. What remains is to be forgotten.
void cell::publish_end() noexcept {
  published_ = true;
  renewal_ = renewal::no;
  unlimit();
  // Of one that is torn down it may run still, and would keep its cell.
  if (extras_) cancel_timer(std::exchange(extras_->children_deadline, nullptr));
  close();
  end_timers();
  flush_mailbox();
  end_supervision();
  end_watches();
  if (!abandoned_)
    type_->destroy(holder_of(*this));
  else
    // The frames may still use the messages, but no asker need wait for them.
    fail_hands();
  leave_name();
  using kind = lifecycle_event::kind;
  if (core().events().wanted(kind::stopped)) {
    lifecycle_event event;
    event.what = kind::stopped;
    event.who = any_actor_ref{cell_ptr{this}};
    event.why = why();
    core().events().publish(event);
  }
  if (!extras_) return;
  tell_watchers();
  for (ask_state* s : std::exchange(extras_->started, {}))
    static_cast<reply_state<void>*>(s)->answer(how_started());
  for (ask_state* s : std::exchange(extras_->stopped, {}))
    static_cast<reply_state<exit_reason>*>(s)->answer(why());
}

/// From here on another may have its name.
void cell::leave_name() noexcept {
  if (extras_ && extras_->place)
    core().names().leave(std::exchange(extras_->place, nullptr));
  if (parent_) return;
  core().names().close();
  core().subscriptions().close();
  core().events().close();
}

/// Closes the lanes; false while somebody may still hold on to the cell: a
/// producer that owes a wake, a run queue.
bool cell::finish() noexcept {
  if (first_child_ || queued_ || user_.owes() || !local_system_.empty() ||
      !system_.close_if_empty())
    return false;
  ended_ = true;
  // Its thread, if that was the cell's own, is for others now.
  core().unplace(*home_);
  if (parent_) {
    arrive = &child_ended_arrives;
    // With it goes the count that `launch` left with the cell itself.
    if (!parent_->push_system(*this)) release();
  } else {
    core().guardian_ended();
    release();
  }
  return true;
}

/// A cell that never gets to run: its system or its parent has ended.
void cell::end_unstarted() noexcept {
  kind_ = exit_reason::not_started;
  published_ = ended_ = started_ = body_ended_ = true;
  type_->destroy(holder_of(*this));
  leave_name();
  close();
  system_.woken();
  (void)system_.close_if_empty();
  core().unplace(*home_);
  release();
}

// --- children ---------------------------------------------------------------

void cell::adopt(cell& child) noexcept {
  has_had_children_.store(true, std::memory_order_relaxed);
  if (child.end_seen_) {
    // It ended before the guardian heard of it.
    child.release();
    return;
  }
  child.linked_ = true;
  if (!first_child_) {
    first_child_ = child.next_sibling_ = child.previous_sibling_ = &child;
  } else {
    cell* last = first_child_->previous_sibling_;
    last->next_sibling_ = &child;
    child.previous_sibling_ = last;
    child.next_sibling_ = first_child_;
    first_child_->previous_sibling_ = &child;
  }
  if (killed_)
    request_kill(&child);
  else if (published_)
    request_stop(&child);  // it ended before it heard of the child
}

void cell::child_ended_arrives(cell& parent, system_node& n) noexcept {
  parent.child_ended(static_cast<cell&>(n));
}

void cell::child_ended(cell& child) noexcept {
  child.end_seen_ = true;
  if (!child.linked_) return;  // `adopt` is still on its way
  child.linked_ = false;
  if (child.next_sibling_ == &child) {
    first_child_ = nullptr;
  } else {
    child.previous_sibling_->next_sibling_ = child.next_sibling_;
    child.next_sibling_->previous_sibling_ = child.previous_sibling_;
    if (first_child_ == &child) first_child_ = child.next_sibling_;
  }
  group_goes_on(child);
  child.release();
}

std::uint32_t cell::next_child_number() {
  std::uint32_t& made = extras().children_made;
  if (++made == 0) ++made;
  return made;
}

result<void> cell::how_started() const {
  // One that never waited was ready, too, unless it was told to stop.
  if (was_ready_ || (kind_ == exit_reason::normal && stop_ == stop_phase::no))
    return {};
  if (kind_ == exit_reason::failed) return extras_->error;
  return errc::actor_stopped;
}

void cell::wait_for_start(ask_state& s) {
  if (ready_ || published_)
    static_cast<reply_state<void>&>(s).answer(how_started());
  else
    add_question(extras().started, s);
}

void cell::wait_for_end(ask_state& s) {
  if (published_)
    static_cast<reply_state<exit_reason>&>(s).answer(why());
  else
    add_question(extras().stopped, s);
}

void cell::tear_down() noexcept {
  turn t{*this};
  killed_ = kill_sent_ = special_ = torn_down_ = true;
  end_renewal();
  // Children that it has not heard of yet are among them.
  while (take_system()) {
  }
  while (first_child_) {
    cell* c = first_child_->previous_sibling_;
    c->tear_down();
    // It has told us so through our lane, or ended for good.
    while (take_system()) {
    }
    if (first_child_ && first_child_->previous_sibling_ == c) child_ended(*c);
  }
  while (take_system()) {
  }
  if (!published_) {
    if (!started_) started_ = body_ended_ = true;
    kill(main_);
    kill_tasks();
    // What was cancelled may let go of the frames at once.
    while (take_system()) {
    }
    if (!settled()) {
      abandoned_ = true;
      add_ref();
    } else {
      free_tasks();
      free_frames();
    }
    kind_ = abandoned_ ? exit_reason::abandoned : exit_reason::killed;
    publish_end();
  }
  while (take_system()) {
  }
  user_.woken();
  system_.woken();
  queued_ = false;
  if (!ended_) (void)finish();
}

// --- orders -----------------------------------------------------------------

namespace {

/// An order to a cell: stop, drain, kill, adopt.
struct order final : system_node {
  void (*what)(cell&, cell*) noexcept = nullptr;
  cell* who = nullptr;
};

}  // namespace

bool send_order(cell& to, void (*what)(cell&, cell*) noexcept, cell* who) {
  auto* o = make_node<order>();
  o->what = what;
  o->who = who;
  o->arrive = [](cell& c, system_node& n) noexcept {
    auto* arrived = static_cast<order*>(&n);
    const auto todo = arrived->what;
    cell* child = arrived->who;
    destroy_and_free(arrived);
    todo(c, child);
  };
  if (to.push_system(*o)) return true;
  destroy_and_free(o);
  return false;
}

void request_stop(cell_base* cell) noexcept {
  if (!cell) return;
  to_cell(*cell).close();
  (void)send_order(
      to_cell(*cell),
      [](detail::cell& c, detail::cell*) noexcept { c.stop_requested(false); },
      nullptr);
}
void request_drain(cell_base* cell) noexcept {
  if (!cell) return;
  to_cell(*cell).close();
  (void)send_order(
      to_cell(*cell),
      [](detail::cell& c, detail::cell*) noexcept { c.stop_requested(true); },
      nullptr);
}
void request_kill(cell_base* cell) noexcept {
  if (!cell) return;
  to_cell(*cell).close();
  (void)send_order(
      to_cell(*cell),
      [](detail::cell& c, detail::cell*) noexcept { c.kill_requested(); },
      nullptr);
}

}  // namespace actors::detail
