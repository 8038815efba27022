/// `self.watch(ref)`: who is told of which actor's end.
#include "actors/detail/watch.hpp"

#include <atomic>
#include <utility>

#include "cell.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

/// Two actors share it: the watcher, from whose list it is taken when the watch
/// is over for it, and the watched, in whose list it stands from the moment the
/// order arrives there until its end or the watcher's order to forget. Each of
/// them, and each order on its way, counts.
///
///   watcher's strand   over, message, its place in `watching`
///   watched's strand   listed, the links in `watchers`, then why and the node
struct watch final : system_node {
  watch(cell& who, cell* whom, envelope* m,
        void (*f)(envelope*, const exit_reason&) noexcept) noexcept
      : watcher{&who}, watched{whom}, message{m}, finish{f} {
    watcher->add_ref();
    if (watched) watched->add_ref();
  }
  watch(const watch&) = delete;
  watch& operator=(const watch&) = delete;
  ~watch() {
    if (message) message->type->drop(message, errc::actor_stopped);
    watcher->release();
    if (watched) watched->release();
  }

  void add_ref() noexcept { refs.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (refs.fetch_sub(1, std::memory_order_acq_rel) == 1)
      destroy_and_free(this);
  }

  /// Counted.
  cell* watcher;
  cell* watched;
  envelope* message;
  void (*finish)(envelope*, const exit_reason&) noexcept;
  exit_reason why = exit_reason::not_started;
  /// Both sides', and orders on their way.
  std::atomic<std::uint32_t> refs{1};
  bool over = false;
  bool listed = false;
  bool forgotten = false;
  watch* next_watcher = nullptr;
  watch* previous_watcher = nullptr;
};

namespace {

/// Has `arrive` called on the strand of the watched actor; false when it has
/// ended.
bool send(watch& w, void (*arrive)(cell&, watch&) noexcept) {
  struct order final : system_node {
    watch* who;
    void (*what)(cell&, watch&) noexcept;
  };
  auto* o = make_node<order>();
  o->who = &w;
  o->what = arrive;
  o->arrive = [](cell& c, system_node& n) noexcept {
    auto* self = static_cast<order*>(&n);
    watch& arrived = *self->who;
    const auto todo = self->what;
    destroy_and_free(self);
    todo(c, arrived);
    arrived.release();
  };
  w.add_ref();
  if (w.watched->push_system(*o)) return true;
  destroy_and_free(o);
  w.release();
  return false;
}

}  // namespace

void start_watch(cell& watcher, const cell_ptr& who, envelope* message,
                 void (*finish)(envelope*, const exit_reason&) noexcept) {
  end_watch(watcher, who);
  cell* const watched = who ? &to_cell(*who.get()) : nullptr;
  auto* w = make_node<watch>(watcher, watched, message, finish);
  watcher.add_watch(*w);
}

void end_watch(cell& watcher, const cell_ptr& who) noexcept {
  if (who) watcher.unwatch(who.get());
}

void cell::add_watch(watch& w) {
  try {
    extras().watching.emplace(w.watched, &w);
  } catch (...) {
    w.release();
    throw;
  }
  if (w.watched && send(w, [](cell& watched, watch& arrived) noexcept {
        watched.watched_by(arrived);
      }))
    return;
  // It has ended for good, so that may be read here.
  if (w.watched) w.why = w.watched->why();
  w.add_ref();
  watched_ended(w);
}

void cell::watched_by(watch& w) noexcept {
  if (w.forgotten) return;  // the order to forget it came by a quicker way
  if (published_) {
    w.why = why();
    tell_watcher(w);
    return;
  }
  w.add_ref();
  w.listed = true;
  cell_extras& x = extras();
  w.next_watcher = x.watchers;
  if (x.watchers) x.watchers->previous_watcher = &w;
  x.watchers = &w;
}

/// Counts for the way.
void cell::tell_watcher(watch& w) noexcept {
  w.add_ref();
  w.arrive = [](cell& watcher, system_node& n) noexcept {
    watcher.watched_ended(static_cast<watch&>(n));
  };
  if (!w.watcher->push_system(w)) w.release();
}

void cell::tell_watchers() noexcept {
  while (watch* w = extras_->watchers) {
    extras_->watchers = w->next_watcher;
    if (w->next_watcher) w->next_watcher->previous_watcher = nullptr;
    w->listed = false;
    w->why = why();
    tell_watcher(*w);
    w->release();
  }
}

/// The news has come; it brings a count.
void cell::watched_ended(watch& w) noexcept {
  if (!w.over) {
    envelope* const e = std::exchange(w.message, nullptr);
    if (w.finish) w.finish(e, w.why);
    leave_watch(w);
    // By the lane of messages, behind what the actor told before.
    if (push_exempt(e) != pushed::in) e->type->drop(e, errc::actor_stopped);
  }
  w.release();
}

/// Takes it from the watcher, and drops the watcher's count.
void cell::leave_watch(watch& w) noexcept {
  w.over = true;
  extras_->watching.erase(w.watched);
  w.release();
}

void cell::unwatch(const cell_base* who) noexcept {
  if (!extras_) return;
  const auto found = extras_->watching.find(who);
  if (found != extras_->watching.end()) end_one_watch(*found->second);
}

void cell::end_one_watch(watch& w) noexcept {
  (void)send(w, [](cell& watched, watch& arrived) noexcept {
    watched.forget_watcher(arrived);
  });
  leave_watch(w);
}

void cell::forget_watcher(watch& w) noexcept {
  w.forgotten = true;
  if (!w.listed) return;
  w.listed = false;
  (w.previous_watcher ? w.previous_watcher->next_watcher : extras_->watchers) =
      w.next_watcher;
  if (w.next_watcher) w.next_watcher->previous_watcher = w.previous_watcher;
  w.release();
}

void cell::end_watches() noexcept {
  if (!extras_) return;
  while (!extras_->watching.empty())
    end_one_watch(*extras_->watching.begin()->second);
}

}  // namespace actors::detail
