/// The test kit: actors under a virtual clock and a seed, on one thread.
///
/// A `simulation` is a system without threads. Nothing runs but while the test
/// drives it, time stands still but when the test or `run` advances it, and a
/// seed picks who runs next, so that a failing order can be had again. Link
/// `actors::testing`.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "actors/context.hpp"
#include "actors/message.hpp"
#include "actors/operation.hpp"
#include "actors/ref.hpp"
#include "actors/reply_to.hpp"
#include "actors/result.hpp"
#include "actors/spawn.hpp"
#include "actors/system.hpp"
#include "actors/task.hpp"

namespace actors {

class simulation;
template <class... Ms>
class probe;

/// A test did not go as it says it should: nobody can go on, an actor failed
/// unexpectedly, a probe got another message. The text names the actors.
class simulation_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// How a simulation is to run. All have defaults: `{.seed = 17}`.
struct simulation_options {
  /// What decides the order of events: the same seed, the same order.
  std::uint64_t seed = 1;
  /// As for any system; `threads` and `dispatcher` mean nothing here. Unless a
  /// `log` is given the system is silent.
  system_options system = {};
  /// How long, in real time, a wait for I/O may take when nothing else can go
  /// on, before it is an error.
  duration io_limit = std::chrono::seconds{10};
  /// How long, in real time, pending I/O is waited for before the virtual
  /// clock is advanced past it.
  duration io_grace = std::chrono::milliseconds{1};
  /// Steps that one call may take before it counts as endless; at least 1.
  std::uint64_t max_steps = 1'000'000;
};

/// Names, in a compile error, what `run` was given and cannot await: it takes
/// an operation, a `task<T>`, or a callable `task<T>(context<…>, args…)`.
template <class T>
struct simulation_cannot_run_this;

namespace detail {

class manual_core;
struct testing_access;

/// What a run awaits: the value, or the exception, or the end without either.
template <class T>
struct run_outcome {
  std::optional<value_or_unit<T>> value;
  std::exception_ptr error;
  bool ended = false;

  T take() {
    if (error) std::rethrow_exception(std::move(error));
    if (!value) throw_error(make_error_code(errc::actor_stopped));
    if constexpr (!std::is_void_v<T>) return std::move(*value);
  }
};

/// Fills a `run_outcome`, at the latest when its frame is destroyed.
template <class T>
class run_slot {
 public:
  explicit run_slot(std::shared_ptr<run_outcome<T>> to) noexcept
      : to_{std::move(to)} {}
  run_slot(run_slot&&) noexcept = default;
  run_slot& operator=(run_slot&&) = delete;
  ~run_slot() {
    if (to_) to_->ended = true;
  }
  template <class... Value>
  void set(Value&&... value) {
    to_->value.emplace(std::forward<Value>(value)...);
  }
  void fail(std::exception_ptr error) noexcept {
    to_->error = std::move(error);
  }

 private:
  std::shared_ptr<run_outcome<T>> to_;
};

/// What `run` can await as it is, and what that gives.
template <class Op>
struct run_value {};
template <class T>
struct run_value<task<T>> {
  using type = T;
};
template <class Op>
requires(std::is_base_of_v<awaitable_base, Op>) struct run_value<Op> {
  using type = decltype(std::declval<Op&>().await_resume());
};
template <class Op>
concept awaitable_value = requires {
  typename run_value<Op>::type;
};

/// The actor that awaits what `run` was given.
template <class T, class Op>
task<> run_body(context<>, run_slot<T> slot, Op op) {
  try {
    if constexpr (std::is_void_v<T>) {
      co_await op;
      slot.set();
    } else {
      T value = co_await op;
      slot.set(std::move(value));
    }
  } catch (...) {
    slot.fail(std::current_exception());
  }
}

template <class Context, class Task>
struct run_function;
template <class... Ms, class T>
struct run_function<context<Ms...>, task<T>> {
  using value_type = T;
  template <class F, class... Args>
  static task<> body(context<Ms...> self, run_slot<T> slot, F f, Args... args) {
    try {
      if constexpr (std::is_void_v<T>) {
        co_await f(std::move(self), std::move(args)...);
        slot.set();
      } else {
        T value = co_await f(std::move(self), std::move(args)...);
        slot.set(std::move(value));
      }
    } catch (...) {
      slot.fail(std::current_exception());
    }
  }
};

/// A failure that a test expects.
using failure_filter = bool (*)(const std::exception_ptr&) noexcept;

/// Throws: the next message is no `M`.
[[noreturn]] void throw_other_message(const std::type_info& wanted,
                                      const std::type_info& came,
                                      const std::string& probe);
[[noreturn]] void throw_unwanted_message(const std::type_info& came,
                                         const std::string& probe);

}  // namespace detail

/// A system of actors on the calling thread, under a virtual clock.
///
/// All members are for the thread that made it. What its actors do is decided
/// by the seed alone: which of those that can run runs next, whether a message
/// goes through the lock-free lane or the local one, and when a wake that is
/// owed for it arrives. Order by sender, and all else that the library
/// promises, holds for every seed.
///
/// The virtual clock governs `self.now()`, `sleep_for`, `after`, timeouts of
/// asks that actors await, and the limits of stop and kill. A raw Asio timer
/// or socket is real: it is polled between steps, waited for when nothing else
/// can go on, and then the order is no longer the seed's alone. So is a
/// timeout of an ask that is given to a completion token.
///
/// The destructor stops all actors and drives them to their end, advancing the
/// clock as their timeouts need; what went wrong and was not thrown before is
/// printed to standard error. So actors may run in it: declare what they refer
/// to before the simulation.
class simulation {
 public:
  /// With this seed, and options as they are by default.
  explicit simulation(std::uint64_t seed = 1);
  /// `std::invalid_argument` for options out of range.
  explicit simulation(const simulation_options& options);
  simulation(const simulation&) = delete;
  simulation& operator=(const simulation&) = delete;
  ~simulation();

  /// The system of the actors. Its blocking calls (`.get()`) give
  /// `errc::would_deadlock`, because nobody else would drive: use `run`.
  actor_system& system() const noexcept;
  /// What its chances come from.
  std::uint64_t seed() const noexcept;
  /// The virtual time; it starts at the same point in every simulation.
  time_point now() const noexcept;
  /// Steps done so far.
  std::uint64_t steps() const noexcept;

  /// `system().spawn(…)`.
  template <class F, class... Args>
  requires(!std::is_convertible_v<F, spawn_options> &&
           !detail::actor_class<F>) auto spawn(F&& f, Args&&... args) {
    return system().spawn(std::forward<F>(f), std::forward<Args>(args)...);
  }
  /// As above.
  template <class F, class... Args>
  requires(!detail::actor_class<F>) auto spawn(const spawn_options& options,
                                               F&& f, Args&&... args) {
    return system().spawn(options, std::forward<F>(f),
                          std::forward<Args>(args)...);
  }
  /// `system().spawn<A>(…)`, of a class; options, if any, come first.
  template <class A, class... Args>
  requires(!detail::starts_with_options<Args...>) auto spawn(Args&&... args) {
    return system().template spawn<A>(std::forward<Args>(args)...);
  }
  template <class A, class... Args>
  auto spawn(const spawn_options& options, Args&&... args) {
    return system().template spawn<A>(options, std::forward<Args>(args)...);
  }
  /// `system().spawn_once<A>(…)`.
  template <class A, class... Args>
  requires(!detail::starts_with_options<Args...>) auto spawn_once(
      Args&&... args) {
    return system().template spawn_once<A>(std::forward<Args>(args)...);
  }
  template <class A, class... Args>
  auto spawn_once(const spawn_options& options, Args&&... args) {
    return system().template spawn_once<A>(options,
                                           std::forward<Args>(args)...);
  }

  /// `system().spawn_once(…)`.
  template <class F, class... Args>
  requires(!std::is_convertible_v<F, spawn_options> &&
           !detail::actor_class<F>) auto spawn_once(F&& f, Args&&... args) {
    return system().spawn_once(std::forward<F>(f), std::forward<Args>(args)...);
  }
  /// As above.
  template <class F, class... Args>
  requires(!detail::actor_class<F>) auto spawn_once(
      const spawn_options& options, F&& f, Args&&... args) {
    return system().spawn_once(options, std::forward<F>(f),
                               std::forward<Args>(args)...);
  }
  /// Spawns an actor that the test reads.
  template <class... Ms>
  actors::probe<Ms...> probe(std::string name = {});

  // --- driving --------------------------------------------------------------
  //
  // Each of these throws `simulation_error` right after an actor failed that
  // was not expected to, and `std::logic_error` when called by an actor.

  /// Does one thing that can be done now: a turn of an actor, the arrival of a
  /// wake, of timers that are due, or of a completion of I/O. False when there
  /// is nothing. The clock stands still.
  bool step();
  /// Steps until there is nothing to do now; gives how many. The clock stands
  /// still and I/O is not waited for. `simulation_error` after `max_steps`.
  std::size_t run_until_idle();
  /// Advances the clock by `by` (not negative: `std::invalid_argument`), from
  /// one timer to the next, running what can run at each.
  void advance(duration by);

  /// Awaits `op`, an operation (`ref.ask<Q>()`, `ref.started()`,
  /// `ref.stopped()`, `as_result(op)`) or a `task<T>`, in an actor made for
  /// it, and drives until it ends; when nothing can run, the clock is advanced
  /// to the next timer. Gives its value or throws what it threw.
  ///
  /// `simulation_error` when nothing can go on any more, with a line for each
  /// actor alive: where it waits, for whom, and what is in its mailbox. The
  /// waiting actor is killed then, before `run` throws.
  template <class Op>
  requires(detail::awaitable_value<Op>) typename detail::run_value<Op>::type
      run(Op op) {
    using value = typename detail::run_value<Op>::type;
    auto outcome = std::make_shared<detail::run_outcome<value>>();
    drive(system().spawn_once({.name = next_run_name()},
                              &detail::run_body<value, Op>,
                              detail::run_slot<value>{outcome}, std::move(op)),
          outcome->ended);
    return outcome->take();
  }
  /// As above: runs `task<T> f(context<…>, args…)` as an actor.
  template <class F, class... Args>
  requires(!detail::awaitable_value<std::remove_cvref_t<F>>) auto run(
      F&& f, Args&&... args) {
    using function = std::decay_t<F>;
    if constexpr (detail::actor_traits<function>::valid) {
      using traits = detail::actor_traits<function>;
      using runner = detail::run_function<typename traits::context_type,
                                          typename traits::result>;
      using value = typename runner::value_type;
      auto outcome = std::make_shared<detail::run_outcome<value>>();
      drive(system().spawn_once(
                {.name = next_run_name()},
                &runner::template body<function, std::decay_t<Args>...>,
                detail::run_slot<value>{outcome}, std::forward<F>(f),
                std::forward<Args>(args)...),
            outcome->ended);
      return outcome->take();
    } else {
      (void)sizeof(simulation_cannot_run_this<function>);
    }
  }

  /// Stops all actors and drives until they have ended, the clock with them.
  /// `simulation_error` when they cannot.
  void terminate();

  // --- failures -------------------------------------------------------------

  /// Makes the actor fail as if its code threw `error` (an exception or a
  /// `std::exception_ptr`) where it waits now, or in its factory when it has
  /// not run: its frames are destroyed (an object of a class is told, as after
  /// any failure), the asker of the message in hand is
  /// told `actor_failed`, and no handler of it can catch the error. It happens
  /// while driving. The failure has to be expected like any other. An actor
  /// that has ended by then is left alone; `simulation_error` when it has
  /// ended already.
  template <class E>
  void inject(const any_actor_ref& ref, E&& error) {
    if constexpr (std::is_same_v<std::remove_cvref_t<E>, std::exception_ptr>)
      inject_failure(ref, std::forward<E>(error));
    else
      inject_failure(ref, std::make_exception_ptr(std::forward<E>(error)));
  }

  /// Says that the actor is going to fail `times` with an `E`, or something
  /// derived from it. Every failure that nobody expects is thrown as
  /// `simulation_error` by whatever drives; every one that is expected and
  /// does not come, by `check`.
  template <class E = std::exception>
  void expect_failure(const any_actor_ref& ref, std::size_t times = 1) {
    for (; times != 0; --times) expect(ref, typeid(E), &detail::holds<E>);
  }

  /// Throws `simulation_error` for failures that were expected and have not
  /// come, and for unexpected ones that were not thrown yet.
  void check();

  // --- for probes -----------------------------------------------------------

  /// Drives until `done()` gives true, as `run` does. `who` is the one who
  /// waits, for the error's text.
  void run_until(const std::function<bool()>& done, std::string_view who);

 private:
  friend struct detail::testing_access;

  void drive(const any_actor_ref& runner, const bool& ended);
  std::string next_run_name();
  void inject_failure(const any_actor_ref& ref, std::exception_ptr error);
  void expect(const any_actor_ref& ref, const std::type_info& type,
              detail::failure_filter accepts);

  detail::manual_core* core_;
};

// --- probes ------------------------------------------------------------------

/// A question that a probe has received: the message and its reply slot.
///
/// `q.message` and `q->member` reach the message; `q.reply(value)` answers.
/// Dropped unanswered, it tells the asker `errc::no_reply`.
template <class Q>
struct received {
  using reply_type = reply_of_t<Q>;

  Q message;
  /// Empty when the question was told, not asked.
  reply_to<reply_type> slot;

  Q* operator->() noexcept { return &message; }
  const Q* operator->() const noexcept { return &message; }

  /// Answers; see `reply_to::reply`.
  template <class... Value>
  bool reply(Value&&... value) {
    return slot.reply(std::forward<Value>(value)...);
  }
  /// Answers with an error: a `std::error_code` or an exception.
  bool fail(std::error_code error) { return slot.fail(error); }
  bool fail(errc error) { return slot.fail(make_error_code(error)); }
  bool fail(std::exception_ptr error) { return slot.fail(std::move(error)); }
};

namespace detail {

/// A message in a probe.
struct probed_base {
  explicit probed_base(const std::type_info& t) noexcept : type{&t} {}
  probed_base(const probed_base&) = delete;
  probed_base& operator=(const probed_base&) = delete;
  virtual ~probed_base() = default;
  const std::type_info* type;
};

template <class M>
struct probed_message {
  using type = M;
};
template <question M>
struct probed_message<M> {
  using type = received<M>;
};

template <class M>
struct probed final : probed_base {
  template <class... Parts>
  explicit probed(Parts&&... parts)
      : probed_base{typeid(M)}, value{std::forward<Parts>(parts)...} {}
  typename probed_message<M>::type value;
};

using probed_queue = std::deque<std::unique_ptr<probed_base>>;

/// The one handler of a probe.
struct probe_handler {
  template <class M>
  requires(!std::is_reference_v<M> && !question<M>) void operator()(
      M&& m) const {
    queue->push_back(std::make_unique<probed<M>>(std::move(m)));
  }
  template <question M>
  requires(!std::is_reference_v<M>) void operator()(
      M&& m, reply_to<reply_of_t<M>> slot) const {
    queue->push_back(
        std::make_unique<probed<M>>(std::move(m), std::move(slot)));
  }
  probed_queue* queue;
};

template <class... Ms>
task<> probe_body(context<Ms...> self, std::shared_ptr<probed_queue> queue) {
  probe_handler keep{queue.get()};
  while (co_await self.receive(keep)) {
  }
}
template <>
inline task<> probe_body(context<> self, std::shared_ptr<probed_queue>) {
  co_await self.until_stop();
}

}  // namespace detail

/// An actor that a test reads: it keeps each message until the test expects
/// it.
///
/// For the thread of its simulation, which it must not outlive. Its destructor
/// stops the actor and drops what was not read; askers are told `no_reply`.
template <class... Ms>
class [[nodiscard]] probe {
 public:
  /// An actor "/user/NAME"; by default a numbered one.
  explicit probe(simulation& sim, std::string name = {})
      : sim_{&sim},
        queue_{std::make_shared<detail::probed_queue>()},
        ref_{sim.spawn_once({.name = std::move(name)},
                            &detail::probe_body<Ms...>, queue_)} {}
  probe(probe&&) noexcept = default;
  probe& operator=(probe&&) = delete;
  ~probe() { ref_.stop(); }

  /// What to give to those who are to talk to it.
  const actor_ref<Ms...>& ref() const noexcept { return ref_; }
  /// How many messages have come and were not read.
  std::size_t size() const noexcept { return queue_->size(); }

  /// Drives the simulation until a message is there and takes it: an `M`, or
  /// for a question a `received<M>`, which answers it. The clock is advanced
  /// when nothing can run. `simulation_error` when the next message is no `M`,
  /// which is left where it is, or when none can come any more.
  template <class M>
  requires(detail::one_of<M, Ms...>) auto expect() {
    sim_->run_until([this] { return !queue_->empty(); }, ref_.path());
    const std::type_info& came = *queue_->front()->type;
    if (came != typeid(M))
      detail::throw_other_message(typeid(M), came, ref_.path());
    std::unique_ptr<detail::probed_base> first = std::move(queue_->front());
    queue_->pop_front();
    return std::move(static_cast<detail::probed<M>&>(*first).value);
  }

  /// Drives until idle and throws `simulation_error` when a message has come.
  /// The clock stands still.
  void expect_nothing() {
    sim_->run_until_idle();
    if (!queue_->empty())
      detail::throw_unwanted_message(*queue_->front()->type, ref_.path());
  }

 private:
  simulation* sim_;
  std::shared_ptr<detail::probed_queue> queue_;
  actor_ref<Ms...> ref_;
};

template <class... Ms>
actors::probe<Ms...> simulation::probe(std::string name) {
  return actors::probe<Ms...>{*this, std::move(name)};
}

// --- exploration -------------------------------------------------------------

/// Which seeds to try: `{.seeds = 1000}`, or one again: `{.seeds = 1, .first =
/// 17}`.
struct explore_options {
  /// How many; at least 1.
  std::uint64_t seeds = 100;
  /// The first of them.
  std::uint64_t first = 1;
  /// For each simulation; its seed is replaced.
  simulation_options simulation = {};
};

/// A scenario failed with a seed. The text says which, what went wrong and how
/// to have it again.
class exploration_failed : public std::runtime_error {
 public:
  /// Made by `explore`.
  exploration_failed(const std::string& text, std::uint64_t seed,
                     std::string message, std::exception_ptr cause)
      : runtime_error{text},
        seed_{seed},
        message_(std::move(message)),
        cause_{std::move(cause)} {}

  /// The seed that fails.
  std::uint64_t seed() const noexcept { return seed_; }
  /// What the exception of the scenario or the check said.
  const std::string& message() const noexcept { return message_; }
  /// That exception.
  const std::exception_ptr& cause() const noexcept { return cause_; }

 private:
  std::uint64_t seed_;
  std::string message_;
  std::exception_ptr cause_;
};

/// Runs `scenario` in a fresh simulation for one seed after another, each time
/// followed by `terminate` and `check`. Throws `exploration_failed` for the
/// first that fails. The scenario must take all its chances from the
/// simulation: no real time, no I/O, no addresses.
///
/// When the environment has `ACTORS_SEED=17`, only that seed is run
/// (`std::invalid_argument` when it is no number).
void explore(const explore_options& options,
             const std::function<void(simulation&)>& scenario);
/// As above, for the seeds 1 to `seeds`.
inline void explore(std::uint64_t seeds,
                    const std::function<void(simulation&)>& scenario) {
  explore(explore_options{.seeds = seeds}, scenario);
}

}  // namespace actors
