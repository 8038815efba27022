/// `context<Ms...>`: what an actor's body can do.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "actors/child_task.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/detail/watch.hpp"
#include "actors/ended.hpp"
#include "actors/fwd.hpp"
#include "actors/message.hpp"
#include "actors/offload.hpp"
#include "actors/receive.hpp"
#include "actors/ref.hpp"
#include "actors/spawn.hpp"
#include "actors/supervision.hpp"
#include "actors/task.hpp"
#include "actors/task_group.hpp"
#include "actors/timer.hpp"

namespace actors {

/// Names, in a compile error, a message taken by `receive<M>` that the actor
/// does not declare.
template <class M>
struct receive_of_undeclared_message;
/// Names, in a compile error, what `watch` delivers and the actor does not
/// declare: its message, or `actors::ended`.
template <class M>
struct watch_delivers_undeclared_message;
/// Says, in a compile error, what `get_executor` and `next_executor` need:
/// `#include <actors/asio.hpp>`.
template <class Needed>
struct executor_needs_actors_asio_hpp;

namespace detail {

/// Defined by <actors/asio.hpp>.
template <class Needed>
struct executor_bridge;

template <class Needed>
concept executor_bridged = requires {
  sizeof(executor_bridge<Needed>);
};

cell_ptr parent_of(cell& c) noexcept;
cell_base& base_of(cell& c) noexcept;
system_core& core_of(cell& c) noexcept;
actor_system& system_of(cell& c);
void stop_self(cell& c) noexcept;
void mark_ready(cell& c) noexcept;
time_point now_of(cell& c) noexcept;
double random_for(cell& c) noexcept;
/// The envelope in hand of the fiber that runs now; throws `std::logic_error`
/// when there is none.
envelope* hand_of(cell& c);
cell_ptr sender_of(cell& c) noexcept;
/// When the asker of the message in hand gives up; `never` when it does not.
time_point deadline_of_hand(cell& c) noexcept;
/// Whether it has left.
bool asker_gone(cell& c) noexcept;
/// Of a question in hand that is to be handed on to an actor that waits for
/// its answer itself: the error that says so. Null: it does not.
std::exception_ptr check_forward(cell& c, envelope* e, cell_base* to);
[[noreturn]] void throw_wrong_reply(const envelope* e);

/// `self.sleep_for(d)`, `self.sleep_until(t)`
class [[nodiscard]] sleep_op : public awaitable_base, private wait {
 public:
  using value_type = void;

  explicit sleep_op(duration delay) noexcept : delay_{delay} {}
  explicit sleep_op(time_point until) noexcept : until_{until} {}

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    return start(frame.promise().current(), frame);
  }
  void await_resume() {
    if (aborted_) throw_error(operation_aborted());
  }
  result<void> take() {
    if (aborted_) return operation_aborted();
    return {};
  }

 private:
  bool start(fiber& f, std::coroutine_handle<> frame);

  duration delay_{};
  std::optional<time_point> until_;
  timer* timer_ = nullptr;
  fiber* fiber_ = nullptr;
  bool aborted_ = false;
};

}  // namespace detail

/// What every actor has, whatever its messages; helpers take
/// `actors::context<>&`.
///
/// A context belongs to its actor's strand: it is move-only and may be used by
/// the actor's own coroutines alone. What leaves the strand is `self.ref()`.
template <>
class context<> {
 public:
  context(context&& other) noexcept
      : fiber_{std::exchange(other.fiber_, nullptr)} {}
  context& operator=(context&& other) noexcept {
    std::swap(fiber_, other.fiber_);
    return *this;
  }
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  /// Waits until the actor has been asked to stop and its children have ended.
  /// Messages are left where they are. For the actor's own coroutine, on its
  /// strand; elsewhere the await throws `std::logic_error`.
  auto until_stop() { return detail::until_stop_op{*fiber_}; }

  /// Tells whoever awaits `ref.started()` that the actor is ready. The first
  /// `receive`, `serve` or `until_stop` does the same.
  void ready() noexcept { detail::mark_ready(cell()); }

  /// Asks this actor to stop: it goes on to the end of the message in hand,
  /// then `receive` gives empty.
  void stop() noexcept { detail::stop_self(cell()); }

  /// Starts a child: a callable `task<> f(context<Ms...>, Ps...)` and its
  /// arguments, which it owns and of which each incarnation gets a copy.
  /// Gives an `actor_ref<Ms...>`. While this actor is stopping:
  /// `errc::actor_stopped`. Several that share the work: see `pool`.
  template <class F, class... Args>
  requires(!std::is_convertible_v<F, spawn_options> &&
           !detail::actor_class<F>) auto spawn(F&& f, Args&&... args) {
    return detail::spawn_checked<false>(detail::core_of(cell()), &cell(),
                                        nullptr, std::forward<F>(f),
                                        std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class F, class... Args>
  requires(!detail::actor_class<F>) auto spawn(const spawn_options& options,
                                               F&& f, Args&&... args) {
    return detail::spawn_checked<false>(detail::core_of(cell()), &cell(),
                                        &options, std::forward<F>(f),
                                        std::forward<Args>(args)...);
  }
  /// As `spawn`, for arguments that can only be moved (a socket): it moves
  /// them in, and the actor is never restarted.
  template <class F, class... Args>
  requires(!std::is_convertible_v<F, spawn_options> &&
           !detail::actor_class<F>) auto spawn_once(F&& f, Args&&... args) {
    return detail::spawn_checked<true>(detail::core_of(cell()), &cell(),
                                       nullptr, std::forward<F>(f),
                                       std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class F, class... Args>
  requires(!detail::actor_class<F>) auto spawn_once(
      const spawn_options& options, F&& f, Args&&... args) {
    return detail::spawn_checked<true>(detail::core_of(cell()), &cell(),
                                       &options, std::forward<F>(f),
                                       std::forward<Args>(args)...);
  }

  /// Starts an actor that is an object of class `A`, derived from
  /// `actors::actor<Ms...>`, see there; each incarnation is constructed from
  /// copies of the arguments. Options, if any, come first.
  template <class A, class... Args>
  requires(!detail::starts_with_options<Args...>) auto spawn(Args&&... args) {
    return detail::spawn_class<false, A>(detail::core_of(cell()), &cell(),
                                         nullptr, std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class A, class... Args>
  auto spawn(const spawn_options& options, Args&&... args) {
    return detail::spawn_class<false, A>(detail::core_of(cell()), &cell(),
                                         &options, std::forward<Args>(args)...);
  }
  /// As above, for arguments that can only be moved; never restarted.
  template <class A, class... Args>
  requires(!detail::starts_with_options<Args...>) auto spawn_once(
      Args&&... args) {
    return detail::spawn_class<true, A>(detail::core_of(cell()), &cell(),
                                        nullptr, std::forward<Args>(args)...);
  }
  /// As above; options out of range: `std::invalid_argument`.
  template <class A, class... Args>
  auto spawn_once(const spawn_options& options, Args&&... args) {
    return detail::spawn_class<true, A>(detail::core_of(cell()), &cell(),
                                        &options, std::forward<Args>(args)...);
  }

  /// Starts a child task beside this body, on the actor's strand, as soon as
  /// the actor waits: `task<T> f(args…)`, or `f(context<>, args…)`, which gets
  /// a context of its own. It owns `f` and `args`, and must not refer to locals
  /// of the body, which an exception may end first; see `with_tasks` for that.
  ///
  /// Gives a handle, which may be dropped. An exception that leaves the task
  /// while nobody awaits it makes the actor fail. A stop of the actor cancels
  /// the task and waits for it; when the body ends first, it is destroyed.
  /// While the actor ends: `errc::actor_stopped`.
  template <class F, class... Args>
  auto spawn_task(F&& f, Args&&... args) {
    return detail::spawn_child_task(cell(), std::forward<F>(f),
                                    std::forward<Args>(args)...);
  }
  /// Runs `task<T> body(task_group& tasks)`, which starts tasks by
  /// `tasks.spawn(f, args…)`, and gives its value when it and all of them have
  /// ended: so they may refer to the caller's locals. The first that throws has
  /// the others told to end (`operation_aborted`); when all have ended, its
  /// exception is thrown.
  template <class F>
  auto with_tasks(F&& body) {
    if constexpr (detail::safe_in_await<F>)
      return detail::with_tasks_op<F>{std::forward<F>(body)};
    else
      return detail::error_line<
          unsafe_temporary_on_this_compiler_name_the_handler_first<F>>::say();
  }
  /// Runs a function that blocks on a thread of the system's that is there for
  /// that, and gives its value or throws its exception. It must not touch what
  /// belongs to the actor. A function that runs cannot be cancelled: stop and
  /// kill wait for it; one that waits for a thread is dropped. A function with
  /// a name is not copied: it has to live until then.
  template <class F>
  auto offload(F&& function) {
    if constexpr (detail::safe_in_await<F>)
      return detail::offload_op<F>{std::forward<F>(function)};
    else
      return detail::error_line<
          unsafe_temporary_on_this_compiler_name_the_handler_first<F>>::say();
  }

  /// This actor, whatever its messages.
  any_actor_ref any_ref() const noexcept {
    return any_actor_ref{detail::cell_ptr{&detail::base_of(cell())}};
  }
  /// The actor that spawned it; `/user` for those of the system.
  any_actor_ref parent() const noexcept {
    return any_actor_ref{detail::parent_of(cell())};
  }
  /// Whom the message in hand names as its sender; for a question the actor
  /// that asks; null when there is none, so that a tell is a dead letter.
  any_actor_ref sender() const noexcept {
    return any_actor_ref{detail::sender_of(cell())};
  }
  /// Where it stands below `/`: its name, or `$` and a number, after that of
  /// its parent: "/user/bank", "/user/$3/log".
  std::string path() const { return detail::path_of(&detail::base_of(cell())); }
  /// Its children, in the order of their start.
  std::vector<any_actor_ref> children() const {
    return detail::children_of(cell());
  }
  /// Decides from now on what becomes of children that fail: `one_for_one`,
  /// `one_for_all`, `rest_for_one`, or a coroutine `task<> f(failures)`, which
  /// runs on this actor's strand, also while the body awaits. Without it:
  /// `one_for_one{}`. A former policy's `next()` gives empty, and what it has
  /// not decided is the new one's.
  ///
  /// A policy that throws, returns, or drops a failure undecided escalates. It
  /// belongs to this incarnation. Options out of range:
  /// `std::invalid_argument`; while the actor ends: `errc::actor_stopped`.
  template <class F>
  void supervise(F&& policy) {
    detail::supervise_checked(cell(), std::forward<F>(policy));
  }
  /// The system it lives in.
  actor_system& system() const { return detail::system_of(cell()); }

  /// Answers the question in hand, before its handler ends or after
  /// `receive()` gave it. True when the asker gets it. Throws
  /// `std::logic_error` when no question is in hand, it was answered already,
  /// or `T` is not its reply type.
  template <class T>
  bool reply(T&& value) {
    using type = std::remove_cvref_t<T>;
    detail::envelope* e = detail::hand_of(cell());
    return slot_for<type>(e).reply(type(std::forward<T>(value)));
  }

  /// When the asker of the message in hand gives up, by the runtime's clock,
  /// at the earliest: never later than it does. Nothing when it has given no
  /// timeout and inherited none, when the message was told or has been handed
  /// on, and without a message in hand. Still there when the reply slot has
  /// been taken out. In a simulation askers that are no actors have none.
  ///
  /// An ask or a `send` that the handler of a question awaits inherits what is
  /// left, unless `shield`ed: it ends with `errc::timed_out` when the asker
  /// gives up, and with `operation_aborted` when it leaves otherwise, at once
  /// and without being sent when it has left already. So on down the chain of
  /// asks. Members of `when_all`, `with_tasks`… inherit as well; child tasks,
  /// and what has been told to end and cleans up, inherit nothing. Nor does
  /// what is asked after the answer.
  std::optional<time_point> deadline() const noexcept {
    const time_point due = detail::deadline_of_hand(cell());
    if (due == detail::never) return std::nullopt;
    return due;
  }
  /// Whether the asker of the message in hand does not wait any more: its
  /// timeout has ended, or it was cancelled, stopped, killed. Once true it
  /// stays so while the message is in hand. False where nobody asks, and when
  /// the answer came first.
  bool cancelled() const noexcept { return detail::asker_gone(cell()); }

  /// Hands a message on to `to`, with the asker and the sender of the message
  /// in hand: whoever handles it there answers the asker, whose deadline goes
  /// with it. `m` has to have the same reply type as the question in hand, or
  /// `std::logic_error`; so without a message in hand. Where cycles of asks are
  /// looked for and `to` waits for the answer itself, the asker gets
  /// `errc::would_deadlock`.
  template <class... Ms, class M>
  void forward(const actor_ref<Ms...>& to, M&& m) {
    using type = std::remove_cvref_t<M>;
    if constexpr (detail::one_of<type, Ms...>)
      forward_checked<type>(to.cell().get(), std::forward<M>(m));
    else
      (void)sizeof(actor_does_not_take<type>);
  }

  /// Waits; other messages stay in the mailbox meanwhile. A stop ends it with
  /// `operation_aborted`, outside of a handler. Zero or less gives others
  /// their turn.
  auto sleep_for(duration delay) { return detail::sleep_op{delay}; }
  /// As above, until `now()` is `when`; one that has passed gives others their
  /// turn.
  auto sleep_until(time_point when) { return detail::sleep_op{when}; }

  /// The runtime's time; virtual in a simulation.
  time_point now() const noexcept { return detail::now_of(cell()); }

  /// A number from 0 to below 1, by chance; by the seed in a simulation. Not
  /// for secrets.
  double random() const noexcept { return detail::random_for(cell()); }

  /// The actor's strand as an `asio::any_io_executor`, for I/O objects; needs
  /// `#include <actors/asio.hpp>`.
  template <class Needed = void>
  auto get_executor() const {
    if constexpr (detail::executor_bridged<Needed>)
      return detail::executor_bridge<Needed>::of(cell());
    else
      return detail::error_line<executor_needs_actors_asio_hpp<Needed>>::say();
  }

  /// For the runtime.
  explicit context(detail::cell& c) noexcept : fiber_{&detail::main_fiber(c)} {}
  detail::cell& cell() const noexcept { return *fiber_->owner; }

 protected:
  template <class type>
  void forward_checked(detail::cell_base* to, type m) {
    detail::envelope* e = detail::hand_of(cell());
    if constexpr (question<type>) {
      if (e->type->slot(e)) check_reply<reply_of_t<type>>(e);
    } else if (e->type->slot(e)) {
      detail::throw_wrong_reply(e);
    }
    if constexpr (question<type>) {
      if (e->type->slot(e)) {
        if (auto error = detail::check_forward(cell(), e, to)) {
          (void)slot_for<reply_of_t<type>>(e).fail(std::move(error));
          return;
        }
      }
    }
    // First the node: should it throw, the asker has lost nothing.
    auto* node = detail::make_node<detail::forwarded<type>>(
        detail::sender_of(cell()), std::move(m));
    if constexpr (question<type>) {
      if (e->type->slot(e)) {
        node->slot = e->type->hand_on(e);
        node->fail = &detail::reply_state<reply_of_t<type>>::fail;
      }
    }
    detail::tell(to, node);
  }

  template <class R>
  static void check_reply(const detail::envelope* e) {
    if (!e->type->message) detail::throw_wrong_reply(e);
    if (!e->type->reply || *e->type->reply != typeid(R))
      detail::throw_wrong_reply(e);
  }
  template <class R>
  static reply_to<R> slot_for(detail::envelope* e) {
    if (!e->type->slot(e)) detail::throw_wrong_reply(e);
    check_reply<R>(e);
    return reply_to<R>{e->type->take_slot(e)};
  }

  detail::fiber* fiber_;
};

/// The context of an actor that takes the messages `Ms`.
template <class... Ms>
class context : public context<> {
 public:
  using context<>::context;
  context(context&&) noexcept = default;
  context& operator=(context&&) noexcept = default;
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  /// Waits for one message and gives it to the handler of its type: a plain
  /// callable or a coroutine, whose value answers a question. True after a
  /// message; false when the actor has been asked to stop and its children
  /// have ended. An exception of a handler comes out of the await, after the
  /// asker has been told `actor_failed`.
  ///
  /// A handler takes `M`, `M&`, `const M&` or `M&&`, its exact type; a second
  /// parameter `reply_to<R>` takes the reply slot. One generic handler may
  /// take the rest. The last may be `after(delay, handler)`.
  ///
  /// For the actor's own coroutine, on its strand; elsewhere the await throws
  /// `std::logic_error`. So for all forms.
  template <class H, class... Hs>
  auto receive(H&& h, Hs&&... hs) {
    return make_receive<false, Ms...>(std::forward<H>(h),
                                      std::forward<Hs>(hs)...);
  }
  /// Takes the first message of the types `M`, and leaves the others in their
  /// order.
  template <class M, class... Rest, class H, class... Hs>
  requires(!std::is_same_v<std::remove_cvref_t<H>, M> &&
           !std::is_reference_v<M>) auto receive(H&& h, Hs&&... hs) {
    using mistake = typename decltype(undeclared<M, Rest...>())::type;
    if constexpr (std::is_void_v<mistake>) {
      return make_receive<true, M, Rest...>(std::forward<H>(h),
                                            std::forward<Hs>(hs)...);
    } else {
      return detail::error_line<mistake>::say();
    }
  }
  /// Waits for the next message and gives it: an `std::optional<M>`, or of a
  /// `std::variant<Ms...>` where there are several; empty means stop. The
  /// message stays in hand until the next `receive`: `reply` answers it.
  auto receive() { return detail::take_op<false, Ms...>{*fiber_}; }
  /// As above, of the types `M`; leaves the others in their order.
  template <class M, class... Rest>
  auto receive() {
    using mistake = typename decltype(undeclared<M, Rest...>())::type;
    if constexpr (std::is_void_v<mistake>) {
      return detail::take_op<true, M, Rest...>{*fiber_};
    } else {
      return detail::error_line<mistake>::say();
    }
  }

  /// `receive` in a loop that belongs to the runtime, until stop: the quickest
  /// form. A handler's exception makes the actor fail, and does not come out of
  /// the await; when the supervisor resumes the actor, the loop goes on with
  /// the next message.
  template <class H, class... Hs>
  auto serve(H&& h, Hs&&... hs) {
    using declared = detail::message_list<Ms...>;
    using mistake =
        typename decltype(detail::handlers<declared, H, Hs...>::
                              template first_mistake<Ms...>())::type;
    if constexpr (!std::is_void_v<mistake>) {
      return detail::error_line<mistake>::say();
    } else {
      using op = detail::receive_op<true, false, declared, H, Hs...>;
      if constexpr (op::needs_body)
        return serve_in_body(*fiber_, std::forward<H>(h),
                             std::forward<Hs>(hs)...);
      else
        return op{*fiber_, std::forward<H>(h), std::forward<Hs>(hs)...};
    }
  }

  /// Tells this actor when `who` has ended and its cleanup is complete, also
  /// when it failed to start or had ended before: by a message `ended`, which
  /// is to be one of its types. It comes after what `who` told it before.
  /// Restarts of `who` are no end; a restart of this actor ends the watch.
  /// Several watches of one actor are one; a new one replaces the message.
  template <class Ended = ended>
  void watch(const any_actor_ref& who) {
    if constexpr (detail::one_of<Ended, Ms...>)
      detail::start_watch(cell(), who.cell(),
                          detail::make_node<detail::told<Ended>>(
                              Ended{who, exit_reason::not_started}),
                          &detail::set_reason);
    else
      (void)sizeof(watch_delivers_undeclared_message<Ended>);
  }
  /// As above, by a message of the user's.
  template <class M>
  void watch(const any_actor_ref& who, M&& message) {
    using type = std::remove_cvref_t<M>;
    if constexpr (detail::one_of<type, Ms...>)
      detail::start_watch(
          cell(), who.cell(),
          detail::make_node<detail::told<type>>(std::forward<M>(message)),
          nullptr);
    else
      (void)sizeof(watch_delivers_undeclared_message<type>);
  }
  /// Ends the watch. A message that is in the mailbox already stays there.
  void unwatch(const any_actor_ref& who) noexcept {
    detail::end_watch(cell(), who.cell());
  }

  /// Sends this actor a message after `delay` (not negative:
  /// `std::invalid_argument`), unless it is cancelled, or the actor stopped or
  /// restarted before. To its mailbox it is as any message that was told.
  /// While the actor ends: `errc::actor_stopped`.
  template <class M>
  timer_handle send_after(duration delay, M&& message) {
    return after_delay<std::remove_cvref_t<M>>(delay, std::forward<M>(message));
  }
  /// As above; builds the message in place from `args`.
  template <class M, class... Args>
  requires(!std::is_reference_v<M>) timer_handle
      send_after(duration delay, Args&&... args) {
    return after_delay<M>(delay, std::forward<Args>(args)...);
  }
  /// Sends this actor a copy of a message after each `period` (above zero:
  /// `std::invalid_argument`), until it is cancelled, or the actor stopped or
  /// restarted. The rhythm does not drift: each is due a period after the one
  /// before was due; what a busy thread has missed is left out. While the
  /// actor ends: `errc::actor_stopped`. A copy that throws fails the actor.
  template <class M>
  timer_handle send_every(duration period, M&& message) {
    return every_period<std::remove_cvref_t<M>>(period,
                                                std::forward<M>(message));
  }
  /// As above; builds the message in place from `args`.
  template <class M, class... Args>
  requires(!std::is_reference_v<M>) timer_handle
      send_every(duration period, Args&&... args) {
    return every_period<M>(period, std::forward<Args>(args)...);
  }

  /// A handle to this actor, for others.
  actor_ref<Ms...> ref() const noexcept {
    return actor_ref<Ms...>{detail::cell_ptr{&detail::base_of(cell())}};
  }

 private:
  template <class M, class... Rest>
  static constexpr auto undeclared() {
    if constexpr (!detail::one_of<M, Ms...>)
      return detail::mistake<receive_of_undeclared_message<M>>{};
    else if constexpr (sizeof...(Rest) != 0)
      return undeclared<Rest...>();
    else
      return detail::mistake<void>{};
  }
  template <class M, class... Args>
  timer_handle after_delay(duration delay, Args&&... args) {
    if constexpr (!detail::one_of<M, Ms...>) {
      (void)sizeof(timer_sends_undeclared_message<M>);
      return {};
    } else {
      detail::check_delay(delay);
      auto& m = *detail::make_node<detail::message_once<M>>(
          std::forward<Args>(args)...);
      detail::start_timed(cell(), m, delay);
      return timer_handle{m};
    }
  }
  template <class M, class... Args>
  timer_handle every_period(duration period, Args&&... args) {
    if constexpr (!detail::one_of<M, Ms...>) {
      (void)sizeof(timer_sends_undeclared_message<M>);
      return {};
    } else if constexpr (!std::is_copy_constructible_v<M>) {
      (void)sizeof(send_every_copies_its_message<M>);
      return {};
    } else {
      detail::check_period(period);
      auto& m = *detail::make_node<detail::message_every<M>>(
          period, std::forward<Args>(args)...);
      detail::start_timed(cell(), m, period);
      return timer_handle{m};
    }
  }
  template <bool Selective, class... Wanted, class... Hs>
  auto make_receive(Hs&&... hs) {
    using wanted = detail::message_list<Wanted...>;
    using mistake =
        typename decltype(detail::handlers<wanted, Hs...>::
                              template first_mistake<Wanted...>())::type;
    if constexpr (std::is_void_v<mistake>) {
      return detail::receive_op<false, Selective, wanted, Hs...>{
          *fiber_, std::forward<Hs>(hs)...};
    } else {
      return detail::error_line<mistake>::say();
    }
  }
  template <class... Hs>
  static task<> serve_in_body(detail::fiber& f, Hs&&... hs) {
    using op =
        detail::receive_op<false, false, detail::message_list<Ms...>, Hs...>;
    for (bool more = true; more;) {
      std::exception_ptr error;
      {
        // Not as a temporary of the loop's condition: g++ 12 makes of that a
        // coroutine that crashes at its first step.
        op next{f, std::forward<Hs>(hs)...};
        try {
          more = co_await next;
        } catch (...) {
          // What was told to end, or misused, has not failed by a handler.
          if (!next.handler_failed()) throw;
          error = std::current_exception();
        }
      }
      if (error) co_await detail::hold_op{std::move(error)};
    }
  }
};

}  // namespace actors
