/// What a cell does with messages that are not in its lane but in a mailbox
/// with a lock: bounded, or traced. And what it does when there are too many.
#include <limits>
#include <utility>

#include "actors/detail/receiver.hpp"
#include "cell.hpp"
#include "events.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors {

std::string_view to_string(trace_event::kind value) noexcept {
  switch (value) {
    case trace_event::kind::told:
      return "told";
    case trace_event::kind::asked:
      return "asked";
    case trace_event::kind::sent:
      return "sent";
    case trace_event::kind::taken:
      return "taken";
    case trace_event::kind::done:
      return "done";
  }
  return "?";
}

std::string trace_event::message_name() const {
  return message ? detail::type_name(*message) : "(unknown)";
}

std::string trace_event::to_string() const {
  std::string line{actors::to_string(what)};
  const bool before = what != kind::taken && what != kind::done;
  line += ' ' + message_name() + (before ? " to " : " by ") + who.path();
  if (sender) line += " from " + sender.path();
  return line;
}

namespace detail {

// --- messages ---------------------------------------------------------------

pushed cell::push_elsewhere(envelope* e, bool exempt) noexcept {
  using kind = trace_event::kind;
  if (core().traces()) trace(e->type->slot(e) ? kind::asked : kind::told, e);
  const bool at_home = here.home == home_;
  mailbox_rest rest;
  const auto how =
      mailbox()->push(e, {.exempt = exempt, .at_home = at_home}, rest);
  if (how == bounded_mailbox::entered::in && at_home) news_elsewhere();
  settle(rest);
  switch (how) {
    case bounded_mailbox::entered::in:
    case bounded_mailbox::entered::waits:
      return pushed::in;
    case bounded_mailbox::entered::closed:
      return pushed::closed;
    default:
      return pushed::full;
  }
}

void cell::tell_elsewhere(envelope* e) noexcept {
  using reason = dead_letter::reason;
  const pushed how = push_elsewhere(e, false);
  if (how != pushed::in)
    report_undelivered(
        this, e,
        how == pushed::full ? reason::mailbox_full : reason::actor_stopped);
}

bool cell::push_sent(envelope* e, ask_state& sender) noexcept {
  auto& state = static_cast<reply_state<void>&>(sender);
  if (!(traits_ & elsewhere)) [[likely]] {
    if (push_user(e) != pushed::in) return false;
    state.answer({});
    return true;
  }
  if (core().traces()) trace(trace_event::kind::sent, e);
  const bool at_home = here.home == home_;
  mailbox_rest rest;
  const auto how =
      mailbox()->push(e, {.sender = &sender, .at_home = at_home}, rest);
  if (how == bounded_mailbox::entered::in && at_home) news_elsewhere();
  settle(rest);
  switch (how) {
    case bounded_mailbox::entered::in:
      sender.deliver(sender);
      return true;
    case bounded_mailbox::entered::waits:
      return true;  // the sender's state may be gone
    case bounded_mailbox::entered::closed:
      return false;
    case bounded_mailbox::entered::left:
      e->type->drop(e, errc::no_reply);
      sender.leave();
      return true;
    case bounded_mailbox::entered::full:
      e->type->drop(e, errc::no_reply);
      state.answer(errc::mailbox_full);
      return true;
    case bounded_mailbox::entered::deadlock:
      e->type->drop(e, errc::no_reply);
      state.answer(errc::would_deadlock);
      return true;
  }
  return true;
}

/// What had to wait for the lock to be released. The wake comes first: until it
/// has, the cell cannot end.
void cell::settle(mailbox_rest& rest) noexcept {
  if (rest.wakes) home_->wake(*this, lane_id::user);
  if (rest.grown) look_at_crowd();
  while (envelope* e = rest.evicted.pop())
    report_undelivered(this, e, dead_letter::reason::mailbox_full);
  while (mailbox_waiter* w = rest.gone.pop()) w->finish();
}

envelope* cell::take_elsewhere(const message_filter* filter) noexcept {
  trace_done();
  bounded_mailbox& m = *mailbox();
  if (filter && filter->count == 0) return nullptr;
  mailbox_rest rest;
  envelope* const e = m.take(filter, rest);
  settle(rest);
  if (extras_->crowded_at != 0) check_crowd();
  if (e && core().traces()) {
    m.in_hand = e->type->message->info;
    m.in_hand_from = cell_ptr{e->type->sender(e)};
    trace(trace_event::kind::taken, e);
  }
  return e;
}

/// The mailbox is closed: nobody gets in any more.
void cell::send_away() noexcept {
  bounded_mailbox* const m = mailbox();
  if (!m) return;
  mailbox_rest rest;
  m->send_away(rest);
  settle(rest);
}

std::size_t cell::count_messages() noexcept {
  if (bounded_mailbox* m = mailbox()) return m->size();
  // What is moved out of the lane wakes nobody any more.
  if (refill()) looked_ = false;
  std::size_t count = 0;
  for (envelope* e = inbox_.front(); e; e = e->next) ++count;
  return count;
}

bool cell::has_messages() const noexcept {
  if (bounded_mailbox* m = mailbox()) return m->size() != 0;
  return !inbox_.empty() || user_.has_nodes();
}

// --- trace ------------------------------------------------------------------

void cell::trace(trace_event::kind what, envelope* e) noexcept {
  core().trace({what, any_actor_ref{cell_ptr{this}}, e->type->message->info,
                any_actor_ref{cell_ptr{e->type->sender(e)}}, home_->now()});
}

/// With the message that it has taken before.
void cell::trace_done() noexcept {
  bounded_mailbox& m = *mailbox();
  const std::type_info* const message = std::exchange(m.in_hand, nullptr);
  if (!message) return;
  core().trace({trace_event::kind::done, any_actor_ref{cell_ptr{this}}, message,
                any_actor_ref{std::exchange(m.in_hand_from, {})},
                home_->now()});
}

// --- too many ---------------------------------------------------------------

/// Looks how many messages there are. Strand, or the strand's own thread.
void cell::check_crowd() noexcept {
  constexpr std::size_t first = 10'000;
  const bounded_mailbox* const m = mailbox();
  if (m && !m->unlimited()) return;
  const std::size_t queued =
      m ? m->size()
        : received_ - static_cast<std::uint32_t>(handled_ - budget_);
  const std::size_t before =
      extras_ && extras_->crowded_at != 0 ? extras_->crowded_at : first;
  std::size_t mark = before;
  while (mark > first && queued < mark / 4) mark /= 2;
  const bool crowded = queued >= mark;
  while (queued >= mark) mark *= 2;
  if (mark != before) extras().crowded_at = mark;
  using kind = lifecycle_event::kind;
  if (!crowded || published_ || !core().events().wanted(kind::crowded)) return;
  lifecycle_event event;
  event.what = kind::crowded;
  event.who = any_actor_ref{cell_ptr{this}};
  event.queued = queued;
  core().events().publish(event);
}

/// Has it look, on its strand. Any thread.
void cell::look_at_crowd() noexcept {
  (void)send_order(
      *this,
      [](cell& c, cell*) noexcept {
        // What is moved out of the lane wakes nobody any more.
        if (!c.mailbox() && c.refill()) c.looked_ = false;
        c.check_crowd();
      },
      nullptr);
}

}  // namespace detail

}  // namespace actors
