#include "testing_core.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <utility>

#include "actors/child_task.hpp"
#include "actors/detail/group.hpp"
#include "names.hpp"
#include "timers.hpp"

namespace actors::detail {

// --- scheduler ---------------------------------------------------------------

namespace {

/// Any point will do; not zero, so that "one hour ago" is a time as well.
constexpr time_point start_of_time{std::chrono::hours{1'000'000}};

}  // namespace

/// Runs what follows as on the thread of the actors, or as on another one.
class manual_scheduler::as_thread {
 public:
  explicit as_thread(scheduler* home) noexcept
      : before_{std::exchange(here.home, home)} {}
  as_thread(const as_thread&) = delete;
  as_thread& operator=(const as_thread&) = delete;
  ~as_thread() { here.home = before_; }

 private:
  scheduler* before_;
};

manual_scheduler::manual_scheduler(system_core& core, std::uint64_t seed)
    : scheduler{core, false, false},
      io_{std::in_place, 1},
      choose_{seed},
      remote_turns_{choose_(9)},
      late_wakes_{choose_(4)},
      now_{start_of_time} {}

time_point manual_scheduler::deadline(duration delay) const noexcept {
  return now_ + std::clamp(delay, duration::zero(), longest);
}

namespace {

constexpr std::uint8_t bit(lane_id which) noexcept {
  return which == lane_id::user ? 1 : 2;
}

}  // namespace

void manual_scheduler::wake(cell& c, lane_id which) noexcept {
  std::lock_guard lock{mutex_};
  if (closed_) return;
  // A lane owes one wake at a time.
  if (c.wakes.fetch_or(bit(which)) & bit(which)) ++double_wakes_;
  if (drop_ != 0 && --drop_ == 0) {
    dropped_ = owed{&c, which};
    return;
  }
  wakes_.push_back({&c, which});
  if (std::this_thread::get_id() != driver_) net::post(*io_, [] {});
}

std::size_t manual_scheduler::wakes() noexcept {
  std::lock_guard lock{mutex_};
  return wakes_.size();
}

void manual_scheduler::arrive(std::size_t wake) noexcept {
  owed w;
  {
    std::lock_guard lock{mutex_};
    w = std::exchange(wakes_[wake], wakes_.back());
    wakes_.pop_back();
    w.who->wakes.fetch_and(static_cast<std::uint8_t>(~bit(w.which)));
  }
  w.who->woken(w.which);
  // `shared` gives the cell its turn at once, `pool` queues it.
  if (choose_(2) == 0)
    w.who->run();
  else if (!w.who->queued())
    queue(*w.who);
}

bool manual_scheduler::step() {
  const bool due = timers().next() <= now_;
  const std::size_t awake = wakes();
  const std::size_t ready = ready_cells_.size();
  const std::size_t all = awake + ready + (due ? 1 : 0);
  // Whether there is I/O is known only by a look.
  if (choose_(all + 1) == all && poll_io()) return true;
  if (all == 0) return false;
  std::size_t i = choose_(all);
  if (i < awake && awake != all && choose_(4) < late_wakes_)
    i = awake + choose_(all - awake);

  const as_thread thread{choose_(8) < remote_turns_ ? nullptr : this};
  if (i < awake) {
    arrive(i);
  } else if (i < awake + ready) {
    cell* c = std::exchange(ready_cells_[i - awake], ready_cells_.back());
    ready_cells_.pop_back();
    c->run_queued();
  } else {
    timers().fire(now_);
  }
  return true;
}

bool manual_scheduler::poll_io() {
  if (io_->stopped()) io_->restart();
  const as_thread thread{choose_(8) < remote_turns_ ? nullptr : this};
  return io_->poll_one() != 0;
}

bool manual_scheduler::wait_for_io(duration limit) {
  if (io_->stopped()) io_->restart();
  const as_thread thread{choose_(8) < remote_turns_ ? nullptr : this};
  return io_->run_one_for(limit) != 0;
}

void manual_scheduler::post(offload_base& op) {
  net::post(*io_, [&op] {
    const as_thread other{nullptr};
    op.run_and_tell();
  });
}

void manual_scheduler::restore_wake() noexcept {
  std::lock_guard lock{mutex_};
  drop_ = 0;
  if (dropped_) wakes_.push_back(*dropped_);
  dropped_.reset();
}

void manual_scheduler::close() noexcept {
  std::lock_guard lock{mutex_};
  closed_ = true;
  wakes_.clear();
  ready_cells_.clear();
}

void manual_scheduler::close_io() noexcept {
  const as_thread thread{this};
  io_.reset();
}

// --- core --------------------------------------------------------------------

namespace {

system_options quiet(system_options options) {
  if (!options.log) options.log.emplace();
  return options;
}

std::string to_text(duration d) {
  const auto ns = d.count();
  char text[48];
  std::snprintf(text, sizeof text, "%lld.%09lld s",
                static_cast<long long>(ns / 1'000'000'000),
                static_cast<long long>(ns % 1'000'000'000));
  return text;
}

}  // namespace

/// Only one at a time drives, and never an actor.
class manual_core::driving {
 public:
  explicit driving(manual_core& core) : core_{core} {
    if (core.driving_ || here.running())
      throw std::logic_error(
          "an actor cannot drive the simulation that runs it: co_await what "
          "it waits for");
    core.driving_ = true;
  }
  driving(const driving&) = delete;
  driving& operator=(const driving&) = delete;
  ~driving() { core_.driving_ = false; }

 private:
  manual_core& core_;
};

manual_core::manual_core(const simulation_options& options)
    : system_core{quiet(options.system), kind::manual},
      options_{options},
      chances_{~options.seed} {
  if (options.max_steps == 0)
    throw std::invalid_argument("max_steps has to be at least 1");
  if (options.io_limit < duration::zero() ||
      options.io_grace < duration::zero())
    throw std::invalid_argument("io_limit and io_grace may not be negative");
  auto home = std::make_unique<manual_scheduler>(*this, options.seed);
  home_ = home.get();
  add_context(std::move(home));
  start_guardian();
}

bool manual_core::ended() noexcept {
  return wait_until_ended(duration::zero());
}

bool manual_core::do_step() {
  if (!home_->step()) return false;
  ++steps_;
  throw_failures();
  return true;
}

void manual_core::count_step(std::uint64_t& done, std::string_view who) {
  if (++done < options_.max_steps) return;
  throw_stuck(std::string{who} + " has not ended after " +
              std::to_string(options_.max_steps) + " steps");
}

bool manual_core::step() {
  const driving guard{*this};
  throw_failures();
  return do_step();
}

std::size_t manual_core::run_until_idle() {
  const driving guard{*this};
  throw_failures();
  std::uint64_t done = 0;
  while (do_step()) count_step(done, "run_until_idle()");
  return static_cast<std::size_t>(done);
}

void manual_core::advance(duration by) {
  check_timeout(by);
  const driving guard{*this};
  throw_failures();
  const time_point until = home_->now() + by;
  std::uint64_t done = 0;
  for (;;) {
    while (do_step()) count_step(done, "advance()");
    const time_point next = home_->timers().next();
    if (next > until) break;
    home_->advance_to(next);
  }
  home_->advance_to(until);
}

void manual_core::run_until(const std::function<bool()>& done,
                            std::string_view who) {
  const driving guard{*this};
  throw_failures();
  std::uint64_t count = 0;
  while (!done()) {
    if (do_step()) {
      count_step(count, who);
      continue;
    }
    const time_point next = home_->timers().next();
    const bool last = next == time_point::max();
    const bool io = home_->io_pending();
    if (io &&
        home_->wait_for_io(last ? options_.io_limit : options_.io_grace)) {
      ++steps_;
      throw_failures();
      count_step(count, who);
    } else if (!last) {
      home_->advance_to(next);
    } else if (home_->io_pending()) {
      throw_stuck(std::string{who} + " waits, and I/O has not come in " +
                  to_text(options_.io_limit) + " of real time");
    } else {
      throw_stuck(std::string{who} + " waits, and nothing can go on");
    }
  }
}

void manual_core::terminate() {
  stop();
  run_until([this] { return ended(); }, "terminate()");
}

std::string manual_core::end() noexcept {
  std::string wrong;
  const auto attempt = [&](const std::function<void()>& f) {
    try {
      f();
      return true;
    } catch (const std::exception& e) {
      if (wrong.empty()) wrong = e.what();
    } catch (...) {
      if (wrong.empty()) wrong = "an exception that is no std::exception";
    }
    return false;
  };
  attempt([&] { check(); });
  expected_.clear();
  home_->restore_wake();
  // An exception of one step is no reason to leave the others undone.
  for (int tries = 0; tries != 1000; ++tries)
    if (attempt([&] { terminate(); })) break;
  shut_down();
  attempt([&] { throw_failures(); });
  return wrong;
}

void manual_core::shut_down() noexcept {
  const bool all_ended = ended();
  home_->close();
  if (!all_ended) guardian().tear_down();
  home_->close_io();
}

void manual_core::offload(offload_base& op) { home_->post(op); }

void manual_core::throw_stuck(std::string text) {
  text += " (seed " + std::to_string(options_.seed) + ", " +
          to_text(home_->now() - start_of_time) + " of virtual time)";
  std::string actors;
  cell_inspector::describe_children(guardian(), actors);
  text += actors.empty() ? "; no actor is alive" : ":";
  throw simulation_error(text + actors);
}

void manual_core::expect(cell_ptr who, const std::type_info& type,
                         failure_filter accepts) {
  expected_.push_back({std::move(who), &type, accepts});
}

void manual_core::report_failure(cell& c,
                                 const std::exception_ptr& e) noexcept {
  const auto found = std::find_if(expected_.begin(), expected_.end(),
                                  [&](const expected_failure& f) {
                                    return f.who.get() == &c && f.accepts(e);
                                  });
  if (found != expected_.end()) {
    expected_.erase(found);
    return;
  }
  unexpected_.push_back(
      c.path() + " failed, and nobody expected it: " + detail::describe(e));
}

void manual_core::throw_failures() {
  if (unexpected_.empty()) return;
  std::string text;
  for (const std::string& line : std::exchange(unexpected_, {}))
    (text += text.empty() ? "" : "\n") += line;
  throw simulation_error(text);
}

void manual_core::check() {
  throw_failures();
  std::string text;
  for (const expected_failure& f : std::exchange(expected_, {}))
    (text += text.empty() ? "" : "\n") += path_of(f.who.get()) +
                                          " was expected to fail with " +
                                          type_name(*f.type) + " and has not";
  if (!text.empty()) throw simulation_error(text);
}

// --- inspection --------------------------------------------------------------

/// Whom an operation waits for.
struct operation_access {
  static cell_base* target(wait& w) noexcept {
    if (w.cancel != &operation_base::cancel_wait) return nullptr;
    return static_cast<operation_base&>(w).target_.get();
  }
};

void cell_inspector::describe_children(cell& c, std::string& text) {
  cell* child = c.first_child_;
  if (!child) return;
  do {
    text += "\n  " + describe(*child);
    describe_children(*child, text);
    child = child->next_sibling_;
  } while (child != c.first_child_);
}

std::string cell_inspector::describe(cell& c) {
  std::string text = c.path();
  wait* const waits = c.main_.waiting;
  cell_base* const asked = waits ? operation_access::target(*waits) : nullptr;
  if (!c.started_)
    text += " has not started";
  else if (c.body_ended_)
    text += c.first_child_ ? " ends and waits for its children" : " ends";
  else if (c.receiver_ && c.receiver_->type->filter)
    text += c.receiver_->type->filter->count == 0
                ? " waits for its stop"
                : " waits for a message it chose";
  else if (c.receiver_)
    text += " waits for a message";
  else if (asked)
    text += " waits for " + path_of(asked);
  else if (waits)
    text += " waits for an operation";
  else
    text += " runs";
  const fiber& at = group::innermost(c.main_);
  if (c.started_ && !c.body_ended_ && at.where.line() != 0)
    (((text += " at ") += at.where.file_name()) += ':') +=
        std::to_string(at.where.line());
  if (c.killed_)
    text += ", killed";
  else if (c.stop_ >= cell::stop_phase::requested)
    text += ", asked to stop";
  else if (c.stop_ == cell::stop_phase::drain)
    text += ", draining";
  std::size_t tasks = 0;
  for (child_task_base* t = c.extras_ ? c.extras_->tasks : nullptr; t;
       t = t->next_task)
    ++tasks;
  if (tasks != 0) text += ", " + std::to_string(tasks) + " child tasks";
  if (at.hand)
    text += ", with a " + type_name(*at.hand->type->message->info) + " in hand";
  const std::size_t queued = c.count_messages();
  text += ", " + std::to_string(queued) +
          (queued == 1 ? " message" : " messages") + " queued";
  // Where nothing can go on this is a bug of the runtime: a wake was lost.
  if (!c.queued_ && (c.system_.has_nodes() || !c.local_system_.empty()))
    text += ", and news that it has not seen";
  return text;
}

void cell_inspector::kill(cell& c) noexcept {
  // No order would do: the answer that the body waits for may arrive before.
  if (c.ended_) return;
  c.kill_requested();
  (void)c.run();
}

void cell_inspector::fail(cell& c, std::exception_ptr error) noexcept {
  if (c.ended_) return;
  c.fail(std::move(error));
}

}  // namespace actors::detail
