#include "bounded_mailbox.hpp"

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "actors/detail/receiver.hpp"
#include "names.hpp"

namespace actors {

namespace {

void check_capacity(std::size_t capacity) {
  if (capacity < 1 || capacity > 1'000'000'000)
    throw std::invalid_argument(
        "a mailbox has to have room for 1 to 1000000000 messages, not " +
        std::to_string(capacity));
}

}  // namespace

mailbox mailbox::bounded(std::size_t capacity, overflow when_full) {
  return mailbox{}.with({nullptr, capacity, when_full});
}

mailbox mailbox::with(const detail::mailbox_limit& limit) const {
  check_capacity(limit.capacity);
  for (const detail::mailbox_limit& l : limits_)
    if (l.type && detail::same_type(l.type, limit.type))
      throw std::invalid_argument("a mailbox may have one limit for a type; " +
                                  detail::type_name(*limit.type->info) +
                                  " has two");
  mailbox copy = *this;
  copy.limits_.push_back(limit);
  return copy;
}

namespace detail {

namespace {

/// For a watermark: how often a mailbox that grows is looked at.
constexpr std::size_t stride = 256;

/// Whether nobody waits for it any more.
bool has_left(const mailbox_waiter& w) noexcept {
  const ask_state* s = w.sender ? w.sender : w.message->type->slot(w.message);
  return s && s->gone();
}

/// The sender's message goes in, unless the sender has left.
bool claim(ask_state& sender) noexcept {
  auto& s = static_cast<reply_state<void>&>(sender);
  ::new (static_cast<void*>(&s.value)) result<void>{};
  s.has_value = true;
  return s.win();
}

}  // namespace

struct bounded_mailbox::slot {
  slot* next;
  slot* previous;
  envelope* message;
  /// Null: its type has none.
  limit* of;
  bool exempt;
};

void mailbox_waiter::finish() noexcept {
  envelope* const e = message;
  ask_state* const s = sender;
  const errc code = why;
  const bool nobody = left;
  destroy_and_free(this);
  if (!e) {
    if (s) s->deliver(*s);
    return;
  }
  e->type->drop(e, code);  // a question's asker is told by that
  if (!s) return;
  if (nobody)
    s->leave();
  else
    static_cast<reply_state<void>*>(s)->answer(code);
}

bounded_mailbox::bounded_mailbox(const mailbox& kind, lane<envelope>& lane)
    : lane_{lane} {
  limits_.reserve(kind.limits().size());
  for (const mailbox_limit& l : kind.limits()) {
    limit& added = limits_.emplace_back();
    added.is = l;
    if (!l.type) total_ = &added;
  }
}

bounded_mailbox::~bounded_mailbox() {
  // Of a cell that was never launched; otherwise it is empty.
  while (first_) {
    envelope* e = remove(*first_);
    e->type->drop(e, errc::actor_stopped);
  }
}

bounded_mailbox::limit* bounded_mailbox::limit_of(const envelope& e) noexcept {
  for (limit& l : limits_)
    if (l.is.type && same_type(l.is.type, e.type->message)) return &l;
  return nullptr;
}

/// The limit that keeps one more of `of` out; null: there is room. With that of
/// the type the whole is right, too, once one has gone.
bounded_mailbox::limit* bounded_mailbox::obstacle(limit* of) noexcept {
  if (of && of->full()) return of;
  return total_ && total_->full() ? total_ : nullptr;
}

bool bounded_mailbox::counts(const limit& l, const slot& s) const noexcept {
  return &l == total_ ? !s.exempt : s.of == &l;
}

void bounded_mailbox::insert(envelope* e, limit* of, bool exempt) noexcept {
  slot* s = make_node<slot>(slot{nullptr, last_, e, of, exempt});
  (last_ ? last_->next : first_) = s;
  last_ = s;
  ++size_;
  for (limit* l : {of, exempt ? nullptr : total_}) {
    if (!l) continue;
    ++l->count;
    if (!l->oldest) l->oldest = s;
  }
}

envelope* bounded_mailbox::remove(slot& s) noexcept {
  forget(s.of, s);
  if (!s.exempt) forget(total_, s);
  if (scanned_ == &s) scanned_ = s.previous;
  (s.previous ? s.previous->next : first_) = s.next;
  (s.next ? s.next->previous : last_) = s.previous;
  --size_;
  envelope* const e = s.message;
  destroy_and_free(&s);
  return e;
}

void bounded_mailbox::forget(limit* l, const slot& s) noexcept {
  if (!l) return;
  --l->count;
  if (l->oldest != &s) return;
  slot* next = nullptr;
  // It only ever goes forward: each message is passed once for each limit.
  if (l->count != 0)
    for (next = s.next; !counts(*l, *next);) next = next->next;
  l->oldest = next;
}

bounded_mailbox::entered bounded_mailbox::push(envelope* e, const manner& how,
                                               mailbox_rest& rest) noexcept {
  limit* const of = how.exempt ? nullptr : limit_of(*e);
  const std::lock_guard lock{mutex_};
  if (closed_) return entered::closed;
  limit* const full = how.exempt ? nullptr : obstacle(of);
  if (full) {
    if (full->is.when_full == overflow::wait) {
      if (!how.sender && !e->type->slot(e)) return entered::full;
      if (how.sender && how.sender->may_not_wait) return entered::deadlock;
      add_waiter(e, how.sender, of, rest);
      return entered::waits;
    }
    if (full->is.when_full != overflow::drop_oldest) return entered::full;
  }
  if (how.sender && !claim(*how.sender)) return entered::left;
  if (full) rest.evicted.push(remove(*full->oldest));
  insert(e, of, how.exempt);
  // What was evicted may have been of a type that others wait for.
  if (full && full == total_) let_in(rest);
  rest.grown = !total_ && size_ % stride == 0;
  if (lane_.nudge()) {
    if (how.at_home)
      lane_.woken();
    else
      rest.wakes = true;
  }
  return entered::in;
}

void bounded_mailbox::add_waiter(envelope* e, ask_state* sender, limit* of,
                                 mailbox_rest& rest) noexcept {
  limit& l = of && of->is.when_full == overflow::wait ? *of : *total_;
  if (l.waiters >= l.purge_at) {
    // Who tries again and again with a timeout leaves others behind.
    queue<mailbox_waiter> all = std::exchange(l.waiting, {});
    l.waiters = 0;
    while (mailbox_waiter* w = all.pop()) {
      w->left = has_left(*w);
      (w->left ? rest.gone : l.waiting).push(w);
      if (!w->left) ++l.waiters;
    }
    l.purge_at = 2 * l.waiters + 16;
  }
  auto* w = make_node<mailbox_waiter>();
  w->message = e;
  w->sender = sender;
  w->ticket = ++tickets_;
  l.waiting.push(w);
  ++l.waiters;
}

/// There is room, perhaps for several: of those who wait for some other limit
/// nobody has been let in meanwhile.
void bounded_mailbox::let_in(mailbox_rest& rest) noexcept {
  while (!closed_) {
    limit* from = nullptr;
    for (limit& l : limits_) {
      while (l.waiters != 0 && has_left(*l.waiting.front())) {
        mailbox_waiter* w = l.waiting.pop();
        --l.waiters;
        w->left = true;
        rest.gone.push(w);
      }
      if (l.waiters == 0) continue;
      const mailbox_waiter& w = *l.waiting.front();
      const limit* full = obstacle(limit_of(*w.message));
      if (full && full->is.when_full == overflow::wait) continue;
      if (!from || w.ticket < from->waiting.front()->ticket) from = &l;
    }
    if (!from) return;
    mailbox_waiter* const w = from->waiting.pop();
    --from->waiters;
    limit* const of = limit_of(*w->message);
    limit* const full = obstacle(of);
    if (full && full->is.when_full != overflow::drop_oldest) {
      w->why = errc::mailbox_full;
      rest.gone.push(w);
      continue;
    }
    if (w->sender && !claim(*w->sender)) {
      w->left = true;
      rest.gone.push(w);
      continue;
    }
    if (full) rest.evicted.push(remove(*full->oldest));
    insert(std::exchange(w->message, nullptr), of, false);
    rest.gone.push(w);
  }
}

envelope* bounded_mailbox::take(const message_filter* filter,
                                mailbox_rest& rest) noexcept {
  const std::lock_guard lock{mutex_};
  if (std::exchange(scanned_for_, filter) != filter) scanned_ = nullptr;
  slot* s = scanned_ ? scanned_->next : first_;
  if (filter)
    for (; s && !filter->accepts(s->message->type->message); s = s->next)
      scanned_ = s;
  if (!s) return nullptr;
  envelope* const e = remove(*s);
  let_in(rest);
  // It may have been woken by something else than messages, and does not sleep
  // while there are any.
  if (first_ && lane_.nudge()) lane_.woken();
  return e;
}

bool bounded_mailbox::sleep(const message_filter* filter) noexcept {
  const std::lock_guard lock{mutex_};
  const slot* unseen =
      filter && scanned_for_ == filter && scanned_ ? scanned_->next : first_;
  return !unseen && lane_.sleep();
}

void bounded_mailbox::close() noexcept {
  const std::lock_guard lock{mutex_};
  closed_ = true;
}

std::size_t bounded_mailbox::size() const noexcept {
  const std::lock_guard lock{mutex_};
  return size_;
}

void bounded_mailbox::send_away(mailbox_rest& rest) noexcept {
  const std::lock_guard lock{mutex_};
  for (limit& l : limits_)
    for (; l.waiters != 0; --l.waiters) rest.gone.push(l.waiting.pop());
}

queue<envelope> bounded_mailbox::take_all() noexcept {
  const std::lock_guard lock{mutex_};
  queue<envelope> all;
  scanned_for_ = nullptr;
  scanned_ = nullptr;
  while (first_) all.push(remove(*first_));
  return all;
}

}  // namespace detail

}  // namespace actors
