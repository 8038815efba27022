/// Actors found by their path: `system.find<Ms...>(path)` and `wait_for`.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "actors/detail/envelope.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/fwd.hpp"
#include "actors/operation.hpp"
#include "actors/ref.hpp"

namespace actors::detail {

/// What a path gives: a typed handle, or one of any kind.
template <class... Ms>
using found_ref =
    std::conditional_t<sizeof...(Ms) == 0, any_actor_ref, actor_ref<Ms...>>;

/// Throws `std::invalid_argument` for what is no path of an actor with a name.
void check_path(std::string_view path);
/// Null when nobody lives there. `std::invalid_argument` for a malformed path,
/// and when the actor does not take all of `wanted`. Any thread.
cell_ptr find_actor(system_core& core, std::string_view path,
                    const message_filter& wanted);

/// Somebody waits for an actor of this path. It is the registry's, from
/// `submit` to the answer.
struct path_question {
  std::string path;
  const message_filter* wanted;
  /// The whole question.
  ask_state* state;
  /// Ends it: with who was found, or an error. Any thread.
  void (*found)(path_question&, cell_ptr who) noexcept;
  void (*failed)(path_question&, std::exception_ptr why) noexcept;
  /// In a list of those that are to be answered.
  path_question* next = nullptr;
};

/// Hands it to the registry, which answers it now or later.
void submit_path(path_question& q, cell_base& guardian) noexcept;
/// Whose answer all of them wait for: `/user`.
cell_ptr guardian_of(system_core& core) noexcept;

template <class Ref, class... Ms>
struct wait_for_path final : reply_state<Ref>, path_question {
  explicit wait_for_path(std::string_view where)
      : reply_state<Ref>{type},
        path_question{std::string{where}, &message_set<Ms...>::filter, this,
                      [](path_question& q, cell_ptr who) noexcept {
                        of(q).answer(Ref{std::move(who)});
                      },
                      [](path_question& q, std::exception_ptr why) noexcept {
                        of(q).answer(std::move(why));
                      }} {}

  static wait_for_path& of(path_question& q) noexcept {
    return static_cast<wait_for_path&>(q);
  }
  static bool submit(ask_state& s, cell_base& to) noexcept {
    submit_path(static_cast<wait_for_path&>(s), to);
    return true;
  }
  static void free(ask_state& s) noexcept {
    destroy_and_free(static_cast<wait_for_path*>(&s));
  }
  static constexpr ask_type type{&submit, &free, &reply_state<Ref>::fail};
};

template <class... Ms>
operation<found_ref<Ms...>> make_wait_for(system_core& core,
                                          std::string_view path) {
  check_path(path);
  return {guardian_of(core),
          make_node<wait_for_path<found_ref<Ms...>, Ms...>>(path)};
}

}  // namespace actors::detail
