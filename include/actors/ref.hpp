/// Handles to actors: `actor_ref<Ms...>`, typed, and `any_actor_ref`.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "actors/config.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/exit_reason.hpp"
#include "actors/fwd.hpp"
#include "actors/message.hpp"
#include "actors/operation.hpp"

namespace actors {

/// Names, in a compile error, a message that the actor does not declare.
template <class M>
struct actor_does_not_take;
/// Names, in a compile error, a message that is asked and is no question.
template <class M>
struct message_is_no_question_give_it_a_reply_type;
/// Names, in a compile error, what was given as a sender and is no ref.
template <class T>
struct sender_is_no_actor_ref;
/// On a compiler with the co_await temporaries bug (g++ before 14), names an
/// aggregate written inside `ask(…)`; `ask<M>(args…)` is the safe form.
template <class M>
struct unsafe_temporary_on_this_compiler_use_ask_of_args;

namespace detail {

operation<void> make_started(cell_ptr target);
operation<exit_reason> make_stopped(cell_ptr target);

template <class M>
inline constexpr bool temporary_is_safe =
    !ACTORS_CO_AWAIT_TEMPORARIES_BUG || !std::is_aggregate_v<M> ||
    std::is_trivially_destructible_v<M>;

/// What handles of both kinds can do.
class ref_base {
 public:
  /// Asks the actor to end after the message in hand: its mailbox closes, its
  /// children end, `receive` gives empty. Returns at once. Any thread.
  void stop() const noexcept { request_stop(cell_.get()); }
  /// As `stop`, after all that is in the mailbox now has been handled.
  void drain() const noexcept { request_drain(cell_.get()); }
  /// Ends it without asking: pending operations are cancelled, frames
  /// destroyed, destructors run. Returns at once. Any thread.
  void kill() const noexcept { request_kill(cell_.get()); }

  /// Ready when the actor is, or was: at its first `receive`, `serve`,
  /// `until_stop` or `ready`, or at a normal end without. Ends with what its
  /// start threw, or `errc::actor_stopped` when it was stopped before.
  operation<void> started() const;
  /// Ready when the actor has ended and cleaned up; gives how.
  operation<exit_reason> stopped() const;

  /// Where it stands: its parent's path, `/` and its name, or `$` and a number
  /// ("/user/bank/log"); "(null)" for the null ref. Any thread.
  std::string path() const { return path_of(cell_.get()); }

  /// Whether it refers to an actor, alive or not.
  explicit operator bool() const noexcept { return bool(cell_); }

  /// For the runtime.
  const cell_ptr& cell() const noexcept { return cell_; }

 protected:
  ref_base() noexcept = default;
  explicit ref_base(cell_ptr cell) noexcept : cell_{std::move(cell)} {}
  ~ref_base() = default;
  ref_base(const ref_base&) noexcept = default;
  ref_base(ref_base&&) noexcept = default;
  ref_base& operator=(const ref_base&) noexcept = default;
  ref_base& operator=(ref_base&&) noexcept = default;

  cell_ptr cell_;
};

}  // namespace detail

/// A handle to an actor that takes the messages `Ms`.
///
/// Cheap to copy, harmless when the actor has ended, null when default
/// constructed; may be used from any thread. Compares, orders and hashes by
/// the actor. The order of the types does not matter, and it converts to a
/// handle of fewer of them. Dropping the last one does not stop the actor.
template <class... Ms>
class actor_ref : public detail::ref_base {
 public:
  /// The null ref: a tell is a dead letter, an ask gets `actor_stopped`.
  actor_ref() noexcept = default;

  /// The same actor, known by the same or more message types.
  template <class... Others>
  requires((detail::one_of<Ms, Others...> && ...))
      actor_ref(const actor_ref<Others...>& other)
  noexcept : ref_base{other.cell()} {}

  /// Sends a message and does not wait. What cannot be delivered becomes a
  /// dead letter. Throws only what the message's move or allocation throws.
  /// Messages from one sender arrive in the order they were told. Any thread.
  template <class M>
  void tell(M&& m) const {
    put<std::remove_cvref_t<M>>(std::forward<M>(m));
  }
  /// As above; builds the message in place from `args`.
  template <class M, class... Args>
  requires(!std::is_reference_v<M>) void tell(Args&&... args) const {
    put<M>(std::forward<Args>(args)...);
  }
  /// Names a sender, whom the handler reaches as `self.sender()`.
  template <class M, class Sender>
  void tell(M&& m, const Sender& sender) const {
    using type = std::remove_cvref_t<M>;
    if constexpr (!std::is_base_of_v<detail::ref_base, Sender>)
      (void)sizeof(sender_is_no_actor_ref<Sender>);
    else if constexpr (!detail::one_of<type, Ms...>)
      (void)sizeof(actor_does_not_take<type>);
    else
      detail::tell(cell_.get(), detail::make_node<detail::told_by<type>>(
                                    sender.cell(), std::forward<M>(m)));
  }

  /// Sends a message, built in place from `args`, and waits until it is in the
  /// mailbox, which is at once where there is room. An actor that takes no
  /// messages any more: `errc::actor_stopped`, and no dead letter.
  template <class M, class... Args>
  requires(!std::is_reference_v<M>) auto send(Args&&... args) const {
    if constexpr (detail::one_of<M, Ms...>) {
      return operation<void>{cell_, detail::make_node<detail::sending<M>>(
                                        std::forward<Args>(args)...)};
    } else {
      (void)sizeof(actor_does_not_take<M>);
      return detail::anything{};
    }
  }

  /// Asks question `Q`, built in place from `args`: the form that is safe on
  /// every compiler. Nothing is sent before the operation is used.
  template <class Q, class... Args>
  requires(!std::is_reference_v<Q>) auto ask(Args&&... args) const {
    return make_ask<Q>(std::forward<Args>(args)...);
  }
  /// Asks `q`. On a compiler with the temporaries bug an aggregate with a
  /// destructor of its own is refused; write `ask<Q>(args…)`.
  template <class Q>
  auto ask(Q&& q) const {
    using type = std::remove_cvref_t<Q>;
    if constexpr (std::is_lvalue_reference_v<Q&&> ||
                  detail::temporary_is_safe<type>)
      return make_ask<type>(std::forward<Q>(q));
    else {
      (void)sizeof(unsafe_temporary_on_this_compiler_use_ask_of_args<type>);
      return detail::anything{};
    }
  }
  /// As above, giving up after `timeout`, which may not be negative
  /// (`std::invalid_argument`): `ask(q).within(timeout)`.
  template <class Q>
  auto ask(Q&& q, duration timeout) const {
    return ask(std::forward<Q>(q)).within(timeout);
  }
  /// As above, started with an Asio completion token.
  template <class Q, class Token>
  requires(!std::is_convertible_v<Token, duration>) decltype(auto)
      ask(Q&& q, Token&& token) const {
    return ask(std::forward<Q>(q))(std::forward<Token>(token));
  }
  /// As above, with a timeout.
  template <class Q, class Token>
  decltype(auto) ask(Q&& q, duration timeout, Token&& token) const {
    return ask(std::forward<Q>(q), timeout)(std::forward<Token>(token));
  }

  friend bool operator==(const actor_ref& a, const actor_ref& b) noexcept {
    return a.cell_.get() == b.cell_.get();
  }
  friend auto operator<=>(const actor_ref& a, const actor_ref& b) noexcept {
    return std::compare_three_way{}(a.cell_.get(), b.cell_.get());
  }

  /// For the runtime.
  explicit actor_ref(detail::cell_ptr cell) noexcept
      : ref_base{std::move(cell)} {}

 private:
  template <class M, class... Args>
  void put(Args&&... args) const {
    if constexpr (detail::one_of<M, Ms...>)
      detail::tell(cell_.get(), detail::make_node<detail::told<M>>(
                                    std::forward<Args>(args)...));
    else
      (void)sizeof(actor_does_not_take<M>);
  }
  template <class Q, class... Args>
  auto make_ask(Args&&... args) const {
    if constexpr (!detail::one_of<Q, Ms...>) {
      (void)sizeof(actor_does_not_take<Q>);
      return detail::anything{};
    } else if constexpr (!question<Q>) {
      (void)sizeof(message_is_no_question_give_it_a_reply_type<Q>);
      return detail::anything{};
    } else {
      return operation<reply_of_t<Q>>{
          cell_,
          detail::make_node<detail::asked<Q>>(std::forward<Args>(args)...)};
    }
  }
};

/// A handle to an actor whose messages are not known here. Any thread.
class any_actor_ref : public detail::ref_base {
 public:
  /// The null ref.
  any_actor_ref() noexcept = default;
  /// The same actor, its messages forgotten.
  template <class... Ms>
  any_actor_ref(const actor_ref<Ms...>& ref) noexcept : ref_base{ref.cell()} {}
  /// For the runtime.
  explicit any_actor_ref(detail::cell_ptr cell) noexcept
      : ref_base{std::move(cell)} {}

  /// Sends a message, if the actor takes its type, which is checked now; a
  /// dead letter otherwise.
  template <class M>
  void tell(M&& m) const {
    using type = std::remove_cvref_t<M>;
    tell_checked(detail::make_node<detail::told<type>>(std::forward<M>(m)));
  }
  /// As above, naming a sender.
  template <class M>
  void tell(M&& m, const any_actor_ref& sender) const {
    using type = std::remove_cvref_t<M>;
    tell_checked(detail::make_node<detail::told_by<type>>(sender.cell(),
                                                          std::forward<M>(m)));
  }

  /// Whether the actor takes messages of type `M`.
  template <class M>
  bool takes() const noexcept {
    return cell_ && detail::accepts(*cell_.get(), detail::message_tag<M>);
  }

  friend bool operator==(const any_actor_ref& a,
                         const any_actor_ref& b) noexcept {
    return a.cell_.get() == b.cell_.get();
  }
  friend auto operator<=>(const any_actor_ref& a,
                          const any_actor_ref& b) noexcept {
    return std::compare_three_way{}(a.cell_.get(), b.cell_.get());
  }

 private:
  void tell_checked(detail::envelope* message) const noexcept;
};

namespace detail {
inline operation<void> ref_base::started() const { return make_started(cell_); }
inline operation<exit_reason> ref_base::stopped() const {
  return make_stopped(cell_);
}
}  // namespace detail

}  // namespace actors

/// By the actor, as `==`.
template <class... Ms>
struct std::hash<actors::actor_ref<Ms...>> {
  std::size_t operator()(const actors::actor_ref<Ms...>& ref) const noexcept {
    return std::hash<const void*>{}(ref.cell().get());
  }
};
/// By the actor, as `==`.
template <>
struct std::hash<actors::any_actor_ref> {
  std::size_t operator()(const actors::any_actor_ref& ref) const noexcept {
    return std::hash<const void*>{}(ref.cell().get());
  }
};
