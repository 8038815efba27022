/// `actor<Ms...>`: the base of actors that are classes.
///
/// A thin adapter: the actor is a coroutine whose frame holds the object, and
/// whose loop, the runtime's, gives each message to `receive`.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/context.hpp"
#include "actors/detail/object.hpp"
#include "actors/receive.hpp"
#include "actors/ref.hpp"
#include "actors/spawn.hpp"
#include "actors/task.hpp"

namespace actors {

/// Names, in a compile error, a class given to `spawn<A>` that is not derived,
/// publicly and once, from `actors::actor<Ms...>`.
template <class A>
struct class_must_derive_from_actors_actor;
/// Names, in a compile error, an abstract class given to `spawn<A>`.
template <class A>
struct actor_class_is_abstract;
/// Names, in a compile error, a class whose objects do not fit into the frame
/// of a coroutine: give it a member that is allocated instead.
template <class A>
struct actor_class_is_aligned_more_strictly_than_max_align_t;
/// Names, in a compile error, arguments that no constructor of `A` takes.
template <class A, class... Args>
struct arguments_do_not_construct_the_actor_class;
/// Names, in a compile error, a class whose constructor takes a reference that
/// it may write to, which would be one to the actor's copy: take it by value,
/// or give `std::ref` to what outlives the actor.
template <class A, class... Args>
struct actor_constructor_would_refer_to_a_copy_take_it_by_value;

namespace detail {

/// Whom the object at `object` belongs to, which is being constructed. Throws
/// `std::logic_error` where nobody has ordered it.
cell& cell_under_construction(const void* object);

/// The runtime constructs an object, here and now.
class construction {
 public:
  construction(cell& owner, const void* at, std::size_t size) noexcept;
  construction(const construction&) = delete;
  construction& operator=(const construction&) = delete;
  ~construction();

 private:
  friend cell& cell_under_construction(const void* object);

  /// Null once the object has asked.
  cell* owner_;
  const std::byte* begin_;
  std::size_t size_;
  construction* outer_;
};

}  // namespace detail

/// An actor that is an object, and takes the messages `Ms`.
///
/// ```
/// class greeter : public actors::actor<std::string, how_many> {
///  public:
///   explicit greeter(std::string format);
///   void receive(std::string name);
///   int receive(how_many);
/// };
/// auto g = system.spawn<greeter>("Hello {}!");
/// ```
///
/// One public overload of `receive` a message takes `M`, `M&`, `const M&` or
/// `M&&`, its exact type, and perhaps the slot `reply_to<R>`; a template may
/// take the rest. It returns nothing, the answer, a `result` or a `task`, and
/// the next message waits until that has ended.
///
/// Hooks are public members that have these names, each optional, not virtual,
/// returning `void` or `task<>`:
///
/// - `pre_start()`: before the first message, in each incarnation. `started()`
///   is ready after it.
/// - `post_stop()`: at the end for good, when child tasks and children have
///   ended; also after a failure that is not followed by a restart.
/// - `pre_restart(std::exception_ptr)`: on an object that is to be replaced,
///   likewise. With its failure; null for one that is restarted with others.
/// - `post_restart(std::exception_ptr)`: on the object in its place, with the
///   same, before `pre_start`.
///
/// So each object has one last word, or none: a kill, a stop that takes longer
/// than its timeout, or a failure or a stop before `pre_start` has ended
/// destroys it as it is. A stop that comes when `pre_restart` has been called
/// finds no object.
///
/// An exception of a constructor, of `post_restart` or of `pre_start` is a
/// failure of the start; of `receive` or a child task, one that holds the actor
/// until its supervisor has decided, which may resume it after one of
/// `receive`; of `pre_restart` or `post_stop`, one that is reported and changes
/// nothing, but that an actor which stops has failed then.
template <class... Ms>
class actor : public detail::actor_base {
 public:
  actor(const actor&) = delete;
  actor& operator=(const actor&) = delete;

 protected:
  /// `std::logic_error` for an object that was not made by `spawn`.
  actor() : self_{detail::cell_under_construction(this)} {}
  ~actor() = default;

  /// The actor's context, for constructors, hooks and `receive`. On the
  /// actor's strand, as all of a context.
  context<Ms...>& self() noexcept { return self_; }
  const context<Ms...>& self() const noexcept { return self_; }

 private:
  context<Ms...> self_;
};

namespace detail {

/// How an incarnation begins.
struct birth {
  /// It is not the first.
  bool again = false;
  /// By which failure of its own the last one ended, if by one.
  std::exception_ptr cause;
};
birth born(cell& c) noexcept;

/// How it ends: what it is told then.
struct parting {
  /// Another one follows.
  bool renewed = false;
  /// Its failure, if it has failed.
  std::exception_ptr error;
};
parting part(const cell& c) noexcept;

/// From here on the body is told before its frame goes.
void begin_service(cell& c) noexcept;
/// Of a coroutine handler: whether its actor has failed before it threw, so
/// that this is no failure, but is reported where it is news.
bool failed_before(cell& c, const std::exception_ptr& error) noexcept;

/// As `hold_op`; false: it is not resumed but told to end.
class [[nodiscard]] resumed_op : public hold_op {
 public:
  using hold_op::hold_op;
  bool await_resume() const noexcept { return !aborted(); }
};

template <class... Ms>
std::type_identity<message_list<Ms...>> messages_of(const actor<Ms...>*);

template <class A>
concept derives_from_actor = actor_class<A> && requires(A* a) {
  messages_of(a);
};
template <class A>
using messages_of_t = typename decltype(messages_of(std::declval<A*>()))::type;

/// In the frame: the object, and a handler for each of its messages.
template <class A, class Messages = messages_of_t<A>>
struct incarnation;
template <class A, class... Ms>
struct incarnation<A, message_list<Ms...>>
    : receive_handler<incarnation<A, message_list<Ms...>>, A, Ms>... {
  template <class M>
  using handler = receive_handler<incarnation, A, M>;
  using serve_op =
      receive_op<true, false, message_list<Ms...>, handler<Ms>&...>;
  using next_op =
      receive_op<false, false, message_list<Ms...>, handler<Ms>&...>;

  template <class Arguments>
  incarnation(cell& c, Arguments& from) : object(make(c, &object, from)) {}

  template <class Op>
  Op receive_by(fiber& f) {
    return Op{f, static_cast<handler<Ms>&>(*this)...};
  }

  A object;

 private:
  template <class Arguments>
  static A make(cell& c, const A* at, Arguments& from) {
    const construction scope{c, at, sizeof(A)};
    return from.construct();
  }
};
template <class A>
struct incarnation<A, message_list<>> {
  template <class Arguments>
  incarnation(cell& c, Arguments& from) : object(make(c, &object, from)) {}

  A object;

 private:
  template <class Arguments>
  static A make(cell& c, const A* at, Arguments& from) {
    const construction scope{c, at, sizeof(A)};
    return from.construct();
  }
};

/// The body of an incarnation.
template <class A, class Arguments>
task<> live(cell& c, Arguments& from) {
  using has = hooks<A>;
  using one = incarnation<A>;
  one self{c, from};
  if constexpr (has::post_restart != hook::none) {
    if (birth begun = born(c); begun.again) {
      if constexpr (has::post_restart == hook::awaited)
        co_await self.object.post_restart(std::move(begun.cause));
      else
        self.object.post_restart(std::move(begun.cause));
    }
  } else {
    (void)born(c);
  }
  if constexpr (has::pre_start == hook::awaited)
    co_await self.object.pre_start();
  else if constexpr (has::pre_start == hook::plain)
    self.object.pre_start();

  begin_service(c);
  fiber& f = main_fiber(c);
  if constexpr (std::is_same_v<messages_of_t<A>, message_list<>>) {
    until_stop_op stopped{f};
    co_await stopped;
  } else if constexpr (!one::serve_op::needs_body) {
    auto loop = self.template receive_by<typename one::serve_op>(f);
    co_await loop;
  } else {
    for (bool more = true; more;) {
      std::exception_ptr error;
      {
        auto next = self.template receive_by<typename one::next_op>(f);
        try {
          more = co_await next;
        } catch (...) {
          error = std::current_exception();
        }
      }
      if (!error || failed_before(c, error)) continue;
      resumed_op held{std::move(error)};
      more = co_await held;
    }
  }

  if constexpr (has::pre_restart != hook::none ||
                has::post_stop != hook::none) {
    parting told = part(c);
    if (told.renewed) {
      if constexpr (has::pre_restart == hook::awaited)
        co_await self.object.pre_restart(std::move(told.error));
      else if constexpr (has::pre_restart == hook::plain)
        self.object.pre_restart(std::move(told.error));
    } else {
      if constexpr (has::post_stop == hook::awaited)
        co_await self.object.post_stop();
      else if constexpr (has::post_stop == hook::plain)
        self.object.post_stop();
    }
  }
}

/// The arguments of a constructor, which live as long as the actor. A `once`
/// gives them away.
template <bool Once, class A, class... Args>
class constructor {
 public:
  template <class... As>
  explicit constructor(std::in_place_t, As&&... args)
      : args_(std::forward<As>(args)...) {}

  A construct() {
    return std::apply(
        [](auto&... args) -> A {
          if constexpr (Once)
            return A(std::move(args)...);
          else if constexpr (std::is_constructible_v<A, const Args&...>)
            return A(std::as_const(args)...);
          else
            return A(Args(std::as_const(args))...);
        },
        args_);
  }

  static task<> start(void* holder, cell& self) {
    return live<A>(self, *static_cast<constructor*>(holder));
  }
  static void destroy(void* holder) noexcept {
    static_cast<constructor*>(holder)->~constructor();
  }

 private:
  [[no_unique_address]] std::tuple<Args...> args_;
};

/// The first mistake in a `spawn<A>(args…)`. `Args` are decayed.
template <bool Once, class A, class... Args>
struct class_check {
  static constexpr auto in_messages(message_list<>) { return mistake<void>{}; }
  template <class... Ms>
  static constexpr auto in_messages(message_list<Ms...>) {
    using missing = typename decltype(in_receive<Ms...>())::type;
    if constexpr (!std::is_void_v<missing>)
      return mistake<missing>{};
    else
      return handlers<message_list<Ms...>,
                      receive_handler<incarnation<A>, A,
                                      Ms>&...>::template first_mistake<Ms...>();
  }
  template <class M, class... Rest>
  static constexpr auto in_receive() {
    if constexpr (std::is_void_v<receive_style_t<A, M>>)
      return mistake<actor_has_no_handler_for<M>>{};
    else if constexpr (sizeof...(Rest) != 0)
      return in_receive<Rest...>();
    else
      return mistake<void>{};
  }
  static constexpr auto in_arguments() {
    if constexpr (std::is_constructible_v<A, Args&&...> ||
                  (!Once && std::is_constructible_v<A, const Args&...>))
      return mistake<void>{};
    else if constexpr (std::is_constructible_v<A, Args&...>)
      return mistake<actor_constructor_would_refer_to_a_copy_take_it_by_value<
          A, Args...>>{};
    else
      return mistake<arguments_do_not_construct_the_actor_class<A, Args...>>{};
  }
  static constexpr auto first_mistake() {
    if constexpr (!derives_from_actor<A>) {
      return mistake<class_must_derive_from_actors_actor<A>>{};
    } else if constexpr (std::is_abstract_v<A>) {
      return mistake<actor_class_is_abstract<A>>{};
    } else if constexpr (alignof(A) > alignof(std::max_align_t)) {
      return mistake<
          actor_class_is_aligned_more_strictly_than_max_align_t<A>>{};
    } else {
      using bad_hook = typename decltype(hooks<A>::first_mistake())::type;
      using bad_receive =
          typename decltype(in_messages(messages_of_t<A>{}))::type;
      if constexpr (!std::is_void_v<bad_hook>) {
        return mistake<bad_hook>{};
      } else if constexpr (!std::is_void_v<bad_receive>) {
        return mistake<bad_receive>{};
      } else if constexpr (!Once && sizeof...(Args) != 0) {
        using copy = typename decltype(in_copies<Args...>())::type;
        if constexpr (!std::is_void_v<copy>)
          return mistake<copy>{};
        else
          return in_arguments();
      } else {
        return in_arguments();
      }
    }
  }
};

template <class Messages>
struct class_messages;
template <class... Ms>
struct class_messages<message_list<Ms...>> {
  using context_type = context<Ms...>;
  using ref = actor_ref<Ms...>;
  using set = message_set<Ms...>;
};

template <class A>
struct class_bridge {
  /// For a plan that spawns several.
  template <class... Args>
  using check = class_check<false, A, Args...>;
  template <class B = A>
  using messages = class_messages<messages_of_t<B>>;

  template <bool Once, class... Args>
  static auto spawn(system_core& system, cell* parent,
                    const spawn_options* options, Args&&... args) {
    using mistake =
        typename decltype(class_check<Once, A, std::decay_t<Args>...>::
                              first_mistake())::type;
    if constexpr (!std::is_void_v<mistake>) {
      return error_line<mistake>::say();
    } else {
      return typename messages<>::ref{make<Once, typename messages<>::set>(
          system, parent, options, std::forward<Args>(args)...)};
    }
  }

 private:
  template <bool Once, class Set, class... Args>
  static cell_ptr make(system_core& system, cell* parent,
                       const spawn_options* options, Args&&... args) {
    using holder = constructor<Once, A, std::decay_t<Args>...>;
    static constexpr actor_type type{&typeid(A),
                                     &Set::filter,
                                     &holder::start,
                                     &holder::destroy,
                                     sizeof(holder),
                                     alignof(holder),
                                     Once,
                                     false,
                                     true};
    cell& c = create_cell(system, parent, type, options);
    try {
      ::new (holder_of(c)) holder(std::in_place, std::forward<Args>(args)...);
    } catch (...) {
      discard(c);
      throw;
    }
    return launch(c);
  }
};

}  // namespace detail

}  // namespace actors
