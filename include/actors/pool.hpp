/// Pools: several workers behind one ref.
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/context.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/detail/router.hpp"
#include "actors/detail/watch.hpp"
#include "actors/dispatcher.hpp"
#include "actors/fwd.hpp"
#include "actors/routing.hpp"
#include "actors/spawn.hpp"
#include "actors/supervision.hpp"
#include "actors/task.hpp"

namespace actors {

/// Names, in a compile error, the worker of a pool that was given to
/// `spawn_once`: a pool starts its workers again, so they are copied.
template <class F>
struct pool_workers_are_restarted_use_spawn;
/// Names, in a compile error, a message for which `consistent_hash` was given
/// no key.
template <class M>
struct consistent_hash_has_no_key_for;
/// Names, in a compile error, a question that would go to all workers: nobody
/// could say whose answer counts.
template <class M>
struct broadcast_cannot_answer_the_question;
/// Names, in a compile error, a message that would go to all workers and cannot
/// be copied.
template <class M>
struct broadcast_message_must_be_copyable;

/// Several workers behind one ref: `self.spawn(pool(8, routing::least_busy),
/// worker, args…)` gives an `actor_ref` of the worker's messages;
/// `self.spawn<worker>(pool(8), args…)` where that is a class.
///
/// The ref is that of a router, an actor of its own whose children the workers
/// are ("/user/hashers/$1"). Messages go on to a worker as they are, with
/// their sender and asker. Options of the spawn are the router's, but for
/// their dispatcher, which is the workers' as well.
///
/// - Each worker is placed on the next context in turn.
/// - Workers are `permanent`: they are started again after a failure and after
///   a return, as the strategy decides. What is in their mailboxes stays. By
///   default each of them may be restarted 10 times in 10 s; after that the
///   router fails with the same error, as any supervisor.
/// - The router is ready when all workers are; one that cannot start makes it
///   fail to start.
/// - A worker that has ended for good, by a stop or a decision, gets no more
///   messages; when all have, the router ends.
/// - The router hands on at once, so a limit of its mailbox holds no sender
///   back; one of the workers' (`workers({.mailbox = …})`) bounds the pool:
///   what it refuses is a dead letter, and the asker is told.
/// - A stop makes dead letters of what the router and the workers still have.
///   A drain ends when the workers have handled all of it.
template <class Routing = routing::round_robin_t, class Strategy = one_for_one,
          class... ToAll>
class pool {
 public:
  /// `workers`: 1 to 1,000,000, or `std::invalid_argument`. `supervision`: see
  /// `context::supervise`.
  explicit pool(std::size_t workers, Routing routing = {},
                Strategy supervision = {.per_child = true})
      : size_{workers},
        routing_(std::move(routing)),
        supervision_(std::move(supervision)) {
    if (workers < 1 || workers > 1'000'000)
      throw std::invalid_argument("a pool has 1 to 1000000 workers, not " +
                                  std::to_string(workers));
    if constexpr (requires { supervision_.check(); }) supervision_.check();
  }

  /// Messages of these types go to all workers, each a copy, whatever the
  /// routing of the others: settings, say.
  template <class... Ms>
  pool<Routing, Strategy, ToAll..., Ms...> to_all() const {
    pool<Routing, Strategy, ToAll..., Ms...> other{size_, routing_,
                                                   supervision_};
    other.options_ = options_;
    return other;
  }
  /// Options of each worker, other than those above: `{.dispatcher =
  /// pinned()}`. With a name: `std::invalid_argument`, they are numbered; other
  /// mistakes are the spawn's, as with any actor's options.
  pool workers(spawn_options options) const {
    if (!options.name.empty())
      throw std::invalid_argument(
          "the workers of a pool are numbered and have no name: give \"" +
          options.name + "\" to the pool's spawn");
    pool other{*this};
    other.options_ = std::move(options);
    if (!other.options_.restart)
      other.options_.restart = restart_policy::permanent;
    if (other.options_.placement.value() == placement::automatic)
      other.options_.placement = placement::round_robin();
    return other;
  }

 private:
  template <class, class, class...>
  friend class pool;
  template <class>
  friend struct detail::spawn_plan;

  std::size_t size_;
  Routing routing_;
  Strategy supervision_;
  spawn_options options_{.placement = placement::round_robin(),
                         .restart = restart_policy::permanent};
};

namespace detail {

/// Throws what a spawn with these options would, of an actor that takes these
/// messages.
void check_worker_options(const system_core& system,
                          const spawn_options& options,
                          const message_filter& accepted);

/// Tells the router that a worker has ended. Of the router's own messages, but
/// not of its refs'.
struct worker_ended {
  cell_ptr who;
};

/// Whether messages of type `M` go to all workers.
template <class Routing, class ToAll, class M>
inline constexpr bool goes_to_all =
    std::is_same_v<Routing, routing::broadcast_t> ||
    ToAll::template contains<M>;

/// Whether `consistent_hash` has no key for it.
template <class Routing, class M>
inline constexpr bool has_no_key = false;
template <class... Keys, class M>
inline constexpr bool has_no_key<routing::by_key<Keys...>, M> =
    routing::by_key<Keys...>::template index<M>() == sizeof...(Keys);

/// The first mistake in how messages are routed.
template <class Routing, class ToAll, class M, class... Ms>
constexpr auto routing_mistake() {
  constexpr bool to_all = goes_to_all<Routing, ToAll, M>;
  if constexpr (to_all && question<M>)
    return mistake<broadcast_cannot_answer_the_question<M>>{};
  else if constexpr (to_all && !std::is_copy_constructible_v<M>)
    return mistake<broadcast_message_must_be_copyable<M>>{};
  else if constexpr (!to_all && has_no_key<Routing, M>)
    return mistake<consistent_hash_has_no_key_for<M>>{};
  else if constexpr (sizeof...(Ms) != 0)
    return routing_mistake<Routing, ToAll, Ms...>();
  else
    return mistake<void>{};
}

/// The router's loop: hands on message after message, envelope and all, until
/// its stop or until all workers have ended.
template <class Routing, class ToAll, class... Ms>
class [[nodiscard]] route_op : public awaitable_base,
                               public receiving,
                               private receiver {
 public:
  route_op(fiber& f, route_table& workers, const Routing& how) noexcept
      : receiver{f, kind}, workers_{&workers}, how_{&how} {}

  bool await_ready() {
    if (workers_->over()) return true;
    const poll_result polled = poll(*this);
    if (polled.what != poll_result::message)
      return polled.what == poll_result::empty;
    route(polled.found);
    return workers_->over();
  }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    waiter = frame;
    suspend(*this, duration{-1});
  }
  void await_resume() { check_cancelled(*this); }

 private:
  static std::coroutine_handle<> on_event(receiver& r, receive_event,
                                          envelope* e) {
    auto& self = static_cast<route_op&>(r);
    if (e) self.route(e);
    if (!e || self.workers_->over()) return self.waiter;
    return {};
  }
  static constexpr receiver_type kind{nullptr, &on_event, true};

  void route(envelope* e) {
    if (const auto* gone = payload_here<worker_ended>(e)) {
      workers_->remove(gone->who.get());
      e->type->drop(e, errc::no_reply);
      return;
    }
    try {
      if (!(send_if<Ms>(e->type->message == &message_tag<Ms>, e) || ...))
        (void)(send_if<Ms>(*e->type->message->info == typeid(Ms), e) || ...);
    } catch (...) {
      not_routed(*main->owner, e);
    }
  }

  template <class M>
  bool send_if(bool is_m, envelope* e) {
    if (is_m) send<M>(e, *static_cast<const M*>(e->type->payload(e)));
    return is_m;
  }
  /// What throws has left the envelope where it was.
  template <class M>
  void send(envelope* e, const M& m) {
    if constexpr (goes_to_all<Routing, ToAll, M>) {
      send_to_all(e, m);
    } else if constexpr (std::is_same_v<Routing, routing::round_robin_t>) {
      give(workers_->in_turn(), e);
    } else if constexpr (std::is_same_v<Routing, routing::least_busy_t>) {
      const std::size_t i = workers_->least_busy();
      if (i == route_table::npos)
        give(i, e);
      else
        give(i, make_node<routed<M>>(e, *(*workers_)[i].load));
    } else {
      give(workers_->by_hash((*how_)(m)), e);
    }
  }
  void give(std::size_t i, envelope* e) noexcept {
    if (i == route_table::npos)
      no_worker(*main->owner, e);
    else
      tell((*workers_)[i].who.get(), e);
  }
  template <class M>
  void send_to_all(envelope* e, const M& m) {
    cell_base* const sender = e->type->sender(e);
    bool anybody = false;
    for (std::size_t i = 0; i != workers_->size(); ++i) {
      cell_base* const who = (*workers_)[i].who.get();
      if (closed(*who)) continue;
      anybody = true;
      if (sender)
        tell(who, make_node<told_by<M>>(cell_ptr{sender}, m));
      else
        tell(who, make_node<told<M>>(m));
    }
    if (anybody)
      e->type->drop(e, errc::no_reply);
    else
      no_worker(*main->owner, e);
  }

  route_table* workers_;
  const Routing* how_;
};

/// What the workers are: functions…
template <class F>
struct worker_kind {
  template <class... Args>
  using check = spawn_check<false, F, Args...>;
  template <class G = F>
  using context_type = typename actor_traits<G>::context_type;
  template <class G = F>
  using ref_type = typename actor_traits<G>::ref_type;
  static constexpr const std::type_info* name = &typeid(F);

  template <class... Args>
  static auto spawn(context<>& self, const spawn_options& options, const F& f,
                    const Args&... args) {
    return self.spawn(options, f, args...);
  }
};
/// … or classes, see <actors/actor.hpp>.
template <class A>
struct worker_kind<class_of<A>> {
  template <class... Args>
  using check = typename class_bridge<A>::template check<Args...>;
  template <class B = A>
  using context_type =
      typename class_bridge<A>::template messages<B>::context_type;
  template <class B = A>
  using ref_type = typename class_bridge<A>::template messages<B>::ref;
  static constexpr const std::type_info* name = &typeid(A);

  template <class... Args>
  static auto spawn(context<>& self, const spawn_options& options,
                    const class_of<A>&, const Args&... args) {
    return self.template spawn<A>(options, args...);
  }
};

/// What each incarnation of a router gets a copy of.
template <class Routing, class Strategy, class F, class... Args>
struct pool_plan {
  std::size_t size;
  Routing routing;
  Strategy supervision;
  spawn_options options;
  F worker;
  std::tuple<Args...> args;
};

template <class Messages, class ToAll, class Plan>
struct router;
template <class... Ms, class ToAll, class Routing, class Strategy, class F,
          class... Args>
struct router<context<Ms...>, ToAll, pool_plan<Routing, Strategy, F, Args...>> {
  using plan = pool_plan<Routing, Strategy, F, Args...>;
  /// By the workers.
  static constexpr const message_filter& taken = message_set<Ms...>::filter;

  static task<> body(context<worker_ended, Ms...> self, plan p) {
    self.supervise(p.supervision);
    route_table workers{std::is_same_v<Routing, routing::least_busy_t>};
    for (std::size_t i = 0; i != p.size; ++i) {
      actor_ref<Ms...> worker = std::apply(
          [&](const Args&... args) {
            return worker_kind<F>::spawn(self, p.options, p.worker, args...);
          },
          p.args);
      start_watch(self.cell(), worker.cell(),
                  make_node<told<worker_ended>>(worker.cell()), nullptr);
      workers.add(worker.cell());
    }
    for (std::size_t i = 0; i != p.size; ++i) {
      operation<void> starts = make_started(workers[i].who);
      result<void> started = co_await as_result(std::move(starts));
      // One that was stopped meanwhile has not failed.
      if (!started && started.error() != errc::actor_stopped) started.value();
    }
    route_op<Routing, ToAll, Ms...> loop{main_fiber(self.cell()), workers,
                                         p.routing};
    co_await loop;
  }
};

template <class Routing, class Strategy, class... ToAll>
struct spawn_plan<pool<Routing, Strategy, ToAll...>> {
  template <bool Once, class F, class... Args>
  static constexpr auto first_mistake() {
    using worker = typename decltype(worker_kind<F>::template check<
                                     Args...>::first_mistake())::type;
    if constexpr (Once)
      return mistake<pool_workers_are_restarted_use_spawn<F>>{};
    else if constexpr (!std::is_void_v<worker>)
      return mistake<worker>{};
    else
      return in_routing(
          static_cast<typename worker_kind<F>::template context_type<>*>(
              nullptr));
  }
  template <class... Ms>
  static constexpr auto in_routing(context<Ms...>*) {
    if constexpr (sizeof...(Ms) == 0)
      return mistake<void>{};
    else
      return routing_mistake<Routing, message_list<ToAll...>, Ms...>();
  }

  template <bool Once, class F, class... Args>
  static auto spawn(system_core& system, cell* parent,
                    const spawn_options* options,
                    const pool<Routing, Strategy, ToAll...>& p, F&& f,
                    Args&&... args) {
    using worker = std::decay_t<F>;
    using mistake =
        typename decltype(first_mistake<Once, worker,
                                        std::decay_t<Args>...>())::type;
    if constexpr (!std::is_void_v<mistake>) {
      return error_line<mistake>::say();
    } else {
      using plan = pool_plan<Routing, Strategy, worker, std::decay_t<Args>...>;
      using kind = worker_kind<worker>;
      using routes = router<typename kind::template context_type<>,
                            message_list<ToAll...>, plan>;
      using holder = behaviour<false, decltype(&routes::body), plan>;
      static constexpr actor_type type{
          kind::name,
          &actor_traits<decltype(&routes::body)>::messages::filter,
          &holder::start,
          &holder::destroy,
          sizeof(holder),
          alignof(holder),
          false,
          true};
      plan what{p.size_,    p.routing_,         p.supervision_,
                p.options_, std::forward<F>(f), {std::forward<Args>(args)...}};
      if (options && options->dispatcher && !what.options.dispatcher)
        what.options.dispatcher = options->dispatcher;
      check_worker_options(system, what.options, routes::taken);
      return typename kind::template ref_type<>{spawn_holder<holder>(
          system, parent, type, options, &routes::body, std::move(what))};
    }
  }
};

}  // namespace detail

}  // namespace actors
