/// Supervision: failures of children, and coroutines that decide what is to
/// become of them.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "actors/child_task.hpp"
#include "actors/directive.hpp"
#include "actors/message.hpp"
#include "actors/ref.hpp"
#include "actors/task.hpp"

namespace actors {

/// Stands, in `failure.is<initialization_error>()` and
/// `on<initialization_error>(…)`, for a failure before the actor was ready for
/// the first time. Nobody throws it: `error()` is what the start threw.
struct initialization_error {};

/// The error of a `permanent` actor whose body returned.
class actor_returned : public std::exception {
 public:
  const char* what() const noexcept override {
    return "the body of a permanent actor returned";
  }
};

/// Names, in a compile error, what was given to `supervise`: a strategy, or a
/// callable `task<> f(actors::failures)`.
template <class F>
struct supervise_takes_a_strategy_or_a_coroutine_of_failures;

enum class restart_scope : unsigned char;
template <restart_scope Scope>
struct strategy;

namespace detail {

struct failure_record;
struct policy_task_base;

template <class E>
bool holds(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const E&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace detail

/// A child has failed and waits, its mailbox held, for what its supervisor
/// decides: `restart`, `resume`, `stop` or `escalate`. Dropped undecided it is
/// escalated.
///
/// A failure is decided once: a second decision is `std::logic_error`. It does
/// nothing where there is nothing left to decide: the child has been stopped
/// meanwhile or restarted with its group, or the supervisor ends.
///
/// Move-only. For coroutines of the supervisor, on its strand.
class failure {
 public:
  failure(failure&& other) noexcept
      : record_{std::exchange(other.record_, nullptr)} {}
  failure& operator=(failure&& other) noexcept {
    std::swap(record_, other.record_);
    return *this;
  }
  ~failure();

  /// Whether the error is an `E`, or derived from it; for
  /// `initialization_error` see there.
  template <class E>
  bool is() const noexcept {
    if constexpr (std::is_same_v<E, initialization_error>)
      return initial();
    else
      return detail::holds<E>(error());
  }
  /// Throws the error, for a `catch` that wants more of it.
  [[noreturn]] void rethrow() const { std::rethrow_exception(error()); }
  /// What the child threw; `actor_returned` when it returned and is permanent.
  /// Never null.
  const std::exception_ptr& error() const noexcept;
  /// The actor that failed.
  any_actor_ref child() const noexcept;
  /// All children of the supervisor, the failed one among them, in the order of
  /// their start.
  std::vector<any_actor_ref> siblings() const;
  /// The type of the message in hand when it failed; null when there was none.
  const std::type_info* message_type() const noexcept;

  /// How often this child has failed in the last `within`, this time included.
  /// The last 1,000 are remembered.
  std::size_t count(duration within) const;
  /// How often it was restarted in the last `within`, by its own failures.
  std::size_t restarts(duration within) const;
  /// How often in a row, this time included, it failed less than `quiet` after
  /// a restart; 0 when it ran for longer, or had not been restarted before.
  std::size_t streak(duration quiet) const;
  /// How long it ran since its last restart; `duration::max()` when it was not
  /// restarted before.
  duration uptime() const noexcept;
  /// When it failed, in the runtime's time.
  time_point when() const noexcept;

  /// False for `restart_policy::never`: a restart ends it.
  bool restartable() const noexcept;
  /// Whether `resume` has its own meaning: the exception left a handler of
  /// `serve`.
  bool resumable() const noexcept;

  /// Restarts the child, `delay` after its old incarnation has ended. Its
  /// messages wait. `delay` negative: `std::invalid_argument`.
  void restart(duration delay = {});
  /// Restarts the child and these: stops them in the reverse order of their
  /// start, and starts all again in order, each when the one before is ready.
  /// Those that are no children, have ended, or end meanwhile, are left out.
  void restart(const std::vector<any_actor_ref>& children, duration delay = {});
  /// The child goes on with its next message; see `directive::resume`.
  void resume();
  /// The child ends with `exit_reason::failed`.
  void stop();
  /// The supervisor fails with the same error.
  void escalate();

  /// For the runtime; takes over a count.
  explicit failure(detail::failure_record& r) noexcept : record_{&r} {}

 private:
  template <restart_scope Scope>
  friend struct strategy;

  bool initial() const noexcept;
  detail::failure_record& undecided();

  detail::failure_record* record_;
};

namespace detail {

/// The coroutine that decides, as the cell sees it. Strand.
struct policy_task_base : child_task_of<void> {
  /// What waits in `failures::next()`, and in which fiber.
  wait* next = nullptr;
  fiber* next_in = nullptr;
};

/// `co_await failures.next()`
class [[nodiscard]] next_failure_op : public awaitable_base, private wait {
 public:
  using value_type = std::optional<failure>;

  explicit next_failure_op(policy_task_base& p) noexcept : policy_{&p} {}
  next_failure_op(next_failure_op&& other) noexcept : policy_{other.policy_} {}
  next_failure_op& operator=(next_failure_op&&) = delete;
  ~next_failure_op();

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    return start(frame.promise().current(), frame);
  }
  std::optional<failure> await_resume();

 private:
  bool start(fiber& f, std::coroutine_handle<> frame);

  policy_task_base* policy_;
  std::optional<failure> found_;
  bool aborted_ = false;
};

std::vector<any_actor_ref> children_of(cell& c);
/// Between 0 and 1; of a simulation, its own.
double random_of(cell& c) noexcept;

}  // namespace detail

/// The failures of an actor's children, for the coroutine that supervises them.
///
/// Move-only. On the supervisor's strand.
class failures {
 public:
  failures(failures&& other) noexcept
      : policy_{std::exchange(other.policy_, nullptr)} {}
  failures& operator=(failures&& other) noexcept {
    std::swap(policy_, other.policy_);
    return *this;
  }
  ~failures() {
    if (policy_) policy_->release();
  }

  /// Waits for a child to fail. Empty when the supervisor ends, or is
  /// supervised by another policy from now on. One wait at a time, and not as
  /// one of several in `when_any`: what it got too late is dropped there, and
  /// so escalated.
  auto next() { return detail::next_failure_op{*policy_}; }
  /// The children of the supervisor, in the order of their start.
  std::vector<any_actor_ref> children() const {
    return detail::children_of(*policy_->owner);
  }
  /// A number from 0 to 1, for jitter; in a simulation the seed decides.
  double random() const noexcept { return detail::random_of(*policy_->owner); }

  /// For the runtime: shares the policy.
  explicit failures(detail::policy_task_base& p) noexcept : policy_{&p} {
    ++p.refs;
  }

 private:
  detail::policy_task_base* policy_;
};

// --- strategies --------------------------------------------------------------

/// How long a restart waits: `min` after the first failure, twice as long
/// after each that follows, `max` at the most, and up to `jitter` of that more.
/// Back to `min` when the actor has run for `(min + max) / 2` without one.
///
/// Jitter keeps those that lost the same database from asking for it in the
/// same moment.
struct backoff {
  /// Not negative.
  duration min = {};
  /// At least `min`.
  duration max = {};
  /// 0 to 1.
  double jitter = 0;
};

/// One line of a `decide`: made by `on<E>(directive)`.
struct decision_rule {
  /// Whether it is for this failure.
  bool (*matches)(const failure&) noexcept;
  /// What is done then.
  directive then;
};

/// For errors of type `E`, or derived from it.
template <class E>
constexpr decision_rule on(directive then) noexcept {
  return {[](const failure& f) noexcept { return f.is<E>(); }, then};
}

/// What a strategy does about which error: a list of `on<E>(directive)`, of
/// which the first that matches decides, or a function. Nothing: the
/// strategy's default, `restart`, or `stop` for an `initialization_error`.
class decider {
 public:
  using function = std::function<std::optional<directive>(const failure&)>;

  decider() = default;
  decider(std::initializer_list<decision_rule> rules);
  /// Called on the supervisor's strand. One that throws escalates.
  template <class F>
  requires(std::is_invocable_r_v<std::optional<directive>, F&, const failure&>)
      decider(F f)
      : decide_(std::move(f)) {}

  /// What they say to this failure.
  std::optional<directive> operator()(const failure& f) const {
    return decide_ ? decide_(f) : std::nullopt;
  }

 private:
  function decide_;
};

/// For `max_restarts`: as many as it takes.
inline constexpr std::size_t unlimited =
    std::numeric_limits<std::size_t>::max();

/// Whom a strategy restarts besides the one that failed.
enum class restart_scope : unsigned char {
  /// Nobody: `one_for_one`.
  one,
  /// All children: `one_for_all`.
  all,
  /// Those that were started after it: `rest_for_one`.
  rest,
};

/// A supervisor that restarts, by its options: `one_for_one`, `one_for_all` or
/// `rest_for_one`, after those of OTP
/// (https://www.erlang.org/doc/system/sup_princ.html).
///
/// A child with `restart_policy::never` is ended and does not count.
template <restart_scope Scope>
struct strategy {
  /// Restarts allowed `within` the time before any failure; the next one
  /// escalates. 0 to 1,000, or `unlimited`. A group's counts as one.
  std::size_t max_restarts = 10;
  /// More than zero. The window slides: an actor that fails every `within /
  /// max_restarts` is restarted for ever.
  duration within = std::chrono::seconds{10};
  /// Whether the limit is each child's own.
  bool per_child = false;
  /// Default: restarts at once.
  actors::backoff backoff = {};
  /// Default: restarts always.
  decider decide = {};

  /// The supervising coroutine.
  task<> operator()(failures failures) const;
  /// Throws `std::invalid_argument` for options out of range.
  void check() const;
};

/// Restarts the child that failed.
using one_for_one = strategy<restart_scope::one>;
/// Restarts all children when one fails: for children that cannot do without
/// each other.
using one_for_all = strategy<restart_scope::all>;
/// Restarts the child that failed and those started after it: for children
/// that build on the ones before.
using rest_for_one = strategy<restart_scope::rest>;

extern template struct strategy<restart_scope::one>;
extern template struct strategy<restart_scope::all>;
extern template struct strategy<restart_scope::rest>;

namespace detail {

/// Owns a policy's callable, and its coroutine.
template <class F>
struct policy_task final : policy_task_base {
  template <class G>
  explicit policy_task(G&& g) : f(std::forward<G>(g)) {
    is_policy = true;
    start = [](child_task_base& t) {
      auto& self = static_cast<policy_task&>(t);
      task<> body = self.f(failures{self});
      self.outermost = task_access::release(body);
      self.begin(self.outermost.promise(), self.outermost);
    };
    free = [](child_task_base& t) noexcept {
      auto* self = static_cast<policy_task*>(&t);
      self->destroy_frame(t);  // it refers to the callable
      destroy_and_free(self);
    };
  }

  [[no_unique_address]] F f;
};

/// Takes over a count.
void supervise(cell& c, policy_task_base& p);

template <class F>
void supervise_checked(cell& c, F&& f) {
  using function = std::decay_t<F>;
  if constexpr (!std::is_invocable_r_v<task<>, function&, failures>) {
    (void)sizeof(
        supervise_takes_a_strategy_or_a_coroutine_of_failures<function>);
  } else {
    if constexpr (requires { f.check(); }) f.check();
    supervise(c, *make_node<policy_task<function>>(std::forward<F>(f)));
  }
}

}  // namespace detail

}  // namespace actors
