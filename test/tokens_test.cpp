// Completion token x operation x outcome: a table without a hole.
//
// A token is a `struct` in `tokens`, an operation one in `operations`. An
// operation says for each outcome how it comes to be, or why it cannot: one
// that does not is a compile error. So a new token or a new operation adds all
// of its cells.

#include "actors/asio.hpp"

#include <doctest/doctest.h>

#include <asio/bind_allocator.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "asio_tokens.hpp"
#include "scheduler.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::exit_reason;
using actors::operation;
using support::as_tuple;
using support::deferred;
using support::quiet;

namespace {

// --- The world of one cell ---------------------------------------------------

enum class outcome { value, error, timeout, cancelled, gone };

const char* name_of(outcome o) {
  switch (o) {
    case outcome::value:
      return "value";
    case outcome::error:
      return "error";
    case outcome::timeout:
      return "timeout";
    case outcome::cancelled:
      return "cancelled";
    case outcome::gone:
      return "system gone";
  }
  return "";
}

/// What runs the actors. Of each one thread, so that what is posted there,
/// a cancellation say, comes before or after a handler, never beside it.
enum class host { pool, shared, guest };

struct number {
  using reply_type = int;
};
struct refuse {
  using reply_type = int;
};
/// Not answered while its actor lives.
struct riddle {
  using reply_type = int;
};
struct note {};

const auto refused = std::make_error_code(std::errc::permission_denied);

actors::task<> server(actors::context<number, refuse, riddle, note> self) {
  std::vector<actors::reply_to<int>> kept;
  while (co_await self.receive(
      [](number) { return 42; },
      [](refuse) -> actors::result<int> { return refused; },
      [&](riddle, actors::reply_to<int> slot) {
        kept.push_back(std::move(slot));
      },
      [](note) {})) {
  }
}
using server_ref = actors::actor_ref<number, refuse, riddle, note>;

/// Waits until the gate opens, which is when it ends.
actors::task<> pass(actors::actor_ref<riddle> gate) {
  (void)co_await actors::as_result(gate.ask<riddle>());
}

/// Is ready when the gate has opened.
actors::task<> late(actors::context<note> self,
                    actors::actor_ref<riddle> gate) {
  co_await pass(gate);
  co_await self.until_stop();
}
/// Ends when the gate has opened.
actors::task<> lingering(actors::context<note> self,
                         actors::actor_ref<riddle> gate) {
  co_await self.until_stop();
  co_await pass(gate);
}
actors::task<> broken(actors::context<note> self) {
  throw std::system_error{refused};
  co_await self.until_stop();
}

class world {
 public:
  explicit world(host h) : gate{elsewhere.spawn(server)} {
    actors::system_options options = quiet(1);
    options.stop_timeout = 1h;
    if (h == host::shared) options.dispatcher = actors::dispatcher::shared();
    if (h == host::guest) {
      options.threads.reset();
      loop_.emplace();
      work_.emplace(loop_->get_executor());
      runner_ = std::thread{[this] { loop_->run(); }};
      system.emplace(*loop_, options);
    } else {
      system.emplace(options);
    }
    target = system->spawn(server);
    target.started().get();
  }
  ~world() {
    gate.stop();
    end();
  }

  /// Ends the system and all that it ran on. Refs stay.
  void end() {
    if (!system) return;
    system->async_terminate().get();
    system.reset();
    work_.reset();
    if (runner_.joinable()) runner_.join();
    loop_.reset();
  }

  /// Where handlers run that ask for it: on the test's own thread.
  asio::io_context io;
  /// Where actors live that are no part of the system, as those that ask.
  actors::actor_system elsewhere{quiet(1)};
  actors::actor_ref<riddle> gate;

 private:
  std::optional<asio::io_context> loop_;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>>
      work_;
  std::thread runner_;

 public:
  std::optional<actors::actor_system> system;
  server_ref target;
  /// The one whose life an operation waits for.
  actors::actor_ref<note> other;
};

// --- Operations --------------------------------------------------------------

/// A combination that has no meaning, and why.
struct meaningless {
  const char* why;
};

/// How an operation comes to an outcome.
template <class T>
struct plan {
  plan(meaningless m) : why_not{m.why} {}
  plan(
      std::error_code e, int v, operation<T> (*m)(world&),
      void (*t)(world&) = [](world&) {})
      : error{e}, value{v}, make{m}, then{t} {}

  const char* why_not = nullptr;
  std::error_code error;
  int value = 0;
  operation<T> (*make)(world&) = nullptr;
  /// Once it has begun.
  void (*then)(world&) = nullptr;
};

template <outcome O>
using when = std::integral_constant<outcome, O>;

const std::error_code fine;
const std::error_code stopped = actors::errc::actor_stopped;
const std::error_code timed_out = actors::errc::timed_out;
const std::error_code aborted = asio::error::operation_aborted;

struct asking {
  static constexpr auto name = "ask";
  using value_type = int;
  using plan = ::plan<int>;
  static plan of(when<outcome::value>) {
    return {fine, 42, [](world& w) { return w.target.ask<number>(); }};
  }
  static plan of(when<outcome::error>) {
    return {refused, 0, [](world& w) { return w.target.ask<refuse>(); }};
  }
  static plan of(when<outcome::timeout>) {
    return {timed_out, 0,
            [](world& w) { return w.target.ask<riddle>().within(1ms); }};
  }
  static plan of(when<outcome::cancelled>) {
    return {aborted, 0, [](world& w) { return w.target.ask<riddle>(); }};
  }
  static plan of(when<outcome::gone>) {
    return {stopped, 0, [](world& w) {
              w.end();
              return w.target.ask<number>();
            }};
  }
};

struct sending {
  static constexpr auto name = "send";
  using value_type = void;
  using plan = ::plan<void>;
  static constexpr meaningless at_once{
      "a mailbox has room for all, so that a send ends where it begins"};
  static plan of(when<outcome::value>) {
    return {fine, 0, [](world& w) { return w.target.send<note>(); }};
  }
  static plan of(when<outcome::error>) {
    return {stopped, 0, [](world& w) {
              w.target.stop();
              w.target.stopped().get();
              return w.target.send<note>();
            }};
  }
  static plan of(when<outcome::timeout>) { return at_once; }
  static plan of(when<outcome::cancelled>) { return at_once; }
  static plan of(when<outcome::gone>) {
    return {stopped, 0, [](world& w) {
              w.end();
              return w.target.send<note>();
            }};
  }
};

struct starting {
  static constexpr auto name = "started";
  using value_type = void;
  using plan = ::plan<void>;
  static plan of(when<outcome::value>) {
    return {fine, 0,
            [](world& w) {
              w.other = w.system->spawn(late, w.gate);
              return w.other.started();
            },
            [](world& w) { w.gate.stop(); }};
  }
  static plan of(when<outcome::error>) {
    return {refused, 0,
            [](world& w) { return w.system->spawn(broken).started(); }};
  }
  static plan of(when<outcome::timeout>) {
    return {timed_out, 0, [](world& w) {
              return w.system->spawn(late, w.gate).started().within(1ms);
            }};
  }
  static plan of(when<outcome::cancelled>) {
    return {aborted, 0,
            [](world& w) { return w.system->spawn(late, w.gate).started(); }};
  }
  static plan of(when<outcome::gone>) {
    return {fine, 0, [](world& w) {
              w.end();
              return w.target.started();  // it had been ready
            }};
  }
};

struct stopping {
  static constexpr auto name = "stopped";
  using value_type = exit_reason;
  using plan = ::plan<exit_reason>;
  static plan of(when<outcome::value>) {
    return {fine, exit_reason::killed,
            [](world& w) { return w.target.stopped(); },
            [](world& w) { w.target.kill(); }};
  }
  static plan of(when<outcome::error>) {
    return {stopped, 0, [](world&) { return server_ref{}.stopped(); }};
  }
  static plan of(when<outcome::timeout>) {
    return {timed_out, 0,
            [](world& w) { return w.target.stopped().within(1ms); }};
  }
  static plan of(when<outcome::cancelled>) {
    return {aborted, 0, [](world& w) { return w.target.stopped(); }};
  }
  static plan of(when<outcome::gone>) {
    return {fine, exit_reason::killed, [](world& w) {
              w.target.kill();
              w.target.stopped().get();
              w.end();
              return w.target.stopped();
            }};
  }
};

struct terminating {
  static constexpr auto name = "async_terminate";
  using value_type = exit_reason;
  using plan = ::plan<exit_reason>;
  static void linger(world& w) {
    w.system->spawn(lingering, w.gate).started().get();
  }
  static plan of(when<outcome::value>) {
    return {fine, exit_reason::normal,
            [](world& w) {
              linger(w);
              return w.system->async_terminate();
            },
            [](world& w) { w.gate.stop(); }};
  }
  static plan of(when<outcome::error>) {
    return meaningless{"a system always ends, and says how"};
  }
  static plan of(when<outcome::timeout>) {
    return {timed_out, 0, [](world& w) {
              linger(w);
              return w.system->async_terminate().within(1ms);
            }};
  }
  static plan of(when<outcome::cancelled>) {
    return {aborted, 0, [](world& w) {
              linger(w);
              return w.system->async_terminate();
            }};
  }
  static plan of(when<outcome::gone>) {
    return {fine, exit_reason::normal, [](world& w) {
              auto end = w.system->async_terminate();
              w.end();
              return end;
            }};
  }
};

// --- One cell ----------------------------------------------------------------

/// What a handler was told.
struct told {
  std::atomic<int> times{0};
  /// While the initiating call runs.
  std::atomic<bool> in_call{false};
  bool inside = false;
  std::error_code error;
  /// Where a handler finds itself on an actor's strand.
  bool on_a_strand = false;
  /// What a handler checks where it runs.
  std::function<bool()> in_place = [] { return true; };
  bool placed = true;
  /// Not to be seen with `detached`.
  bool shows = true;
  int value = 0;
  std::thread::id where;
  support::flag done;

  static int number_of(int n) { return n; }
  static int number_of(exit_reason why) { return why; }
  static int number_of(std::monostate) { return 0; }

  void end(std::error_code e, int v) {
    inside = in_call && std::this_thread::get_id() == caller;
    error = e;
    value = v;
    where = std::this_thread::get_id();
    ++times;
    done.set();
  }
  /// Ends with what `f` gives or throws.
  template <class F>
  void end_with(F f) {
    try {
      if constexpr (std::is_void_v<decltype(f())>) {
        f();
        end({}, 0);
      } else {
        const int v = number_of(f());
        end({}, v);
      }
    } catch (const std::system_error& e) {
      end(e.code(), 0);
    }
  }
  const std::thread::id caller = std::this_thread::get_id();
};

/// A callback, as a user would write it.
struct callback {
  std::shared_ptr<told> to;
  void operator()(std::error_code e) { operator()(e, std::monostate{}); }
  template <class T>
  void operator()(std::error_code e, T value) {
    to->on_a_strand = actors::detail::here.running() != nullptr;
    to->placed = to->in_place();
    to->end(e, told::number_of(value));
  }
  template <class... Ts>
  void operator()(std::tuple<std::error_code, Ts...> all) {
    std::apply(*this, std::move(all));
  }
};

/// One token's turn at one operation with one outcome.
template <class T>
class trial {
 public:
  trial(world& place, outcome o, const plan<T>& p)
      : w{place}, result{std::make_shared<told>()}, outcome_{o}, plan_{p} {}

  operation<T> make() { return plan_.make(w); }
  bool cancels() const { return outcome_ == outcome::cancelled; }
  callback handler() const { return {result}; }

  /// Gives `initiate` the token, with the slot where it is to be cancelled.
  template <class Initiate, class Token>
  auto start(Initiate initiate, Token token) {
    result->in_call = true;
    const support::at_exit after{[this] { result->in_call = false; }};
    if (cancels())
      return initiate(
          asio::bind_cancellation_slot(signal.slot(), std::move(token)));
    return initiate(std::move(token));
  }
  template <class Token>
  auto start(operation<T> op, Token token) {
    return start([&](auto t) { return std::move(op)(std::move(t)); },
                 std::move(token));
  }

  /// What ends it, when it has begun: in turn with its handler, on `where`.
  void follow_up_on(const asio::any_io_executor& where) {
    asio::post(where, [this] {
      if (cancels())
        signal.emit(asio::cancellation_type::terminal);
      else
        plan_.then(w);
      followed.set();
    });
  }
  /// On that of a handler that has named none.
  void follow_up_on_system() {
    if (w.system)
      follow_up_on(w.system->next_executor());
    else
      follow_up_on(w.io.get_executor());  // nothing does
  }
  /// Runs the test's own loop until nothing waits.
  void follow_up_on_io() {
    follow_up_on(w.io.get_executor());
    w.io.run();
  }

  /// That it has ended as it should.
  void check() {
    w.io.restart();
    w.io.run();
    followed.wait();
    CHECK(result->times == 1);
    CHECK(!result->inside);
    CHECK(!result->on_a_strand);
    CHECK(result->placed);
    // What `co_spawn` leaves there is its own business.
    if (!spawned) CHECK(!signal.slot().has_handler());
    if (!result->shows) return;
    CHECK(result->error == plan_.error);
    CHECK(result->value == plan_.value);
  }

  world& w;
  asio::cancellation_signal signal;
  std::shared_ptr<told> result;
  support::flag followed;
  /// The slot is that of a whole coroutine.
  bool spawned = false;

 private:
  const outcome outcome_;
  const plan<T> plan_;
};

/// What has been taken of a counting allocator.
struct arena {
  std::atomic<long> bytes{0};
  std::atomic<int> uses{0};
  std::function<void()> when_empty = [] {};
};
template <class T>
struct arena_allocator {
  using value_type = T;
  explicit arena_allocator(std::shared_ptr<arena> x) : a{std::move(x)} {}
  template <class U>
  arena_allocator(const arena_allocator<U>& o) noexcept : a{o.a} {}
  T* allocate(std::size_t n) {
    ++a->uses;
    a->bytes += static_cast<long>(n * sizeof(T));
    return std::allocator<T>{}.allocate(n);
  }
  void deallocate(T* p, std::size_t n) noexcept {
    std::allocator<T>{}.deallocate(p, n);
    const auto bytes = static_cast<long>(n * sizeof(T));
    if (a->bytes.fetch_sub(bytes) == bytes) a->when_empty();
  }
  template <class U>
  bool operator==(const arena_allocator<U>& o) const noexcept {
    return a == o.a;
  }
  std::shared_ptr<arena> a;
};

// --- Tokens ------------------------------------------------------------------

/// A token may not be able to do something; most can do it all.
struct any_outcome {
  static const char* why_not(outcome) { return nullptr; }
};

bool on_test_thread(const told& t) {
  return t.where == std::this_thread::get_id();
}

struct a_callback : any_outcome {
  static constexpr auto name = "callback";
  template <class T>
  static void run(trial<T>& t) {
    t.start(t.make(), t.handler());
    t.follow_up_on_system();
    t.result->done.wait();
    CHECK(!on_test_thread(*t.result));
  }
};

struct a_future : any_outcome {
  static constexpr auto name = "use_future";
  template <class T>
  static void run(trial<T>& t) {
    auto f = t.start(t.make(), asio::use_future);
    t.follow_up_on_system();
    t.result->end_with([&] { return f.get(); });
  }
};

struct a_deferred : any_outcome {
  static constexpr auto name = "deferred";
  template <class T>
  static void run(trial<T>& t) {
    auto lazy = t.make()(deferred);
    CHECK(t.result->times == 0);
    t.start([&](auto token) { std::move(lazy)(std::move(token)); },
            t.handler());
    t.follow_up_on_system();
    t.result->done.wait();
    CHECK(!on_test_thread(*t.result));
  }
};

struct a_deferred_tuple : any_outcome {
  static constexpr auto name = "as_tuple(deferred)";
  template <class T>
  static void run(trial<T>& t) {
    auto lazy = t.make()(as_tuple(deferred));
    t.start([&](auto token) { std::move(lazy)(std::move(token)); },
            t.handler());
    t.follow_up_on_system();
    t.result->done.wait();
    CHECK(!on_test_thread(*t.result));
  }
};

/// Tells nobody; that it ends shows in the memory that comes back.
struct is_detached : any_outcome {
  static constexpr auto name = "detached";
  template <class T>
  static void run(trial<T>& t) {
    t.result->shows = false;
    auto memory = std::make_shared<arena>();
    memory->when_empty = [to = t.result] { to->end({}, 0); };
    t.start(t.make(), asio::bind_allocator(arena_allocator<char>{memory},
                                           asio::detached));
    t.follow_up_on_system();
    t.result->done.wait();
    CHECK(!on_test_thread(*t.result));
  }
};

/// On the test's own loop, if the executor says so when asked.
template <class Executor>
void run_there(auto& t, const Executor& there, std::function<bool()> in_place) {
  t.result->in_place = std::move(in_place);
  t.start(t.make(), asio::bind_executor(there, t.handler()));
  CHECK(t.result->times == 0);
  t.follow_up_on_io();
  CHECK(on_test_thread(*t.result));
}

struct with_executor : any_outcome {
  static constexpr auto name = "bind_executor(callback)";
  template <class T>
  static void run(trial<T>& t) {
    const auto there = t.w.io.get_executor();
    run_there(t, there, [=] { return there.running_in_this_thread(); });
  }
};

struct with_any_executor : any_outcome {
  static constexpr auto name = "bind_executor(any_io_executor, callback)";
  template <class T>
  static void run(trial<T>& t) {
    const asio::any_io_executor there = t.w.io.get_executor();
    run_there(t, there, [] { return true; });
  }
};

struct with_strand : any_outcome {
  static constexpr auto name = "bind_executor(strand, callback)";
  template <class T>
  static void run(trial<T>& t) {
    const auto there = asio::make_strand(t.w.io);
    run_there(t, there, [=] { return there.running_in_this_thread(); });
  }
};

/// An executor that is no more than that: it has no context, and counts no
/// work.
class bare_executor {
 public:
  explicit bare_executor(asio::io_context& io) : io_{&io} {}
  static bool inside() { return inside_; }

  static constexpr asio::execution::blocking_t::never_t query(
      asio::execution::blocking_t) noexcept {
    return {};
  }
  template <class F>
  void execute(F&& f) const {
    asio::post(*io_, [taken = std::decay_t<F>(std::forward<F>(f))]() mutable {
      inside_ = true;
      std::move(taken)();
      inside_ = false;
    });
  }
  [[maybe_unused]] friend bool operator==(const bare_executor& a,
                                          const bare_executor& b) noexcept {
    return a.io_ == b.io_;
  }
  [[maybe_unused]] friend bool operator!=(const bare_executor& a,
                                          const bare_executor& b) noexcept {
    return a.io_ != b.io_;
  }

 private:
  static inline thread_local bool inside_ = false;
  asio::io_context* io_;
};

struct with_bare_executor : any_outcome {
  static constexpr auto name = "bind_executor(bare, callback)";
  template <class T>
  static void run(trial<T>& t) {
    const auto work = asio::make_work_guard(t.w.io);
    t.result->in_place = &bare_executor::inside;
    t.start(t.make(), asio::bind_executor(bare_executor{t.w.io}, t.handler()));
    t.follow_up_on(t.w.io.get_executor());
    while (t.result->times == 0) t.w.io.run_one();
    CHECK(on_test_thread(*t.result));
  }
};

struct future_with_executor : any_outcome {
  static constexpr auto name = "bind_executor(use_future)";
  template <class T>
  static void run(trial<T>& t) {
    auto f = t.start(t.make(), asio::bind_executor(t.w.io, asio::use_future));
    CHECK(f.wait_for(0s) == std::future_status::timeout);
    t.follow_up_on_io();
    CHECK(f.wait_for(0s) == std::future_status::ready);
    t.result->end_with([&] { return f.get(); });
  }
};

struct with_allocator : any_outcome {
  static constexpr auto name = "bind_allocator(callback)";
  template <class T>
  static void run(trial<T>& t) {
    auto memory = std::make_shared<arena>();
    t.start(t.make(),
            asio::bind_allocator(arena_allocator<char>{memory}, t.handler()));
    t.follow_up_on_system();
    t.result->done.wait();
    CHECK(memory->uses > 0);
    CHECK(memory->bytes == 0);
    CHECK(!on_test_thread(*t.result));
  }
};

struct with_slot : any_outcome {
  static constexpr auto name = "bind_cancellation_slot(callback)";
  template <class T>
  static void run(trial<T>& t) {
    // Whether it is used or not.
    auto bound = asio::bind_cancellation_slot(
        t.signal.slot(), asio::bind_executor(t.w.io, t.handler()));
    t.make()(std::move(bound));
    t.follow_up_on_io();
    CHECK(on_test_thread(*t.result));
  }
};

/// Tokens for an `asio::awaitable`, on the test's own loop. The slot is that of
/// the whole coroutine.
template <class Row>
struct in_awaitable : any_outcome {
  template <class T>
  static asio::awaitable<void> body(trial<T>& t) {
    t.follow_up_on(t.w.io.get_executor());  // runs when this waits
    std::error_code error;
    int value = 0;
    try {
      value = co_await Row::wait(t, t.make());
    } catch (const std::system_error& e) {
      error = e.code();
    }
    t.result->end(error, value);
  }
  static void rethrow(std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  }
  template <class T>
  static void run(trial<T>& t) {
    t.spawned = true;
    t.start(
        [&](auto token) { asio::co_spawn(t.w.io, body(t), std::move(token)); },
        &rethrow);
    t.w.io.run();
    CHECK(on_test_thread(*t.result));
  }
};

struct awaited : in_awaitable<awaited> {
  static constexpr auto name = "use_awaitable";
  template <class T>
  static asio::awaitable<int> wait(trial<T>&, operation<T> op) {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(op)(asio::use_awaitable);
      co_return 0;
    } else {
      co_return told::number_of(co_await std::move(op)(asio::use_awaitable));
    }
  }
};

struct awaited_tuple : in_awaitable<awaited_tuple> {
  static constexpr auto name = "as_tuple(use_awaitable)";
  template <class T>
  static asio::awaitable<int> wait(trial<T>&, operation<T> op) {
    const auto all = co_await std::move(op)(as_tuple(asio::use_awaitable));
    int value = 0;
    if constexpr (!std::is_void_v<T>) value = told::number_of(std::get<1>(all));
    if (!std::get<0>(all)) co_return value;
    CHECK(value == 0);
    throw std::system_error{std::get<0>(all)};
  }
};

struct awaited_redirected : in_awaitable<awaited_redirected> {
  static constexpr auto name = "redirect_error(use_awaitable)";
  template <class T>
  static asio::awaitable<int> wait(trial<T>&, operation<T> op) {
    std::error_code error;
    int value = 0;
    if constexpr (std::is_void_v<T>)
      co_await std::move(op)(asio::redirect_error(asio::use_awaitable, error));
    else
      value = told::number_of(co_await std::move(op)(
          asio::redirect_error(asio::use_awaitable, error)));
    if (!error) co_return value;
    CHECK(value == 0);
    throw std::system_error{error};
  }
};

/// The slot of the one operation.
struct awaited_with_slot : in_awaitable<awaited_with_slot> {
  static constexpr auto name = "bind_cancellation_slot(use_awaitable)";
  template <class T>
  static asio::awaitable<int> wait(trial<T>& t, operation<T> op) {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(op)(
          asio::bind_cancellation_slot(t.signal.slot(), asio::use_awaitable));
      co_return 0;
    } else {
      co_return told::number_of(co_await std::move(op)(
          asio::bind_cancellation_slot(t.signal.slot(), asio::use_awaitable)));
    }
  }
  template <class T>
  static void run(trial<T>& t) {
    asio::co_spawn(t.w.io, body(t), &rethrow);
    t.w.io.run();
    CHECK(on_test_thread(*t.result));
  }
};

/// An operation that is none of ours.
struct foreign_operation {
  template <class Token>
  requires(!std::is_pointer_v<std::decay_t<Token>>) auto operator()(
      Token&& token) && {
    return asio::async_initiate<Token, void()>([](auto&&) {}, token);
  }
};
template <class Coroutine>
concept awaits_without_token =
    requires(typename std::coroutine_traits<Coroutine>::promise_type& p) {
  p.await_transform(foreign_operation{});
};

struct awaited_alone : in_awaitable<awaited_alone> {
  static constexpr auto name = "no token, in an asio::awaitable";
  static constexpr bool possible = awaits_without_token<asio::awaitable<int>>;
  static const char* why_not(outcome) {
    return possible ? nullptr
                    : "this Asio does not await operations without a token";
  }
  template <class T>
  static asio::awaitable<int> wait(trial<T>&, operation<T> op) {
    // A template, so that it does not have to compile where it is not possible.
    if constexpr (!possible)
      co_return 0;
    else if constexpr (std::is_void_v<T>) {
      co_await std::move(op);
      co_return 0;
    } else {
      co_return told::number_of(co_await std::move(op));
    }
  }
};

/// Ways to wait in an `actors::task`, whose actor's stop is the cancellation.
template <class Row>
struct in_task : any_outcome {
  template <class T>
  static actors::task<> body(actors::context<> self, trial<T>* t,
                             operation<T> op) {
    // Both run when this waits.
    if (t->cancels())
      asio::post(self.get_executor(), [t, me = self.any_ref()] {
        me.stop();
        t->followed.set();
      });
    else
      t->follow_up_on(self.get_executor());
    std::error_code error;
    int value = 0;
    try {
      value = co_await Row::wait(std::move(op));
    } catch (const std::system_error& e) {
      error = e.code();
    }
    CHECK(self.get_executor() == co_await asio::this_coro::executor);
    t->result->end(error, value);
  }
  template <class T>
  static void run(trial<T>& t) {
    auto asker = t.w.elsewhere.spawn_once(body<T>, &t, t.make());
    CHECK(asker.stopped().get() == exit_reason::normal);
  }
};

struct awaited_in_task : in_task<awaited_in_task> {
  static constexpr auto name = "co_await in a task";
  template <class T>
  static actors::task<int> wait(operation<T> op) {
    if constexpr (std::is_void_v<T>) {
      co_await op;
      co_return 0;
    } else {
      co_return told::number_of(co_await op);
    }
  }
};

struct awaited_as_result : in_task<awaited_as_result> {
  static constexpr auto name = "as_result";
  template <class T>
  static actors::task<int> wait(operation<T> op) {
    auto r = co_await actors::as_result(std::move(op));
    if (!r) throw std::system_error{r.error()};
    co_return told::number_of(*r);
  }
};

struct awaited_with_use_task : in_task<awaited_with_use_task> {
  static constexpr auto name = "use_task";
  template <class T>
  static actors::task<int> wait(operation<T> op) {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(op)(actors::use_task);
      co_return 0;
    } else {
      co_return told::number_of(co_await std::move(op)(actors::use_task));
    }
  }
};

struct awaited_with_use_task_tuple : in_task<awaited_with_use_task_tuple> {
  static constexpr auto name = "as_tuple(use_task)";
  template <class T>
  static actors::task<int> wait(operation<T> op) {
    const auto all = co_await std::move(op)(as_tuple(actors::use_task));
    int value = 0;
    if constexpr (!std::is_void_v<T>) value = told::number_of(std::get<1>(all));
    if (!std::get<0>(all)) co_return value;
    CHECK(value == 0);
    throw std::system_error{std::get<0>(all)};
  }
};

struct blocked {
  static constexpr auto name = "get()";
  static const char* why_not(outcome o) {
    return o == outcome::cancelled
               ? "a thread that blocks has nothing to be cancelled by"
               : nullptr;
  }
  template <class T>
  static void run(trial<T>& t) {
    auto op = t.make();
    std::thread waiting{[&] { t.result->end_with([&] { return op.get(); }); }};
    t.follow_up_on_io();
    waiting.join();
  }
};

// --- The table ---------------------------------------------------------------

template <class... Ts>
struct list {
  static constexpr int size = sizeof...(Ts);
  template <class F>
  static void each(F f) {
    (f(std::type_identity<Ts>{}), ...);
  }
};

using tokens =
    list<awaited, awaited_alone, a_future, a_deferred, is_detached, a_callback,
         awaited_tuple, awaited_redirected, a_deferred_tuple, with_executor,
         with_any_executor, with_strand, with_bare_executor,
         future_with_executor, with_slot, awaited_with_slot, with_allocator,
         awaited_in_task, awaited_as_result, awaited_with_use_task,
         awaited_with_use_task_tuple, blocked>;
using operations = list<asking, sending, starting, stopping, terminating>;
using outcomes =
    list<when<outcome::value>, when<outcome::error>, when<outcome::timeout>,
         when<outcome::cancelled>, when<outcome::gone>>;

/// What has become of a table's cells.
struct tally {
  int ran = 0;
  int explained = 0;
};

template <class Token, class T>
void fill(host h, outcome o, const plan<T>& p, tally& seen) {
  const char* const why_not = p.why_not ? p.why_not : Token::why_not(o);
  if (why_not) {
    CHECK(*why_not);
    ++seen.explained;
    return;
  }
  world w{h};
  trial<T> t{w, o, p};
  Token::run(t);
  t.check();
  ++seen.ran;
}

}  // namespace

TEST_SUITE("tokens") {
  TEST_CASE("each token with each operation ends as the table says") {
    for (const host h : {host::pool, host::shared, host::guest}) {
      tally seen;
      operations::each([&]<class Operation>(std::type_identity<Operation>) {
        outcomes::each([&]<class When>(std::type_identity<When> w) {
          const auto p = Operation::of(typename decltype(w)::type{});
          tokens::each([&]<class Token>(std::type_identity<Token>) {
            const std::string cell = std::string{Token::name} + " x " +
                                     Operation::name + " x " +
                                     name_of(When::value);
            CAPTURE(static_cast<int>(h));
            CAPTURE(cell);
            fill<Token>(h, When::value, p, seen);
          });
        });
      });
      // Every cell has run or says why it cannot.
      CHECK(seen.ran + seen.explained ==
            tokens::size * operations::size * outcomes::size);
      CHECK(seen.ran > seen.explained);
    }
  }
}
