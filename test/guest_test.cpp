// A system that is a guest on a user's io_context: what it owes to the loop,
// and what becomes of its actors when the loop ends.

#include "actors/asio.hpp"

#include <doctest/doctest.h>

#include <array>
#include <asio/experimental/awaitable_operators.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace std::chrono_literals;
using asio::ip::tcp;
using support::counted;
using support::error_of;

namespace {

struct add {
  int n;
};
struct total {
  using reply_type = int;
};
/// A question that is never answered while its actor lives.
struct riddle {
  using reply_type = int;
};

actors::task<> counter(actors::context<add, total> self) {
  int sum = 0;
  while (co_await self.receive([&](add a) { sum += a.n; },
                               [&](total) { return sum; })) {
  }
}

actors::task<> sphinx(actors::context<riddle> self) {
  std::vector<actors::reply_to<int>> kept;
  while (co_await self.receive([&](riddle, actors::reply_to<int> slot) {
    kept.push_back(std::move(slot));
  })) {
  }
}

actors::system_options silent() {
  actors::system_options options;
  options.log.emplace();
  return options;
}

/// Runs `io` on `threads` threads until it has nothing more to do.
void run_on(asio::io_context& io, int threads) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back([&] { io.run(); });
  io.run();
  for (std::thread& t : others) t.join();
}

/// Threads that run an `io_context` while the test does something else.
class runners {
 public:
  runners(asio::io_context& io, int threads)
      : io_{&io}, work_{asio::make_work_guard(io)} {
    for (int i = 0; i < threads; ++i)
      threads_.emplace_back([&io] { io.run(); });
  }
  ~runners() { finish(); }
  /// Lets them end when there is nothing more to do.
  void finish() {
    work_.reset();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }
  /// Ends them where they are.
  void stop() {
    io_->stop();
    finish();
  }

 private:
  asio::io_context* io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
};

/// Two connected sockets on loopback.
struct connection {
  explicit connection(asio::io_context& io) : ours{io}, theirs{io} {
    tcp::acceptor acceptor{io, {asio::ip::address_v4::loopback(), 0}};
    ours.connect(acceptor.local_endpoint());
    acceptor.accept(theirs);
  }
  tcp::socket ours;
  tcp::socket theirs;
};

/// What an actor can hang in.
enum class place {
  receive,
  handler,
  until_stop,
  sleep,
  timer,
  socket,
  composed,
  ask,
  ask_in_time,
  awaitable,
  awaitable_ask,
  child,
};
constexpr std::array places{
    place::receive,     place::handler,   place::until_stop,    place::sleep,
    place::timer,       place::socket,    place::composed,      place::ask,
    place::ask_in_time, place::awaitable, place::awaitable_ask, place::child,
};

/// What the test sees of it.
struct witness {
  std::atomic<int> alive{0};
  std::atomic<int> resumed{0};
  std::atomic<int> waiting{0};
};

asio::awaitable<void> wait_for_ever(witness& w) {
  const counted local{w.alive};
  asio::steady_timer timer{co_await asio::this_coro::executor, 1h};
  co_await timer.async_wait(asio::use_awaitable);
  ++w.resumed;
}

asio::awaitable<void> wait_nested(witness& w) {
  const counted local{w.alive};
  co_await wait_for_ever(w);
  ++w.resumed;
}

asio::awaitable<void> ask_for_ever(witness& w, actors::actor_ref<riddle> who) {
  const counted local{w.alive};
  (void)co_await who.ask<riddle>()(asio::use_awaitable);
  ++w.resumed;
}

actors::task<int> nap(actors::context<>& self, witness& w) {
  const counted local{w.alive};
  ++w.waiting;
  co_await self.sleep_for(1h);
  ++w.resumed;
  co_return 1;
}

actors::task<> hanging(actors::context<add> self, place where, witness& w,
                       tcp::socket socket, tcp::socket,
                       actors::actor_ref<riddle> other) {
  const counted local{w.alive};
  std::array<char, 64> data;
  asio::steady_timer timer{self.get_executor()};
  self.ready();
  if (where != place::handler && where != place::child) ++w.waiting;
  switch (where) {
    case place::receive:
      co_await self.receive([](add) {});
      break;
    case place::handler: {
      self.ref().tell(add{1});
      auto handler = [&](add) -> actors::task<> {
        const counted inner{w.alive};
        co_await nap(self, w);
      };
      co_await self.receive(handler);
      break;
    }
    case place::until_stop:
      co_await self.until_stop();
      break;
    case place::sleep:
      co_await self.sleep_for(1h);
      break;
    case place::timer:
      timer.expires_after(1h);
      co_await timer.async_wait(actors::use_task);
      break;
    case place::socket:
      co_await socket.async_read_some(asio::buffer(data), actors::use_task);
      break;
    case place::composed:
      co_await asio::async_read(socket, asio::buffer(data), actors::use_task);
      break;
    case place::ask:
      co_await other.ask<riddle>();
      break;
    case place::ask_in_time:
      co_await other.ask<riddle>().within(1h);
      break;
    case place::awaitable:
      co_await wait_nested(w);
      break;
    case place::awaitable_ask:
      co_await ask_for_ever(w, other);
      break;
    case place::child: {
      auto below = [](actors::context<> child,
                      witness& seen) -> actors::task<> {
        (void)co_await nap(child, seen);
      };
      self.spawn(below, std::ref(w));
      co_await self.until_stop();
      break;
    }
  }
  ++w.resumed;
}

/// A loop, a guest and an actor that hangs.
struct scene {
  explicit scene(place where)
      : io{std::make_unique<asio::io_context>()},
        system{std::make_unique<actors::actor_system>(*io, silent())} {
    connection wire{*io};
    auto other = system->spawn(sphinx);
    actor =
        system->spawn_once(hanging, where, std::ref(seen), std::move(wire.ours),
                           std::move(wire.theirs), other);
  }

  /// Runs what can run.
  void settle() {
    io->poll();
    io->restart();  // a loop without work counts as stopped
  }

  witness seen;
  std::unique_ptr<asio::io_context> io;
  std::unique_ptr<actors::actor_system> system;
  actors::actor_ref<add> actor;
};

}  // namespace

TEST_SUITE("guest") {
  TEST_CASE("an awaitable tells and asks, on 1 thread and on 4") {
    for (const int threads : {1, 4}) {
      CAPTURE(threads);
      asio::io_context io;
      actors::actor_system system{io, silent()};
      int got = 0;
      std::optional<actors::exit_reason> why;
      auto client = [&]() -> asio::awaitable<void> {
        auto c = system.spawn(counter);
        for (int i = 1; i <= 100; ++i) c.tell(add{i});
        got = co_await c.ask<total>()(asio::use_awaitable);
        why = co_await system.async_terminate()(asio::use_awaitable);
      };
      asio::co_spawn(io, client, asio::detached);
      run_on(io, threads);
      CHECK(got == 5050);
      REQUIRE(why);
      CHECK(*why == actors::exit_reason::normal);
    }
  }

  TEST_CASE("run() returns while idle actors live, and they live on") {
    for (const int threads : {1, 4}) {
      CAPTURE(threads);
      asio::io_context io;
      actors::actor_system system{io, silent()};
      auto c = system.spawn(counter);
      c.tell(add{1});
      run_on(io, threads);
      io.restart();
      c.tell(add{2});
      auto sum = c.ask<total>()(asio::use_future);
      run_on(io, threads);
      CHECK(sum.get() == 3);
    }
  }

  TEST_CASE("queued messages are work: run() handles them all") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto c = system.spawn(counter);
    for (int i = 0; i != 1000; ++i) c.tell(add{1});
    io.run();
    io.restart();
    int got = 0;
    c.ask<total>()([&](std::error_code, int n) { got = n; });
    io.run();
    CHECK(got == 1000);
  }

  TEST_CASE("an ask that waits for its answer is work") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto s = system.spawn(sphinx);
    std::optional<std::error_code> end;
    s.ask<riddle>()([&](std::error_code e, int) { end = e; });
    io.poll();
    CHECK(!io.stopped());
    s.stop();
    io.run();
    REQUIRE(end);
    CHECK(*end == actors::errc::no_reply);
  }

  TEST_CASE("the timeout of an ask that was answered is no work") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto c = system.spawn(counter);
    auto client = [](actors::context<> self,
                     actors::actor_ref<add, total> who) -> actors::task<> {
      (void)co_await who.ask<total>().within(1h);
      co_await self.until_stop();
    };
    system.spawn(client, c);
    bool answered = false;
    c.ask<total>().within(1h)([&](std::error_code, int) { answered = true; });
    io.run();  // would take an hour
    CHECK(answered);
  }

  TEST_CASE("a killed actor's sleep is no work") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto sleeper = [](actors::context<> self) -> actors::task<> {
      co_await self.sleep_for(1h);
    };
    auto s = system.spawn(sleeper);
    io.poll();
    CHECK(!io.stopped());
    s.kill();
    io.run();  // would take an hour
    CHECK(s.stopped().get() == actors::exit_reason::killed);
  }

  TEST_CASE("terminate() asks, and the loop ends it") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto c = system.spawn(counter);
    io.run();
    io.restart();
    system.terminate();  // returns, though nobody runs the loop
    std::optional<actors::exit_reason> why;
    c.stopped()([&](std::error_code, actors::exit_reason r) { why = r; });
    CHECK(!why);
    io.run();
    REQUIRE(why);
    CHECK(*why == actors::exit_reason::normal);
    auto late = system.spawn(counter);
    CHECK(late.stopped().get() == actors::exit_reason::not_started);
  }

  TEST_CASE("run() and wait() of a guest are a mistake that is told") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto body = [](actors::context<>) -> actors::task<int> { co_return 1; };
    CHECK_THROWS_AS(system.run(body), std::logic_error);
    CHECK_THROWS_AS(system.wait(), std::logic_error);
  }

  TEST_CASE("get() on a thread of the loop is would_deadlock") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto c = system.spawn(counter);
    std::error_code in_handler, in_actor;
    asio::post(io, [&] {
      in_handler = error_of([&] { return c.ask<total>().get(); });
    });
    auto body = [&](actors::context<>) -> actors::task<> {
      in_actor = error_of([&] { return c.ask<total>().get(); });
      co_return;
    };
    system.spawn(body);
    io.run();
    CHECK(in_handler == actors::errc::would_deadlock);
    CHECK(in_actor == actors::errc::would_deadlock);
  }

  TEST_CASE("get() on another thread waits for the loop") {
    for (const int threads : {1, 4}) {
      asio::io_context io;
      actors::actor_system system{io, silent()};
      auto c = system.spawn(counter);
      runners loop{io, threads};
      c.tell(add{7});
      CHECK(c.ask<total>().get() == 7);
    }
  }

  TEST_CASE("a signal stops the guest, and run() returns") {
    for (const int threads : {1, 4}) {
      asio::io_context io;
      actors::actor_system system{io, silent()};
      system.stop_on_signals({SIGTERM, SIGUSR1});
      auto c = system.spawn(counter);
      asio::post(io, [] { std::raise(SIGTERM); });
      run_on(io, threads);
      CHECK(c.stopped().get() == actors::exit_reason::normal);
    }
  }

  TEST_CASE("waiting for a signal keeps run()") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    system.stop_on_signals({SIGUSR1});
    io.poll();
    CHECK(!io.stopped());
    system.terminate();
    io.run();
    CHECK(io.stopped());
  }

  TEST_CASE("two guests share a loop and end apart") {
    for (const int threads : {1, 4}) {
      CAPTURE(threads);
      asio::io_context io;
      actors::actor_system first{io, silent()};
      actors::actor_system second{io, silent()};
      int one = 0, two = 0;
      bool ended = false;
      auto client = [&]() -> asio::awaitable<void> {
        auto a = first.spawn(counter);
        auto b = second.spawn(counter);
        a.tell(add{1});
        b.tell(add{2});
        one = co_await a.ask<total>()(asio::use_awaitable);
        (void)co_await first.async_terminate()(asio::use_awaitable);
        two = co_await b.ask<total>()(asio::use_awaitable);
        try {
          (void)co_await a.ask<total>()(asio::use_awaitable);
        } catch (const std::system_error& e) {
          ended = e.code() == actors::errc::actor_stopped;
        }
      };
      asio::co_spawn(io, client, asio::detached);
      run_on(io, threads);
      CHECK(one == 1);
      CHECK(two == 2);
      CHECK(ended);
    }
  }

  TEST_CASE("async_terminate works with a future, from another thread") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto c = system.spawn(counter);
    runners loop{io, 4};
    CHECK(system.async_terminate()(asio::use_future).get() ==
          actors::exit_reason::normal);
    CHECK(c.stopped().get() == actors::exit_reason::normal);
  }

  TEST_CASE("a system destroyed by a handler of its loop ends in the loop") {
    for (const int threads : {1, 4}) {
      asio::io_context io;
      auto system = std::make_unique<actors::actor_system>(io, silent());
      auto c = system->spawn(counter);
      asio::post(io, [&] { system.reset(); });
      run_on(io, threads);
      CHECK(c.stopped().get() == actors::exit_reason::normal);
    }
  }

  TEST_CASE("a system destroyed by one of its actors ends in the loop") {
    for (const int threads : {1, 4}) {
      asio::io_context io;
      auto system = std::make_unique<actors::actor_system>(io, silent());
      auto c = system->spawn(counter);
      auto body = [&](actors::context<>) -> actors::task<> {
        system.reset();
        co_return;
      };
      system->spawn(body);
      run_on(io, threads);
      CHECK(c.stopped().get() == actors::exit_reason::normal);
    }
  }

  TEST_CASE("an io_context destroyed first takes its actors with it") {
    for (const place where : places) {
      CAPTURE(static_cast<int>(where));
      scene s{where};
      s.settle();
      REQUIRE(s.seen.waiting == 1);
      CHECK(s.seen.alive > 0);
      s.io.reset();
      CHECK(s.seen.alive == 0);
      CHECK(s.seen.resumed == 0);
      s.system.reset();
      const auto how = s.actor.stopped().get();
      const bool gone = how == actors::exit_reason::killed ||
                        how == actors::exit_reason::abandoned;
      CHECK(gone);
    }
  }

  TEST_CASE("an actor's socket may go with the io_context") {
    auto io = std::make_unique<asio::io_context>();
    actors::actor_system system{*io, silent()};
    witness seen;
    auto session = [](actors::context<>, tcp::socket socket, tcp::socket,
                      witness& w) -> actors::task<> {
      const counted local{w.alive};
      std::array<char, 64> data;
      co_await asio::async_read(socket, asio::buffer(data), actors::use_task);
      ++w.resumed;
    };
    {
      connection wire{*io};
      system.spawn_once(session, std::move(wire.ours), std::move(wire.theirs),
                        std::ref(seen));
    }
    io->poll();
    CHECK(seen.alive == 1);
    io.reset();
    CHECK(seen.alive == 0);
    CHECK(seen.resumed == 0);
  }

  TEST_CASE("an io_context that never ran takes its actors with it") {
    for (const place where : places) {
      CAPTURE(static_cast<int>(where));
      scene s{where};
      s.io.reset();
      CHECK(s.seen.alive == 0);
      CHECK(s.seen.resumed == 0);
    }
  }

  TEST_CASE("a system destroyed first may leave the rest to the io_context") {
    for (const place where : places) {
      // How many handlers run after the system has gone and before its loop.
      for (std::size_t handlers = 0; handlers != 8; ++handlers) {
        CAPTURE(static_cast<int>(where));
        CAPTURE(handlers);
        scene s{where};
        s.settle();
        s.system.reset();
        for (std::size_t i = 0; i != handlers; ++i) s.io->poll_one();
        s.io.reset();
        CHECK(s.seen.alive == 0);
      }
    }
  }

  TEST_CASE("a system destroyed first ends in the loop") {
    for (const int threads : {1, 4}) {
      for (const place where : places) {
        CAPTURE(static_cast<int>(where));
        CAPTURE(threads);
        scene s{where};
        s.settle();
        s.system.reset();
        if (where == place::handler) s.actor.kill();
        run_on(*s.io, threads);
        CHECK(s.seen.alive == 0);
        CHECK(s.actor.stopped().get() == (where == place::handler
                                              ? actors::exit_reason::killed
                                              : actors::exit_reason::normal));
      }
    }
  }

  TEST_CASE("an io_context stopped in the middle may be destroyed") {
    for (const bool io_first : {true, false}) {
      for (const place where : places) {
        CAPTURE(static_cast<int>(where));
        CAPTURE(io_first);
        scene s{where};
        runners loop{*s.io, 4};
        s.actor.started().get();
        loop.stop();
        if (!io_first) s.system.reset();
        s.io.reset();
        CHECK(s.seen.alive == 0);
        CHECK(s.seen.resumed == 0);
      }
    }
  }

  TEST_CASE("an io_context stopped in the middle goes on after restart()") {
    for (const place where : places) {
      CAPTURE(static_cast<int>(where));
      scene s{where};
      {
        runners loop{*s.io, 4};
        s.actor.started().get();
        loop.stop();
      }
      s.io->restart();
      s.actor.kill();
      s.system->terminate();
      run_on(*s.io, 4);
      CHECK(s.seen.alive == 0);
      CHECK(s.actor.stopped().get() == actors::exit_reason::killed);
    }
  }

  TEST_CASE("a kill ends an actor wherever it hangs, and nothing resumes") {
    for (const int threads : {1, 4}) {
      for (const place where : places) {
        CAPTURE(static_cast<int>(where));
        CAPTURE(threads);
        scene s{where};
        s.settle();
        s.actor.kill();
        auto why = s.actor.stopped()(asio::use_future);
        // The sphinx lives, and so does nothing that is work.
        run_on(*s.io, threads);
        CHECK(why.get() == actors::exit_reason::killed);
        CHECK(s.seen.alive == 0);
        CHECK(s.seen.resumed == 0);
      }
    }
  }

  TEST_CASE("a loop destroyed under clients of actors leaks nothing") {
    for (const bool io_first : {true, false}) {
      for (const bool timeout : {true, false}) {
        CAPTURE(io_first);
        CAPTURE(timeout);
        std::atomic<int> alive{0};
        int called = 0;
        auto io = std::make_unique<asio::io_context>();
        auto system = std::make_unique<actors::actor_system>(*io, silent());
        auto s = system->spawn(sphinx);
        auto op = [&] {
          auto ask = s.ask<riddle>();
          return timeout ? std::move(ask).within(1h) : std::move(ask);
        };
        auto client = [&]() -> asio::awaitable<void> {
          const counted local{alive};
          (void)co_await op()(asio::use_awaitable);
          ++called;
        };
        asio::co_spawn(*io, client, asio::detached);
        op()([&called, c = counted{alive}](std::error_code, int) { ++called; });
        asio::cancellation_signal signal;
        op()(asio::bind_cancellation_slot(
            signal.slot(),
            [&called, c = counted{alive}](std::error_code, int) { ++called; }));
        io->poll();
        CHECK(alive == 3);
        if (!io_first) system.reset();
        io.reset();
        CHECK(alive == 0);
        CHECK(called == 0);
      }
    }
  }

  TEST_CASE("a ref outlives loop and system harmlessly") {
    for (const bool io_first : {true, false}) {
      CAPTURE(io_first);
      auto io = std::make_unique<asio::io_context>();
      auto system = std::make_unique<actors::actor_system>(*io, silent());
      auto c = system->spawn(counter);
      io->poll();
      if (io_first) io.reset();
      system.reset();
      io.reset();
      c.tell(add{1});
      c.stop();
      c.kill();
      CHECK(error_of([&] { return c.ask<total>().get(); }) ==
            actors::errc::actor_stopped);
      CHECK(c.stopped().get() != actors::exit_reason::normal);
      asio::io_context other;
      std::error_code bound;
      c.ask<total>()(asio::bind_executor(
          other, [&](std::error_code e, int) { bound = e; }));
      other.run();
      CHECK(bound == actors::errc::actor_stopped);
      CHECK(error_of([&] { return c.ask<total>()(asio::use_future).get(); }) ==
            actors::errc::actor_stopped);
    }
  }

  TEST_CASE("spawning on a guest without a loop gives an ended actor") {
    auto io = std::make_unique<asio::io_context>();
    actors::actor_system system{*io, silent()};
    io.reset();
    auto c = system.spawn(counter);
    CHECK(c.stopped().get() == actors::exit_reason::not_started);
    system.terminate();
  }

  TEST_CASE("a timer that has expired when the system goes finds nobody") {
    asio::io_context io;
    auto system = std::make_unique<actors::actor_system>(io, silent());
    auto sleeper = [](actors::context<> self) -> actors::task<> {
      co_await self.sleep_for(1ms);
    };
    system->spawn(sleeper);
    io.poll();
    const auto due = std::chrono::steady_clock::now() + 5ms;
    asio::post(io, [&] {
      while (std::chrono::steady_clock::now() < due) {
      }
      system.reset();
    });
    io.run();
  }

  TEST_CASE("an exception of posted work comes out of run(), actors go on") {
    asio::io_context io;
    actors::actor_system system{io, silent()};
    auto c = system.spawn(counter);
    c.tell(add{3});
    asio::post(io, [] { throw std::runtime_error{"from a handler"}; });
    CHECK_THROWS_AS(io.run(), std::runtime_error);
    io.restart();
    auto sum = c.ask<total>()(asio::use_future);
    io.run();
    CHECK(sum.get() == 3);
  }

  TEST_CASE("what was escalated to the top comes out of run()") {
    struct crash : std::runtime_error {
      crash() : runtime_error{"crash"} {}
    };
    for (const int times : {10, 11}) {
      CAPTURE(times);
      asio::io_context io;
      actors::actor_system system{io, silent()};
      auto ref = system.spawn([](actors::context<add> self) -> actors::task<> {
        while (co_await self.receive([](add a) {
          if (a.n < 0) throw crash{};
        })) {
        }
      });
      auto other = system.spawn(counter);
      for (int i = 0; i != times; ++i) ref.tell(add{-1});
      if (times == 10) {
        CHECK_NOTHROW(io.run());  // all restarted
        continue;
      }
      CHECK_THROWS_AS(io.run(), crash);
      CHECK_NOTHROW(io.run());
      CHECK(ref.stopped().get() == actors::exit_reason::failed);
      CHECK(other.stopped().get() == actors::exit_reason::normal);
    }
  }

  TEST_CASE("a restart that waits for its time is work") {
    asio::io_context io;
    actors::system_options options = silent();
    options.supervision = actors::one_for_one{.backoff = {.min = 20ms}};
    actors::actor_system system{io, options};
    int born = 0;
    int sum = 0;
    auto ref = system.spawn([&](actors::context<add> self) -> actors::task<> {
      ++born;
      while (co_await self.receive([&](add a) {
        if (a.n < 0) throw std::runtime_error{"negative"};
        sum += a.n;
      })) {
      }
    });
    ref.tell(add{-1});
    ref.tell(add{5});
    io.run();
    CHECK(born == 2);
    CHECK(sum == 5);
  }

  TEST_CASE("options that are out of range are refused") {
    asio::io_context io;
    actors::system_options options = silent();
    options.throughput = 0;
    CHECK_THROWS_AS((actors::actor_system{io, options}), std::invalid_argument);
  }
}
