/// The cell: the fixed part of an actor, its mailbox, its life.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/detail/cell_base.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/detail/fiber.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/exit_reason.hpp"
#include "actors/spawn.hpp"
#include "lane.hpp"

namespace actors::detail {

class scheduler;
class system_core;
struct child_task_base;
struct timer;

enum class lane_id : std::uint8_t { user, system };

/// What few cells need.
struct cell_extras {
  std::string name;
  std::optional<duration> stop_timeout;
  std::exception_ptr error;
  /// Operations that wait for the start and for the end.
  std::vector<ask_state*> started;
  std::vector<ask_state*> stopped;
  /// Selective receive: the last message seen by the last scan, which looked
  /// for `scanned_for` and found nothing up to there.
  const message_filter* scanned_for = nullptr;
  envelope* scanned_to = nullptr;
  /// The timeout of the `receive` that waits.
  timer* alarm = nullptr;
  /// Runs while a stop or a kill is waited for.
  timer* deadline = nullptr;
  /// The child tasks that have not ended, newest first.
  child_task_base* tasks = nullptr;
  /// Of them: how many are handlers, with messages in hand.
  std::uint32_t handlers = 0;
  /// What a stop found in the mailbox.
  std::uint32_t left = 0;
  /// Operations of killed fibers whose completion is to come. Atomic, because
  /// those of an abandoned actor come on any threads.
  std::atomic<std::uint32_t> to_come{0};
};

/// An actor. It alone resumes the actor's coroutines.
///
/// Everything in it belongs to its strand, but for the two lanes, through
/// which all others reach it, and the count of references. It has ended for
/// good when both lanes are closed and every wake owed to it has come: then
/// nobody but holders of references knows it any more.
///
///            launch        first message loop     stop, drain, body ends
///   created -------> running ----------> (ready) ------------> ending
///                       |                                         |
///                       +---- kill ------------------------> ended
class cell
    : public cell_base,
      /// Its link in a run queue, and in the end the news for its parent.
      private system_node {
  enum class stop_phase : std::uint8_t {
    no,
    /// What is in the mailbox is still handled.
    drain,
    /// The message in hand is finished, then the children end.
    requested,
    /// The body has been told, or is about to be.
    told,
  };

 public:
  cell(scheduler& home, const actor_type& type) noexcept;
  ~cell();

  // --- any thread ---------------------------------------------------------

  /// False when the mailbox is closed.
  bool push_user(envelope* e) noexcept;
  /// False when the cell has ended.
  bool push_system(system_node& n) noexcept;
  /// Closes the mailbox.
  void close() noexcept { user_.close(); }

  scheduler& home() const noexcept { return *home_; }
  system_core& core() const noexcept;
  const actor_type& type() const noexcept { return *type_; }
  cell* parent() const noexcept { return parent_; }
  std::string path() const;
  /// How it ended; only after `push_system` was refused.
  exit_reason why() const;
  /// As `started()` tells it; likewise, or on the strand.
  result<void> how_started() const;

  // --- strand ---------------------------------------------------------------

  /// Its first wake is on its way; before anybody else knows the cell.
  void expect_wake() noexcept { system_.expect_wake(); }
  /// A wake has come.
  void woken(lane_id which) noexcept {
    which == lane_id::user ? user_.woken() : system_.woken();
  }
  /// A turn: system messages, then up to `throughput` messages. False when
  /// the cell has ended: it may be gone.
  bool run() noexcept;
  /// As above, out of a run queue.
  bool run_queued() noexcept {
    queued_ = false;
    return run();
  }
  bool queued() const noexcept { return queued_; }
  /// The operation that `f` waited for has ended, in a handler of Asio. The
  /// frame goes on in a turn, and not in that handler: it would start the next
  /// operation, and one whose operations end at once would keep the
  /// io_context, and all other actors, for ever. Nor does it go on inside of
  /// another fiber, which may have caused the end.
  void completed(fiber& f, wait& w) noexcept;
  /// The operation's handler was dropped. Any thread.
  void dropped(fiber& f, wait& w) noexcept;
  /// As above, inside of a turn, while no other fiber runs that does not wait
  /// for `f`.
  void resume(fiber& f, wait& w) noexcept;
  /// Tells it to end, once: the operation it waits for, or its next one, ends
  /// with `operation_aborted`.
  void cancel(fiber& f) noexcept;
  /// Sees to it that it is never resumed again.
  void kill(fiber& f) noexcept;

  /// Links a child that has not run.
  void adopt(cell& child) noexcept;
  void stop_requested(bool drain) noexcept;
  void kill_requested() noexcept;
  void mark_ready() noexcept;
  void wait_for_start(ask_state& s);
  void wait_for_end(ask_state& s);

  /// Starts a child task, which belongs to the cell from here on.
  void start_task(child_task_base& t);
  void task_ended(child_task_base& t, std::exception_ptr error) noexcept;
  /// Ends the body as if `error` had left it where it waits.
  void fail(std::exception_ptr error) noexcept;
  /// The fiber that waits for a message; null: none.
  fiber* receiving() const noexcept {
    return receiver_ ? receiver_->on : nullptr;
  }
  /// Whether it takes no message before `f` goes on.
  bool blocked_by(const fiber& f) const noexcept;

  poll_result poll(receiver& r);
  void suspend(receiver& r, duration timeout);
  void cancel_receive(receiver& r, fiber& f, cancellation how) noexcept;
  void receive_expired() noexcept;

  /// No children any more. While it is drained it works as ever.
  bool stopping() const noexcept {
    return stop_ >= stop_phase::requested || body_ended_ || killed_;
  }
  bool failing() const noexcept { return kind_ == exit_reason::failed; }
  bool killed() const noexcept { return killed_; }
  void enter_handler() noexcept { in_handler_ = true; }
  void leave_handler() noexcept { in_handler_ = false; }
  fiber& main() noexcept { return main_; }
  cell_extras& extras();
  const cell_extras* extras_if_any() const noexcept { return extras_.get(); }
  std::uint32_t next_child_number() noexcept;

  bool torn_down() const noexcept { return torn_down_; }
  /// Destroys what is left of an actor whose `io_context` is going.
  void tear_down() noexcept;

 private:
  friend class scheduler;
  friend struct cell_inspector;  // the test kit's, see testing_core.hpp
  friend cell& create_cell(system_core&, cell*, const actor_type&,
                           const spawn_options*);
  friend cell_ptr launch(cell&) noexcept;
  friend void discard(cell&) noexcept;

  class turn;

  bool work() noexcept;
  bool step(std::uint32_t& nodes) noexcept;
  bool step_life() noexcept;
  bool has_system() const noexcept {
    return !local_system_.empty() || system_.has_nodes();
  }
  inline bool asleep() const noexcept;
  bool sleep() noexcept;
  bool take_system() noexcept;
  void start_body() noexcept;
  inline void run_frame(fiber& f, std::coroutine_handle<> frame) noexcept;
  void body_done() noexcept;
  bool step_kill() noexcept;
  bool step_end() noexcept;
  bool step_stop() noexcept;
  inline bool deliver_next() noexcept;
  envelope* look_for(receiver& r) noexcept;
  inline void deliver(receiver& r, receive_event what, envelope* e) noexcept;
  bool give_chosen() noexcept;
  void win(fiber& f) noexcept;
  void check_branch(receiver& r, child_fiber& f);
  bool settled() const noexcept {
    return !extras_ || extras_->to_come.load(std::memory_order_acquire) == 0;
  }
  bool has_tasks() const noexcept { return extras_ && extras_->tasks; }
  bool cancel_tasks() noexcept;
  void kill_tasks() noexcept;
  void free_tasks() noexcept;
  bool wait_for_frames() noexcept;
  envelope* next_message(const message_filter* filter) noexcept;
  envelope* scan(const message_filter& filter) noexcept;
  bool refill() noexcept;
  bool children_ended() noexcept;
  void kill_children() noexcept;
  void free_frames() noexcept;
  void free_abandoned() noexcept;
  void end_unstarted() noexcept;
  std::uint32_t flush_mailbox() noexcept;
  void limit(duration d, void (*expire)(cell&) noexcept) noexcept;
  void unlimit() noexcept;
  void report_late(const char* what) noexcept;
  void abandon() noexcept;
  void fail_hands() noexcept;
  void publish_end() noexcept;
  bool finish() noexcept;
  void child_ended(cell& child) noexcept;
  static void child_ended_arrives(cell& parent, system_node& n) noexcept;

  // Small things stand where the lanes leave room: a million idle actors are
  // to be light.
  [[no_unique_address]] lane<envelope> user_;
  /// Not simply running: to be started, stopping, killed, ended.
  bool special_ = true;
  /// `poll` has found no message, and nothing has happened since.
  bool looked_ = false;
  stop_phase stop_ = stop_phase::no;
  std::uint32_t budget_ = 0;
  [[no_unique_address]] lane<system_node> system_;
  exit_reason::kind kind_ = exit_reason::normal;
  /// Both lanes are closed. Not with the other bits: from then on any thread
  /// may read how it was.
  bool ended_ = false;

 public:
  /// For the scheduler: which wakes are on their way, and who is at it. Any
  /// thread; each kind of scheduler says what its bits mean.
  std::atomic<std::uint8_t> wakes{0};

 private:
  std::uint32_t throughput_;

 public:
  /// For the scheduler: its list of cells that have been woken.
  cell* next_woken = nullptr;

 private:
  /// Taken from the lane, or told by actors of the same thread.
  queue<envelope> inbox_;
  queue<system_node> local_system_;
  scheduler* home_;
  const actor_type* type_;
  /// Counted, so that a parent's memory outlives its children's.
  cell* parent_ = nullptr;
  cell* first_child_ = nullptr;
  cell* next_sibling_ = nullptr;
  cell* previous_sibling_ = nullptr;
  std::unique_ptr<cell_extras> extras_;
  fiber main_;
  std::coroutine_handle<promise<void>> body_;
  receiver* receiver_ = nullptr;
  std::uint32_t children_made_ = 0;
  bool queued_ : 1 = false;
  /// It has told itself something in this turn.
  bool yields_ : 1 = false;
  bool started_ : 1 = false;
  bool ready_ : 1 = false;
  bool body_ended_ : 1 = false;
  bool in_handler_ : 1 = false;
  bool killed_ : 1 = false;
  bool kill_sent_ : 1 = false;
  bool published_ : 1 = false;
  bool abandoned_ : 1 = false;
  bool torn_down_ : 1 = false;
  bool flushed_ : 1 = false;
  /// `receiver_` does not take just any message.
  bool selective_ = false;
  /// The parent's, on whose strand alone these are used (so no bit of its
  /// own may stand beside them): in its list; told to stop; ended.
  bool linked_ : 1 = false;
  bool told_to_stop_ : 1 = false;
  bool end_seen_ : 1 = false;
};

/// Tells the asker of the message in hand that no answer comes, while frames
/// may still use the message. Strand.
void fail_asker(fiber& f) noexcept;

inline cell& to_cell(cell_base& c) noexcept { return static_cast<cell&>(c); }

/// Has `what` called on the strand of `to`, with `who`. False when it has
/// ended. Any thread.
bool send_order(cell& to, void (*what)(cell&, cell*) noexcept, cell* who);

}  // namespace actors::detail
