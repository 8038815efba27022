#include "actors/detail/group.hpp"

#include <exception>

#include "actors/when.hpp"
#include "cell.hpp"
#include "timers.hpp"

namespace actors::detail {

void group_member::on_end(child_fiber& f) noexcept {
  auto& m = static_cast<group_member&>(f);
  m.error = m.thrown(m);
  m.of->member_ended(m);
}

bool group_member::won(child_fiber& f, bool take) noexcept {
  auto& m = static_cast<group_member&>(f);
  group& g = *m.of;
  if (g.how_ == group::decided_by::error) return true;
  if (g.decided_) return g.winner_ == &m;
  if (take) g.decide(&m);
  return true;
}

void group::add(group_member& m) noexcept {
  m.of = this;
  // Where all are waited for, none is done by a message.
  if (how_ == decided_by::error) m.claim = nullptr;
  m.previous_member = last_;
  (last_ ? last_->next_member : first_) = &m;
  last_ = &m;
}

void group::add_and_start(group_member& m) noexcept {
  add(m);
  if (started_) start_member(m);
}

bool group::start_group(fiber& f, std::coroutine_handle<> frame) noexcept {
  parent_ = &f;
  waiter = frame;
  wait::cancel = &cancel_group;
  aborted_ = take_abort(f);
  started_ = true;
  busy_ = true;
  // What has not started when it is decided never does. A member may have added
  // others, which run.
  group_member* const last = last_;
  for (group_member *m = first_, *next; m && !decided_; m = next) {
    next = m == last ? nullptr : m->next_member;
    start_member(*m);
  }
  busy_ = false;
  if (decided_) cancel_others();
  if (running_ == 0) {
    settle_abort();
    return false;
  }
  f.waiting = this;
  return true;
}

void group::start_member(group_member& m) noexcept {
  ++running_;
  m.owner = parent_->owner;
  m.parent = parent_;
  m.handed = aborted_;
  m.abort = m.told = aborted_ || decided_;
  try {
    m.start(m);
  } catch (...) {  // no memory for its frame
    m.error = std::current_exception();
    member_ended(m);
  }
}

void group::member_ended(group_member& m) noexcept {
  m.has_ended = true;
  --running_;
  if (m.handed && !m.abort) abort_taken_ = true;
  if (m.hand) {
    if (parent_->hand) drop_hand(*parent_);
    parent_->hand = std::exchange(m.hand, nullptr);
  }
  if (!decided_ && (how_ == decided_by::end || m.error)) decide(&m);
  if (m.dispose && winner_ != &m) {
    unlink(m);
    m.dispose(m);
  }
  if (running_ == 0 && !busy_) complete();
}

void group::unlink(group_member& m) noexcept {
  (m.next_member ? m.next_member->previous_member : last_) = m.previous_member;
  (m.previous_member ? m.previous_member->next_member : first_) = m.next_member;
}

group_member* group::pop_disposable() noexcept {
  for (group_member* m = last_; m; m = m->previous_member) {
    if (!m->dispose) continue;
    unlink(*m);
    return m;
  }
  return nullptr;
}

void group::decide(group_member* by) noexcept {
  if (decided_) return;
  decided_ = true;
  winner_ = by;
  if (on_decided) on_decided(*this);
  if (!busy_) cancel_others();
}

void group::decide_and_end(group_member* by) noexcept {
  decide(by);
  if (running_ == 0) complete();
}

void group::cancel_others() noexcept {
  // Of the members only `m` itself may go while it is cancelled.
  busy_ = true;
  for (group_member *m = first_, *next; m; m = next) {
    next = m->next_member;
    if (m != winner_ && m->owner && !m->has_ended) m->owner->cancel(*m);
  }
  busy_ = false;
}

void group::complete() noexcept {
  settle_abort();
  parent_->owner->resume(*parent_, *this);
}

/// Where no operation of a member has told of the parent's stop, the parent's
/// next one does.
void group::settle_abort() noexcept {
  if (aborted_ && !abort_taken_) parent_->abort = true;
}

/// Gives a member the parent's `abort`.
void group::hand_down(group_member& m) noexcept {
  if (!m.owner || m.has_ended || m.told) return;
  m.handed = true;
  m.owner->cancel(m);
}

bool group::cancel_group(wait& w, fiber& f, cancellation how) noexcept {
  auto& self = static_cast<group&>(w);
  if (how == cancellation::kill) {
    if (self.on_decided) self.on_decided(self);
    for (group_member* m = self.first_; m; m = m->next_member) {
      if (!m->owner || m->has_ended) continue;
      fail_asker(*m);
      m->owner->kill(*m);
    }
    return true;  // what is still to come the cell counts
  }
  (void)take_abort(f);
  self.aborted_ = true;
  self.busy_ = true;
  // First the one that receives, which may be done by that.
  fiber* receives = f.owner->receiving();
  while (receives && receives->child) {
    auto* const c = static_cast<child_fiber*>(receives);
    if (c->parent != &f) {
      receives = c->parent;
      continue;
    }
    self.hand_down(*static_cast<group_member*>(c));
    break;
  }
  for (group_member *m = self.first_, *next; m; m = next) {
    next = m->next_member;
    self.hand_down(*m);
  }
  self.busy_ = false;
  if (self.running_ != 0) return false;
  self.settle_abort();
  return true;
}

bool group::waits_for_each() const noexcept {
  if (how_ == decided_by::end) return first_ == last_;
  for (const group_member* m = first_; m; m = m->next_member)
    if (!m->asks) return false;
  return true;
}

const fiber& group::innermost(const fiber& f) noexcept {
  if (!f.waiting || f.waiting->cancel != &cancel_group) return f;
  const fiber* found = nullptr;
  for (auto* m = static_cast<const group*>(f.waiting)->first_; m;
       m = m->next_member) {
    if (!m->owner || m->has_ended) continue;
    const fiber& at = innermost(*m);
    if (at.hand) return at;
    if (!found) found = &at;
  }
  return found ? *found : f;
}

timer* start_group_timer(fiber& f, duration delay,
                         void (*expire)(cell&, void*) noexcept,
                         void* argument) {
  return start_timer(*f.owner, delay, expire, argument);
}
void cancel_group_timer(timer* t) noexcept { cancel_timer(t); }

}  // namespace actors::detail
