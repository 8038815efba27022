/// What makes a type a message, and a message a question.
#pragma once

#include <chrono>
#include <concepts>
#include <type_traits>
#include <typeinfo>

namespace actors {

/// The reply type of a message that is a question, as member `type`.
///
/// A message type that has a member `reply_type` needs nothing more; for a
/// foreign type specialise this: `template <> struct
/// actors::reply_of<std::filesystem::path> { using type = std::uintmax_t; };`.
/// `void` is answered when the handler ends.
template <class M>
struct reply_of {};

template <class M>
requires requires { typename M::reply_type; }
struct reply_of<M> {
  using type = typename M::reply_type;
};

/// The reply type of question `M`.
template <class M>
using reply_of_t = typename reply_of<M>::type;

/// A message that can be asked, not only told.
template <class M>
concept question = requires {
  typename reply_of<M>::type;
};

/// Any movable object type is a message.
template <class M>
concept message = std::is_object_v<M> && std::move_constructible<M> &&
    std::is_same_v<M, std::remove_cv_t<M>>;

/// How the runtime measures time.
using duration = std::chrono::nanoseconds;
/// A point of the runtime's steady clock, virtual in a simulation.
using time_point = std::chrono::time_point<std::chrono::steady_clock, duration>;

namespace detail {

/// One per message type and binary; compared by address first.
struct message_type {
  const std::type_info* info;
};

template <class M>
inline constexpr message_type message_tag{&typeid(M)};

/// Whether two tags are of one type, also across shared libraries.
inline bool same_type(const message_type* a, const message_type* b) noexcept {
  return a == b || *a->info == *b->info;
}

template <class M, class... Ms>
inline constexpr bool one_of = (std::is_same_v<M, Ms> || ...);

}  // namespace detail

}  // namespace actors
