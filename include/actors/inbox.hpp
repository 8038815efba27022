/// `inbox<Ms...>`: a mailbox for code that is no actor.
#pragma once

#include <cstddef>
#include <deque>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "actors/context.hpp"
#include "actors/error.hpp"
#include "actors/message.hpp"
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

/// What an inbox holds: messages that nobody has asked for, or those who wait
/// for one. Never both.
template <class Value, class Context, bool Several>
class inbox_state {
 public:
  explicit inbox_state(Context& self) noexcept : self_{&self} {}
  inbox_state(const inbox_state&) = delete;
  inbox_state& operator=(const inbox_state&) = delete;
  /// Also when the actor is killed.
  ~inbox_state() {
    for (auto& slot : waiting_) slot.fail(make_error_code(errc::actor_stopped));
    // Dead letters, as what comes from now on.
    for (kept& k : kept_) {
      const auto lose = [&](auto& m) {
        self_->ref().tell(std::move(m), k.sender);
      };
      if constexpr (Several)
        std::visit(lose, k.value);
      else
        lose(k.value);
    }
  }

  void operator()(next_of_inbox<Value>&, reply_to<Value> slot) {
    // Who asks again and again with a timeout leaves slots behind.
    if (waiting_.size() >= room_) {
      std::erase_if(waiting_, [](const auto& w) { return w.cancelled(); });
      room_ = 2 * waiting_.size() + 16;
    }
    waiting_.push_back(std::move(slot));
    give();
  }
  template <class M>
  requires(!question<M>) void operator()(M& message) { keep(message); }
  /// The slot goes unanswered.
  template <question M>
  requires(!std::is_same_v<M, next_of_inbox<Value>>) void operator()(
      M& message, reply_to<reply_of_t<M>>) {
    keep(message);
  }

 private:
  struct kept {
    template <class M>
    kept(M&& m, any_actor_ref from)
        : value(std::forward<M>(m)), sender{std::move(from)} {}
    Value value;
    any_actor_ref sender;
  };

  template <class M>
  void keep(M& message) {
    kept_.emplace_back(std::move(message), self_->sender());
    give();
  }
  void give() {
    while (!kept_.empty() && !waiting_.empty()) {
      // Who has left leaves it where it is.
      if (waiting_.front().reply(std::move(kept_.front().value)))
        kept_.pop_front();
      waiting_.pop_front();
    }
  }

  Context* self_;
  std::deque<kept> kept_;
  std::deque<reply_to<Value>> waiting_;
  std::size_t room_ = 16;
};

/// The actor behind an inbox. It takes all as it comes: to pick out those who
/// wait would be a walk over what has come before them, each time.
template <class Value, class... Ms>
task<> inbox_body(context<Ms..., next_of_inbox<Value>> self) {
  inbox_state<Value, decltype(self), (sizeof...(Ms) > 1)> state{self};
  while (co_await self.receive(state)) {
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
      : actor_{system.spawn_once({.dispatcher = dispatcher::system()},
                                 &detail::inbox_body<value_type, Ms...>)} {}
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
