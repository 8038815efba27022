// The ends of a guest's actors, in each state in which one is suspended: by an
// order, by the end of the system, by the end of the loop under it. The cells
// of the matrix state x end x crew are generated; then the same for systems
// with threads of their own.

#include "actors/asio.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace std::chrono_literals;
using actors::context;
using actors::exit_reason;
using actors::task;
using support::counted;

namespace {

/// Longer than anything takes: so that what hangs fails.
constexpr auto patience = 30s;

actors::system_options silent() {
  actors::system_options options;
  options.log.emplace();
  return options;
}

// --- States ------------------------------------------------------------------

/// What is awaited.
enum class leaf { receive, sleep, timer, socket, ask, awaitable, offload };
constexpr std::array leaves{leaf::receive, leaf::sleep, leaf::timer,
                            leaf::socket,  leaf::ask,   leaf::awaitable,
                            leaf::offload};
constexpr std::array leaf_names{"receive", "sleep",     "timer",  "socket",
                                "ask",     "awaitable", "offload"};

/// Where.
enum class shape {
  body,
  both,
  any,
  in_time,
  child,
  joined_child,
  handler,
  concurrent,
};
constexpr std::array shapes{
    shape::body,  shape::both,         shape::any,     shape::in_time,
    shape::child, shape::joined_child, shape::handler, shape::concurrent};
constexpr std::array shape_names{
    "body",  "when_all",        "when_any", "with_timeout",
    "child", "child, awaited,", "handler",  "concurrent handler"};

struct state {
  shape where;
  leaf first;
  /// With `both` and `any`.
  std::optional<leaf> second = {};

  bool has(leaf l) const { return first == l || second == l; }
  int waits() const { return second ? 2 : 1; }
  /// A stop lets the message in hand be finished first.
  bool in_hand() const {
    return where == shape::handler || where == shape::concurrent;
  }
  std::string name() const {
    std::string text = shape_names[static_cast<std::size_t>(where)];
    text += std::string{" in "} + leaf_names[static_cast<std::size_t>(first)];
    if (second)
      text +=
          std::string{" and "} + leaf_names[static_cast<std::size_t>(*second)];
    return text;
  }
};

/// All but those that are no states: only one of what is awaited at once may
/// receive; what runs beside the body may not at all, nor may handlers.
const std::vector<state>& states() {
  static const std::vector<state> all = [] {
    std::vector<state> list;
    for (const shape where : shapes) {
      for (const leaf l : leaves) {
        const bool takes_none = where != shape::body && where != shape::both &&
                                where != shape::any && where != shape::in_time;
        if (takes_none && l == leaf::receive) continue;
        if (where == shape::any)
          list.push_back({where, l, leaf::sleep});
        else if (where != shape::both)
          list.push_back({where, l});
        else
          for (const leaf other : leaves)
            if (l < other || (l == other && l != leaf::receive))
              list.push_back({where, l, other});
      }
    }
    return list;
  }();
  return all;
}

// --- The actor that is suspended ---------------------------------------------

/// Counts, and says when there are enough.
class tally {
 public:
  void add() {
    std::lock_guard lock{mutex_};
    ++count_;
    changed_.notify_all();
  }
  /// False when that takes too long.
  bool reaches(int n) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, patience, [&] { return count_ >= n; });
  }
  int count() const {
    std::lock_guard lock{mutex_};
    return count_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

/// What the test sees of it.
struct witness {
  /// Objects in frames.
  std::atomic<int> alive{0};
  /// Leaves that wait.
  tally waiting;
  /// Tasks that went on after the await: with a value, with an exception.
  tally resumed;
  std::atomic<int> aborted{0};
  /// Lets offloaded functions return.
  support::flag gate;
};

struct poke {};
struct riddle {
  using reply_type = int;
};
struct solve {};

/// Does not answer until it is told to.
task<> sphinx(context<riddle, solve> self) {
  std::vector<actors::reply_to<int>> kept;
  while (co_await self.receive(
      [&](riddle, actors::reply_to<int> slot) {
        kept.push_back(std::move(slot));
      },
      [&](solve) {
        for (auto& slot : kept) (void)slot.reply(1);
        kept.clear();
      })) {
  }
}

using stream = asio::local::stream_protocol;

/// A socket, and its other end, which nobody closes before the scene's end.
class wire {
 public:
  wire() { CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_) == 0); }
  wire(const wire&) = delete;
  wire& operator=(const wire&) = delete;
  ~wire() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  /// For an I/O object that owns what it gets.
  int ours() const { return ::dup(ends_[0]); }
  void write() { CHECK(::write(ends_[1], "x", 1) == 1); }

 private:
  int ends_[2];
};

struct plan {
  state what;
  witness* seen;
  actors::actor_ref<riddle, solve> other;
  std::array<wire, 2>* wires;
  /// How long the timers run.
  actors::duration nap;
};

/// Says that the one who calls this waits: the actor's next turn tells it.
template <class Executor>
void about_to_wait(const Executor& strand, witness& seen) {
  asio::post(strand, [&seen] { seen.waiting.add(); });
}

asio::awaitable<void> wait_below(const plan* p) {
  const counted local{p->seen->alive};
  asio::steady_timer timer{co_await asio::this_coro::executor, p->nap};
  about_to_wait(timer.get_executor(), *p->seen);
  co_await timer.async_wait(asio::use_awaitable);
}

asio::awaitable<void> wait_nested(const plan* p) {
  const counted local{p->seen->alive};
  co_await wait_below(p);
}

/// Waits for `what`; `mailbox` is there for `receive`.
task<> wait_for(context<>& self, context<poke>* mailbox, const plan* p,
                leaf what, std::size_t which) {
  witness& seen = *p->seen;
  const counted local{seen.alive};
  // Parts of the io_context that the frame owns.
  asio::steady_timer timer{self.get_executor()};
  stream::socket socket{self.get_executor()};
  if (what != leaf::awaitable && what != leaf::offload)
    about_to_wait(self.get_executor(), seen);
  try {
    switch (what) {
      case leaf::receive:
        co_await mailbox->receive([](poke) {});
        break;
      case leaf::sleep:
        // Of two of which one suffices it is the first that goes on: the other
        // could be quicker than a thread for its function.
        co_await self.sleep_for(
            p->what.where == shape::any && which == 1 ? 1h : p->nap);
        break;
      case leaf::timer:
        timer.expires_after(p->nap);
        co_await timer.async_wait(actors::use_task);
        break;
      case leaf::socket: {
        std::array<char, 1> data;
        socket.assign(stream{}, (*p->wires)[which].ours());
        co_await socket.async_read_some(asio::buffer(data), actors::use_task);
        break;
      }
      case leaf::ask:
        (void)co_await p->other.ask<riddle>();
        break;
      case leaf::awaitable:
        co_await wait_nested(p);
        break;
      case leaf::offload: {
        // It uses the frame while it runs.
        auto blocking = [&seen, &local, mine = counted{seen.alive}] {
          seen.waiting.add();
          seen.gate.wait();
          const counted copy{local};
        };
        co_await self.offload(blocking);
        break;
      }
    }
  } catch (...) {
    ++seen.aborted;
    throw;
  }
  seen.resumed.add();
}

task<> wait_beside(context<> self, const plan* p) {
  const counted local{p->seen->alive};
  co_await wait_for(self, nullptr, p, p->what.first, 0);
}

task<> patient(context<poke> self, plan how) {
  const plan* p = &how;
  const counted local{p->seen->alive};
  asio::steady_timer unused{self.get_executor()};
  self.ready();
  switch (p->what.where) {
    case shape::body:
      co_await wait_for(self, &self, p, p->what.first, 0);
      break;
    case shape::both:
      co_await actors::when_all(wait_for(self, &self, p, p->what.first, 0),
                                wait_for(self, &self, p, *p->what.second, 1));
      break;
    case shape::any:
      (void)co_await actors::when_any(
          wait_for(self, &self, p, p->what.first, 0),
          wait_for(self, &self, p, *p->what.second, 1));
      break;
    case shape::in_time:
      co_await actors::with_timeout(1h,
                                    wait_for(self, &self, p, p->what.first, 0));
      break;
    case shape::child:
      (void)self.spawn_task(&wait_beside, p);
      co_await self.until_stop();
      break;
    case shape::joined_child: {
      auto child = self.spawn_task(&wait_beside, p);
      co_await child;
      break;
    }
    case shape::handler: {
      auto handler = [&](poke) -> task<> {
        const counted inner{p->seen->alive};
        co_await wait_for(self, &self, p, p->what.first, 0);
      };
      co_await self.receive(handler);
      break;
    }
    case shape::concurrent: {
      auto handler = actors::concurrent([&self, p](poke) -> task<> {
        const counted inner{p->seen->alive};
        co_await wait_for(self, nullptr, p, p->what.first, 0);
      });
      co_await self.receive(handler);
      co_await self.until_stop();
      break;
    }
  }
}

// --- Ends --------------------------------------------------------------------

enum class end {
  kill,
  stop,
  terminate,
  async_terminate,
  /// The system is destroyed; the loop, if it is the user's, runs on.
  system,
  /// The system is destroyed, then the loop, which did not run any more.
  system_then_loop,
  /// The loop is destroyed, then the system.
  loop,
  /// The loop is stopped and restarted, and the actor killed in between.
  restart_and_kill,
  /// The loop is stopped and restarted, and what was awaited comes.
  restart_and_go_on,
};

bool destroys_loop(end e) {
  return e == end::loop || e == end::system_then_loop;
}
bool kills(end e) { return e == end::kill || e == end::restart_and_kill; }

/// Who runs the loop, and who ends what.
struct crew {
  int threads;
  /// The end comes from a handler of the loop.
  bool inside = false;
  /// The end comes while the actor is still on its way into its state.
  bool racing = false;
};
constexpr std::array crews{crew{1}, crew{4}, crew{1, true}, crew{4, true},
                           crew{4, false, true}};

/// Threads that run an `io_context` while the test does something else.
class runners {
 public:
  runners(asio::io_context& io, int threads)
      : io_{&io}, work_{asio::make_work_guard(io)} {
    for (int i = 0; i < threads; ++i)
      threads_.emplace_back([this] {
        io_->run();
        ended_.add();
      });
  }
  runners(const runners&) = delete;
  runners& operator=(const runners&) = delete;
  ~runners() { stop(); }
  /// Lets them end when there is nothing more to do; false when there always
  /// is.
  bool finish() {
    work_.reset();
    const bool done = ended_.reaches(static_cast<int>(threads_.size()));
    stop();
    return done;
  }
  /// Ends them where they are.
  void stop() {
    if (threads_.empty()) return;
    work_.reset();
    io_->stop();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

 private:
  asio::io_context* io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  tally ended_;
  std::vector<std::thread> threads_;
};

/// A system with an actor in a state. What it is a guest on comes before.
struct scene {
  scene(state s, end e) : what{s}, how{e} {}
  scene(const scene&) = delete;
  scene& operator=(const scene&) = delete;
  ~scene() {
    seen.gate.set();
    late.set();
  }

  actors::system_options options() {
    actors::system_options o;
    o.log = [this](std::string_view line) {
      if (!support::contains(line, "io_context is being destroyed")) return;
      waited = true;
      late.set();
    };
    // What a stop has to wait for may never end; functions do.
    o.stop_timeout = what.in_hand() && !what.has(leaf::offload) ? 0s : 1h;
    // None, so that a destructor that waits for a function says so. Long, so
    // that an alarm that nobody ends keeps the loop for longer than patience.
    o.kill_timeout = destroys_loop(how) ? 0s : 1h;
    return o;
  }

  void spawn() {
    other = system->spawn(sphinx);
    actors::duration nap = 1h;
    if (how == end::restart_and_go_on) nap = 1ms;
    actor = system->spawn_once(patient, plan{what, &seen, other, &wires, nap});
    if (what.in_hand()) actor.tell(poke{});
  }

  /// What is awaited comes.
  void go_on() {
    if (what.has(leaf::receive)) actor.tell(poke{});
    if (what.has(leaf::socket))
      for (wire& w : wires) w.write();
    if (what.has(leaf::ask)) other.tell(solve{});
    seen.gate.set();
  }

  /// How the actor ended; none when it does not.
  std::optional<exit_reason::kind> ended() {
    try {
      return actor.stopped().within(patience).get();
    } catch (const std::system_error&) {
      return {};
    }
  }

  /// Destroys the loop. A function that runs returns when it is waited for.
  void destroy_loop() {
    std::thread other_thread{[this] {
      late.wait();
      seen.gate.set();
    }};
    io.reset();
    late.set();
    other_thread.join();
  }

  void check_nothing_resumed() {
    CHECK(seen.resumed.count() == 0);
    CHECK(seen.aborted == 0);
  }

  /// After a stop: some of what is awaited says so with an exception, some
  /// with a value; what is in hand cannot end, but by a kill.
  void check_stopped(bool racing) {
    const auto why = ended();
    REQUIRE(why);
    if (racing) {
      // A stop may come before the start. What is asked is killed at the same
      // deadline: the handler that waits for it may hear of that before.
      CHECK((*why == exit_reason::normal || *why == exit_reason::killed ||
             (*why == exit_reason::failed && what.has(leaf::ask))));
      CHECK(seen.resumed.count() + seen.aborted <= what.waits());
    } else if (what.in_hand() && !what.has(leaf::offload)) {
      CHECK(*why == exit_reason::killed);
      check_nothing_resumed();
    } else {
      const int values = what.has(leaf::receive) +
                         (what.first == leaf::offload) +
                         (what.second == leaf::offload);
      CHECK(*why == exit_reason::normal);
      CHECK(seen.resumed.count() == values);
      CHECK(seen.aborted == what.waits() - values);
    }
  }

  state what;
  end how;
  witness seen;
  /// A destructor waits for a function, or nobody has to wait any more.
  support::flag late;
  std::atomic<bool> waited{false};
  std::array<wire, 2> wires;
  std::unique_ptr<asio::io_context> io;
  std::unique_ptr<actors::actor_system> system;
  actors::actor_ref<riddle, solve> other;
  actors::actor_ref<poke> actor;
};

void end_guest(const state& what, end how, const crew& c) {
  scene s{what, how};
  s.io = std::make_unique<asio::io_context>();
  s.system = std::make_unique<actors::actor_system>(*s.io, s.options());
  auto loop = std::make_unique<runners>(*s.io, c.threads);
  s.spawn();
  if (!c.racing) {
    REQUIRE(s.seen.waiting.reaches(what.waits()));
    // Timers that are to expire may have.
    if (how != end::restart_and_go_on) CHECK(s.seen.alive > 0);
  }
  const auto act = [&](auto f) {
    if (!c.inside) return f();
    tally done;
    asio::post(*s.io, [&] {
      f();
      done.add();
    });
    REQUIRE(done.reaches(1));
  };
  tally terminated;

  switch (how) {
    case end::kill:
      act([&] { s.actor.kill(); });
      break;
    case end::stop:
      act([&] { s.actor.stop(); });
      break;
    case end::terminate:
      act([&] { s.system->terminate(); });
      break;
    case end::async_terminate:
      act([&] {
        s.system->async_terminate()([&](std::error_code e, exit_reason why) {
          if (!e && why == exit_reason::normal) terminated.add();
        });
      });
      break;
    case end::system:
      act([&] { s.system.reset(); });
      break;
    case end::system_then_loop:
      if (c.inside || c.racing) {
        act([&] {
          s.system.reset();
          s.io->stop();
        });
      } else {
        loop->stop();
        s.system.reset();
      }
      break;
    case end::loop:
    case end::restart_and_kill:
    case end::restart_and_go_on:
      act([&] { s.io->stop(); });
      break;
  }

  if (destroys_loop(how)) {
    loop.reset();
    s.destroy_loop();
    CHECK(s.seen.alive == 0);
    const bool cut = how == end::loop || !(c.inside || c.racing);
    if (cut) {
      s.check_nothing_resumed();
      if (!c.racing) CHECK(s.waited == what.has(leaf::offload));
    }
    s.system.reset();
    const auto why = s.ended();
    REQUIRE(why);
    CHECK((*why == exit_reason::killed || *why == exit_reason::abandoned ||
           !cut));
    return;
  }

  if (how == end::restart_and_kill || how == end::restart_and_go_on) {
    loop.reset();
    if (kills(how)) {
      if (!c.racing) CHECK(s.seen.alive > 0);
      s.actor.kill();
    }
    s.io->restart();
    loop = std::make_unique<runners>(*s.io, c.threads);
  }
  if (how == end::restart_and_go_on) {
    REQUIRE(s.seen.waiting.reaches(what.waits()));
    s.go_on();
    const int goes_on = what.where == shape::any ? 1 : what.waits();
    REQUIRE(s.seen.resumed.reaches(goes_on));
    s.actor.stop();
    CHECK(s.ended() == exit_reason::normal);
    if (what.where != shape::any) {
      CHECK(s.seen.resumed.count() == what.waits());
      CHECK(s.seen.aborted == 0);
    }
  } else {
    s.seen.gate.set();
    if (kills(how)) {
      CHECK(s.ended() == exit_reason::killed);
      s.check_nothing_resumed();
    } else {
      s.check_stopped(c.racing);
    }
  }
  if (how == end::async_terminate) CHECK(terminated.reaches(1));
  CHECK(loop->finish());
  CHECK(s.seen.alive == 0);
}

/// `how` in each state, with each crew.
void end_guests(end how) {
  auto turn = static_cast<std::size_t>(how);
  for (const state& what : states()) {
    // Sanitizers are slow: two crews a state, others in the next.
    const std::size_t many = support::sanitized ? 2 : crews.size();
    for (std::size_t i = 0; i != many; ++i) {
      const crew& c = crews[turn++ % crews.size()];
      CAPTURE(what.name());
      CAPTURE(c.threads);
      CAPTURE(c.inside);
      CAPTURE(c.racing);
      end_guest(what, how, c);
    }
  }
}

/// An end that is on its way when the loop is destroyed, which has run that
/// many handlers since.
void cut_end(const state& what, end how, int handlers) {
  scene s{what, end::loop};
  s.io = std::make_unique<asio::io_context>();
  s.system = std::make_unique<actors::actor_system>(*s.io, s.options());
  s.spawn();
  s.io->poll();
  s.io->restart();
  REQUIRE(s.seen.waiting.reaches(what.waits()));
  switch (how) {
    case end::kill:
      s.actor.kill();
      break;
    case end::stop:
      s.actor.stop();
      break;
    default:
      s.system.reset();
      break;
  }
  for (int i = 0; i != handlers; ++i) s.io->poll_one();
  s.destroy_loop();
  CHECK(s.seen.alive == 0);
  if (kills(how)) s.check_nothing_resumed();
  s.system.reset();
  CHECK(s.ended());
}

/// The same for a system with threads of its own.
void end_owner(const state& what, end how, actors::dispatcher where,
               bool racing) {
  scene s{what, how};
  auto options = s.options();
  options.threads = 2;
  options.dispatcher = where;
  s.system = std::make_unique<actors::actor_system>(options);
  s.spawn();
  if (!racing) {
    REQUIRE(s.seen.waiting.reaches(what.waits()));
    CHECK(s.seen.alive > 0);
  }
  std::thread other;
  switch (how) {
    case end::kill:
      s.actor.kill();
      s.seen.gate.set();
      CHECK(s.ended() == exit_reason::killed);
      s.check_nothing_resumed();
      break;
    case end::stop:
      s.actor.stop();
      s.seen.gate.set();
      s.check_stopped(racing);
      break;
    case end::terminate:
      other = std::thread{[&] { s.seen.gate.set(); }};
      s.system->terminate();
      other.join();
      s.check_stopped(racing);
      break;
    default:
      // What has been told is handled before the stop.
      other = std::thread{[&] { s.seen.gate.set(); }};
      s.system.reset();
      other.join();
      s.check_stopped(racing);
      break;
  }
  CHECK(s.seen.alive == 0);
  s.system.reset();
}

void end_owners(actors::dispatcher where, end how) {
  for (const state& what : states()) {
    for (const bool racing : {false, true}) {
      CAPTURE(what.name());
      CAPTURE(racing);
      end_owner(what, how, where, racing);
    }
  }
}

}  // namespace

TEST_SUITE("guest_end") {
  TEST_CASE("a kill ends an actor in each state, and nothing resumes") {
    end_guests(end::kill);
  }
  TEST_CASE("a stop ends an actor in each state, told what it waits for") {
    end_guests(end::stop);
  }
  TEST_CASE("terminate() ends an actor in each state, in the loop") {
    end_guests(end::terminate);
  }
  TEST_CASE("async_terminate tells when an actor in each state has ended") {
    end_guests(end::async_terminate);
  }
  TEST_CASE(
      "a system destroyed first ends an actor in each state, in the loop") {
    end_guests(end::system);
  }
  TEST_CASE("a system and its loop destroyed take an actor in each state") {
    end_guests(end::system_then_loop);
  }
  TEST_CASE("a loop destroyed first takes an actor in each state with it") {
    end_guests(end::loop);
  }
  TEST_CASE(
      "a loop that goes on after restart() kills an actor in each state") {
    end_guests(end::restart_and_kill);
  }
  TEST_CASE("a loop that goes on after restart() goes on in each state") {
    end_guests(end::restart_and_go_on);
  }

  TEST_CASE("dispatcher pool: a kill ends an actor in each state") {
    end_owners(actors::dispatcher::pool(), end::kill);
  }
  TEST_CASE("dispatcher shared: a kill ends an actor in each state") {
    end_owners(actors::dispatcher::shared(), end::kill);
  }
  TEST_CASE("threads of its own: a stop ends an actor in each state") {
    end_owners(actors::dispatcher::pool(), end::stop);
    end_owners(actors::dispatcher::shared(), end::stop);
  }
  TEST_CASE("threads of its own: terminate() ends an actor in each state") {
    end_owners(actors::dispatcher::pool(), end::terminate);
    end_owners(actors::dispatcher::shared(), end::terminate);
  }
  TEST_CASE("threads of its own: the destructor ends an actor in each state") {
    end_owners(actors::dispatcher::pool(), end::system);
    end_owners(actors::dispatcher::shared(), end::system);
  }

  TEST_CASE("an end that is on its way may be cut by the end of the loop") {
    for (const state& what : states()) {
      for (const end how : {end::kill, end::stop, end::system}) {
        const int step = support::sanitized ? 2 : 1;
        for (int handlers = 0; handlers < 6; handlers += step) {
          CAPTURE(what.name());
          CAPTURE(static_cast<int>(how));
          CAPTURE(handlers);
          cut_end(what, how, handlers);
        }
      }
    }
  }

  TEST_CASE("a child task that awaits a child task is stopped as the body is") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto body = [](context<> self) -> task<> {
      (void)self.spawn_task([](context<> outer) -> task<> {
        auto inner = outer.spawn_task(
            [](context<> c) -> task<> { co_await c.sleep_for(1h); });
        co_await inner;
      });
      co_await self.until_stop();
    };
    auto actor = system.spawn(body);
    io.poll();
    io.restart();
    actor.stop();
    io.run();
    CHECK(actor.stopped().get() == exit_reason::normal);
  }

  TEST_CASE("receive in a handler is a mistake that is told") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    std::atomic<int> told{0};
    auto body = [&](context<poke> self) -> task<> {
      auto handler = [&](poke) -> task<> {
        try {
          co_await self.receive([](poke) {});
        } catch (const std::logic_error&) {
          ++told;
        }
      };
      while (co_await self.receive(handler)) {
      }
    };
    auto actor = system.spawn(body);
    actor.tell(poke{});
    actor.tell(poke{});
    actor.drain();
    io.run();
    CHECK(told == 2);
    CHECK(actor.stopped().get() == exit_reason::normal);
  }

  // --- offload ---------------------------------------------------------------

  TEST_CASE("a function that runs is work: run() does not return before it") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    tally running;
    support::flag gate;
    bool back = false;
    auto body = [&](context<> self) -> task<> {
      auto function = [&] {
        running.add();
        gate.wait();
      };
      co_await self.offload(function);
      back = true;
    };
    system.spawn(body);
    io.poll();
    const bool runs = running.reaches(1);
    const bool stopped = io.stopped();
    gate.set();
    CHECK(runs);
    CHECK(!stopped);
    io.run();
    CHECK(back);
  }

  TEST_CASE(
      "functions that wait for a thread: dropped by kill and by the end") {
    for (const bool kill : {true, false}) {
      CAPTURE(kill);
      auto options = silent();
      options.offload_threads = 1;
      options.kill_timeout = kill ? actors::duration{patience} : 0s;
      tally running;
      support::flag gate;
      // By the loop that is being destroyed, and waits.
      if (!kill) options.log = [&](std::string_view) { gate.set(); };
      auto io = std::make_unique<asio::io_context>();
      auto system = std::make_unique<actors::actor_system>(*io, options);
      std::atomic<int> alive{0};
      auto body = [&](context<> self) -> task<> {
        const counted local{alive};
        asio::steady_timer timer{self.get_executor()};
        auto function = [&] {
          running.add();
          gate.wait();
        };
        co_await self.offload(function);
      };
      std::vector<actors::actor_ref<>> refs;
      for (int i = 0; i != 10; ++i) refs.push_back(system->spawn(body));
      io->poll();
      const bool runs = running.reaches(1);
      if (!runs) gate.set();
      CHECK(runs);
      if (kill) {
        for (auto& r : refs) r.kill();
        io->poll();
        gate.set();
        io->run();
        for (auto& r : refs) CHECK(r.stopped().get() == exit_reason::killed);
      } else {
        io.reset();
      }
      CHECK(alive == 0);
      CHECK(running.count() == 1);
      system.reset();
    }
  }

  TEST_CASE("a function that is about to start does not outlive its loop") {
    for (int i = 0; i != (support::sanitized ? 40 : 100); ++i) {
      auto io = std::make_unique<asio::io_context>();
      actors::actor_system system{*io, silent()};
      std::atomic<int> alive{0};
      std::atomic<bool> gone{false};
      std::atomic<int> late{0};
      auto body = [&](context<> self) -> task<> {
        const counted local{alive};
        asio::steady_timer timer{self.get_executor()};
        auto function = [&] {
          for (int k = 0; k != 1000; ++k)
            if (gone) ++late;
        };
        co_await self.offload(function);
        co_await self.sleep_for(1h);
      };
      for (int k = 0; k != 1 + i % 20; ++k) system.spawn(body);
      io->poll();
      io.reset();
      gone = true;
      CHECK(alive == 0);
      CHECK(late == 0);
    }
  }

  // --- The last ref ----------------------------------------------------------

  TEST_CASE("the last ref may go while another thread destroys the loop") {
    for (int i = 0; i != 200; ++i) {
      auto io = std::make_unique<asio::io_context>();
      std::optional<actors::any_actor_ref> last;
      {
        actors::actor_system system{*io, silent()};
        last = system.spawn(sphinx);
      }
      io->run();
      std::atomic<int> ready{0};
      const auto meet = [&] {
        ++ready;
        while (ready != 2) std::this_thread::yield();
      };
      std::thread other{[&] {
        meet();
        last.reset();
      }};
      meet();
      io.reset();
      other.join();
    }
  }
}
