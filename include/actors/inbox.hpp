/// `inbox<Ms...>`: a mailbox for code that is no actor.
#pragma once

#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include "actors/context.hpp"
#include "actors/operation.hpp"
#include "actors/ref.hpp"
#include "actors/reply_to.hpp"
#include "actors/system.hpp"
#include "actors/task.hpp"

namespace actors {

namespace detail {

/// The next message of an inbox, please.
template <class Value>
struct next_of_inbox {
  using reply_type = Value;
};

/// The actor behind an inbox. Messages stay in its mailbox until somebody asks
/// for one; who asks and leaves before it comes loses none.
template <class Value, class... Ms>
task<> inbox_body(context<Ms..., next_of_inbox<Value>> self) {
  using next = next_of_inbox<Value>;
  std::optional<Value> kept;
  reply_to<Value> asker;
  const auto take_asker = [&](next, reply_to<Value> slot) {
    asker = std::move(slot);
  };
  const auto keep = [&](auto& message) { kept.emplace(std::move(message)); };
  for (;;) {
    bool more = co_await self.template receive<next>(take_asker);
    if (!more) break;
    while (!kept) {
      more = co_await self.template receive<Ms...>(keep);
      if (!more) break;
    }
    if (!kept) break;
    if (asker.reply(*kept)) kept.reset();
  }
  asker.fail(make_error_code(errc::actor_stopped));
  // It was taken for somebody who left: a dead letter, as those behind it.
  if (kept) {
    const auto lost = [&](auto& m) { self.ref().tell(std::move(m)); };
    if constexpr (sizeof...(Ms) == 1)
      lost(*kept);
    else
      std::visit(lost, *kept);
  }
}

}  // namespace detail

/// A mailbox for code that is no actor: a callback, an `asio::awaitable`, a
/// plain thread. Actors tell `in.ref()`, the code takes one message after
/// another by `in.receive()`.
///
/// It lives in a system as an actor of its own. Its destructor ends it: who
/// waits in `receive` gets `errc::actor_stopped`, and what is left becomes dead
/// letters; so does the end of the system. A question asked of it is not
/// answered: its asker gets `errc::no_reply`. Any thread. Movable.
template <class... Ms>
class inbox {
  static_assert(sizeof...(Ms) != 0, "name the messages: inbox<line, quit>");

 public:
  /// What `receive` gives: `M`, or a `std::variant` of several.
  using value_type = typename std::conditional_t<
      sizeof...(Ms) == 1,
      std::type_identity<std::tuple_element_t<0, std::tuple<Ms...>>>,
      std::type_identity<std::variant<Ms...>>>::type;

  /// Starts it.
  explicit inbox(actor_system& system)
      : actor_{system.spawn_once(&detail::inbox_body<value_type, Ms...>)} {}
  inbox(inbox&&) noexcept = default;
  inbox& operator=(inbox&& other) noexcept {
    std::swap(actor_, other.actor_);
    return *this;
  }
  ~inbox() { actor_.stop(); }

  /// Where others tell it something.
  actor_ref<Ms...> ref() const noexcept { return actor_; }

  /// The next message, oldest first: an operation, to be used as an ask:
  /// `co_await` in a task, `.get()` on a plain thread, `(token)`, `.within(d)`.
  /// Several may wait; each message goes to one of them. One that ends by its
  /// timeout or its cancellation has taken none.
  operation<value_type> receive() {
    return actor_.template ask<detail::next_of_inbox<value_type>>();
  }
  /// As above, started with an Asio completion token; signature
  /// `void(std::error_code, value_type)`.
  template <class Token>
  decltype(auto) receive(Token&& token) {
    return receive()(std::forward<Token>(token));
  }

 private:
  actor_ref<Ms..., detail::next_of_inbox<value_type>> actor_;
};

}  // namespace actors
