/// `proxy<T>`: an object of any class as an actor, by calls of its functions.
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/actor.hpp"
#include "actors/config.hpp"
#include "actors/context.hpp"
#include "actors/operation.hpp"
#include "actors/ref.hpp"
#include "actors/reply_to.hpp"
#include "actors/result.hpp"
#include "actors/spawn.hpp"
#include "actors/system.hpp"
#include "actors/task.hpp"

namespace actors {

/// Names, in a compile error, a function that a proxied object cannot be called
/// by, with these arguments.
template <class F, class... Args>
struct proxy_cannot_call_this_with;
/// Names, in a compile error, a parameter that would refer to what the caller
/// has: arguments travel in a message, and are copies. Take it by value, or
/// give `std::ref` to what outlives the call and is safe on any thread.
template <class Parameter>
struct parameter_would_refer_to_a_copy_take_it_by_value;
/// On a compiler with the co_await temporaries bug (g++ before 14), names an
/// aggregate written inside `call(…)`: name it in a statement before.
template <class Arg>
struct unsafe_temporary_on_this_compiler_name_the_argument_first;
/// Names, in a compile error, a class of actors: `spawn<A>(…)` it.
template <class A>
struct actor_class_needs_no_proxy_spawn_it;

namespace detail {

/// What a proxied object receives, for functions of two kinds.
template <class T>
struct plain_call {
  void (*run)(plain_call& call, T& object, envelope* hand);
};
template <class T>
struct task_call {
  task<> (*run)(task_call& call, T& object, envelope* hand);
};

template <class T>
struct value_of_result {
  using type = T;
};
template <class T>
struct value_of_result<result<T>> {
  using type = T;
};

/// A function and its arguments on their way. `Args` are values.
template <class T, class F, class... Args>
struct function_call
    : std::conditional_t<
          is_task<std::invoke_result_t<F&, T&, Args&&...>>::value, task_call<T>,
          plain_call<T>> {
  using returned = std::invoke_result_t<F&, T&, Args&&...>;
  static constexpr bool awaits = is_task<returned>::value;
  using declared_message =
      std::conditional_t<awaits, task_call<T>, plain_call<T>>;
  using reply_type = typename value_of_result<
      std::remove_cvref_t<typename unwrap_task<returned>::type>>::type;

  template <class... As>
  explicit function_call(F f, As&&... as)
      : declared_message{run_function()},
        function(std::move(f)),
        args(std::forward<As>(as)...) {}

  returned invoke(T& object) {
    return std::apply(
        [&](auto&... a) -> returned {
          return std::invoke(function, object, std::forward<Args>(a)...);
        },
        args);
  }
  static reply_to<reply_type> slot(envelope* hand) {
    return reply_to<reply_type>{hand->type->take_slot(hand)};
  }
  /// The slot is taken when there is an answer: an exception before that is
  /// the actor's.
  static constexpr auto run_function() {
    if constexpr (awaits)
      return [](task_call<T>& c, T& object, envelope* hand) -> task<> {
        auto& self = static_cast<function_call&>(c);
        return wait(self.invoke(object), hand);
      };
    else
      return [](plain_call<T>& c, T& object, envelope* hand) {
        auto& self = static_cast<function_call&>(c);
        if constexpr (std::is_void_v<returned>) {
          self.invoke(object);
          slot(hand).reply();
        } else {
          result<reply_type> value(self.invoke(object));
          slot(hand).answer(std::move(value));
        }
      };
  }
  template <class Task>
  static task<> wait(Task work, envelope* hand) {
    if constexpr (std::is_void_v<typename Task::value_type>) {
      co_await work;
      slot(hand).reply();
    } else {
      result<reply_type> value(co_await work);
      slot(hand).answer(std::move(value));
    }
  }

  [[no_unique_address]] F function;
  [[no_unique_address]] std::tuple<Args...> args;
};

/// How an argument travels: as the function's parameter, by value. `void` for
/// a parameter that is not known.
template <class P, class Arg>
struct travelling {
  using type = std::decay_t<P>;
};
template <class Arg>
struct travelling<void, Arg> {
  using type = std::decay_t<Arg>;
};
template <class P, class U>
requires std::is_lvalue_reference_v<P>
struct travelling<P, std::reference_wrapper<U>> {
  using type = std::reference_wrapper<U>;
};

/// The parameters that arguments are for, where they can be known.
template <class F, bool = signature<F>::known>
struct call_parameters {
  static constexpr bool known = false;
};
template <class Parameters>
struct all_but_first;
template <class P, class... Ps>
struct all_but_first<std::tuple<P, Ps...>> {
  using type = std::tuple<Ps...>;
};
template <class F>
struct call_parameters<F, true> {
  static constexpr bool known = true;
  using all = typename signature<F>::parameters;
  static constexpr auto find() {
    if constexpr (std::is_member_function_pointer_v<F>)
      return std::type_identity<all>{};
    else if constexpr (std::tuple_size_v<all> != 0)
      return std::type_identity<typename all_but_first<all>::type>{};
    else
      return std::type_identity<all>{};
  }
  using type = typename decltype(find())::type;
};

/// The message for a call, or the mistake in it. `F` is decayed, each `Arg` as
/// deduced.
template <class T, class F, class... Args>
struct call_check {
  template <class... Ps>
  static constexpr auto with(std::type_identity<std::tuple<Ps...>>) {
    if constexpr (sizeof...(Ps) != sizeof...(Args))
      return mistake<proxy_cannot_call_this_with<F, std::decay_t<Args>...>>{};
    else
      return in_arguments<Ps...>();
  }
  template <class... Ps>
  static constexpr auto in_arguments() {
    using bad = typename decltype(first_bad<std::tuple<Ps...>, 0>())::type;
    if constexpr (!std::is_void_v<bad>)
      return mistake<bad>{};
    else
      return found<typename travelling<Ps, std::decay_t<Args>>::type...>();
  }
  template <class Parameters, std::size_t I>
  static constexpr auto first_bad() {
    if constexpr (I == sizeof...(Args)) {
      return mistake<void>{};
    } else {
      using P = std::tuple_element_t<I, Parameters>;
      using Deduced = std::tuple_element_t<I, std::tuple<Args...>>;
      using Arg = std::decay_t<Deduced>;
      if constexpr (std::is_lvalue_reference_v<P> &&
                    !std::is_const_v<std::remove_reference_t<P>> &&
                    !is_reference_wrapper<Arg>::value)
        return mistake<parameter_would_refer_to_a_copy_take_it_by_value<P>>{};
      else if constexpr (views<std::decay_t<P>, Arg>)
        return mistake<
            actor_parameter_would_view_a_temporary_take_it_by_value<P, Arg>>{};
      else if constexpr (!std::is_lvalue_reference_v<Deduced> &&
                         !temporary_is_safe<Arg>)
        return mistake<
            unsafe_temporary_on_this_compiler_name_the_argument_first<Arg>>{};
      else
        return first_bad<Parameters, I + 1>();
    }
  }
  template <class... Values>
  static constexpr auto found() {
    if constexpr (!(std::is_constructible_v<Values, Args> && ...) ||
                  !std::is_invocable_v<F&, T&, Values&&...>)
      return mistake<proxy_cannot_call_this_with<F, std::decay_t<Args>...>>{};
    else
      return std::type_identity<function_call<T, F, Values...>>{};
  }
  template <class>
  using unknown = void;
  static constexpr auto check() {
    if constexpr (!safe_in_await<F>)
      return mistake<
          unsafe_temporary_on_this_compiler_name_the_handler_first<F>>{};
    else if constexpr (call_parameters<F>::known)
      return with(std::type_identity<typename call_parameters<F>::type>{});
    else
      return in_arguments<unknown<Args>...>();
  }
  using type = typename decltype(check())::type;
};

template <class M>
inline constexpr bool is_function_call = false;
template <class T, class F, class... Args>
inline constexpr bool is_function_call<function_call<T, F, Args...>> = true;

/// The actor that has the object.
template <class T>
class proxied : public actor<plain_call<T>, task_call<T>> {
 public:
  template <class... Args>
  requires std::is_constructible_v<T, Args...>
  explicit proxied(Args&&... args) : object_(std::forward<Args>(args)...) {}

  void receive(plain_call<T>& call) { call.run(call, object_, hand()); }
  task<> receive(task_call<T>& call) { return call.run(call, object_, hand()); }

 private:
  envelope* hand() { return hand_of(this->self().cell()); }

  T object_;
};

}  // namespace detail

/// An object of any class that lives in an actor, and a handle to it, as cheap
/// as a ref, for any thread.
///
/// ```
/// auto c = actors::proxy<counter>(system, 5);  // counter{5}
/// int n = co_await c.call(&counter::add, 3);
/// c.tell(&counter::reset);
/// ```
///
/// Calls run one at a time, in the order in which one caller made them; the
/// next one waits for a function that returns a `task`. An exception of the
/// function is a failure of the actor, as everywhere: the caller gets
/// `errc::actor_failed`, and the supervisor decides; by default there is a new
/// object, made of copies of the same arguments. To give the caller an error
/// and keep the object return a `result<R>`.
template <class T>
class proxy {
 public:
  /// Null: a call gets `errc::actor_stopped`.
  proxy() noexcept = default;

  /// Starts an actor below `/user` with an object made of `args`, each
  /// incarnation of copies. Arguments that can only be moved are moved in, and
  /// the actor is never restarted then.
  template <class... Args>
  explicit proxy(actor_system& system, Args&&... args)
      : ref_{start(system, std::forward<Args>(args)...)} {}
  /// As above; options out of range: `std::invalid_argument`.
  template <class... Args>
  proxy(const spawn_options& options, actor_system& system, Args&&... args)
      : ref_{start(system, options, std::forward<Args>(args)...)} {}
  /// Starts a child of the actor that `self` belongs to, on its strand.
  template <class... Args>
  explicit proxy(context<>& self, Args&&... args)
      : ref_{start(self, std::forward<Args>(args)...)} {}
  /// As above; options out of range: `std::invalid_argument`.
  template <class... Args>
  proxy(const spawn_options& options, context<>& self, Args&&... args)
      : ref_{start(self, options, std::forward<Args>(args)...)} {}

  /// Calls a member function of the object, or a callable `f(T&, args…)`, in
  /// its actor: an `operation` of what it returns, or what its `task` or
  /// `result` gives; nothing happens before the operation is used. The
  /// arguments are copied, or moved, into a message.
  template <class F, class... Args>
  auto call(F&& f, Args&&... args) const {
    using function = std::decay_t<F>;
    using found = typename detail::call_check<T, function, Args...>::type;
    if constexpr (!detail::is_function_call<found>)
      return detail::error_line<found>::say();
    else
      return operation<typename found::reply_type>{
          ref_.cell(), detail::make_node<detail::asked<found>>(
                           std::forward<F>(f), std::forward<Args>(args)...)};
  }
  /// As above, and does not wait; the value is dropped. What cannot be
  /// delivered becomes a dead letter.
  template <class F, class... Args>
  void tell(F&& f, Args&&... args) const {
    using found =
        typename detail::call_check<T, std::decay_t<F>, Args...>::type;
    if constexpr (!detail::is_function_call<found>)
      (void)detail::error_line<found>::here;
    else
      detail::tell(ref_.cell().get(),
                   detail::make_node<detail::told<found>>(
                       std::forward<F>(f), std::forward<Args>(args)...));
  }

  /// The actor, to stop, watch or name it.
  any_actor_ref ref() const noexcept { return ref_; }
  /// Whether there is one, alive or not.
  explicit operator bool() const noexcept { return bool(ref_); }

  friend bool operator==(const proxy& a, const proxy& b) noexcept {
    return a.ref_ == b.ref_;
  }

 private:
  using ref_type = actor_ref<detail::plain_call<T>, detail::task_call<T>>;

  template <class Parent, class... Args>
  static ref_type start(Parent& parent, Args&&... args) {
    if constexpr (detail::actor_class<T>)
      return detail::error_line<actor_class_needs_no_proxy_spawn_it<T>>::say();
    else if constexpr ((std::is_copy_constructible_v<std::decay_t<Args>> &&
                        ...))
      return parent.template spawn<detail::proxied<T>>(
          std::forward<Args>(args)...);
    else
      return parent.template spawn_once<detail::proxied<T>>(
          std::forward<Args>(args)...);
  }

  ref_type ref_;
};

}  // namespace actors
