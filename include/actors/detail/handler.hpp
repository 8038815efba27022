/// Which handler takes which message, how it is called, what it may return:
/// decided at compile time, with one line of error for each mistake.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/config.hpp"
#include "actors/message.hpp"
#include "actors/reply_to.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"

namespace actors {

/// Names, in a compile error, a declared message that no handler takes.
template <class M>
struct actor_has_no_handler_for;
/// Names, in a compile error, a handler's message that is not declared.
template <class M>
struct handler_for_undeclared_message;
/// Names, in a compile error, a message whose handler returns a value although
/// nobody can ask it: it has no reply type.
template <class M>
struct value_returned_for_message_that_is_no_question;
/// Names, in a compile error, a question whose handler returns something that
/// does not convert to its reply type.
template <class M>
struct handler_returns_another_type_than_the_reply_of;
/// Names, in a compile error, a `concurrent` handler that is no coroutine.
template <class Handler>
struct concurrent_handler_must_return_a_task;
/// On a compiler with the co_await temporaries bug (g++ before 14): a handler,
/// or another callable given to what is awaited, that captures something by
/// copy must be named in a statement before.
template <class Handler>
struct unsafe_temporary_on_this_compiler_name_the_handler_first;

/// A timeout for `receive`, given as its last handler: see `after`.
template <class F>
class after_handler {
 public:
  after_handler(duration delay, F handler)
      : delay_{delay}, handler_(std::move(handler)) {}
  duration delay() const noexcept { return delay_; }
  F& handler() noexcept { return handler_; }

 private:
  duration delay_;
  F handler_;
};

/// A handler that runs as a child task: see `concurrent`.
template <class F>
class concurrent_handler {
 public:
  explicit concurrent_handler(F handler) : handler_(std::move(handler)) {}
  template <class... Args>
  requires std::is_invocable_v<F&, Args...>
  decltype(auto) operator()(Args&&... args) {
    return handler_(std::forward<Args>(args)...);
  }
  template <class... Args>
  requires std::is_invocable_v<const F&, Args...>
  decltype(auto) operator()(Args&&... args) const {
    return handler_(std::forward<Args>(args)...);
  }

 private:
  F handler_;
};

namespace detail {
void check_timeout(duration timeout);

/// The first parameters of a callable with one signature.
template <class F>
struct call_signature {
  static constexpr bool known = false;
};
template <class R, class... Ps>
struct signature_of {
  static constexpr bool known = true;
  using result = R;
  using parameters = std::tuple<Ps...>;
};
template <class R, class... Ps>
struct call_signature<R (*)(Ps...)> : signature_of<R, Ps...> {};
template <class R, class... Ps>
struct call_signature<R (*)(Ps...) noexcept> : signature_of<R, Ps...> {};
template <class R, class C, class... Ps>
struct call_signature<R (C::*)(Ps...)> : signature_of<R, Ps...> {};
template <class R, class C, class... Ps>
struct call_signature<R (C::*)(Ps...) const> : signature_of<R, Ps...> {};
template <class R, class C, class... Ps>
struct call_signature<R (C::*)(Ps...) noexcept> : signature_of<R, Ps...> {};
template <class R, class C, class... Ps>
struct call_signature<R (C::*)(Ps...) const noexcept> : signature_of<R, Ps...> {
};

template <class F>
struct signature : call_signature<std::decay_t<F>> {};
template <class F>
requires requires { &std::remove_cvref_t<F>::operator(); }
struct signature<F>
    : call_signature<decltype(&std::remove_cvref_t<F>::operator())> {};

template <class H>
struct is_concurrent : std::false_type {};
template <class F>
struct is_concurrent<concurrent_handler<F>> : std::true_type {};
/// As what it is made of.
template <class F>
struct signature<concurrent_handler<F>> : signature<F> {};

template <class H>
struct is_after : std::false_type {};
template <class F>
struct is_after<after_handler<F>> : std::true_type {};

/// The message a handler with one signature names; `void` for a generic one.
template <class H, bool = signature<H>::known>
struct handled_message {
  using type = void;
};
template <class H>
struct handled_message<H, true> {
  using type = std::remove_cvref_t<
      std::tuple_element_t<0, typename signature<H>::parameters>>;
};
template <class H>
using handled_message_t = typename handled_message<H>::type;

template <class M>
struct slot_of {
  using type = reply_to<void>;
};
template <question M>
struct slot_of<M> {
  using type = reply_to<reply_of_t<M>>;
};
template <class M>
using slot_of_t = typename slot_of<M>::type;

/// How a handler takes an `M`.
enum class call_style { none, moved, lvalue, moved_slot, lvalue_slot };

template <class H, class M>
constexpr call_style style_of() {
  if constexpr (signature<H>::known && !std::is_same_v<handled_message_t<H>, M>)
    return call_style::none;
  else if constexpr (std::is_invocable_v<H&, M&&>)
    return call_style::moved;
  else if constexpr (std::is_invocable_v<H&, M&>)
    return call_style::lvalue;
  else if constexpr (question<M> && std::is_invocable_v<H&, M&&, slot_of_t<M>>)
    return call_style::moved_slot;
  else if constexpr (question<M> && std::is_invocable_v<H&, M&, slot_of_t<M>>)
    return call_style::lvalue_slot;
  else
    return call_style::none;
}

/// The index of the handler for `M`: an exact one first, then a generic one;
/// `sizeof...(Hs)` when there is none.
template <class M, class... Hs>
constexpr std::size_t handler_index() {
  constexpr std::size_t n = sizeof...(Hs);
  constexpr bool exact[n + 1] = {
      (signature<Hs>::known && style_of<Hs, M>() != call_style::none)...};
  for (std::size_t i = 0; i != n; ++i)
    if (exact[i]) return i;
  constexpr bool generic[n + 1] = {
      (!signature<Hs>::known && style_of<Hs, M>() != call_style::none)...};
  for (std::size_t i = 0; i != n; ++i)
    if (generic[i]) return i;
  return n;
}

/// Calls a handler the way it takes an `M`.
template <class M, class H>
decltype(auto) call_handler(H& handler, envelope* e, M& m) {
  constexpr call_style style = style_of<H, M>();
  (void)e;
  if constexpr (style == call_style::moved)
    return handler(std::move(m));
  else if constexpr (style == call_style::lvalue)
    return handler(m);
  else if constexpr (style == call_style::moved_slot)
    return handler(std::move(m), slot_of_t<M>{e->type->take_slot(e)});
  else
    return handler(m, slot_of_t<M>{e->type->take_slot(e)});
}

template <class M, class H>
using handler_result_t = decltype(call_handler<M>(
    std::declval<H&>(), std::declval<envelope*>(), std::declval<M&>()));

/// What a handler gives in the end: the value of its task, or its value.
template <class R>
struct unwrap_task {
  using type = R;
};
template <class T>
struct unwrap_task<task<T>> {
  using type = T;
};

/// Whether `R`, a handler's value, answers an `M`.
template <class M, class R>
constexpr bool answers() {
  if constexpr (std::is_void_v<R>)
    return true;
  else if constexpr (question<M>)
    return std::is_convertible_v<R, result<reply_of_t<M>>>;
  else
    return false;
}

/// Declared messages, as one type.
template <class... Ms>
struct message_list {
  template <class M>
  static constexpr bool contains = one_of<M, Ms...>;
};

/// Whether a callable, as deduced, may be written in a co_await expression.
template <class H>
inline constexpr bool safe_in_await =
    !ACTORS_CO_AWAIT_TEMPORARIES_BUG || std::is_reference_v<H> ||
    std::is_trivially_destructible_v<H>;

/// The first mistake in a set of handlers. Each `H` is as deduced: `T&` for a
/// named one, `T` for a temporary.
template <class Declared, class... Hs>
struct handlers {
  template <class H, class... Rest>
  static constexpr auto in_handlers() {
    using M = handled_message_t<std::remove_reference_t<H>>;
    if constexpr (!std::is_void_v<M> && !Declared::template contains<M>)
      return mistake<handler_for_undeclared_message<M>>{};
    else if constexpr (!safe_in_await<H>)
      return mistake<
          unsafe_temporary_on_this_compiler_name_the_handler_first<H>>{};
    else if constexpr (sizeof...(Rest) != 0)
      return in_handlers<Rest...>();
    else
      return mistake<void>{};
  }
  template <class M, class... Rest>
  static constexpr auto in_messages() {
    constexpr std::size_t i =
        handler_index<M, std::remove_reference_t<Hs>...>();
    if constexpr (i == sizeof...(Hs)) {
      return mistake<actor_has_no_handler_for<M>>{};
    } else {
      using H =
          std::remove_reference_t<std::tuple_element_t<i, std::tuple<Hs...>>>;
      using returned = std::remove_cvref_t<handler_result_t<M, H>>;
      using R = typename unwrap_task<returned>::type;
      if constexpr (is_concurrent<std::remove_cv_t<H>>::value &&
                    !is_task<returned>::value)
        return mistake<concurrent_handler_must_return_a_task<H>>{};
      else if constexpr (!answers<M, R>() && question<M>)
        return mistake<handler_returns_another_type_than_the_reply_of<M>>{};
      else if constexpr (!answers<M, R>())
        return mistake<value_returned_for_message_that_is_no_question<M>>{};
      else if constexpr (sizeof...(Rest) != 0)
        return in_messages<Rest...>();
      else
        return mistake<void>{};
    }
  }
  template <class... Ms>
  static constexpr auto first_mistake() {
    using found = typename decltype(in_handlers<Hs...>())::type;
    if constexpr (!std::is_void_v<found>)
      return mistake<found>{};
    else
      return in_messages<Ms...>();
  }
};

}  // namespace detail

/// The last handler of a `receive`: called when nothing has come for `delay`
/// (not negative: `std::invalid_argument`). It returns nothing or a `task<>`,
/// and `receive` then gives true, as after a message.
template <class F>
auto after(duration delay, F handler) {
  detail::check_timeout(delay);
  return after_handler<F>{delay, std::move(handler)};
}

/// Opts a handler, a coroutine, out of "one message at a time": it runs as a
/// child task, its result answers, and the next message is taken at once. Each
/// message gets a copy of the handler. A stop lets those that run finish, as
/// any message in hand; an exception makes the actor fail, after the asker has
/// been told `actor_failed`.
///
/// What it captures by reference has to outlive the body's end: handlers that
/// run then are destroyed.
template <class F>
auto concurrent(F handler) {
  return concurrent_handler<F>{std::move(handler)};
}

}  // namespace actors
