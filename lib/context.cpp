#include "actors/context.hpp"

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "cell.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

std::string path_of(const cell_base* cell) {
  return cell ? static_cast<const detail::cell*>(cell)->path() : "(null)";
}

cell_base& base_of(cell& c) noexcept { return c; }
cell_ptr parent_of(cell& c) noexcept { return cell_ptr{c.parent()}; }
system_core& core_of(cell& c) noexcept { return c.core(); }
actor_system& system_of(cell& c) { return c.core().facade(); }
void stop_self(cell& c) noexcept { request_stop(&c); }
void mark_ready(cell& c) noexcept { c.mark_ready(); }
time_point now_of(cell& c) noexcept { return c.home().now(); }
double random_for(cell& c) noexcept { return c.core().random(); }

namespace {

/// The message that the fiber which runs now works for.
envelope* message_in_hand(cell& c) noexcept {
  fiber* f = here.running() == &c && here.task ? here.task : &c.main();
  while (f && f->child && !f->hand) f = static_cast<child_fiber*>(f)->parent;
  return f ? f->hand : nullptr;
}

}  // namespace

envelope* hand_of(cell& c) {
  if (envelope* e = message_in_hand(c)) return e;
  throw std::logic_error(
      "there is no message in hand: reply and forward belong into a handler, "
      "or between one receive() and the next");
}

cell_ptr sender_of(cell& c) noexcept {
  envelope* e = message_in_hand(c);
  return cell_ptr{e ? e->type->sender(e) : nullptr};
}

namespace {

const ask_state* question_in_hand(cell& c) noexcept {
  envelope* e = message_in_hand(c);
  return e && e->type->question ? e->type->question(e) : nullptr;
}

}  // namespace

time_point deadline_of_hand(cell& c) noexcept {
  const ask_state* q = question_in_hand(c);
  return q ? q->deadline : never;
}

bool asker_gone(cell& c) noexcept {
  const ask_state* q = question_in_hand(c);
  return q && q->gone();
}

void throw_wrong_reply(const envelope* e) {
  const std::string name = type_name(*e->type->message->info);
  if (!e->type->reply)
    throw std::logic_error("the message in hand, a " + name +
                           ", was told and not asked: nobody waits for it");
  throw std::logic_error("the question in hand, a " + name +
                         ", has been answered already or has another reply "
                         "type: " +
                         type_name(*e->type->reply));
}

errc why_dropped() noexcept {
  if (std::uncaught_exceptions() > 0) return errc::actor_failed;
  if (here.running() && here.running()->failing()) return errc::actor_failed;
  return errc::no_reply;
}

bool sleep_op::start(fiber& f, std::coroutine_handle<> frame) {
  if (take_abort(f)) {
    aborted_ = true;
    return false;
  }
  fiber_ = &f;
  waiter = frame;
  cancel = [](wait& w, fiber& waiting, cancellation how) noexcept {
    auto& self = static_cast<sleep_op&>(w);
    cancel_timer(std::exchange(self.timer_, nullptr));
    if (how == cancellation::stop) self.aborted_ = take_abort(waiting);
    return true;
  };
  const auto wake = [](cell& c, void* op) noexcept {
    auto* self = static_cast<sleep_op*>(op);
    self->timer_ = nullptr;
    c.resume(*self->fiber_, *self);
  };
  timer_ = until_ ? start_timer_at(*f.owner, *until_, wake, this)
                  : start_timer(*f.owner, delay_, wake, this);
  f.waiting = this;
  return true;
}

}  // namespace actors::detail
