/// Several fibers that one fiber waits for: what `when_all`, `when_any`,
/// `with_timeout` and `with_tasks` are made of.
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

#include "actors/detail/fiber.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/fwd.hpp"
#include "actors/task.hpp"

namespace actors {
template <class Op>
class as_result;
}  // namespace actors

namespace actors::detail {

class group;

/// One of them.
struct group_member : child_fiber {
  group_member() noexcept : child_fiber{&on_end} {}
  /// With the message in hand, after the frame that may refer to it.
  ~group_member() {
    if (hand) drop_hand(*this);
  }

  group* of = nullptr;
  group_member* next_member = nullptr;
  group_member* previous_member = nullptr;
  /// Makes its outermost frame and calls `begin`.
  void (*start)(group_member&) = nullptr;
  /// What it threw, if it has.
  std::exception_ptr error;
  bool has_ended = false;
  /// It does nothing but ask.
  bool asks = false;
  /// It was given the parent's `abort`.
  bool handed = false;
  /// Frees it when it has ended, unless it decided; null: whoever made it does.
  void (*dispose)(group_member&) noexcept = nullptr;

  /// Runs it for the first time.
  void begin(promise_base& p, std::coroutine_handle<> outermost) noexcept {
    frame = outermost;
    p.start_detached(*this, {});
    run_child(*this, outermost);
  }

 protected:
  /// Asks the frame, which has ended, what it threw.
  std::exception_ptr (*thrown)(child_fiber&) noexcept = nullptr;

  static bool won(child_fiber& f, bool take) noexcept;

 private:
  friend class group;
  static void on_end(child_fiber& f) noexcept;
};

/// Waits for its members, all of them: it ends when the last one has. The one
/// that decides has the others told to end.
///
/// It lives in the frame of the one who waits, and so do its members. Who may
/// end a member, all on the strand: its own operations; `decide`, by another
/// member's end; a cancellation from outside, which is handed down. A member
/// that ends while `busy_` is only counted, and whoever is busy sees to the
/// end of the whole: so nobody resumes the parent while somebody still walks
/// through the members.
class group : public awaitable_base, protected wait {
 public:
  group(const group&) = delete;
  group& operator=(const group&) = delete;

  bool await_ready() const noexcept { return false; }

  /// Where a fiber that waits hangs: itself, or, of the operations that it
  /// awaits at once, one that has not ended, best with a message in hand.
  static const fiber& innermost(const fiber& f) noexcept;
  /// Whether whoever waits for it waits for each of its members, and none of
  /// the others does anything meanwhile but ask.
  bool waits_for_each() const noexcept;

 protected:
  enum class decided_by : std::uint8_t {
    /// The first that throws.
    error,
    /// The first that ends, or takes a message.
    end,
  };
  explicit group(decided_by how) noexcept : how_{how} {}
  ~group() = default;

  /// Before the start.
  void add(group_member& m) noexcept;
  /// Adds a member and starts it, or leaves that to the start of all.
  void add_and_start(group_member& m) noexcept;
  /// Unlinks a member that is to be disposed of; null: there is none.
  group_member* pop_disposable() noexcept;
  /// False: all have ended already, and the frame goes on.
  bool start_group(fiber& parent, std::coroutine_handle<> frame) noexcept;
  /// The others are told to end; null: all are. Once.
  void decide(group_member* by) noexcept;
  /// As above, from outside of any member: may resume the parent.
  void decide_and_end(group_member* by) noexcept;
  group_member* winner() const noexcept { return winner_; }
  bool decided() const noexcept { return decided_; }
  fiber& parent() const noexcept { return *parent_; }
  /// Throws what the member that decided has thrown.
  void rethrow() const {
    if (winner_ && winner_->error) std::rethrow_exception(winner_->error);
  }
  /// Called when it is decided, or killed.
  void (*on_decided)(group&) noexcept = nullptr;

 private:
  friend struct group_member;

  void start_member(group_member& m) noexcept;
  void member_ended(group_member& m) noexcept;
  void unlink(group_member& m) noexcept;
  void cancel_others() noexcept;
  void complete() noexcept;
  void settle_abort() noexcept;
  void hand_down(group_member& m) noexcept;
  static bool cancel_group(wait& w, fiber& f, cancellation how) noexcept;

  fiber* parent_ = nullptr;
  group_member* first_ = nullptr;
  group_member* last_ = nullptr;
  group_member* winner_ = nullptr;
  std::uint32_t running_ = 0;
  const decided_by how_;
  bool started_ = false;
  bool busy_ = false;
  bool decided_ = false;
  /// The parent's `abort` has been handed down; some member has taken it.
  bool aborted_ = false;
  bool abort_taken_ = false;
};

/// What `co_await` of an `A` gives.
template <class A>
struct awaited_value {
  using bare = std::remove_cvref_t<A>;
  static auto get() {
    if constexpr (is_task<bare>::value)
      return std::type_identity<typename bare::value_type>{};
    else if constexpr (std::is_base_of_v<awaitable_base, bare>)
      return std::type_identity<std::remove_cvref_t<
          decltype(std::declval<bare&>().await_resume())>>{};
    else if constexpr (bridged<bare>)
      return std::type_identity<std::remove_cvref_t<
          decltype(await_bridge<bare>::wrap(std::declval<A>(),
                                            std::declval<fiber&>())
                       .await_resume())>>{};
    else
      return std::type_identity<
          error_line<task_cannot_await_this_without_actors_asio_hpp<bare>>>{};
  }
  using type = typename decltype(get())::type;
};
template <class A>
using awaited_value_t = typename awaited_value<A>::type;

/// The operations that take no message, whatever they come to.
template <class Op>
struct is_ask : std::false_type {};
template <class T>
struct is_ask<operation<T>> : std::true_type {};
template <class Op>
struct is_ask<as_result<Op>> : is_ask<Op> {};

/// A member that awaits one operation. `A`: what it was given, a reference for
/// what has a name, which its owner keeps alive.
template <class A>
class operand : public group_member {
 public:
  using value_type = awaited_value_t<A>;

  explicit operand(A&& awaited) : awaited_(std::forward<A>(awaited)) { init(); }
  /// Only before it has started.
  operand(operand&& other) : awaited_(std::forward<A>(other.awaited_)) {
    init();
  }
  ~operand() {
    if (frame_) frame_.destroy();
  }

  /// After its end.
  value_type take() { return frame_.promise().take(); }

 private:
  void init() noexcept {
    using bare = std::remove_cvref_t<A>;
    asks = is_ask<bare>::value;
    // A task that receives goes on afterwards, and may be told to end then.
    asks = is_ask<bare>::value;
    if constexpr (std::is_base_of_v<receiving, bare> ||
                  std::is_base_of_v<group, bare>)
      claim = &won;
    start = [](group_member& m) {
      auto& self = static_cast<operand&>(m);
      task<value_type> t = run(self.awaited_);
      self.frame_ = task_access::release(t);
      self.begin(self.frame_.promise(), self.frame_);
    };
    thrown = [](child_fiber& f) noexcept {
      return static_cast<operand&>(f).frame_.promise().error();
    };
  }
  static task<value_type> run(A& awaited) {
    if constexpr (is_task<A>::value)
      return std::move(awaited);
    else
      return run_operation(awaited);
  }
  static task<value_type> run_operation(A& awaited) {
    if constexpr (std::is_void_v<value_type>)
      co_await static_cast<A&&>(awaited);
    else
      co_return co_await static_cast<A&&>(awaited);
  }

  A awaited_;
  std::coroutine_handle<promise<value_type>> frame_;
};

}  // namespace actors::detail
