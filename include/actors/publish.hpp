/// Publish and subscribe by message type: `system.subscribe<quote>(ref)`,
/// `system.publish(quote{…})`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "actors/detail/envelope.hpp"
#include "actors/fwd.hpp"
#include "actors/ref.hpp"

namespace actors {

/// Names, in a compile error, a message that is published, of which each
/// subscriber is to get a copy, and that cannot be copied.
template <class M>
struct published_message_must_be_copyable;
/// Names, in a compile error, what was given as a subscriber and is no ref.
template <class T>
struct subscriber_is_no_actor_ref;

namespace detail {

template <class Ref>
struct ref_messages {
  static constexpr bool known = false;
};
template <class... Ms>
struct ref_messages<actor_ref<Ms...>> {
  static constexpr bool known = true;
  template <class M>
  static constexpr bool contains = one_of<M, Ms...>;
};
template <>
struct ref_messages<any_actor_ref> {
  static constexpr bool known = true;
  /// To be seen at run time.
  template <class M>
  static constexpr bool contains = true;
};

/// Throws `std::invalid_argument` for a null ref, and for an actor that does
/// not take such messages.
std::uint64_t subscribe_to(system_core& core, const message_type& type,
                           const cell_ptr& who,
                           std::function<bool(const void*)> filter);
/// `copy` gives what is told to a subscriber.
std::size_t publish_to(system_core& core, const std::type_info& type,
                       const void* message, envelope* (*copy)(const void*));

template <class M, class Ref>
std::uint64_t subscribe_checked(system_core& core, const Ref& who,
                                std::function<bool(const M&)>&& filter) {
  using messages = ref_messages<Ref>;
  if constexpr (!messages::known) {
    (void)sizeof(subscriber_is_no_actor_ref<Ref>);
    return 0;
  } else if constexpr (!messages::template contains<M>) {
    (void)sizeof(actor_does_not_take<M>);
    return 0;
  } else if constexpr (!std::is_copy_constructible_v<M>) {
    (void)sizeof(published_message_must_be_copyable<M>);
    return 0;
  } else {
    std::function<bool(const void*)> wants;
    if (filter)
      wants = [f = std::move(filter)](const void* m) {
        return f(*static_cast<const M*>(m));
      };
    return subscribe_to(core, message_tag<M>, who.cell(), std::move(wants));
  }
}

template <class M>
std::size_t publish_checked(system_core& core, const M& message) {
  if constexpr (!std::is_copy_constructible_v<M>) {
    (void)sizeof(published_message_must_be_copyable<M>);
    return 0;
  } else {
    return publish_to(core, typeid(M), &message,
                      [](const void* m) -> envelope* {
                        return make_node<told<M>>(*static_cast<const M*>(m));
                      });
  }
}

}  // namespace detail

}  // namespace actors
