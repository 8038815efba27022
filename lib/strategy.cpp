/// The strategies: coroutines over failures, as users write them.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/supervision.hpp"
#include "cell.hpp"
#include "supervision.hpp"
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
