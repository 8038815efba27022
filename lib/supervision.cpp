/// A supervisor: what becomes of the failures of its children.
#include "supervision.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actors/error.hpp"
#include "cell.hpp"
#include "events.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors {

namespace detail {

// --- what is known of a child -----------------------------------------------

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

// --- failures ---------------------------------------------------------------

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
      send_escalation(error, nullptr);
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
  if (!again && !r.child->end_seen_) order(*r.child, child_order::stop);
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
  switch (what) {
    case directive::restart:
      order(child, child_order::restart, delay, instead);
      return;
    case directive::resume:
      order(child, child_order::resume);
      return;
    case directive::stop:
      order(child, child_order::stop);
      return;
    case directive::escalate:
      if (!parent_ && core().handle_failure(child, r.error)) {
        order(child, child_order::stop, {}, true);
        return;
      }
      extras_->supervising->escalates = true;
      send_escalation(r.error, &child);
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
  bool instead;
};

}  // namespace

/// Not here: the policy, whose frame goes with it, may be at work. By way of
/// the child, if there is one: so it is known to have been escalated before
/// anything comes of that.
void cell::send_escalation(const std::exception_ptr& error,
                           cell* child) noexcept {
  auto* n = make_node<escalation>();
  n->error = error;
  n->epoch = extras_->epoch;
  static constexpr auto at_supervisor = [](cell& c,
                                           system_node& node) noexcept {
    auto* self = static_cast<escalation*>(&node);
    const std::exception_ptr why = std::move(self->error);
    const bool mine = self->epoch == c.extras_->epoch && c.supervises();
    destroy_and_free(self);
    if (!mine) return;
    if (!c.parent_) c.core().failed_for_good(why);
    c.fail(why);
  };
  n->arrive = [](cell& c, system_node& node) noexcept {
    if (c.held()) c.report_decided(directive::escalate, {}, false);
    node.arrive = at_supervisor;
    if (!c.parent_->push_system(node))
      destroy_and_free(static_cast<escalation*>(&node));
  };
  if (child && child->push_system(*n)) return;
  n->arrive = at_supervisor;
  if (!push_system(*n)) destroy_and_free(n);
}

void cell::order(cell& child, child_order what, duration delay,
                 bool instead) noexcept {
  auto* n = make_node<child_directive>();
  n->what = what;
  n->delay = delay;
  n->instead = instead;
  child_state& s = child.as_child();
  const bool renews = what == child_order::restart ||
                      what == child_order::fall || what == child_order::rise;
  n->generation = renews ? ++s.generation : s.generation;
  n->arrive = [](cell& c, system_node& node) noexcept {
    const auto order = static_cast<child_directive&>(node);
    destroy_and_free(static_cast<child_directive*>(&node));
    c.directed(order.what, order.delay, order.generation, order.instead);
  };
  if (!child.push_system(*n)) destroy_and_free(n);
}

}  // namespace detail

}  // namespace actors
