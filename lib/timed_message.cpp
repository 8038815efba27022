/// `send_after` and `send_every`: messages that an actor sends itself for
/// later.
#include <stdexcept>
#include <utility>

#include "actors/error.hpp"
#include "actors/timer.hpp"
#include "cell.hpp"
#include "scheduler.hpp"
#include "timers.hpp"

namespace actors::detail {

namespace {

/// No message comes any more; the actor lets go of it.
void end_timed(timed_message*& list, timed_message& m) noexcept {
  (m.previous ? m.previous->next : list) = m.next;
  if (m.next) m.next->previous = m.previous;
  m.running = nullptr;
  m.release();
}

void send_timed(cell& c, void* argument) noexcept {
  auto& m = *static_cast<timed_message*>(argument);
  timed_message*& list = c.extras().timed;
  envelope* e;
  try {
    e = m.make(m);
    if (m.period > duration::zero()) {
      // From when it was due, not from now: the rhythm does not drift. Beats
      // that a busy thread has missed are not made up for.
      const time_point now = c.home().now();
      m.due += m.period;
      if (m.due <= now) m.due += (now - m.due) / m.period * m.period + m.period;
      m.running = start_timer_at(c, m.due, &send_timed, &m);
    } else {
      end_timed(list, m);
    }
  } catch (...) {
    end_timed(list, m);
    c.fail(std::current_exception());
    return;
  }
  // Between the end of the mailbox and the news of the stop.
  if (c.closed())
    e->type->drop(e, errc::actor_stopped);
  else
    tell(&c, e);
}

}  // namespace

void start_timed(cell& c, timed_message& m, duration delay) {
  timed_message*& list = c.extras().timed;
  try {
    if (c.closed()) throw_error(make_error_code(errc::actor_stopped));
    if (m.period > duration::zero()) {
      m.due = c.home().now() + std::min(m.period, longest);
      m.running = start_timer_at(c, m.due, &send_timed, &m);
    } else {
      m.running = start_timer(c, delay, &send_timed, &m);
    }
  } catch (...) {
    m.free(m);
    throw;
  }
  m.owner = &c;
  m.next = list;
  if (list) list->previous = &m;
  list = &m;
}

bool cancel_timed(timed_message& m) {
  if (here.running() != m.owner)
    throw std::logic_error(
        "a timer is cancelled by the actor that has started it, in its own "
        "coroutines; tell the actor from elsewhere");
  if (!m.running) return false;
  cancel_timer(m.running);
  end_timed(m.owner->extras().timed, m);
  return true;
}

void cell::end_timers() noexcept {
  if (!extras_) return;
  while (timed_message* m = extras_->timed) {
    cancel_timer(m->running);
    end_timed(extras_->timed, *m);
  }
}

void check_delay(duration delay) {
  if (delay < duration::zero())
    throw std::invalid_argument("a delay may not be negative");
}

void check_period(duration period) {
  if (period <= duration::zero())
    throw std::invalid_argument("a period has to be more than zero");
}

}  // namespace actors::detail
