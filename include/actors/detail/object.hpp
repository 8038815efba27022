/// What a class of actors declares: which `receive` takes which message, and
/// which hooks it has; decided at compile time.
#pragma once

#include <exception>
#include <type_traits>
#include <utility>

#include "actors/detail/handler.hpp"
#include "actors/message.hpp"
#include "actors/task.hpp"

namespace actors {

/// Names, in a compile error, a class that has a `pre_start` which is none.
template <class A>
struct pre_start_must_be_public_take_nothing_and_return_void_or_task;
/// Names, in a compile error, a class that has a `post_stop` which is none.
template <class A>
struct post_stop_must_be_public_take_nothing_and_return_void_or_task;
/// Names, in a compile error, a class that has a `pre_restart` which is none.
template <class A>
struct pre_restart_must_be_public_take_an_exception_ptr_and_return_void_or_task;
/// Names, in a compile error, a class that has a `post_restart` which is none.
template <class A>
struct
    post_restart_must_be_public_take_an_exception_ptr_and_return_void_or_task;
/// Names, in a compile error, a class with a member whose name is nearly that
/// of a hook (`on_start`, `preStart`, `poststop`), and which nobody calls.
template <class A>
struct the_hooks_are_pre_start_post_stop_pre_restart_and_post_restart;

namespace detail {

// --- receive ----------------------------------------------------------------

template <class A, class... Args>
using receive_result_t =
    decltype(std::declval<A&>().receive(std::declval<Args>()...));

template <class A, class... Args>
concept calls_receive = requires {
  typename receive_result_t<A, Args...>;
};

/// Whether an overload of `A::receive` is of type `F`: has these parameters,
/// and none that they convert to.
template <class A, class F>
concept has_receive = requires {
  static_cast<F>(&A::receive);
};
template <class A, class F>
concept has_receive_template = requires {
  static_cast<F>(&A::template receive<>);
};
/// As above; but a template that could be that does not count.
template <class A, class F>
constexpr bool has_plain_receive() {
  if constexpr (!has_receive<A, F>)
    return false;
  else if constexpr (!has_receive_template<A, F>)
    return true;
  else
    return static_cast<F>(&A::receive) !=
           static_cast<F>(&A::template receive<>);
}
template <class A, class R, class... Ps>
constexpr bool has_plain_receive_of() {
  return has_plain_receive<A, R (A::*)(Ps...)>() ||
         has_plain_receive<A, R (A::*)(Ps...) const>() ||
         has_plain_receive<A, R (*)(Ps...)>();
}
template <class A, class R, class... Ps>
constexpr bool has_receive_of() {
  return has_receive<A, R (A::*)(Ps...)> ||
         has_receive<A, R (A::*)(Ps...) const> || has_receive<A, R (*)(Ps...)>;
}

/// How `receive` is called with an `M`, and a reply slot where there is one.
template <class P, class... Slot>
struct receive_style {
  using parameter = P;
};

template <class A, class M, class... Slot>
constexpr auto find_plain_lvalue() {
  if constexpr (calls_receive<A, M&, Slot...>) {
    using R = receive_result_t<A, M&, Slot...>;
    if constexpr (has_plain_receive_of<A, R, M&, Slot...>())
      return std::type_identity<receive_style<M&, Slot...>>{};
    else
      return std::type_identity<void>{};
  } else {
    return std::type_identity<void>{};
  }
}
template <class A, class M, class... Slot>
constexpr auto find_plain_reference() {
  if constexpr (calls_receive<A, const M&, Slot...>) {
    using R = receive_result_t<A, const M&, Slot...>;
    if constexpr (has_plain_receive_of<A, R, const M&, Slot...>())
      return std::type_identity<receive_style<const M&, Slot...>>{};
    else
      return find_plain_lvalue<A, M, Slot...>();
  } else {
    return find_plain_lvalue<A, M, Slot...>();
  }
}
/// Which overload of `receive` takes an `M`, templates aside; `void`: none.
template <class A, class M, class... Slot>
constexpr auto find_plain_receive() {
  if constexpr (calls_receive<A, M&&, Slot...>) {
    using R = receive_result_t<A, M&&, Slot...>;
    if constexpr (has_plain_receive_of<A, R, M, Slot...>() ||
                  has_plain_receive_of<A, R, M&&, Slot...>())
      return std::type_identity<receive_style<M&&, Slot...>>{};
    else
      return find_plain_reference<A, M, Slot...>();
  } else {
    return find_plain_reference<A, M, Slot...>();
  }
}
/// Likewise, of the templates.
template <class A, class M, class... Slot>
constexpr auto find_receive_template() {
  if constexpr (calls_receive<A, M&&, Slot...>) {
    using R = receive_result_t<A, M&&, Slot...>;
    if constexpr (has_receive_of<A, R, M, Slot...>() ||
                  has_receive_of<A, R, M&&, Slot...>())
      return std::type_identity<receive_style<M&&, Slot...>>{};
    else if constexpr (has_receive_of<A, R, const M&, Slot...>())
      return std::type_identity<receive_style<const M&, Slot...>>{};
    else
      return std::type_identity<void>{};
  } else if constexpr (calls_receive<A, M&, Slot...>) {
    using R = receive_result_t<A, M&, Slot...>;
    if constexpr (has_receive_of<A, R, M&, Slot...>())
      return std::type_identity<receive_style<M&, Slot...>>{};
    else
      return std::type_identity<void>{};
  } else {
    return std::type_identity<void>{};
  }
}

/// As a set of handlers does: first those for just this message.
template <class A, class M>
constexpr auto choose_receive() {
  using plain = typename decltype(find_plain_receive<A, M>())::type;
  if constexpr (!std::is_void_v<plain>)
    return std::type_identity<plain>{};
  else if constexpr (!question<M>)
    return find_receive_template<A, M>();
  else {
    using slot = slot_of_t<M>;
    using with_slot = typename decltype(find_plain_receive<A, M, slot>())::type;
    using generic = typename decltype(find_receive_template<A, M>())::type;
    if constexpr (!std::is_void_v<with_slot>)
      return std::type_identity<with_slot>{};
    else if constexpr (!std::is_void_v<generic>)
      return std::type_identity<generic>{};
    else
      return find_receive_template<A, M, slot>();
  }
}
template <class A, class M>
using receive_style_t = typename decltype(choose_receive<A, M>())::type;

/// `A::receive` for an `M`, as a handler. It has no state: `Holder`, which has
/// the object, is made of one for each message.
template <class Holder, class A, class M, class Style = receive_style_t<A, M>>
struct receive_handler;
template <class Holder, class A, class M, class P>
struct receive_handler<Holder, A, M, receive_style<P>> {
  receive_result_t<A, P> operator()(P m) {
    return static_cast<Holder&>(*this).object.receive(static_cast<P>(m));
  }
};
template <class Holder, class A, class M, class P, class Slot>
struct receive_handler<Holder, A, M, receive_style<P, Slot>> {
  receive_result_t<A, P, Slot> operator()(P m, Slot reply) {
    return static_cast<Holder&>(*this).object.receive(static_cast<P>(m),
                                                      std::move(reply));
  }
};

// --- hooks ------------------------------------------------------------------

enum class hook { none, plain, awaited, wrong };

template <class R>
constexpr hook hook_that_gives() {
  return std::is_void_v<R>               ? hook::plain
         : std::is_same_v<R, task<void>> ? hook::awaited
                                         : hook::wrong;
}

/// A name that is both in here and in a class is ambiguous in what derives from
/// both: so one finds members that are private, or overloaded.
struct hook_names {
  int pre_start, post_stop, pre_restart, post_restart;
  int prestart, poststop, prerestart, postrestart;
  int preStart, postStop, preRestart, postRestart;
  int on_start, on_stop, on_restart, pre_stop, post_start;
};
template <class A>
struct with_hook_names : A, hook_names {};

template <class A>
concept names_pre_start = !requires {
  &with_hook_names<A>::pre_start;
};
template <class A>
concept names_post_stop = !requires {
  &with_hook_names<A>::post_stop;
};
template <class A>
concept names_pre_restart = !requires {
  &with_hook_names<A>::pre_restart;
};
template <class A>
concept names_post_restart = !requires {
  &with_hook_names<A>::post_restart;
};
template <class A>
concept names_no_misspelling = requires {
  &with_hook_names<A>::prestart;
  &with_hook_names<A>::poststop;
  &with_hook_names<A>::prerestart;
  &with_hook_names<A>::postrestart;
  &with_hook_names<A>::preStart;
  &with_hook_names<A>::postStop;
  &with_hook_names<A>::preRestart;
  &with_hook_names<A>::postRestart;
  &with_hook_names<A>::on_start;
  &with_hook_names<A>::on_stop;
  &with_hook_names<A>::on_restart;
  &with_hook_names<A>::pre_stop;
  &with_hook_names<A>::post_start;
};

/// The hooks of a class. Of one that is `final` those that are private or
/// overloaded cannot be seen.
template <class A>
struct hooks {
  static constexpr hook find_pre_start() {
    if constexpr (requires(A & a) { a.pre_start(); })
      return hook_that_gives<decltype(std::declval<A&>().pre_start())>();
    else if constexpr (requires { &A::pre_start; })
      return hook::wrong;
    else if constexpr (!std::is_final_v<A>)
      return names_pre_start<A> ? hook::wrong : hook::none;
    else
      return hook::none;
  }
  static constexpr hook find_post_stop() {
    if constexpr (requires(A & a) { a.post_stop(); })
      return hook_that_gives<decltype(std::declval<A&>().post_stop())>();
    else if constexpr (requires { &A::post_stop; })
      return hook::wrong;
    else if constexpr (!std::is_final_v<A>)
      return names_post_stop<A> ? hook::wrong : hook::none;
    else
      return hook::none;
  }
  static constexpr hook find_pre_restart() {
    if constexpr (requires(A & a, std::exception_ptr e) {
                    a.pre_restart(std::move(e));
                  })
      return hook_that_gives<decltype(std::declval<A&>().pre_restart(
          std::declval<std::exception_ptr>()))>();
    else if constexpr (requires { &A::pre_restart; })
      return hook::wrong;
    else if constexpr (!std::is_final_v<A>)
      return names_pre_restart<A> ? hook::wrong : hook::none;
    else
      return hook::none;
  }
  static constexpr hook find_post_restart() {
    if constexpr (requires(A & a, std::exception_ptr e) {
                    a.post_restart(std::move(e));
                  })
      return hook_that_gives<decltype(std::declval<A&>().post_restart(
          std::declval<std::exception_ptr>()))>();
    else if constexpr (requires { &A::post_restart; })
      return hook::wrong;
    else if constexpr (!std::is_final_v<A>)
      return names_post_restart<A> ? hook::wrong : hook::none;
    else
      return hook::none;
  }

  static constexpr hook pre_start = find_pre_start();
  static constexpr hook post_stop = find_post_stop();
  static constexpr hook pre_restart = find_pre_restart();
  static constexpr hook post_restart = find_post_restart();

  static constexpr auto first_mistake() {
    if constexpr (pre_start == hook::wrong) {
      return mistake<
          pre_start_must_be_public_take_nothing_and_return_void_or_task<A>>{};
    } else if constexpr (post_stop == hook::wrong) {
      return mistake<
          post_stop_must_be_public_take_nothing_and_return_void_or_task<A>>{};
    } else if constexpr (pre_restart == hook::wrong) {
      return mistake<
          pre_restart_must_be_public_take_an_exception_ptr_and_return_void_or_task<
              A>>{};
    } else if constexpr (post_restart == hook::wrong) {
      return mistake<
          post_restart_must_be_public_take_an_exception_ptr_and_return_void_or_task<
              A>>{};
    } else if constexpr (!std::is_final_v<A>) {
      if constexpr (names_no_misspelling<A>)
        return mistake<void>{};
      else
        return mistake<
            the_hooks_are_pre_start_post_stop_pre_restart_and_post_restart<
                A>>{};
    } else {
      return mistake<void>{};
    }
  }
};

}  // namespace detail

}  // namespace actors
