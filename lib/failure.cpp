/// `failure` and `failures`: what a policy has in its hands.
#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "actors/error.hpp"
#include "cell.hpp"
#include "scheduler.hpp"
#include "supervision.hpp"

namespace actors {

namespace detail {

/// A failure is dropped where its supervisor does not run.
void drop_elsewhere(failure_record& r) noexcept {
  r.arrive = [](cell& supervisor, system_node& n) noexcept {
    supervisor.dropped(static_cast<failure_record&>(n));
  };
  // Refused: it has ended, and nobody else knows of the failure.
  if (!r.supervisor->push_system(r)) r.release();
}

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

}  // namespace actors
