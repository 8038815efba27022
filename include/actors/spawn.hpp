/// What an actor is made from: options, callable and arguments.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/detail/handler.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/directive.hpp"
#include "actors/dispatcher.hpp"
#include "actors/fwd.hpp"
#include "actors/mailbox.hpp"
#include "actors/ref.hpp"
#include "actors/task.hpp"

namespace actors {

/// How one actor is to live. All have defaults: `{.name = "log"}`.
struct spawn_options {
  /// Its name below its parent, without `/`, nor `$` at its beginning. One
  /// that an actor below the same parent has: `errc::name_taken`; the name is
  /// free again when that one has ended. Empty, the default: `$` and a number.
  std::string name = {};
  /// Which threads run it. Default: those of its parent; for children of
  /// `/user` the system's. One that the system has not, or a guest, which has
  /// no threads: `std::invalid_argument`. A simulation runs all itself.
  std::optional<actors::dispatcher> dispatcher = {};
  /// Where among them.
  actors::placement placement = {};
  /// After which ends it is started again. Default: `transient`, after a
  /// failure; for `spawn_once` `never`, and nothing else.
  std::optional<restart_policy> restart = {};
  /// How long a stop may take before it becomes a kill; not negative. Default:
  /// the system's; for an actor with children, as long as those need, each
  /// within its own.
  std::optional<duration> stop_timeout = {};
  /// Messages handled in a row before others get their turn; at least 1.
  /// Default: the system's.
  std::optional<std::size_t> throughput = {};
  /// How many messages may wait for it. Default: any number.
  actors::mailbox mailbox = {};
};

/// Names, in a compile error, a callable whose first parameter is no
/// `actors::context<…>` by value.
template <class F>
struct actor_function_must_take_a_context_first;
/// Names, in a compile error, an actor function that does not return
/// `actors::task<>`.
template <class R>
struct actor_function_must_return_task;
/// Names, in a compile error, arguments that the actor function cannot take.
template <class F, class... Args>
struct arguments_do_not_fit_the_actor_function;
/// Names, in a compile error, an argument of `spawn` that cannot be copied for
/// a restart; `spawn_once` moves it in.
template <class Arg>
struct spawn_copies_its_arguments_for_restarts_use_spawn_once;
/// Names, in a compile error, a reference parameter, which would dangle: take
/// it by value, or give `std::ref` to what outlives the actor.
template <class Parameter>
struct actor_parameter_would_dangle_take_it_by_value;
/// Names, in a compile error, a view parameter given an owner: the view would
/// dangle. Take the owner by value.
template <class Parameter, class Arg>
struct actor_parameter_would_view_a_temporary_take_it_by_value;
/// Says, in a compile error, what `spawn<A>(…)` needs: `#include
/// <actors/actor.hpp>`.
template <class A>
struct spawn_of_a_class_needs_actors_actor_hpp;

namespace detail {

/// What the runtime knows of a kind of actor without knowing its types.
struct actor_type {
  const std::type_info* name;
  const message_filter* accepts;
  /// Makes the body of a new incarnation; nothing of it has run.
  task<> (*start)(void* holder, cell& self);
  /// Destroys the callable and its arguments.
  void (*destroy)(void* holder) noexcept;
  std::size_t size;
  std::size_t align;
  /// Made by `spawn_once`: no second incarnation.
  bool once;
  /// Its drain is one of its children, too.
  bool drains_children = false;
  /// Its body holds an object, see <actors/actor.hpp>.
  bool object = false;
};

/// Creates a cell whose holder is still raw memory. `parent` null: a child of
/// `/user`. Throws `std::invalid_argument` for bad options.
cell& create_cell(system_core& system, cell* parent, const actor_type& type,
                  const spawn_options* options);
void* holder_of(cell& c) noexcept;
/// Starts what `create_cell` made; gives a counted handle. The caller's count
/// is gone.
cell_ptr launch(cell& c) noexcept;
/// Drops what `create_cell` made, when the holder could not be built.
void discard(cell& c) noexcept;

/// `R f(context<Ms...>, Ps...)`
template <class Parameters>
struct actor_parameters {
  static constexpr bool valid = false;
};
template <class... Ms, class... Ps>
struct actor_parameters<std::tuple<context<Ms...>, Ps...>> {
  static constexpr bool valid = true;
  using context_type = context<Ms...>;
  using ref_type = actor_ref<Ms...>;
  using messages = message_set<Ms...>;
  using rest = std::tuple<Ps...>;
};

template <class F, bool = signature<F>::known>
struct actor_traits : actor_parameters<void> {};
template <class F>
struct actor_traits<F, true>
    : actor_parameters<typename signature<F>::parameters> {
  using result = typename signature<F>::result;
};

template <class T>
struct is_reference_wrapper : std::false_type {};
template <class T>
struct is_reference_wrapper<std::reference_wrapper<T>> : std::true_type {};

/// A parameter that only looks at what an argument owns: a trivially copyable
/// range over the elements of one that is not.
template <class P, class Arg>
concept views =
    std::is_trivially_copyable_v<P> && !std::is_trivially_copyable_v<Arg> &&
    requires(P p, Arg a) {
  p.data();
  p.size();
  a.data();
};

/// The first mistake in what each incarnation is to get a copy of.
template <class Arg, class... Rest>
constexpr auto in_copies() {
  if constexpr (!std::is_copy_constructible_v<Arg>)
    return mistake<
        spawn_copies_its_arguments_for_restarts_use_spawn_once<Arg>>{};
  else if constexpr (sizeof...(Rest) != 0)
    return in_copies<Rest...>();
  else
    return mistake<void>{};
}

/// The first mistake in a spawn. `F` and `Args` are decayed.
template <bool Once, class F, class... Args>
struct spawn_check {
  using traits = actor_traits<F>;

  template <std::size_t I, class Parameters>
  static constexpr auto in_parameters() {
    if constexpr (I == std::tuple_size_v<Parameters> || I == sizeof...(Args)) {
      return mistake<void>{};
    } else {
      using P = std::tuple_element_t<I, Parameters>;
      using Arg = std::tuple_element_t<I, std::tuple<Args...>>;
      if constexpr (std::is_reference_v<P> && !is_reference_wrapper<Arg>::value)
        return mistake<actor_parameter_would_dangle_take_it_by_value<P>>{};
      else if constexpr (views<P, Arg>)
        return mistake<
            actor_parameter_would_view_a_temporary_take_it_by_value<P, Arg>>{};
      else
        return in_parameters<I + 1, Parameters>();
    }
  }
  static constexpr auto in_arguments() {
    using parameters =
        typename decltype(in_parameters<0, typename traits::rest>())::type;
    if constexpr (!std::is_void_v<parameters>)
      return mistake<parameters>{};
    else if constexpr (!Once)
      return in_copies<F, Args...>();
    else
      return mistake<void>{};
  }
  static constexpr auto first_mistake() {
    if constexpr (!traits::valid) {
      return mistake<actor_function_must_take_a_context_first<F>>{};
    } else if constexpr (!std::is_same_v<typename traits::result, task<>>) {
      return mistake<
          actor_function_must_return_task<typename traits::result>>{};
    } else {
      using arguments = typename decltype(in_arguments())::type;
      if constexpr (!std::is_void_v<arguments>)
        return mistake<arguments>{};
      else if constexpr (!std::is_invocable_v<F&, typename traits::context_type,
                                              Args&&...>)
        return mistake<arguments_do_not_fit_the_actor_function<F, Args...>>{};
      else
        return mistake<void>{};
    }
  }
};

/// Owns the callable and the arguments for as long as the actor lives, and
/// gives each incarnation its own copy.
template <bool Once, class F, class... Args>
class behaviour {
  using context_type = typename actor_traits<F>::context_type;
  /// A closure's frame refers to the closure, so its copy has to stay.
  static constexpr bool keeps_copy = std::is_class_v<F> && !std::is_empty_v<F>;

 public:
  template <class G, class... As>
  explicit behaviour(G&& f, As&&... args)
      : f_(std::forward<G>(f)), args_(std::forward<As>(args)...) {}

  static task<> start(void* holder, cell& self) {
    auto& b = *static_cast<behaviour*>(holder);
    if constexpr (Once)
      return b.call(b.f_, self, std::move(b.args_),
                    std::index_sequence_for<Args...>{});
    else if constexpr (keeps_copy)
      return b.call(b.current_.emplace(b.f_), self, b.args_,
                    std::index_sequence_for<Args...>{});
    else
      return b.call(b.f_, self, b.args_, std::index_sequence_for<Args...>{});
  }
  static void destroy(void* holder) noexcept {
    static_cast<behaviour*>(holder)->~behaviour();
  }

 private:
  template <class Tuple, std::size_t... I>
  task<> call(F& f, cell& self, Tuple&& args, std::index_sequence<I...>) {
    if constexpr (Once)
      return f(context_type{self}, std::get<I>(std::move(args))...);
    else
      return f(context_type{self}, Args(std::get<I>(args))...);
  }

  struct none {};
  [[no_unique_address]] F f_;
  [[no_unique_address]] std::tuple<Args...> args_;
  [[no_unique_address]] std::conditional_t<keeps_copy && !Once,
                                           std::optional<F>, none>
      current_;
};

/// `Holder` is made from `args`.
template <class Holder, class... Args>
cell_ptr spawn_holder(system_core& system, cell* parent, const actor_type& type,
                      const spawn_options* options, Args&&... args) {
  cell& c = create_cell(system, parent, type, options);
  try {
    ::new (holder_of(c)) Holder(std::forward<Args>(args)...);
  } catch (...) {
    discard(c);
    throw;
  }
  return launch(c);
}

template <bool Once, class F, class... Args>
cell_ptr spawn_cell(system_core& system, cell* parent,
                    const spawn_options* options, F&& f, Args&&... args) {
  using holder = behaviour<Once, std::decay_t<F>, std::decay_t<Args>...>;
  static constexpr actor_type type{
      &typeid(std::decay_t<F>),
      &actor_traits<std::decay_t<F>>::messages::filter,
      &holder::start,
      &holder::destroy,
      sizeof(holder),
      alignof(holder),
      Once};
  return spawn_holder<holder>(system, parent, type, options, std::forward<F>(f),
                              std::forward<Args>(args)...);
}

/// Of what says, before the callable, how several actors are spawned as one;
/// defined by <actors/pool.hpp>.
template <class Plan>
struct spawn_plan;

template <class Plan>
concept spawns_several = requires {
  sizeof(spawn_plan<Plan>);
};

/// `spawn` of a system or a context, after its checks.
template <bool Once, class F, class... Args>
auto spawn_checked(system_core& system, cell* parent,
                   const spawn_options* options, F&& f, Args&&... args) {
  if constexpr (spawns_several<std::decay_t<F>>) {
    return spawn_plan<std::decay_t<F>>::template spawn<Once>(
        system, parent, options, f, std::forward<Args>(args)...);
  } else {
    using mistake =
        typename decltype(spawn_check<
                          Once, std::decay_t<F>,
                          std::decay_t<Args>...>::first_mistake())::type;
    if constexpr (std::is_void_v<mistake>) {
      using ref = typename actor_traits<std::decay_t<F>>::ref_type;
      return ref{spawn_cell<Once>(system, parent, options, std::forward<F>(f),
                                  std::forward<Args>(args)...)};
    } else {
      return error_line<mistake>::say();
    }
  }
}

// --- classes, see <actors/actor.hpp> ----------------------------------------

/// The base of all class-style actors.
class actor_base {};

/// Of `spawn<A>(args…)`, which is no `spawn(f, args…)`.
template <class A>
concept actor_class = std::is_base_of_v<actor_base, A>;
template <class... Args>
inline constexpr bool starts_with_options = false;
template <class Arg, class... Args>
inline constexpr bool starts_with_options<Arg, Args...> =
    std::is_convertible_v<Arg, spawn_options>;

/// Defined by <actors/actor.hpp>.
template <class A>
struct class_bridge;

template <class A>
concept class_bridged = requires {
  sizeof(class_bridge<A>);
};

/// Stands for a class where a plan, `pool(…)`, wants an actor function.
template <class A>
struct class_of {};

/// Whether the first argument is such a plan.
template <class... Args>
inline constexpr bool starts_with_plan = false;
template <class Arg, class... Args>
inline constexpr bool starts_with_plan<Arg, Args...> =
    spawns_several<std::decay_t<Arg>>;

template <bool Once, class A, class Plan, class... Args>
auto spawn_planned(system_core& system, cell* parent,
                   const spawn_options* options, const Plan& plan,
                   Args&&... args) {
  return spawn_plan<Plan>::template spawn<Once>(system, parent, options, plan,
                                                class_of<A>{},
                                                std::forward<Args>(args)...);
}

template <bool Once, class A, class... Args>
auto spawn_class(system_core& system, cell* parent,
                 const spawn_options* options, Args&&... args) {
  if constexpr (!class_bridged<A>)
    return error_line<spawn_of_a_class_needs_actors_actor_hpp<A>>::say();
  else if constexpr (starts_with_plan<Args...>)
    return spawn_planned<Once, A>(system, parent, options,
                                  std::forward<Args>(args)...);
  else
    return class_bridge<A>::template spawn<Once>(system, parent, options,
                                                 std::forward<Args>(args)...);
}

}  // namespace detail

}  // namespace actors
