#include "cell.hpp"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "actors/context.hpp"
#include "actors/error.hpp"
#include "dead_letters.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

namespace {

/// The callable and the arguments follow the cell in one block of memory.
std::size_t holder_offset(const actor_type& type) {
  const std::size_t align = std::max(type.align, alignof(cell));
  return (sizeof(cell) + align - 1) / align * align;
}
std::size_t block_size(const actor_type& type) {
  const std::size_t spare =
      type.align > alignof(std::max_align_t) ? type.align : std::size_t{0};
  // The size says how the block is to be aligned.
  const std::size_t align = std::max(type.align, alignof(cell));
  const std::size_t size = holder_offset(type) + type.size + spare;
  return (size + align - 1) / align * align;
}

}  // namespace

/// Marks which cell runs on this thread.
class cell::turn {
 public:
  explicit turn(cell& c) noexcept : before_{std::exchange(here.running, &c)} {}
  turn(const turn&) = delete;
  turn& operator=(const turn&) = delete;
  ~turn() { here.running = before_; }

 private:
  cell* before_;
};

cell::cell(scheduler& home, const actor_type& type) noexcept
    : throughput_{home.core().throughput()},
      home_{&home},
      type_{&type},
      main_{*this} {}

cell::~cell() {
  if (parent_) parent_->release();
}

void cell_base::destroy() noexcept {
  cell& c = to_cell(*this);
  scheduler& home = c.home();
  const std::size_t size = block_size(c.type());
  // The last cell of a system, its guardian, lets the system go.
  cell_ptr parent{c.parent()};
  system_core* core = c.parent() ? nullptr : &home.core();
  c.~cell();
  deallocate(&c, size);
  parent = {};
  if (core) core->release();
}

void* holder_of(cell& c) noexcept {
  auto at = reinterpret_cast<std::uintptr_t>(&c) + holder_offset(c.type());
  const std::size_t align = c.type().align;
  return reinterpret_cast<void*>((at + align - 1) / align * align);
}

system_core& cell::core() const noexcept { return home_->core(); }

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

bool cell::push_user(envelope* e) noexcept {
  if (here.home == home_ && user_.passable()) {
    // The consumer's own thread: no atomic operation. It may be done only
    // while the lane is empty, because what is in the lane came first.
    inbox_.push(e);
    looked_ = false;
    // A body that is not in `receive` finds it when it gets there; one that
    // tells itself something lets others have their turn before.
    if (receiver_) {
      if (!queued_) home_->queue(*this);
    } else if (here.running == this) {
      yields_ = true;
      budget_ = 0;
    }
    return true;
  }
  switch (user_.push(e)) {
    case lane<envelope>::pushed::refused:
      return false;
    case lane<envelope>::pushed::owing_a_wake:
      home_->wake(*this, lane_id::user);
      return true;
    case lane<envelope>::pushed::quietly:
      return true;
  }
  return true;
}

bool cell::push_system(system_node& n) noexcept {
  if (here.home == home_) {
    if (system_.closed()) return false;
    local_system_.push(&n);
    // A cell that runs looks again before its turn ends.
    if (!queued_ && here.running != this) home_->queue(*this);
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
  envelope* list = user_.take_all(last);
  if (!list) return false;
  inbox_.append(list, last);
  return true;
}

envelope* cell::next_message(const message_filter* filter) noexcept {
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

void cell::flush_mailbox() noexcept {
  if (extras_) extras_->scanned_for = nullptr;
  do {
    while (envelope* e = inbox_.pop()) {
      if (!e->type->slot(e))
        core().letters().report(*e, this, dead_letter::reason::actor_stopped);
      e->type->drop(e, errc::actor_stopped);
    }
  } while (refill());
}

void cell::drop_hand(errc why) noexcept {
  if (envelope* e = std::exchange(main_.hand, nullptr)) e->type->drop(e, why);
}

// --- turns ------------------------------------------------------------------

bool cell::run() noexcept {
  turn t{*this};
  budget_ = throughput_;
  looked_ = yields_ = false;
  return work();
}

void cell::completed(fiber& f, wait& w) noexcept {
  if (here.running == this && !published_)
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
  free_abandoned();
}

void cell::resume(fiber& f, wait& w) noexcept {
  f.waiting = nullptr;
  if (!killed_)
    run_frame(w.waiter);
  else if (abandoned_ && published_)
    free_abandoned();
}

/// What an abandoned actor waited for came after all. Nobody is left to know
/// but the frames.
void cell::free_abandoned() noexcept {
  free_frames();
  type_->destroy(holder_of(*this));
  release();
}

/// As nearly always on one thread, where nobody pushes to the lanes.
inline bool cell::asleep() const noexcept {
  return system_.asleep() && user_.asleep() && local_system_.empty();
}

inline void cell::run_frame(std::coroutine_handle<> frame) noexcept {
  main_.waiting = nullptr;
  main_.run(frame);
  if (body_.done())
    body_done();
  else if (!ready_ && type_->accepts->count == 0)
    mark_ready();
}

inline void cell::deliver(receiver& r, receive_event what,
                          envelope* e) noexcept {
  receiver_ = nullptr;
  if (extras_ && extras_->alarm) [[unlikely]]
    cancel_timer(std::exchange(extras_->alarm, nullptr));
  std::coroutine_handle<> frame = r.waiter;
  if (!r.type->deliver)
    main_.hand = e;
  else
    frame = r.type->deliver(r, what, e);
  if (frame)
    run_frame(frame);
  else
    receiver_ = &r;  // a loop that wants the next
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
    if (!inbox_.empty() || user_.has_nodes())
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
      stop_ < stop_phase::requested && !killed_)
    return user_.sleep();
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
  if (published_ || body_ended_ || stop_ >= stop_phase::requested) return false;
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
  if (body_ended_) return step_end();
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
  try {
    task<> body = type_->start(holder_of(*this), *this);
    body_ = task_access::release(body);
  } catch (...) {
    kind_ = exit_reason::failed;
    extras().error = std::current_exception();
    core().report_failure(*this, extras_->error);
    body_ended_ = true;
    return;
  }
  body_.promise().start_detached(main_, {});
  special_ = stop_ != stop_phase::no || killed_;
  run_frame(body_);
}

void cell::body_done() noexcept {
  try {
    body_.promise().take();
  } catch (...) {
    std::exception_ptr error = std::current_exception();
    if (stop_ != stop_phase::told || !is_operation_aborted(error)) {
      kind_ = exit_reason::failed;
      extras().error = std::move(error);
    }
  }
  free_frames();
  if (kind_ == exit_reason::failed)
    core().report_failure(*this, extras_->error);
}

/// Destroys the body's frames, innermost first, and ends what it had in hand.
void cell::free_frames() noexcept {
  receiver_ = nullptr;
  if (body_) std::exchange(body_, {}).destroy();
  drop_hand(kind_ == exit_reason::failed ? errc::actor_failed : errc::no_reply);
  body_ended_ = special_ = true;
  in_handler_ = false;
}

// --- receive ----------------------------------------------------------------

poll_result cell::poll(receiver& r) {
  if (here.running != this)
    throw std::logic_error(
        "receive is for the actor's own coroutine, on its strand; tell the "
        "actor from elsewhere");
  if (special_ || !ready_ || main_.hand) [[unlikely]] {
    drop_hand(errc::no_reply);
    mark_ready();
    if (stop_ == stop_phase::told) {
      abort_pending_ = false;
      return {poll_result::empty, nullptr};
    }
    if (stop_ == stop_phase::requested) return {poll_result::wait, nullptr};
  }
  if (budget_ == 0 || has_system()) return {poll_result::wait, nullptr};
  envelope* e = next_message(r.type->filter);
  if (!e) {
    looked_ = true;
    return {poll_result::wait, nullptr};
  }
  --budget_;
  return {poll_result::message, e};
}

void cell::suspend(receiver& r, duration timeout) {
  if (timeout >= duration::zero()) [[unlikely]]
    extras().alarm = start_timer(
        *this, timeout, [](cell& c, void*) noexcept { c.receive_expired(); },
        nullptr);
  receiver_ = &r;
  selective_ = r.type->filter != nullptr;
  main_.waiting = &r;
}

void cell::cancel_receive() noexcept {
  receiver_ = nullptr;
  if (extras_) cancel_timer(std::exchange(extras_->alarm, nullptr));
}

void cell::receive_expired() noexcept {
  extras_->alarm = nullptr;
  if (!receiver_) return;
  if (stop_ < stop_phase::requested && !killed_)
    deliver(*receiver_, receive_event::timeout, nullptr);
}

void cell::mark_ready() noexcept {
  if (ready_) return;
  ready_ = true;
  if (!extras_) return;
  for (ask_state* s : std::exchange(extras_->started, {}))
    static_cast<reply_state<void>*>(s)->answer({});
}

// --- ends -------------------------------------------------------------------

void cell::stop_requested(bool drain) noexcept {
  close();
  const auto wanted = drain ? stop_phase::drain : stop_phase::requested;
  if (stop_ < wanted) stop_ = wanted;
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
  killed_ = special_ = true;
  close();
  if (body_ended_) kill_children();
}

bool cell::step_stop() noexcept {
  if (stop_ == stop_phase::told) return false;
  if (stop_ == stop_phase::drain) {
    // What the body can still take, it takes; `until_stop` takes nothing.
    const bool takes_none = receiver_ && receiver_->type->filter &&
                            receiver_->type->filter->count == 0;
    if (in_handler_) return false;
    if (!takes_none && (!inbox_.empty() || user_.has_nodes())) {
      if (!receiver_ || !receiver_->type->filter) return false;
      // Selective: what it does not want now is left over.
      if (budget_ == 0) return false;
      envelope* e = next_message(receiver_->type->filter);
      if (e) {
        --budget_;
        deliver(*receiver_, receive_event::message, e);
        return true;
      }
    }
    stop_ = stop_phase::requested;
  }
  if (in_handler_) {
    limit(core().stop_timeout(*this), [](cell& c) noexcept {
      c.report_late("a stop");
      c.kill_requested();
    });
    return false;
  }
  if (!flushed_) {
    flushed_ = true;
    flush_mailbox();
  }
  unlimit();
  if (!children_ended()) return false;
  stop_ = stop_phase::told;
  limit(core().stop_timeout(*this), [](cell& c) noexcept {
    c.report_late("a stop");
    c.kill_requested();
  });
  if (receiver_) {
    deliver(*receiver_, receive_event::empty, nullptr);
  } else if (wait* w = main_.waiting) {
    // An operation that has just succeeded is not undone; the next one is
    // aborted then.
    abort_pending_ = true;
    if (w->cancel(*w, main_, cancellation::stop)) resume(main_, *w);
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
    wait* w = main_.waiting;
    if (w && w->cancel(*w, main_, cancellation::kill)) main_.waiting = nullptr;
    return true;
  }
  if (main_.waiting) {
    // Its completion is to come, on this strand.
    if (!abandoned_ || first_child_) return false;
    add_ref();  // the frames'
    publish_end();
    return true;
  }
  // A failure from outside may have had to wait for the same.
  if (kind_ != exit_reason::failed) kind_ = exit_reason::killed;
  abandoned_ = false;  // it came late, but it came
  free_frames();
  return true;
}

bool cell::step_end() noexcept {
  close();
  if (!flushed_) {
    flushed_ = true;
    flush_mailbox();
  }
  unlimit();
  if (!children_ended()) return false;
  publish_end();
  return true;
}

void cell::abandon() noexcept {
  abandoned_ = true;
  kind_ = exit_reason::abandoned;
  report_late("a kill");
}

/// The children have ended; orders the next to stop otherwise, last first.
bool cell::children_ended() noexcept {
  if (!first_child_) return true;
  cell& last = *first_child_->previous_sibling_;
  if (!killed_ && !last.told_to_stop_) {
    last.told_to_stop_ = true;
    if (stop_ == stop_phase::no || !core().draining())
      request_stop(&last);
    else
      request_drain(&last);
  }
  return false;
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

void cell::report_late(const char* what) noexcept {
  std::size_t queued = 0;
  refill();
  for (envelope* e = inbox_.front(); e; e = e->next) ++queued;
  std::string line = path();
  line += ": ";
  line += what;
  line += " takes too long, at ";
  line += main_.where.file_name();
  line += ':';
  line += std::to_string(main_.where.line());
  if (main_.hand) {
    line += ", with a ";
    line += type_name(*main_.hand->type->message->info);
    line += " in hand";
  }
  line += ", ";
  line += std::to_string(queued);
  line += " messages waiting";
  core().log(line);
}

/// Tells whoever asked how it ended. What remains is to be forgotten.
void cell::publish_end() noexcept {
  published_ = true;
  unlimit();
  close();
  flush_mailbox();
  if (!abandoned_)
    type_->destroy(holder_of(*this));
  else if (envelope* e = main_.hand)
    // The frame may still use the message, but the asker need not wait for it.
    if (ask_state* s = e->type->take_slot(e)) s->type->fail(*s, errc::no_reply);
  if (!extras_) return;
  for (ask_state* s : std::exchange(extras_->started, {}))
    static_cast<reply_state<void>*>(s)->answer(how_started());
  for (ask_state* s : std::exchange(extras_->stopped, {}))
    static_cast<reply_state<exit_reason>*>(s)->answer(why());
}

/// Closes the lanes; false while somebody may still hold on to the cell: a
/// producer that owes a wake, a run queue.
bool cell::finish() noexcept {
  if (queued_ || user_.owes() || !local_system_.empty() ||
      !system_.close_if_empty())
    return false;
  ended_ = true;
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
  user_.close();
  system_.woken();
  (void)system_.close_if_empty();
  release();
}

// --- children ---------------------------------------------------------------

void cell::adopt(cell& child) noexcept {
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
  if (killed_) request_kill(&child);
}

void cell::child_ended_arrives(cell& parent, system_node& n) noexcept {
  parent.child_ended(static_cast<cell&>(n));
}

void cell::child_ended(cell& child) noexcept {
  if (!child.linked_) {
    child.end_seen_ = true;  // `adopt` is still on its way
    return;
  }
  if (child.next_sibling_ == &child) {
    first_child_ = nullptr;
  } else {
    child.previous_sibling_->next_sibling_ = child.next_sibling_;
    child.next_sibling_->previous_sibling_ = child.previous_sibling_;
    if (first_child_ == &child) first_child_ = child.next_sibling_;
  }
  child.release();
}

std::uint32_t cell::next_child_number() noexcept {
  if (++children_made_ == 0) ++children_made_;
  return children_made_;
}

result<void> cell::how_started() const {
  // One that never waited was ready, too, unless it was told to stop.
  if (ready_ || (kind_ == exit_reason::normal && stop_ == stop_phase::no))
    return {};
  if (kind_ == exit_reason::failed) return extras_->error;
  return errc::actor_stopped;
}

namespace {

/// Who asks again and again with a timeout leaves questions behind.
void add_question(std::vector<ask_state*>& to, ask_state& s) {
  if (to.size() == to.capacity())
    std::erase_if(to, [](ask_state* waiting) {
      if (waiting->outcome.load(std::memory_order_acquire) !=
          ask_state::abandoned)
        return false;
      waiting->leave();
      return true;
    });
  to.push_back(&s);
}

}  // namespace

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
    wait* w = main_.waiting;
    if (w && w->cancel(*w, main_, cancellation::kill)) main_.waiting = nullptr;
    // What was cancelled may let go of the frames at once.
    while (take_system()) {
    }
    if (!body_ended_) {
      if (main_.waiting) {
        abandoned_ = true;
        add_ref();
      } else {
        free_frames();
      }
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

// --- what headers call ------------------------------------------------------

void complete(fiber& f, wait& w) noexcept { f.owner->completed(f, w); }
bool take_abort(fiber& f) noexcept { return f.owner->take_abort(); }
bool abort_pending(const fiber& f) noexcept { return f.owner->abort_pending(); }

poll_result poll(receiver& r) { return r.main->owner->poll(r); }
void suspend(receiver& r, duration timeout) {
  r.main->owner->suspend(r, timeout);
}
bool cancel_receive(wait&, fiber& f, cancellation) noexcept {
  f.owner->cancel_receive();
  return true;
}
fiber& main_fiber(cell& c) noexcept { return c.main(); }
void enter_handler(cell& c) noexcept { c.enter_handler(); }
void leave_handler(cell& c) noexcept { c.leave_handler(); }

void check_timeout(duration timeout) {
  if (timeout < duration::zero())
    throw std::invalid_argument("a timeout may not be negative");
}

bool enqueue(cell_base& to, envelope* message) noexcept {
  return to_cell(to).push_user(message);
}

void tell(cell_base* to, envelope* message) noexcept {
  if (to && to_cell(*to).push_user(message)) [[likely]]
    return;
  report_undelivered(to, message,
                     to ? dead_letter::reason::actor_stopped
                        : dead_letter::reason::no_recipient);
}

bool accepts(const cell_base& cell, const message_type& type) noexcept {
  return static_cast<const detail::cell&>(cell).type().accepts->accepts(&type);
}

namespace {

/// An order to a cell: stop, drain, kill, adopt.
struct order final : system_node {
  void (*what)(cell&, cell*) noexcept = nullptr;
  cell* who = nullptr;
};

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

}  // namespace

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

envelope* hand_of(cell& c) {
  if (envelope* e = c.main().hand) return e;
  throw std::logic_error(
      "there is no message in hand: reply and forward belong into a handler, "
      "or between one receive() and the next");
}

cell_ptr sender_of(cell& c) noexcept {
  envelope* e = c.main().hand;
  return cell_ptr{e ? e->type->sender(e) : nullptr};
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
  if (here.running && here.running->failing()) return errc::actor_failed;
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
  timer_ = start_timer(
      *f.owner, delay_,
      [](cell& c, void* op) noexcept {
        auto* self = static_cast<sleep_op*>(op);
        self->timer_ = nullptr;
        c.resume(*self->fiber_, *self);
      },
      this);
  f.waiting = this;
  return true;
}

// --- making cells -----------------------------------------------------------

cell& create_cell(system_core& core, cell* parent, const actor_type& type,
                  const spawn_options* options) {
  if (parent && parent->stopping())
    throw_error(make_error_code(errc::actor_stopped));
  if (options) check_options(*options);
  cell& above = parent ? *parent : core.guardian();
  scheduler& home = core.place(parent, options);
  void* memory = allocate(block_size(type));
  cell* c = ::new (memory) cell(home, type);
  above.add_ref();
  c->parent_ = &above;
  if (!options || options->name.empty())
    c->number_ = parent ? parent->next_child_number() : core.next_number();
  if (options) {
    try {
      if (!options->name.empty()) c->extras().name = options->name;
      if (options->stop_timeout)
        c->extras().stop_timeout = options->stop_timeout;
    } catch (...) {
      discard(*c);
      throw;
    }
    if (options->throughput)
      c->throughput_ = static_cast<std::uint32_t>(*options->throughput);
  }
  return *c;
}

cell& make_root(system_core&, scheduler& home, const actor_type& type) {
  return *::new (allocate(block_size(type))) cell(home, type);
}

void discard(cell& c) noexcept { c.release(); }

cell_ptr launch(cell& c) noexcept {
  cell_ptr handle{&c};
  cell& above = *c.parent();
  const bool at_home = here.home == &c.home();
  // From the next lines on others may stop it, and it may not end before the
  // wake that is sent at the end.
  if (!at_home) c.expect_wake();
  if (here.running == &above) {
    above.adopt(c);
  } else if (!send_order(
                 above,
                 [](cell& parent, cell* child) noexcept {
                   parent.adopt(*child);
                 },
                 &c)) {
    c.end_unstarted();
    return handle;
  }
  if (at_home)
    c.home().queue(c);
  else
    c.home().wake(c, lane_id::system);
  return handle;
}

}  // namespace actors::detail
