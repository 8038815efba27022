/// `actor_system`: owns or borrows threads, and everything that lives in it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "actors/context.hpp"
#include "actors/dead_letter.hpp"
#include "actors/dispatcher.hpp"
#include "actors/exit_reason.hpp"
#include "actors/fwd.hpp"
#include "actors/lifecycle.hpp"
#include "actors/operation.hpp"
#include "actors/publish.hpp"
#include "actors/ref.hpp"
#include "actors/registry.hpp"
#include "actors/result.hpp"
#include "actors/snapshot.hpp"
#include "actors/spawn.hpp"
#include "actors/supervision.hpp"
#include "actors/task.hpp"
#include "actors/trace.hpp"

namespace actors {

/// How a system is to run. All have defaults: `{.threads = 2}`.
struct system_options {
  /// Threads of its own, 1 to 1024. Default: one a core. Not for guests.
  std::optional<std::size_t> threads = {};
  /// How they run actors: `pool()`, `shared()` or `pinned()`; with the last,
  /// `threads` (default: 1) are for what is no actor's. Not for guests, which
  /// are always `shared`.
  actors::dispatcher dispatcher = actors::dispatcher::pool();
  /// More threads, for actors that choose them: `{.dispatcher =
  /// dispatcher::named("db")}`. Not for guests.
  std::vector<pool_options> pools = {};
  /// Messages an actor handles in a row before others get their turn; at
  /// least 1.
  std::size_t throughput = 128;
  /// Threads for `self.offload`, made as they are needed; 1 to 1024.
  std::size_t offload_threads = 16;
  /// How long an actor's stop may take before it becomes a kill; not negative.
  duration stop_timeout = std::chrono::seconds{5};
  /// How long a kill may take before the actor is abandoned; not negative.
  duration kill_timeout = std::chrono::seconds{1};
  /// Where log lines go, called from any thread; by default standard error.
  /// An empty function is silence.
  std::optional<std::function<void(std::string_view)>> log = {};
  /// Dead letters logged a second at the most; the others are only counted.
  std::size_t dead_letters_logged_per_second = 10;
  /// Failures logged a second at the most; the others are only counted.
  std::size_t failures_logged_per_second = 10;
  /// Whether an ask that could only be answered after its own end, because the
  /// actor it goes to waits in a chain of asks for the one who asks, ends at
  /// once with `errc::would_deadlock`, and says so with the chain of paths in
  /// the exception's text. Each ask of an actor allocates a little more then.
  /// Default: on where the library is compiled without `NDEBUG` and in a
  /// simulation, else off. An ask of an actor's body to its own actor always
  /// does.
  ///
  /// What is no certain deadlock goes its way: the chain ends at an actor that
  /// takes messages meanwhile (it asks in a `concurrent` handler or a child
  /// task), whose asker has left or been answered, whose reply slot has been
  /// taken out, that waits for one of several operations (`when_any`) or for
  /// several that do not all just ask, that asks with a token, and where an
  /// actor's system does not look for cycles. Nor are two asks seen that cross,
  /// each sent before the other one is taken.
  std::optional<bool> detect_deadlocks = {};
  /// Supervises the actors that the system spawns, `/user`'s children: a
  /// strategy or a coroutine, see `context::supervise`. Default:
  /// `one_for_one{}`.
  std::function<task<>(failures)> supervision = {};
  /// Called when a failure has been escalated to the top, with the child of
  /// `/user` that failed or escalated, on a thread of the runtime. The child
  /// is stopped then, and the system goes on. Default, also when it throws:
  /// the failure is logged and the system terminates; `wait()`, a guest's
  /// `io.run()` and `run()` throw the error when it has ended.
  std::function<void(const any_actor_ref& child, std::exception_ptr error)>
      on_failure = {};
  /// Called for each message of each actor, when it is told, taken and done:
  /// see `trace_event`. On any thread; it must not throw. What it tells actors
  /// itself is not traced. Messages are several times as slow with it, and as
  /// fast as ever without.
  std::function<void(const trace_event&)> trace = {};
};

/// Names, in a compile error, what a system is to be a guest on: an
/// `asio::io_context`, after `#include <actors/asio.hpp>`.
template <class Context>
struct guest_system_needs_actors_asio_hpp_and_an_io_context;

namespace detail {

/// Defined by <actors/asio.hpp>.
template <class Context>
struct guest_bridge;

template <class Context>
concept guest_bridged = requires {
  sizeof(guest_bridge<Context>);
};

/// Keeps `actor_system{options}` from being taken for a guest.
template <class Context>
concept foreign_context = !std::is_same_v<Context, system_options> &&
                          !std::is_same_v<Context, actor_system>;

system_core* make_system(const system_options& options);
/// Throws `would_deadlock` on a thread of the runtime, `std::logic_error` for
/// a guest.
void check_run(system_core& core);
/// By which it has ended; null: none.
std::exception_ptr failure_of(system_core& core) noexcept;

/// What the main actor of `system.run` leaves behind. Shared: the frame of one
/// that is abandoned outlives the call.
template <class T>
class run_state {
 public:
  void set(result<T> value) {
    std::lock_guard lock{mutex_};
    value_.emplace(std::move(value));
  }
  /// After the actor's end. `failure`: by which the system has ended, if so.
  result<T> take(std::exception_ptr failure) {
    std::lock_guard lock{mutex_};
    // An error may be no more than what the end of the system has led to.
    if (failure && !(value_ && *value_)) return failure;
    if (!value_) return errc::actor_stopped;
    return std::move(*value_);
  }

 private:
  std::mutex mutex_;
  std::optional<result<T>> value_;
};

/// The first mistake in a `run`. `F` and `Args` are decayed; they live in the
/// main actor's frame, so parameters may refer to them.
template <class F, class... Args>
constexpr auto run_mistake() {
  using traits = actor_traits<F>;
  if constexpr (!traits::valid)
    return mistake<actor_function_must_take_a_context_first<F>>{};
  else if constexpr (!is_task<typename traits::result>::value)
    return mistake<actor_function_must_return_task<typename traits::result>>{};
  else if constexpr (!std::is_invocable_v<F&, typename traits::context_type,
                                          Args&&...>)
    return mistake<arguments_do_not_fit_the_actor_function<F, Args...>>{};
  else
    return mistake<void>{};
}

template <class Context, class Task>
struct main_actor;
template <class... Ms, class T>
struct main_actor<context<Ms...>, task<T>> {
  using value_type = T;
  template <class F, class... Args>
  static task<> body(context<Ms...> self, std::shared_ptr<run_state<T>> promise,
                     F f, Args... args) {
    std::exception_ptr error;
    try {
      if constexpr (std::is_void_v<T>) {
        co_await f(std::move(self), std::move(args)...);
        promise->set({});
      } else {
        T value = co_await f(std::move(self), std::move(args)...);
        promise->set(std::move(value));
      }
    } catch (...) {
      error = std::current_exception();
    }
    if (error) promise->set(std::move(error));
  }
};

}  // namespace detail

/// A system of actors: its own threads, or a guest on a user's `io_context`.
///
/// Everything in it may be called from any thread. Its destructor drains a
/// system with its own threads: what was told is handled, then all actors are
/// stopped, for at most `stop_timeout` before they are terminated. A guest's
/// destructor asks for the end and returns.
class actor_system {
 public:
  /// Starts the threads. `std::invalid_argument` for options out of range.
  explicit actor_system(const system_options& options = {});
  /// A guest on an `asio::io_context` of the user's, run by one thread or by
  /// many; needs `#include <actors/asio.hpp>`.
  template <detail::foreign_context Context>
  explicit actor_system(Context& context, const system_options& options = {})
      : actor_system{guest(context, options)} {}
  actor_system(const actor_system&) = delete;
  actor_system& operator=(const actor_system&) = delete;
  ~actor_system();

  /// Starts an actor below `/user`; see `context::spawn`. On a system that has
  /// been terminated it gives a ref that has already ended.
  template <class F, class... Args>
  requires(!std::is_convertible_v<F, spawn_options> &&
           !detail::actor_class<F>) auto spawn(F&& f, Args&&... args) {
    return detail::spawn_checked<false>(*core_, nullptr, nullptr,
                                        std::forward<F>(f),
                                        std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class F, class... Args>
  requires(!detail::actor_class<F>) auto spawn(const spawn_options& options,
                                               F&& f, Args&&... args) {
    return detail::spawn_checked<false>(*core_, nullptr, &options,
                                        std::forward<F>(f),
                                        std::forward<Args>(args)...);
  }
  /// As `spawn`, for arguments that can only be moved (a socket): it moves
  /// them in, and the actor is never restarted.
  template <class F, class... Args>
  requires(!std::is_convertible_v<F, spawn_options> &&
           !detail::actor_class<F>) auto spawn_once(F&& f, Args&&... args) {
    return detail::spawn_checked<true>(*core_, nullptr, nullptr,
                                       std::forward<F>(f),
                                       std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class F, class... Args>
  requires(!detail::actor_class<F>) auto spawn_once(
      const spawn_options& options, F&& f, Args&&... args) {
    return detail::spawn_checked<true>(*core_, nullptr, &options,
                                       std::forward<F>(f),
                                       std::forward<Args>(args)...);
  }

  /// Starts an actor that is an object of class `A`, derived from
  /// `actors::actor<Ms...>`, see there; each incarnation is constructed from
  /// copies of the arguments. Options, if any, come first.
  template <class A, class... Args>
  requires(!detail::starts_with_options<Args...>) auto spawn(Args&&... args) {
    return detail::spawn_class<false, A>(*core_, nullptr, nullptr,
                                         std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class A, class... Args>
  auto spawn(const spawn_options& options, Args&&... args) {
    return detail::spawn_class<false, A>(*core_, nullptr, &options,
                                         std::forward<Args>(args)...);
  }
  /// As above, for arguments that can only be moved; never restarted.
  template <class A, class... Args>
  requires(!detail::starts_with_options<Args...>) auto spawn_once(
      Args&&... args) {
    return detail::spawn_class<true, A>(*core_, nullptr, nullptr,
                                        std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class A, class... Args>
  auto spawn_once(const spawn_options& options, Args&&... args) {
    return detail::spawn_class<true, A>(*core_, nullptr, &options,
                                        std::forward<Args>(args)...);
  }

  /// Runs `task<T> f(context<…>, args…)` as an actor, blocks until it ends and
  /// gives its value, or throws what it threw; `errc::actor_stopped` when it
  /// was stopped first, or the error by which the system has ended. On a thread
  /// of the runtime: `errc::would_deadlock`;
  /// for a guest: `std::logic_error`.
  template <class F, class... Args>
  auto run(F&& f, Args&&... args) {
    using function = std::decay_t<F>;
    using traits = detail::actor_traits<function>;
    using mistake =
        typename decltype(detail::run_mistake<function,
                                              std::decay_t<Args>...>())::type;
    if constexpr (!std::is_void_v<mistake>) {
      return detail::error_line<mistake>::say();
    } else {
      using main = detail::main_actor<typename traits::context_type,
                                      typename traits::result>;
      using value = typename main::value_type;
      detail::check_run(*core_);
      auto state = std::make_shared<detail::run_state<value>>();
      (void)spawn_once(&main::template body<function, std::decay_t<Args>...>,
                       state, std::forward<F>(f), std::forward<Args>(args)...)
          .stopped()
          .get();
      return state->take(detail::failure_of(*core_)).value();
    }
  }

  /// The living actor of this path, "/user/bank/log"; null when there is none.
  /// It has to take the messages `Ms`, or `std::invalid_argument`; with none
  /// named it is an `any_actor_ref` to whoever is there. Only actors that have
  /// a name are found, also below some that have none ("/user/$3/log"). A path
  /// that is none, or of an actor without a name ("/user/$3"):
  /// `std::invalid_argument`. Who is refused a name because it is taken finds
  /// its owner by `wait_for`: another thread may not be through with its spawn.
  template <class... Ms>
  detail::found_ref<Ms...> find(std::string_view path) const {
    return detail::found_ref<Ms...>{
        detail::find_actor(*core_, path, detail::message_set<Ms...>::filter)};
  }
  /// As `find`; ready when an actor of that path is there, which may be at
  /// once. It ends with `std::invalid_argument` when that one takes other
  /// messages, with `errc::actor_stopped` when the system ends. Restarts do
  /// not matter: an actor that is being restarted is there. Whether it is
  /// ready, `ref.started()` tells.
  template <class... Ms>
  operation<detail::found_ref<Ms...>> wait_for(std::string_view path) const {
    return detail::make_wait_for<Ms...>(*core_, path);
  }

  /// Stops all actors, children first. Blocks until they have ended; on a
  /// thread of the runtime, and for a guest, it only asks for that.
  void terminate();
  /// Blocks until the system has ended, by `terminate`, a signal or a failure,
  /// whose error it throws. On a thread of the runtime: `errc::would_deadlock`;
  /// for a guest: `std::logic_error`.
  void wait();
  /// Asks for the end now; what it gives is ready when all actors have ended.
  operation<exit_reason> async_terminate();
  /// Terminates at the first of these signals, `{SIGINT, SIGTERM}` say; more
  /// of them do nothing. May be called again, for more signals. For a guest
  /// this is work that keeps `io.run()` until the system has ended. A number
  /// that is no signal: `std::system_error`.
  void stop_on_signals(std::initializer_list<int> signals);

  /// The executor of the next context in turn, an `asio::any_io_executor`, for
  /// I/O objects that are made before their actor; needs `#include
  /// <actors/asio.hpp>`.
  template <class Needed = void>
  auto next_executor() const {
    if constexpr (detail::executor_bridged<Needed>)
      return detail::executor_bridge<Needed>::next(*core_);
    else
      return detail::error_line<executor_needs_actors_asio_hpp<Needed>>::say();
  }

  /// How many messages have become dead letters.
  std::uint64_t dead_letter_count() const noexcept;
  /// Gives each dead letter to a function, called on the thread where it came
  /// to be; it must not throw. Gives a number for `unsubscribe`.
  std::uint64_t on_dead_letter(std::function<void(const dead_letter&)> f);
  /// Gives each dead letter to an actor, until it has ended.
  std::uint64_t on_dead_letter(actor_ref<dead_letter> subscriber);
  /// Gives each event in the life of actors to a function, called on the
  /// thread where it happens, one actor's in their order; it must not throw.
  /// Gives a number for `unsubscribe`.
  std::uint64_t on_event(std::function<void(const lifecycle_event&)> f);
  /// Gives each event to an actor, until it has ended; but not its own, which
  /// could go on for ever.
  std::uint64_t on_event(actor_ref<lifecycle_event> subscriber);
  /// From now on `who` gets a copy of each `M` that is published, until it has
  /// ended; of those that `filter` gives true for, if there is one. The filter
  /// is called on the threads of the publishers, on several at once; it must
  /// not throw: for one that does `who` does not get the message, and the log
  /// says so. An actor subscribes once to a type: a second time replaces the
  /// filter. Gives a number for `unsubscribe`.
  ///
  /// A null ref, or an `any_actor_ref` to one that does not take `M`:
  /// `std::invalid_argument`.
  template <class M, class Ref>
  std::uint64_t subscribe(const Ref& who,
                          std::function<bool(const M&)> filter = {}) {
    return detail::subscribe_checked<M>(*core_, who, std::move(filter));
  }
  /// Tells a copy to each subscriber of exactly this type; gives how many.
  /// Who publishes one message after another is heard in that order. Throws
  /// what copying throws; those who came before have their copy then.
  template <class M>
  std::size_t publish(M&& message) {
    return detail::publish_checked<std::remove_cvref_t<M>>(*core_, message);
  }
  /// As above; builds the message from `args`.
  template <class M, class... Args>
  requires(!std::is_reference_v<M>) std::size_t publish(Args&&... args) {
    return detail::publish_checked<M>(*core_, M(std::forward<Args>(args)...));
  }
  /// Ends a subscription by its number; unknown numbers do nothing. What is
  /// being published right now may still come.
  void unsubscribe(std::uint64_t subscription) noexcept;

  /// What every actor is doing: see `actor_snapshot`. Those that do not come
  /// back from their code within `patience` are listed as `busy`, with what is
  /// known without asking them. A second later, where the thread of `/user`
  /// itself does not come back: `errc::timed_out`.
  operation<std::vector<actor_snapshot>> snapshot(
      duration patience = std::chrono::seconds{1});

  /// The guardian of the actors spawned here, `/user`.
  any_actor_ref user() const noexcept;

  /// For the runtime.
  detail::system_core& core() const noexcept { return *core_; }
  explicit actor_system(detail::system_core* core) noexcept;

 private:
  friend class detail::system_core;
  struct view {};
  actor_system(view, detail::system_core* core) noexcept
      : core_{core}, owner_{false} {}

  template <class Context>
  static detail::system_core* guest(Context& context,
                                    const system_options& options) {
    if constexpr (detail::guest_bridged<Context>) {
      return detail::guest_bridge<Context>::make(context, options);
    } else {
      (void)sizeof(
          guest_system_needs_actors_asio_hpp_and_an_io_context<Context>);
      return nullptr;
    }
  }

  detail::system_core* core_;
  int exceptions_ = std::uncaught_exceptions();
  bool owner_ = true;
};

}  // namespace actors
