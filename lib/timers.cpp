#include "timers.hpp"

#include <algorithm>
#include <utility>

#include "cell.hpp"
#include "scheduler.hpp"

namespace actors::detail {

namespace {

void free_timer(timer* t) noexcept {
  t->owner->release();
  destroy_and_free(t);
}

}  // namespace

class timer_queue::guard {
 public:
  explicit guard(const timer_queue& q)
      : mutex_{q.concurrent_ ? &q.mutex_ : nullptr} {
    if (mutex_) mutex_->lock();
  }
  guard(const guard&) = delete;
  guard& operator=(const guard&) = delete;
  ~guard() {
    if (mutex_) mutex_->unlock();
  }

 private:
  std::mutex* mutex_;
};

void timer_queue::up(std::size_t i) noexcept {
  const entry e = heap_[i];
  while (i != 0) {
    const std::size_t parent = (i - 1) / 4;
    if (heap_[parent].due <= e.due) break;
    place(i, heap_[parent]);
    i = parent;
  }
  place(i, e);
}

void timer_queue::down(std::size_t i) noexcept {
  const entry e = heap_[i];
  for (;;) {
    const std::size_t first = 4 * i + 1;
    if (first >= heap_.size()) break;
    const std::size_t last = std::min(first + 4, heap_.size());
    std::size_t least = first;
    for (std::size_t k = first + 1; k < last; ++k)
      if (heap_[k].due < heap_[least].due) least = k;
    if (e.due <= heap_[least].due) break;
    place(i, heap_[least]);
    i = least;
  }
  place(i, e);
}

timer* timer_queue::take(std::size_t i) noexcept {
  timer* t = heap_[i].who;
  const entry last = heap_.back();
  heap_.pop_back();
  if (last.who != t) {
    place(i, last);
    up(i);
    down(last.who->position);
  }
  t->position = timer::fired;
  return t;
}

bool timer_queue::add(timer* t) {
  guard lock{*this};
  heap_.push_back({t->due, t});
  up(heap_.size() - 1);
  return t->position == 0;
}

bool timer_queue::remove(timer* t) noexcept {
  guard lock{*this};
  if (t->position == timer::fired) return false;
  take(t->position);
  return true;
}

std::size_t timer_queue::fire(time_point now) noexcept {
  std::size_t count = 0;
  for (;; ++count) {
    timer* t;
    {
      guard lock{*this};
      if (heap_.empty() || heap_.front().due > now) return count;
      t = take(0);
    }
    // From here the node is on its way; a cancellation only marks it.
    if (!t->owner->push_system(*t)) free_timer(t);
  }
}

time_point timer_queue::next() const noexcept {
  guard lock{*this};
  return heap_.empty() ? time_point::max() : heap_.front().due;
}

namespace {

void arrive(cell& c, system_node& n) noexcept {
  auto* t = static_cast<timer*>(&n);
  if (t->expire) t->expire(c, t->argument);
  free_timer(t);
}

}  // namespace

timer* start_timer(cell& c, duration delay,
                   void (*expire)(cell&, void*) noexcept, void* argument) {
  return start_timer_at(c, c.home().deadline(delay), expire, argument);
}

timer* start_timer_at(cell& c, time_point due,
                      void (*expire)(cell&, void*) noexcept, void* argument) {
  timer* t = make_node<timer>();
  t->arrive = &arrive;
  t->due = due;
  t->owner = &c;
  t->expire = expire;
  t->argument = argument;
  t->queue = &c.home().timers();
  c.add_ref();
  try {
    if (t->queue->add(t)) c.home().alarm(t->due);
  } catch (...) {
    free_timer(t);
    throw;
  }
  return t;
}

void cancel_timer(timer* t) noexcept {
  if (!t) return;
  if (t->queue->remove(t))
    free_timer(t);
  else
    t->expire = nullptr;  // it is on its way and finds nothing to do
}

}  // namespace actors::detail
