/// Children that are restarted together: they fall, last first, and rise.
#include <algorithm>
#include <utility>
#include <vector>

#include "cell.hpp"
#include "scheduler.hpp"
#include "supervision.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors::detail {

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
  r.child->as_child_->falls = true;
  order(*r.child, child_order::fall, delay, r.instead_of_resume);
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
    else if (!std::exchange(c.as_child_->falls, true))
      order(c, child_order::fall);
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
    c.as_child_->down = c.as_child_->falls = false;
    order(c, child_order::rise);
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
  for (const cell_ptr& p : members) {
    child_state& s = to_cell(*p.get()).as_child();
    s.in_group = s.falls = false;
  }
  members.clear();
  delay = {};
  at = 0;
}

}  // namespace actors::detail
