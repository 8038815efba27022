/// Formatters for fmt: refs by their path, the others by their `to_string`.
///
/// `fmt::print("{} has ended: {}\n", ref, why)`; width and alignment as for
/// strings.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <system_error>

#include "actors/dead_letter.hpp"
#include "actors/directive.hpp"
#include "actors/ended.hpp"
#include "actors/error.hpp"
#include "actors/exit_reason.hpp"
#include "actors/lifecycle.hpp"
#include "actors/ref.hpp"
#include "actors/snapshot.hpp"
#include "actors/trace.hpp"

namespace actors::detail {

/// Formats what `Text` says of a value.
template <class T, auto Text>
struct text_formatter : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const T& value, Context& context) const {
    const std::string text{Text(value)};
    return fmt::formatter<std::string_view>::format(text, context);
  }
};

/// A value's own `to_string`.
template <class T>
inline constexpr auto own_text =
    [](const T& value) { return value.to_string(); };
/// Of an enumeration.
template <class T>
inline constexpr auto name_text =
    [](const T& value) { return to_string(value); };
template <class T>
inline constexpr auto path_text = [](const T& ref) { return ref.path(); };
inline constexpr auto ended_text = [](const ended& e) {
  return e.who.path() + " has ended: " + e.why.to_string();
};
inline constexpr auto errc_text = [](errc e) {
  return make_error_code(e).message();
};

}  // namespace actors::detail

template <class... Ms>
struct fmt::formatter<actors::actor_ref<Ms...>>
    : actors::detail::text_formatter<
          actors::actor_ref<Ms...>,
          actors::detail::path_text<actors::actor_ref<Ms...>>> {};
template <>
struct fmt::formatter<actors::any_actor_ref>
    : actors::detail::text_formatter<
          actors::any_actor_ref,
          actors::detail::path_text<actors::any_actor_ref>> {};
template <>
struct fmt::formatter<actors::exit_reason>
    : actors::detail::text_formatter<
          actors::exit_reason, actors::detail::own_text<actors::exit_reason>> {
};
template <>
struct fmt::formatter<actors::dead_letter>
    : actors::detail::text_formatter<
          actors::dead_letter, actors::detail::own_text<actors::dead_letter>> {
};
template <>
struct fmt::formatter<actors::lifecycle_event>
    : actors::detail::text_formatter<
          actors::lifecycle_event,
          actors::detail::own_text<actors::lifecycle_event>> {};
template <>
struct fmt::formatter<actors::actor_snapshot>
    : actors::detail::text_formatter<
          actors::actor_snapshot,
          actors::detail::own_text<actors::actor_snapshot>> {};
template <>
struct fmt::formatter<actors::lifecycle_event::kind>
    : actors::detail::text_formatter<
          actors::lifecycle_event::kind,
          actors::detail::name_text<actors::lifecycle_event::kind>> {};
template <>
struct fmt::formatter<actors::actor_snapshot::state>
    : actors::detail::text_formatter<
          actors::actor_snapshot::state,
          actors::detail::name_text<actors::actor_snapshot::state>> {};
template <>
struct fmt::formatter<actors::directive>
    : actors::detail::text_formatter<
          actors::directive, actors::detail::name_text<actors::directive>> {};
template <>
struct fmt::formatter<actors::trace_event>
    : actors::detail::text_formatter<
          actors::trace_event, actors::detail::own_text<actors::trace_event>> {
};
template <>
struct fmt::formatter<actors::trace_event::kind>
    : actors::detail::text_formatter<
          actors::trace_event::kind,
          actors::detail::name_text<actors::trace_event::kind>> {};
/// "/user/worker has ended: failed: disk full"
template <>
struct fmt::formatter<actors::ended>
    : actors::detail::text_formatter<actors::ended,
                                     actors::detail::ended_text> {};
/// Its message.
template <>
struct fmt::formatter<actors::errc>
    : actors::detail::text_formatter<actors::errc, actors::detail::errc_text> {
};
