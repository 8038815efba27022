/// A chain of coroutines that await one another, and what it waits for.
#pragma once

#include <coroutine>
#include <cstdint>
#include <source_location>

namespace actors::detail {

class cell;
struct envelope;
struct fiber;

/// Why a wait is ended before its time.
enum class cancellation : std::uint8_t {
  /// The operation ends with `operation_aborted`, its waiter is resumed.
  stop,
  /// The frame is going to be destroyed; its waiter is never resumed.
  kill,
};

/// An operation a fiber is suspended at; lives in the waiting frame. Strand.
struct wait {
  /// The frame to resume.
  std::coroutine_handle<> waiter;
  /// Ends the wait early. True when it has ended: nothing refers to the
  /// operation any more, and for `stop` the fiber may be resumed at once.
  /// False when its completion is still to come.
  bool (*cancel)(wait&, fiber&, cancellation) noexcept = nullptr;
};

/// One line of execution of an actor: its body, or what runs beside it.
///
/// Everything in it belongs to the actor's strand. It either runs, and is on
/// the stack then, or it waits.
struct fiber {
  explicit fiber(cell& c) noexcept : owner{&c} {}
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  cell* owner;
  /// Null while it runs.
  wait* waiting = nullptr;
  /// The message in hand, from the moment it leaves the mailbox. What one of
  /// several operations leaves in hand, who awaits them gets.
  envelope* hand = nullptr;
  /// Set by a frame that ends: whom the trampoline resumes next.
  std::coroutine_handle<> next;
  /// The innermost `co_await`, for whoever asks where an actor hangs.
  std::source_location where;
  /// It is to end, and no operation has told it yet by ending with
  /// `operation_aborted`.
  bool abort = false;
  /// It was given an `abort`, which comes once: cleanup may await.
  bool told = false;
  /// It is never resumed again.
  bool killed = false;
  /// Its handler has thrown, and nobody has moved from the message in hand.
  bool whole = false;
  /// A `child_fiber`.
  const bool child : 1 = false;
  /// What it asks inherits nothing of the message in hand: see `shield`.
  bool shielded : 1 = false;

  /// Runs `frame` and then whatever frames end by it, on a flat stack.
  void run(std::coroutine_handle<> frame) {
    do {
      next = nullptr;
      frame.resume();
      frame = next;
    } while (frame);
  }

 protected:
  struct beside_body {};
  explicit fiber(beside_body) noexcept : owner{nullptr}, child{true} {}
};

/// A line of execution beside the body's: a child task, or one of several
/// operations that a fiber awaits at once.
struct child_fiber : fiber {
  explicit child_fiber(void (*at_end)(child_fiber&) noexcept) noexcept
      : fiber{beside_body{}}, ended{at_end} {}

  /// Who waits for it all its life, with whose message in hand it works; null
  /// for a child task.
  fiber* parent = nullptr;
  /// Called when its outermost frame has ended.
  void (*ended)(child_fiber&) noexcept;
  /// Of a fiber that is done by taking a message: whether it may, which it may
  /// not where another fiber has won. With `take` it is the one that wins.
  bool (*claim)(child_fiber&, bool take) noexcept = nullptr;
  /// The outermost; null before it has started.
  std::coroutine_handle<> frame;
  /// Runs beside the body for itself, and so takes no messages.
  bool beside = false;
};

/// Runs the fiber from `frame` on, until it waits or has ended; it may be gone
/// then. Strand.
void run_child(child_fiber& f, std::coroutine_handle<> frame) noexcept;

/// Ends the message in hand: its asker is told that no answer comes. Strand.
void drop_hand(fiber& f) noexcept;

/// Resumes the fiber after `w`, which has ended, unless its actor is being
/// killed: then its frames are destroyed. Strand, from outside of the actor's
/// own batch (a completion of I/O).
void complete(fiber& f, wait& w) noexcept;

/// Whether the fiber is to end and has not yet been told; telling it, by ending
/// an operation with `operation_aborted`, is the caller's.
inline bool take_abort(fiber& f) noexcept {
  const bool pending = f.abort;
  f.abort = false;
  return pending;
}

}  // namespace actors::detail
