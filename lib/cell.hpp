/// The cell: the fixed part of an actor, its mailbox, its life.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/detail/cell_base.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/detail/fiber.hpp"
#include "actors/detail/receiver.hpp"
#include "actors/directive.hpp"
#include "actors/exit_reason.hpp"
#include "actors/lifecycle.hpp"
#include "actors/snapshot.hpp"
#include "actors/spawn.hpp"
#include "actors/trace.hpp"
#include "bounded_mailbox.hpp"
#include "lane.hpp"
#include "registry.hpp"

namespace actors::detail {

class scheduler;
class system_core;
enum class child_order : std::uint8_t;
struct child_state;
struct birth;
struct child_task_base;
struct failure_record;
struct parting;
struct policy_task_base;
struct supervision;
struct timed_message;
struct timer;
struct watch;

enum class lane_id : std::uint8_t { user, system };

/// What few cells need.
struct cell_extras {
  cell_extras();
  cell_extras(const cell_extras&) = delete;
  cell_extras& operator=(const cell_extras&) = delete;
  ~cell_extras();

  std::string name;
  /// Where it is known by its name, until its end.
  registry::place* place = nullptr;
  std::optional<duration> stop_timeout;
  std::exception_ptr error;
  /// `error` is no reason for the restart, but of the last word before it.
  bool last_word_threw = false;
  /// Of an object's former incarnation, until the next one asks.
  std::exception_ptr cause;
  /// Operations that wait for the start and for the end.
  std::vector<ask_state*> started;
  std::vector<ask_state*> stopped;
  /// Selective receive: the last message seen by the last scan, which looked
  /// for `scanned_for` and found nothing up to there.
  const message_filter* scanned_for = nullptr;
  envelope* scanned_to = nullptr;
  /// The timeout of the `receive` that waits.
  timer* alarm = nullptr;
  /// Runs while a stop or a kill is waited for, or the next incarnation.
  timer* deadline = nullptr;
  /// Runs while children are told to stop, one after another.
  timer* children_deadline = nullptr;
  /// It has been late: they have been killed.
  bool children_late = false;
  /// Messages that it has sent itself for later, newest first.
  timed_message* timed = nullptr;
  /// The child tasks that have not ended, newest first.
  child_task_base* tasks = nullptr;
  /// Of them: how many are handlers, with messages in hand.
  std::uint32_t handlers = 0;
  /// What a stop found in the mailbox.
  std::uint32_t left = 0;
  /// How often a new incarnation has begun, and when the last one did.
  std::uint32_t restarts = 0;
  time_point restarted_at{};
  /// The incarnation that has ended, with its group, had not begun: the next
  /// one is the same, as far as anybody has seen.
  bool unbegun = false;
  /// Of the last order of the supervisor's that made failures void.
  std::uint32_t generation = 0;
  /// Which incarnation supervises: what a policy of a former one decides is
  /// void.
  std::uint32_t epoch = 0;
  /// The `serve` whose handler has thrown, and that may be resumed; and whether
  /// the cell feeds its loop.
  wait* held = nullptr;
  fiber* held_in = nullptr;
  bool held_loop = false;
  /// The failure that holds it: nobody has been told what is done about it; the
  /// type of the message in hand.
  bool undecided = false;
  const std::type_info* failed_on = nullptr;
  /// How long the next incarnation is to wait.
  duration delay = {};
  /// Where its messages are, if not in the cell. Set before anybody else knows
  /// the cell, and used on any thread.
  std::unique_ptr<bounded_mailbox> mailbox;
  /// The length of an unbounded mailbox that is to be told of next; 0: the
  /// first.
  std::size_t crowded_at = 0;
  std::uint32_t children_made = 0;
  /// As a supervisor.
  std::unique_ptr<supervision> supervising;
  /// Those that it watches, and those that watch it.
  std::unordered_map<const cell_base*, watch*> watching;
  watch* watchers = nullptr;
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
///
/// A failure holds it until its supervisor has decided (`renewal`):
///
///             failure          restart             children ended
///   running --------> held -----------> falling -----------------> down
///      ^                | resume           ^                         |
///      +----------------+                  | one of a restarted group|
///      +-----------------------------------+                         |
///      +-------------------------------------------------------------+
///
/// A stop or a kill that comes meanwhile ends the renewal: then the cell is
/// ending.
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
  enum class renewal : std::uint8_t {
    no,
    /// It has failed and takes no message.
    held,
    /// Its incarnation ends, in order unless `hard_`, to be followed by
    /// another. The mailbox stays open.
    falling,
    /// There is none.
    down,
  };

 public:
  cell(scheduler& home, const actor_type& type) noexcept;
  ~cell();

  // --- any thread ---------------------------------------------------------

  /// Puts a message in the mailbox.
  pushed push_user(envelope* e) noexcept;
  /// The same, or a dead letter.
  inline void tell(envelope* e) noexcept;
  /// The runtime's own, which finds room wherever the mailbox is open.
  pushed push_exempt(envelope* e) noexcept {
    return traits_ & elsewhere ? push_elsewhere(e, true) : push_user(e);
  }
  /// For `enqueue_sent`.
  bool push_sent(envelope* e, ask_state& sender) noexcept;
  /// False when the cell has ended.
  bool push_system(system_node& n) noexcept;
  /// Closes the mailbox.
  void close() noexcept {
    if (bounded_mailbox* m = mailbox()) m->close();
    user_.close();
  }
  /// It takes no message any more, for good.
  bool closed() const noexcept { return user_.closed(); }

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
  /// Takes back the messages that it has sent itself for later.
  void end_timers() noexcept;
  void wait_for_start(ask_state& s);
  void wait_for_end(ask_state& s);

  /// Starts a child task, which belongs to the cell from here on.
  void start_task(child_task_base& t);
  void task_ended(child_task_base& t, std::exception_ptr error) noexcept;
  /// Ends the body as if `error` had left it where it waits. `by`: the child
  /// task that it left, which may have a message in hand.
  void fail(std::exception_ptr error, fiber* by = nullptr) noexcept;
  /// A handler that `f` runs in the loop of a `serve` has thrown: the actor
  /// fails, and `w` waits until it is resumed. `loop`: the cell feeds it.
  void hold(fiber& f, wait& w, std::exception_ptr error, bool loop) noexcept;
  void release_held(wait& w) noexcept {
    if (extras_ && extras_->held == &w) extras_->held = nullptr;
  }

  /// What its supervisor has decided.
  void directed(child_order what, duration delay, std::uint32_t generation,
                bool instead) noexcept;

  // As a supervisor.

  void supervise(policy_task_base& p);
  void policy_ended(policy_task_base& p, std::exception_ptr error) noexcept;
  void child_failed(failure_record& r) noexcept;
  /// The next one for this policy; null: none.
  failure_record* next_failure(const policy_task_base& p) noexcept;
  void decide(failure_record& r, directive what, duration delay) noexcept;
  void restart_group(failure_record& r, const std::vector<any_actor_ref>& with,
                     duration delay);
  void dropped(failure_record& r) noexcept;
  /// Whether its group falls already, and it with them.
  bool falls_with_group(const failure_record& r) const noexcept;
  std::vector<any_actor_ref> children() const;
  child_state& as_child();
  restart_policy policy() const noexcept {
    return static_cast<restart_policy>(traits_ & policy_bits);
  }

  /// For `system.snapshot()`.
  actor_snapshot snapshot() noexcept;
  std::vector<cell_ptr> child_cells() const;

  // Watching, see watch.cpp.

  void add_watch(watch& w);
  void unwatch(const cell_base* who) noexcept;
  void watched_by(watch& w) noexcept;
  void forget_watcher(watch& w) noexcept;
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
  std::uint32_t next_child_number();
  bool held() const noexcept { return renewal_ == renewal::held; }

  // Objects, see actor.cpp.

  birth born() noexcept;
  void begin_service() noexcept { last_words_ = true; }
  parting part() const noexcept;
  void failed_again(std::exception_ptr error) noexcept;

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
  bool step_renewal() noexcept;
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

  // Messages that are in `extras_->mailbox`, see cell_mailbox.cpp.

  bounded_mailbox* mailbox() const noexcept {
    return traits_ & elsewhere ? extras_->mailbox.get() : nullptr;
  }
  inline bool push_plain(envelope* e) noexcept;
  pushed push_elsewhere(envelope* e, bool exempt) noexcept;
  inline void news_at_home() noexcept;
  void news_elsewhere() noexcept;
  [[gnu::noinline]] void news_and_crowd() noexcept;
  void tell_elsewhere(envelope* e) noexcept;
  void settle(mailbox_rest& rest) noexcept;
  envelope* take_elsewhere(const message_filter* filter) noexcept;
  void send_away() noexcept;
  void trace(trace_event::kind what, envelope* e) noexcept;
  void trace_done() noexcept;
  /// Also of those in the lane. Strand.
  std::size_t count_messages() noexcept;
  bool has_messages() const noexcept;

  /// Messages between two looks how many there are: those that come into
  /// `inbox_`; those of one thread that go the remote way.
  static constexpr std::uint32_t crowd_stride = 256;
  static constexpr std::uint32_t remote_stride = 4096;
  void check_crowd() noexcept;
  void look_at_crowd() noexcept;
  bool children_ended() noexcept;
  void limit_children() noexcept;
  void children_late() noexcept;
  std::optional<duration> stop_limit() const noexcept;
  void kill_children() noexcept;

  /// Its body is told of the end, whatever the end comes from but a kill.
  bool lasts() const noexcept { return last_words_ && !main_.killed; }
  void wind_up() noexcept;
  bool supervised() const noexcept {
    return parent_ && stop_ == stop_phase::no && !killed_;
  }
  void failed(std::exception_ptr error, const std::type_info* message,
              bool resumable) noexcept;
  const std::type_info* message_of(const fiber* by) const noexcept;
  void destroy_incarnation() noexcept;
  void report_failed(const std::exception_ptr& error,
                     const std::type_info* message, directive decision,
                     duration delay, bool instead_of_resume) const noexcept;
  void report_decided(directive decision, duration delay,
                      bool instead_of_resume) noexcept;
  void end_renewal() noexcept;
  void resume_held() noexcept;
  void begin_fall() noexcept;
  void fall_hard() noexcept;
  void went_down() noexcept;
  void rise() noexcept;
  void stop_late() noexcept;
  void end_supervision() noexcept;
  void watched_ended(watch& w) noexcept;
  void leave_watch(watch& w) noexcept;
  void end_one_watch(watch& w) noexcept;
  void end_watches() noexcept;
  void tell_watcher(watch& w) noexcept;
  void tell_watchers() noexcept;
  void tell_supervisor(void (*what)(cell& supervisor,
                                    cell& child) noexcept) noexcept;
  /// `instead`: of a resume, or, with `stop`, of an escalation at the top.
  void order(cell& child, child_order what, duration delay = {},
             bool instead = false) noexcept;
  bool supervises() const noexcept;
  /// Whether a decision of `r` means anything still.
  bool concerns(const failure_record& r) const noexcept;
  void settle(failure_record& r) noexcept;
  void child_failed_again(failure_record& r) noexcept;
  void feed_policy() noexcept;
  void escalate_waiting() noexcept;
  void send_escalation(const std::exception_ptr& error, cell* child) noexcept;
  void fall_next() noexcept;
  void rise_next() noexcept;
  void child_down(cell& child) noexcept;
  void child_up(cell& child) noexcept;
  void group_goes_on(cell& child) noexcept;
  void free_frames() noexcept;
  void free_abandoned() noexcept;
  void end_unstarted() noexcept;
  std::uint32_t flush_mailbox() noexcept;
  void limit(duration d, void (*expire)(cell&) noexcept) noexcept;
  void unlimit() noexcept;
  void report_late(lifecycle_event::kind what) noexcept;
  void abandon() noexcept;
  void fail_hands() noexcept;
  void publish_end() noexcept;
  void leave_name() noexcept;
  bool finish() noexcept;
  void child_ended(cell& child) noexcept;
  static void child_ended_arrives(cell& parent, system_node& n) noexcept;
  static constexpr std::uint8_t policy_bits = 3;
  static constexpr std::uint8_t own_stop_timeout = 4;
  /// Its messages are in `extras_->mailbox`, and none in the cell.
  static constexpr std::uint8_t elsewhere = 8;

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
  /// Set before anybody else knows the cell: `restart_policy`, whether it has
  /// a `stop_timeout` of its own, and a mailbox apart.
  std::uint8_t traits_ = 0;
  /// It has had a child, so its stop has no limit of its own. Read by the
  /// parent.
  std::atomic<bool> has_had_children_{false};
  /// `receiver_` does not take just any message.
  bool selective_ = false;
  /// The parent's, on whose strand alone these are used (so no bit of its own
  /// may stand beside them): in its list; told to stop; ended.
  bool linked_ : 1 = false;
  bool told_to_stop_ : 1 = false;
  bool end_seen_ : 1 = false;
  std::uint32_t throughput_;
  /// How many messages have come into `inbox_`, modulo 2^32. Those taken, as
  /// `handled_` has it, are gone.
  std::uint32_t received_ = 0;
  /// Messages taken, and those that this turn may still take.
  std::uint64_t handled_ = 0;

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
  /// The parent's, as above.
  std::unique_ptr<child_state> as_child_;
  [[no_unique_address]] fiber main_;
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
  /// It has been ready, in this incarnation or another.
  bool was_ready_ : 1 = false;
  /// Falling: its frames are destroyed; else the body is told to stop.
  bool hard_ : 1 = false;
  /// Down: another incarnation is to begin.
  bool rises_ : 1 = false;
  /// The supervisor waits to hear that it is down, or ready.
  bool tells_down_ : 1 = false;
  bool tells_up_ : 1 = false;
  /// Its children are drained, not stopped.
  bool drains_children_ : 1 = false;
  /// The body holds an object and serves with it, or has it say its last words.
  bool last_words_ : 1 = false;
  renewal renewal_ : 2 = renewal::no;
  std::coroutine_handle<promise<void>> body_;
  receiver* receiver_ = nullptr;
};

/// Tells the asker of the message in hand that no answer comes, while frames
/// may still use the message. Strand.
void fail_asker(fiber& f) noexcept;

inline cell& to_cell(cell_base& c) noexcept { return static_cast<cell&>(c); }

/// Has `what` called on the strand of `to`, with `who`. False when it has
/// ended. Any thread.
bool send_order(cell& to, void (*what)(cell&, cell*) noexcept, cell* who);

}  // namespace actors::detail
