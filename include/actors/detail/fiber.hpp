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

/// One line of execution of an actor: its body, later also a child task.
///
/// Everything in it belongs to the actor's strand.
struct fiber {
  explicit fiber(cell& c) noexcept : owner{&c} {}

  cell* owner;
  /// Null while it runs.
  wait* waiting = nullptr;
  /// The message in hand, from the moment it leaves the mailbox.
  envelope* hand = nullptr;
  /// Set by a frame that ends: whom the trampoline resumes next.
  std::coroutine_handle<> next;
  /// The innermost `co_await`, for whoever asks where an actor hangs.
  std::source_location where;

  /// Runs `frame` and then whatever frames end by it, on a flat stack.
  void run(std::coroutine_handle<> frame) {
    do {
      next = nullptr;
      frame.resume();
      frame = next;
    } while (frame);
  }
};

/// Resumes the fiber after `w`, which has ended, unless its actor is being
/// killed: then its frames are destroyed. Strand, from outside of the actor's
/// own batch (a completion of I/O).
void complete(fiber& f, wait& w) noexcept;

/// Whether the actor has been stopped and the fiber not yet been told; telling
/// it, by ending an operation with `operation_aborted`, is the caller's.
bool take_abort(fiber& f) noexcept;
/// As above, without taking.
bool abort_pending(const fiber& f) noexcept;

}  // namespace actors::detail
