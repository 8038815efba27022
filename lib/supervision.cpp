/// A supervisor: what it does with the failures of its children, and the
/// strategies, which are coroutines over them.
#include "supervision.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>

#include "actors/error.hpp"
#include "cell.hpp"
#include "events.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors {

std::string_view to_string(directive value) noexcept {
  switch (value) {
    case directive::restart:
      return "restart";
    case directive::resume:
      return "resume";
    case directive::stop:
      return "stop";
    case directive::escalate:
      return "escalate";
  }
  return "?";
}

namespace detail {

// --- what is known of a child
// ----------------------------------------------------

child_state& cell::as_child() {
  if (!as_child_) as_child_ = std::make_unique<child_state>();
  return *as_child_;
}

void child_state::add(const failure_record& r) {
  if (failures.size() >= 2 * remembered)
    failures.erase(failures.begin(),
                   failures.begin() + static_cast<std::ptrdiff_t>(remembered));
  failures.push_back({r.when, r.uptime, false});
}

std::vector<any_actor_ref> cell::children() const {
  std::vector<any_actor_ref> all;
  for (cell_ptr& c : child_cells()) all.emplace_back(std::move(c));
  return all;
}

std::vector<any_actor_ref> children_of(cell& c) { return c.children(); }
double random_of(cell& c) noexcept { return c.core().random(); }

// --- failures
// ---------------------------------------------------------------------

supervision::~supervision() {
  while (system_node* n = waiting.pop()) {
    auto& r = static_cast<failure_record&>(*n);
    owner->dropped(r);
  }
  group.forget();
  if (policy) policy->release();
}

void cell::end_supervision() noexcept {
  if (!extras_) return;
  ++extras_->epoch;
  extras_->supervising.reset();
}

/// Whether its policy is there, and can be, to decide.
bool cell::supervises() const noexcept {
  return !stopping() && !(failing() && (!held() || main_.killed));
}

bool cell::concerns(const failure_record& r) const noexcept {
  return !r.decided && r.epoch == extras_->epoch && supervises() &&
         r.child->linked_ && r.child->as_child_->generation == r.generation;
}

void cell::child_failed(failure_record& r) noexcept {
  cell& child = *r.child;
  if (!child.linked_ && !child.end_seen_) {
    // `adopt` is on its way, behind this by the way of another lane.
    local_system_.push(&r);
    return;
  }
  cell_extras& x = extras();
  r.epoch = x.epoch;
  if (child.linked_ && child.as_child().generation == r.generation)
    child.as_child_->add(r);
  if (!concerns(r)) {
    dropped(r);
    return;
  }
  if (!x.supervising) x.supervising = std::make_unique<supervision>(*this);
  x.supervising->waiting.push(&r);
  feed_policy();
}

/// The policy that had it has been replaced.
void cell::child_failed_again(failure_record& r) noexcept {
  r.taken_by = nullptr;
  if (!concerns(r)) {
    dropped(r);
    return;
  }
  extras_->supervising->waiting.push(&r);
  feed_policy();
}

/// Sees to it that somebody decides about the failures that wait.
void cell::feed_policy() noexcept {
  supervision& v = *extras_->supervising;
  try {
    if (!v.policy) core().default_policy(*this);
  } catch (...) {
    escalate_waiting();
    return;
  }
  policy_task_base& p = *v.policy;
  if (p.has_ended)
    escalate_waiting();
  else if (wait* w = std::exchange(p.next, nullptr))
    resume(*p.next_in, *w);
}

/// There is no policy any more that could decide.
void cell::escalate_waiting() noexcept {
  while (extras_->supervising) {
    system_node* n = extras_->supervising->waiting.pop();
    if (!n) return;
    auto& r = static_cast<failure_record&>(*n);
    decide(r, directive::escalate, {});
    r.release();
  }
}

void cell::supervise(policy_task_base& p) {
  cell_extras& x = extras();
  if (!x.supervising) x.supervising = std::make_unique<supervision>(*this);
  supervision& v = *x.supervising;
  try {
    start_child_task(*this, p);
  } catch (...) {
    p.release();
    throw;
  }
  ++p.refs;  // the list of tasks has the other
  policy_task_base* const old = std::exchange(v.policy, &p);
  if (!old) return;
  cancel_child_task(*old);
  old->release();
}

void supervise(cell& c, policy_task_base& p) { c.supervise(p); }

void cell::policy_ended(policy_task_base& p,
                        std::exception_ptr error) noexcept {
  supervision* const v = extras_->supervising.get();
  if (error && !(p.told && is_operation_aborted(error))) {
    try {
      core().log(path() + ": its supervision threw: " + describe(error));
    } catch (...) {
    }
    // Where it had a failure in hand, that is on its way up.
    if (v && v->policy == &p && !v->escalates && v->waiting.empty() &&
        supervises())
      send_escalation(error);
  }
  if (v && v->policy == &p && !p.told) escalate_waiting();
}

failure_record* cell::next_failure(const policy_task_base& p) noexcept {
  supervision* const v = extras_->supervising.get();
  if (!v || v->policy != &p) return nullptr;
  while (system_node* n = v->waiting.pop()) {
    auto& r = static_cast<failure_record&>(*n);
    r.taken_by = &p;
    if (concerns(r)) return &r;
    dropped(r);
  }
  return nullptr;
}

void cell::dropped(failure_record& r) noexcept {
  if (r.decided) {
    // That is all.
  } else if (concerns(r)) {
    if (r.taken_by && r.taken_by != extras_->supervising->policy) {
      // Its policy has been replaced. The new one gets it when nothing else
      // runs.
      r.arrive = [](cell& c, system_node& n) noexcept {
        c.child_failed_again(static_cast<failure_record&>(n));
      };
      local_system_.push(&r);
      return;
    }
    decide(r, directive::escalate, {});
  } else {
    settle(r);
  }
  r.release();
}

/// There is nothing to decide: it is restarted with its group, or ends, or
/// does so with its supervisor.
void cell::settle(failure_record& r) noexcept {
  r.decided = true;
  const bool again = r.child->linked_ && supervises() &&
                     r.child->as_child_->generation != r.generation;
  r.child->report_failed(r.error, r.message,
                         again ? directive::restart : directive::stop, {},
                         false);
  if (!again && !r.child->end_seen_) order(*r.child, child_order::stop, {});
}

void cell::decide(failure_record& r, directive what, duration delay) noexcept {
  if (!concerns(r)) {
    settle(r);
    return;
  }
  r.decided = true;
  cell& child = *r.child;
  bool instead = r.instead_of_resume;
  if (what == directive::resume && !r.resumable) {
    what = directive::restart;
    instead = true;
  }
  if (what == directive::restart && child.policy() == restart_policy::never)
    what = directive::stop;
  if (what == directive::restart)
    child.as_child_->failures.back().restarted = true;
  child.report_failed(r.error, r.message, what, delay, instead);
  switch (what) {
    case directive::restart:
      order(child, child_order::restart, delay);
      return;
    case directive::resume:
      order(child, child_order::resume, {});
      return;
    case directive::stop:
      order(child, child_order::stop, {});
      return;
    case directive::escalate:
      if (!parent_ && core().handle_failure(child, r.error)) {
        order(child, child_order::stop, {});
        return;
      }
      extras_->supervising->escalates = true;
      send_escalation(r.error);
      return;
  }
}

namespace {

/// A failure on its way up.
struct escalation final : system_node {
  std::exception_ptr error;
  std::uint32_t epoch;
};

struct child_directive final : system_node {
  child_order what;
  duration delay;
  std::uint32_t generation;
};

}  // namespace

/// Not here: the policy, whose frame goes with it, may be at work.
void cell::send_escalation(const std::exception_ptr& error) noexcept {
  auto* n = make_node<escalation>();
  n->error = error;
  n->epoch = extras_->epoch;
  n->arrive = [](cell& c, system_node& node) noexcept {
    auto* self = static_cast<escalation*>(&node);
    const std::exception_ptr why = std::move(self->error);
    const bool mine = self->epoch == c.extras_->epoch && c.supervises();
    destroy_and_free(self);
    if (!mine) return;
    if (!c.parent_) c.core().failed_for_good(why);
    c.fail(why);
  };
  if (!push_system(*n)) destroy_and_free(n);
}

void cell::order(cell& child, child_order what, duration delay) noexcept {
  auto* n = make_node<child_directive>();
  n->what = what;
  n->delay = delay;
  child_state& s = child.as_child();
  const bool renews = what != child_order::resume && what != child_order::stop;
  n->generation = renews ? ++s.generation : s.generation;
  n->arrive = [](cell& c, system_node& node) noexcept {
    const auto order = static_cast<child_directive&>(node);
    destroy_and_free(static_cast<child_directive*>(&node));
    c.directed(order.what, order.delay, order.generation);
  };
  if (!child.push_system(*n)) destroy_and_free(n);
}

// --- groups
// -----------------------------------------------------------------------

void cell::restart_group(failure_record& r,
                         const std::vector<any_actor_ref>& with,
                         duration delay) {
  if (!concerns(r)) {
    settle(r);
    return;
  }
  if (r.child->policy() == restart_policy::never) {
    decide(r, directive::stop, {});
    return;
  }
  group_restart& g = extras_->supervising->group;
  g.members.reserve(g.members.size() + with.size() + 1);
  r.child->as_child_->in_group = true;
  for (const any_actor_ref& ref : with) {
    if (!ref) continue;
    cell& c = to_cell(*ref.cell().get());
    if (c.parent_ == this && c.linked_) c.as_child().in_group = true;
  }
  r.decided = true;
  r.child->as_child_->failures.back().restarted = true;
  r.child->report_failed(r.error, r.message, directive::restart, delay,
                         r.instead_of_resume);
  g.members.clear();
  cell* c = first_child_;
  do {
    if (c->as_child_ && c->as_child_->in_group) g.members.emplace_back(c);
    c = c->next_sibling_;
  } while (c != first_child_);
  g.delay = std::max(g.delay, delay);
  cancel_timer(std::exchange(g.rest, nullptr));
  g.now = group_restart::phase::falling;
  g.at = g.members.size();
  // Not in its turn: another may be waiting for an answer that one of its
  // children owes, and nobody else ends those.
  order(*r.child, child_order::fall, {});
  fall_next();
}

bool cell::falls_with_group(const failure_record& r) const noexcept {
  return concerns(r) && r.child->as_child_->in_group &&
         extras_->supervising->group.now == group_restart::phase::falling;
}

void cell::fall_next() noexcept {
  group_restart& g = extras_->supervising->group;
  for (; g.at != 0; --g.at) {
    cell& c = to_cell(*g.members[g.at - 1].get());
    if (!c.linked_ || c.as_child_->down) continue;
    if (c.policy() == restart_policy::never)
      request_stop(&c);
    else
      order(c, child_order::fall, {});
    return;
  }
  if (g.delay > duration::zero()) {
    g.now = group_restart::phase::resting;
    g.rest = start_timer(
        *this, std::exchange(g.delay, {}),
        [](cell& c, void*) noexcept {
          group_restart& group = c.extras_->supervising->group;
          group.rest = nullptr;
          group.now = group_restart::phase::rising;
          c.rise_next();
        },
        nullptr);
    return;
  }
  g.now = group_restart::phase::rising;
  rise_next();
}

void cell::rise_next() noexcept {
  group_restart& g = extras_->supervising->group;
  for (; g.at != g.members.size(); ++g.at) {
    cell& c = to_cell(*g.members[g.at].get());
    if (!c.linked_ || !c.as_child_->down) continue;
    c.as_child_->down = false;
    order(c, child_order::rise, {});
    return;
  }
  g.forget();
}

void cell::child_down(cell& child) noexcept {
  child.as_child_->down = true;
  group_goes_on(child);
}

void cell::child_up(cell& child) noexcept { group_goes_on(child); }

/// `child` is down, up or has ended: if the group waited for it, it goes on.
void cell::group_goes_on(cell& child) noexcept {
  if (!extras_ || !extras_->supervising) return;
  group_restart& g = extras_->supervising->group;
  using phase = group_restart::phase;
  if (g.now == phase::falling && g.at != 0 &&
      g.members[g.at - 1].get() == &child) {
    fall_next();
  } else if (g.now == phase::rising && g.at != g.members.size() &&
             g.members[g.at].get() == &child) {
    ++g.at;
    rise_next();
  }
}

void group_restart::forget() noexcept {
  now = phase::none;
  cancel_timer(std::exchange(rest, nullptr));
  for (const cell_ptr& p : members)
    to_cell(*p.get()).as_child().in_group = false;
  members.clear();
  delay = {};
  at = 0;
}

/// A failure is dropped where its supervisor does not run.
void drop_elsewhere(failure_record& r) noexcept {
  r.arrive = [](cell& supervisor, system_node& n) noexcept {
    supervisor.dropped(static_cast<failure_record&>(n));
  };
  // Refused: it has ended, and nobody else knows of the failure.
  if (!r.supervisor->push_system(r)) r.release();
}

// --- the policy's side
// ---------------------------------------------------------------

next_failure_op::~next_failure_op() {
  if (policy_->next == this) policy_->next = nullptr;
}

bool next_failure_op::start(fiber& f, std::coroutine_handle<> frame) {
  if (policy_->next)
    throw std::logic_error(
        "failures.next() is awaited already: one wait at a time");
  if (take_abort(f)) {
    aborted_ = true;
    return false;
  }
  if (policy_->told) return false;
  if (failure_record* r = f.owner->next_failure(*policy_)) {
    found_.emplace(*r);
    return false;
  }
  waiter = frame;
  cancel = [](wait& w, fiber& waiting, cancellation how) noexcept {
    auto& self = static_cast<next_failure_op&>(w);
    self.policy_->next = nullptr;
    if (how == cancellation::stop) self.aborted_ = take_abort(waiting);
    return true;
  };
  policy_->next = this;
  policy_->next_in = &f;
  f.waiting = this;
  return true;
}

std::optional<failure> next_failure_op::await_resume() {
  // One that has lost against another operation; a policy that is told to end
  // is given nothing.
  if (aborted_ && !policy_->told) throw_error(operation_aborted());
  if (!found_ && !aborted_ && !policy_->told)
    if (failure_record* r = policy_->owner->next_failure(*policy_))
      found_.emplace(*r);
  return std::move(found_);
}

}  // namespace detail

// --- failure
// ---------------------------------------------------------------------

failure::~failure() {
  if (!record_) return;
  if (record_->decided)
    record_->release();
  else if (detail::here.running() == record_->supervisor)
    record_->supervisor->dropped(*record_);
  else
    detail::drop_elsewhere(*record_);
}

const std::exception_ptr& failure::error() const noexcept {
  return record_->error;
}
any_actor_ref failure::child() const noexcept {
  return any_actor_ref{detail::cell_ptr{record_->child}};
}
std::vector<any_actor_ref> failure::siblings() const {
  return record_->supervisor->children();
}
const std::type_info* failure::message_type() const noexcept {
  return record_->message;
}
duration failure::uptime() const noexcept { return record_->uptime; }
time_point failure::when() const noexcept { return record_->when; }
bool failure::initial() const noexcept { return record_->initial; }
bool failure::resumable() const noexcept { return record_->resumable; }
bool failure::restartable() const noexcept {
  return record_->child->policy() != restart_policy::never;
}

std::size_t failure::count(duration within) const {
  std::size_t n = 0;
  for (const auto& f : record_->child->as_child().failures)
    if (record_->when - f.when < within) ++n;
  return n;
}
std::size_t failure::restarts(duration within) const {
  std::size_t n = 0;
  for (const auto& f : record_->child->as_child().failures)
    if (f.restarted && record_->when - f.when < within) ++n;
  return n;
}
std::size_t failure::streak(duration quiet) const {
  const auto& all = record_->child->as_child().failures;
  const auto first = std::find_if(all.rbegin(), all.rend(), [&](const auto& f) {
    return f.uptime >= quiet;
  });
  return static_cast<std::size_t>(first - all.rbegin());
}

detail::failure_record& failure::undecided() {
  if (detail::here.running() != record_->supervisor)
    throw std::logic_error(
        "a failure is decided by the supervisor's own coroutines, on its "
        "strand");
  if (record_->decided)
    throw std::logic_error("the failure has been decided already");
  return *record_;
}

void failure::restart(duration delay) {
  if (delay < duration::zero())
    throw std::invalid_argument("a delay may not be negative");
  auto& r = undecided();
  r.supervisor->decide(r, directive::restart, delay);
}
void failure::restart(const std::vector<any_actor_ref>& children,
                      duration delay) {
  if (delay < duration::zero())
    throw std::invalid_argument("a delay may not be negative");
  auto& r = undecided();
  r.supervisor->restart_group(r, children, delay);
}
void failure::resume() {
  auto& r = undecided();
  r.supervisor->decide(r, directive::resume, {});
}
void failure::stop() {
  auto& r = undecided();
  r.supervisor->decide(r, directive::stop, {});
}
void failure::escalate() {
  auto& r = undecided();
  r.supervisor->decide(r, directive::escalate, {});
}

// --- strategies
// --------------------------------------------------------------------

decider::decider(std::initializer_list<decision_rule> rules)
    : decide_{[list = std::vector<decision_rule>(rules)](
                  const failure& f) -> std::optional<directive> {
        for (const decision_rule& rule : list)
          if (rule.matches(f)) return rule.then;
        return std::nullopt;
      }} {}

namespace {

/// `min · 2^n`, `max` at the most, and jitter.
duration delay_of(const backoff& b, const failure& f, double random) {
  if (b.min == duration::zero()) return {};
  const duration max = std::max(b.max, b.min);
  const std::size_t n = f.streak((b.min + max) / 2);
  const auto doubled =
      static_cast<double>(b.min.count()) *
      std::exp2(static_cast<double>(std::min<std::size_t>(n, 62)));
  const double ns = std::min(doubled, static_cast<double>(max.count())) *
                    (1 + b.jitter * random);
  return duration{static_cast<duration::rep>(
      std::min(ns, static_cast<double>(detail::longest.count())))};
}

/// Those that are restarted with the one that failed.
std::vector<any_actor_ref> group_of(restart_scope scope, const failure& f) {
  std::vector<any_actor_ref> group = f.siblings();
  if (scope == restart_scope::rest)
    group.erase(group.begin(),
                std::find(group.begin(), group.end(), f.child()));
  return group;
}

}  // namespace

template <restart_scope Scope>
task<> strategy<Scope>::operator()(failures failures) const {
  // The restarts of the last `within`.
  std::deque<time_point> window;
  while (auto failure = co_await failures.next()) {
    directive what = decide(*failure).value_or(
        failure->template is<initialization_error>() ? directive::stop
                                                     : directive::restart);
    if (what == directive::resume && !failure->resumable()) {
      // As `failure->resume()`, but with its backoff, and it counts.
      failure->record_->instead_of_resume = true;
      what = directive::restart;
    }
    if (what == directive::restart && !failure->restartable())
      what = directive::stop;
    // Of those that fail together the first one counts.
    const bool counts =
        Scope == restart_scope::one ||
        !failure->record_->supervisor->falls_with_group(*failure->record_);
    if (what == directive::restart && max_restarts != unlimited && counts) {
      if (per_child) {
        if (failure->restarts(within) >= max_restarts)
          what = directive::escalate;
      } else {
        while (!window.empty() && failure->when() - window.front() >= within)
          window.pop_front();
        if (window.size() >= max_restarts)
          what = directive::escalate;
        else
          window.push_back(failure->when());
      }
    }
    switch (what) {
      case directive::restart: {
        const duration delay = delay_of(backoff, *failure, failures.random());
        if constexpr (Scope == restart_scope::one)
          failure->restart(delay);
        else
          failure->restart(group_of(Scope, *failure), delay);
        break;
      }
      case directive::resume:
        failure->resume();
        break;
      case directive::stop:
        failure->stop();
        break;
      case directive::escalate:
        failure->escalate();
        break;
    }
  }
}

template <restart_scope Scope>
void strategy<Scope>::check() const {
  if (max_restarts != unlimited &&
      max_restarts > detail::child_state::remembered)
    throw std::invalid_argument(
        "max_restarts has to be 0 to 1000, or actors::unlimited, not " +
        std::to_string(max_restarts));
  if (within <= duration::zero())
    throw std::invalid_argument("within has to be more than zero");
  if (backoff.min < duration::zero() || backoff.max < duration::zero())
    throw std::invalid_argument("backoff.min and max may not be negative");
  if (backoff.max != duration::zero() && backoff.max < backoff.min)
    throw std::invalid_argument(
        "backoff.max has to be at least backoff.min, or zero for a backoff "
        "that does not grow");
  if (!(backoff.jitter >= 0 && backoff.jitter <= 1))
    throw std::invalid_argument("backoff.jitter has to be 0 to 1");
}

template struct strategy<restart_scope::one>;
template struct strategy<restart_scope::all>;
template struct strategy<restart_scope::rest>;

}  // namespace actors
