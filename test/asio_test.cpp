#include "actors/asio.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "asio_tokens.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::use_task;
using asio::ip::tcp;
using support::counted;
using support::error_of;
using support::quiet;

// --- Allocations, counted ---------------------------------------------------

namespace {
/// Calls of the global `operator new`, on all threads.
std::atomic<long> allocations{0};
}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ACTORS_COUNT_NEW 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ACTORS_COUNT_NEW 0
#endif
#endif
#ifndef ACTORS_COUNT_NEW
#define ACTORS_COUNT_NEW 1
#endif

#if ACTORS_COUNT_NEW
void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(bytes ? bytes : 1)) return p;
  throw std::bad_alloc{};
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace {

struct echo {
  using reply_type = int;
  int n;
};
struct riddle {
  using reply_type = int;
};
struct refuse {
  using reply_type = std::string;
};
struct note {
  using reply_type = void;
};
struct executor_please {
  using reply_type = asio::any_io_executor;
};

actors::task<> server(
    actors::context<echo, riddle, refuse, note, executor_please> self) {
  std::vector<actors::reply_to<int>> kept;
  while (co_await self.receive(
      [](echo e) { return e.n; },
      [&](riddle, actors::reply_to<int> slot) {
        kept.push_back(std::move(slot));
      },
      [](refuse) -> actors::result<std::string> {
        return std::make_error_code(std::errc::permission_denied);
      },
      [](note) {}, [&](executor_please) { return self.get_executor(); })) {
  }
}
using server_ref =
    actors::actor_ref<echo, riddle, refuse, note, executor_please>;

/// Two connected sockets on loopback.
struct connection {
  explicit connection(const asio::any_io_executor& ex) : ours{ex}, theirs{ex} {
    tcp::acceptor acceptor{ex, {asio::ip::address_v4::loopback(), 0}};
    ours.connect(acceptor.local_endpoint());
    acceptor.accept(theirs);
  }
  tcp::socket ours;
  tcp::socket theirs;
};

/// Runs `f(context<>&)` as the main actor of systems of both kinds.
template <class F>
void in_an_actor(F f) {
  for (const auto kind :
       {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
    CAPTURE((kind.which() == actors::dispatcher::kind::pool));
    actors::system_options options = quiet(2);
    options.dispatcher = kind;
    actors::actor_system system{options};
    auto main = [&f](actors::context<> self) -> actors::task<> {
      co_await f(self);
    };
    system.run(main);
  }
}

asio::awaitable<int> seven() { co_return 7; }
asio::awaitable<std::unique_ptr<int>> later_boxed(int n) {
  asio::steady_timer timer{co_await asio::this_coro::executor, 1us};
  co_await timer.async_wait(asio::use_awaitable);
  co_return std::make_unique<int>(n);
}
asio::awaitable<void> failing(bool later) {
  if (later) {
    asio::steady_timer timer{co_await asio::this_coro::executor, 1us};
    co_await timer.async_wait(asio::use_awaitable);
  }
  throw std::runtime_error{"from an awaitable"};
}

/// An operation of the user's that gives what it is told, at once or later.
template <class Signature, class Token, class... Args>
auto async_give(asio::any_io_executor ex, bool at_once, Token&& token,
                Args... args) {
  return asio::async_initiate<Token, Signature>(
      [ex, at_once](auto handler, auto... values) {
        if (at_once)
          std::move(handler)(std::move(values)...);
        else
          asio::post(ex, [handler = std::move(handler),
                          t = std::make_tuple(std::move(values)...)]() mutable {
            std::apply(std::move(handler), std::move(t));
          });
      },
      token, std::move(args)...);
}

/// What a counting allocator has given out.
struct arena {
  std::atomic<long> bytes{0};
  std::atomic<int> uses{0};
};
template <class T>
struct arena_allocator {
  using value_type = T;
  explicit arena_allocator(arena& x) noexcept : a{&x} {}
  template <class U>
  arena_allocator(const arena_allocator<U>& o) noexcept : a{o.a} {}
  T* allocate(std::size_t n) {
    ++a->uses;
    a->bytes += static_cast<long>(n * sizeof(T));
    return std::allocator<T>{}.allocate(n);
  }
  void deallocate(T* p, std::size_t n) noexcept {
    a->bytes -= static_cast<long>(n * sizeof(T));
    std::allocator<T>{}.deallocate(p, n);
  }
  template <class U>
  bool operator==(const arena_allocator<U>& o) const noexcept {
    return a == o.a;
  }
  arena* a;
};
/// A handler that brings its memory along.
/// Counts in an `S` what is allocated with it.
template <class T, class S>
struct session_allocator {
  using value_type = T;
  explicit session_allocator(S& s) : where{&s} {}
  template <class U>
  session_allocator(const session_allocator<U, S>& o) : where{o.where} {}
  T* allocate(std::size_t n) {
    ++where->blocks;
    return static_cast<T*>(::operator new(n * sizeof(T)));
  }
  void deallocate(T* p, std::size_t) {
    --where->blocks;
    ::operator delete(p);
  }
  template <class U>
  bool operator==(const session_allocator<U, S>& o) const {
    return where == o.where;
  }
  S* where;
};

struct arena_handler {
  using allocator_type = arena_allocator<std::byte>;
  allocator_type get_allocator() const noexcept { return allocator_type{*a}; }
  void operator()(std::error_code, int) { *called = true; }
  arena* a;
  bool* called;
};

}  // namespace

TEST_SUITE("asio") {
  // --- use_task --------------------------------------------------------------

  TEST_CASE("a task awaits a timer") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      asio::steady_timer timer{self.get_executor(), 1ms};
      co_await timer.async_wait(use_task);
      CHECK(timer.expiry() <= std::chrono::steady_clock::now());
    });
  }

  TEST_CASE("a task accepts, connects, reads and writes") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      tcp::acceptor acceptor{self.get_executor(),
                             {asio::ip::address_v4::loopback(), 0}};
      const auto at = acceptor.local_endpoint();
      auto client = [at](actors::context<> me) -> actors::task<> {
        tcp::socket socket{me.get_executor()};
        co_await socket.async_connect(at, use_task);
        const std::string text(100'000, 'x');
        const std::size_t sent =
            co_await asio::async_write(socket, asio::buffer(text), use_task);
        CHECK(sent == text.size());
        std::array<char, 5> data;
        const std::size_t got =
            co_await asio::async_read(socket, asio::buffer(data), use_task);
        CHECK(got == 5);
        CHECK(std::string_view{data.data(), 5} == "hello");
      };
      auto c = self.spawn(client);
      tcp::socket socket = co_await acceptor.async_accept(use_task);
      std::vector<char> data(100'000);
      const std::size_t got =
          co_await asio::async_read(socket, asio::buffer(data), use_task);
      CHECK(got == data.size());
      co_await asio::async_write(socket, asio::buffer("hello", 5), use_task);
      const actors::exit_reason why = co_await c.stopped();
      CHECK(why == actors::exit_reason::normal);
      std::string end;
      std::error_code e;
      try {
        co_await asio::async_read_until(socket, asio::dynamic_buffer(end), '\n',
                                        use_task);
      } catch (const std::system_error& error) {
        e = error.code();
      }
      CHECK(e == asio::error::eof);
    });
  }

  TEST_CASE("as_result gives the error of an operation as a value") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      connection wire{self.get_executor()};
      wire.theirs.close();
      std::array<char, 8> data;
      auto got = co_await actors::as_result(
          wire.ours.async_read_some(asio::buffer(data), use_task));
      CHECK(!got);
      CHECK(got.error() == asio::error::eof);
      asio::steady_timer timer{self.get_executor(), 1us};
      auto none = co_await actors::as_result(timer.async_wait(use_task));
      CHECK(none.has_value());
    });
  }

  TEST_CASE("use_task composes with as_tuple and redirect_error") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      connection wire{self.get_executor()};
      std::array<char, 8> data;
      co_await asio::async_write(wire.theirs, asio::buffer("ab", 2), use_task);
      auto [e, n] = co_await wire.ours.async_read_some(
          asio::buffer(data), support::as_tuple(use_task));
      CHECK(!e);
      CHECK(n == 2);
      wire.theirs.close();
      std::error_code error;
      const std::size_t none = co_await wire.ours.async_read_some(
          asio::buffer(data), asio::redirect_error(use_task, error));
      CHECK(none == 0);
      CHECK(error == asio::error::eof);
    });
  }

  TEST_CASE("use_task is a default token") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      auto timer = actors::use_task_t::as_default_on(
          asio::steady_timer{self.get_executor(), 1us});
      co_await timer.async_wait();
      connection wire{self.get_executor()};
      auto socket = use_task.as_default_on(std::move(wire.ours));
      co_await asio::async_write(wire.theirs, asio::buffer("ab", 2), use_task);
      std::array<char, 8> data;
      const std::size_t n = co_await socket.async_read_some(asio::buffer(data));
      CHECK(n == 2);
    });
  }

  TEST_CASE("use_task composes with bind_cancellation_slot") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      asio::cancellation_signal signal;
      asio::steady_timer timer{self.get_executor(), 1h};
      asio::post(self.get_executor(),
                 [&] { signal.emit(asio::cancellation_type::all); });
      std::error_code e;
      try {
        co_await timer.async_wait(
            asio::bind_cancellation_slot(signal.slot(), use_task));
      } catch (const std::system_error& error) {
        e = error.code();
      }
      CHECK(e == asio::error::operation_aborted);
    });
  }

  TEST_CASE("values come as they are: none, one, many, moved, or an error") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      const auto ex = self.get_executor();
      for (const bool at_once : {true, false}) {
        co_await async_give<void()>(ex, at_once, use_task);
        const int one =
            co_await async_give<void(int)>(ex, at_once, use_task, 1);
        CHECK(one == 1);
        auto [a, b] = co_await async_give<void(int, std::string)>(
            ex, at_once, use_task, 1, std::string{"two"});
        CHECK(a == 1);
        CHECK(b == "two");
        auto moved = co_await async_give<void(std::unique_ptr<int>)>(
            ex, at_once, use_task, std::make_unique<int>(3));
        CHECK(*moved == 3);
        auto failed =
            co_await actors::as_result(async_give<void(std::error_code, int)>(
                ex, at_once, use_task,
                std::make_error_code(std::errc::io_error), 0));
        CHECK(failed.error() == std::errc::io_error);
        std::string what;
        auto error = std::make_exception_ptr(std::runtime_error{"thrown"});
        try {
          co_await async_give<void(std::exception_ptr)>(ex, at_once, use_task,
                                                        error);
        } catch (const std::runtime_error& e) {
          what = e.what();
        }
        CHECK(what == "thrown");
      }
    });
  }

  TEST_CASE("operations that complete inline do not deepen the stack") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      const auto ex = self.get_executor();
      long sum = 0;
      for (int i = 0; i != 100'000; ++i) {
        const int one = co_await async_give<void(int)>(ex, true, use_task, 1);
        sum += one;
      }
      CHECK(sum == 100'000);
    });
  }

  TEST_CASE("an operation that drops its handler is aborted") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      auto dropping = [](auto&& token) {
        return asio::async_initiate<decltype(token), void(std::error_code)>(
            [](auto handler) { (void)handler; }, token);
      };
      auto got = co_await actors::as_result(dropping(use_task));
      CHECK(got.error() == asio::error::operation_aborted);
      auto later = [ex = self.get_executor()](auto&& token) {
        return asio::async_initiate<decltype(token), void(std::error_code)>(
            [ex](auto handler) {
              asio::post(ex, [h = std::move(handler)] { (void)h; });
            },
            token);
      };
      got = co_await actors::as_result(later(use_task));
      CHECK(got.error() == asio::error::operation_aborted);
    });
  }

  TEST_CASE("an initiation that throws, throws out of the await") {
    in_an_actor([](actors::context<>&) -> actors::task<> {
      auto throwing = [](auto&& token) {
        return asio::async_initiate<decltype(token), void(std::error_code)>(
            [](auto handler) {
              (void)handler;
              throw std::runtime_error{"not started"};
            },
            token);
      };
      std::string what;
      try {
        co_await throwing(use_task);
      } catch (const std::runtime_error& e) {
        what = e.what();
      }
      CHECK(what == "not started");
    });
  }

  TEST_CASE("a stop cancels the operation: operation_aborted, a normal end") {
    for (const bool pool : {true, false}) {
      actors::system_options options = quiet(2);
      if (!pool) options.dispatcher = actors::dispatcher::shared();
      actors::actor_system system{options};
      std::atomic<int> aborted{0};
      auto body = [&](actors::context<> self) -> actors::task<> {
        asio::steady_timer timer{self.get_executor(), 1h};
        try {
          co_await timer.async_wait(use_task);
        } catch (const std::system_error& e) {
          aborted += e.code() == asio::error::operation_aborted;
        }
        // The clean-up is not cancelled.
        timer.expires_after(1us);
        co_await timer.async_wait(use_task);
        ++aborted;
      };
      auto a = system.spawn(body);
      a.started().get();
      a.stop();
      CHECK(a.stopped().get() == actors::exit_reason::normal);
      CHECK(aborted == 2);
    }
  }

  TEST_CASE("an abort that is shown as a value is told once, too") {
    actors::actor_system system{quiet(1)};
    std::vector<std::error_code> told;
    int cleaned_up = 0;
    auto as_tuple = [&](actors::context<> self) -> actors::task<> {
      asio::steady_timer timer{self.get_executor(), 1h};
      auto [e] = co_await timer.async_wait(support::as_tuple(use_task));
      told.push_back(e);
      co_await self.sleep_for(1ms);
      ++cleaned_up;
    };
    auto redirected = [&](actors::context<> self) -> actors::task<> {
      asio::steady_timer timer{self.get_executor(), 1h};
      std::error_code e;
      co_await timer.async_wait(asio::redirect_error(use_task, e));
      told.push_back(e);
      co_await self.sleep_for(1ms);
      ++cleaned_up;
    };
    auto a = system.spawn(as_tuple);
    auto b = system.spawn(redirected);
    a.started().get();
    b.started().get();
    a.stop();
    b.stop();
    CHECK(a.stopped().get() == actors::exit_reason::normal);
    CHECK(b.stopped().get() == actors::exit_reason::normal);
    REQUIRE(told.size() == 2);
    CHECK(told[0] == asio::error::operation_aborted);
    CHECK(told[1] == asio::error::operation_aborted);
    CHECK(cleaned_up == 2);
  }

  // --- strand ----------------------------------------------------------------

  TEST_CASE("operations that end at once keep nobody from going on") {
    for (const bool pool : {true, false}) {
      actors::system_options options = quiet(1);
      if (!pool) options.dispatcher = actors::dispatcher::shared();
      actors::actor_system system{options};
      auto s = system.spawn(server);
      auto posts = system.spawn([](actors::context<> self) -> actors::task<> {
        for (;;) co_await asio::post(self.get_executor(), use_task);
      });
      auto sends = system.spawn(
          [](actors::context<> self, server_ref to) -> actors::task<> {
            self.ready();
            for (;;) co_await to.send<note>();
          },
          s);
      posts.started().get();
      sends.started().get();
      CHECK(s.ask<echo>(1).get() == 1);
      sends.kill();
      CHECK(sends.stopped().get() == actors::exit_reason::killed);
      system.terminate();
      CHECK(posts.stopped().get() == actors::exit_reason::normal);
    }
  }

  TEST_CASE("an actor comes back on its own strand, on 4 shared threads") {
    actors::system_options options = quiet(4);
    options.dispatcher = actors::dispatcher::shared();
    actors::actor_system system{options};
    struct poke {};
    std::atomic<int> collisions{0};
    int steps = 0;  // not atomic: for ThreadSanitizer to see
    auto body = [&](actors::context<poke> self) -> actors::task<> {
      std::atomic<bool> inside{false};
      auto visit = [&] {
        if (inside.exchange(true)) ++collisions;
        ++steps;
        inside = false;
      };
      // Sockets of another executor, so that completions come from anywhere.
      connection wire{self.system().next_executor()};
      auto asked = self.spawn(server);
      std::array<char, 1> byte{};
      for (int i = 0; i != 200; ++i) {
        for (int k = 0; k != 3; ++k)
          asio::post(self.get_executor(), [&] { visit(); });
        co_await wire.theirs.async_write_some(asio::buffer("x", 1), use_task);
        visit();
        co_await wire.ours.async_read_some(asio::buffer(byte), use_task);
        visit();
        co_await asked.ask<echo>(i);
        visit();
        (void)co_await seven();
        visit();
        co_await self.receive([&](poke) { visit(); });
        CHECK(self.get_executor() == co_await asio::this_coro::executor);
      }
    };
    auto a = system.spawn(body);
    std::thread sender{[&] {
      for (int i = 0; i != 200; ++i) a.tell(poke{});
    }};
    sender.join();
    CHECK(a.stopped().get() == actors::exit_reason::normal);
    CHECK(collisions == 0);
    CHECK(steps >= 200 * 5);
  }

  // --- asio::awaitable -------------------------------------------------------

  TEST_CASE("a task awaits an asio::awaitable: value, void, exception") {
    in_an_actor([](actors::context<>&) -> actors::task<> {
      const int n = co_await seven();
      CHECK(n == 7);
      auto boxed = co_await later_boxed(8);
      CHECK(*boxed == 8);
      for (const bool later : {false, true}) {
        std::string what;
        try {
          co_await failing(later);
        } catch (const std::runtime_error& e) {
          what = e.what();
        }
        CHECK(what == "from an awaitable");
      }
    });
  }

  TEST_CASE("this_coro::executor is the actor's own, in both coroutines") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      asio::any_io_executor inner;
      auto below = [&]() -> asio::awaitable<void> {
        inner = co_await asio::this_coro::executor;
      };
      co_await below();
      auto mine = co_await asio::this_coro::executor;
      CHECK(mine == self.get_executor());
      CHECK(inner == mine);
    });
  }

  TEST_CASE("an awaitable in a task asks actors") {
    in_an_actor([](actors::context<>& self) -> actors::task<> {
      auto s = self.spawn(server);
      auto below = [&]() -> asio::awaitable<int> {
        const int a = co_await s.ask<echo>(1)(asio::use_awaitable);
        const int b = co_await s.ask<echo>(2)(asio::use_awaitable);
        co_return a + b;
      };
      const int sum = co_await below();
      CHECK(sum == 3);
    });
  }

  TEST_CASE("a stop aborts the awaitable beneath") {
    actors::actor_system system{quiet()};
    std::atomic<int> aborted{0};
    support::flag begun[2];
    auto below = [&](int i) -> asio::awaitable<void> {
      asio::steady_timer timer{co_await asio::this_coro::executor, 1h};
      begun[i].set();
      try {
        co_await timer.async_wait(asio::use_awaitable);
      } catch (const std::system_error& e) {
        aborted += e.code() == asio::error::operation_aborted;
        throw;
      }
    };
    auto body = [&](actors::context<>, int i) -> actors::task<> {
      co_await below(i);
    };
    auto stopped = system.spawn(body, 0);
    begun[0].wait();
    stopped.stop();
    CHECK(stopped.stopped().get() == actors::exit_reason::normal);
    CHECK(aborted.exchange(0) == 1);
    auto killed = system.spawn(body, 1);
    begun[1].wait();
    killed.kill();
    CHECK(killed.stopped().get() == actors::exit_reason::killed);
    CHECK(aborted == 1);
  }

  // --- completion tokens -----------------------------------------------------

  TEST_CASE(
      "asks take use_awaitable, a future, deferred, detached, a callback") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    asio::io_context io;
    int awaited = 0, deferred = 0, called = 0;
    auto client = [&]() -> asio::awaitable<void> {
      awaited = co_await s.ask<echo>(1)(asio::use_awaitable);
      co_await s.ask<note>()(asio::use_awaitable);
      co_await s.started()(asio::use_awaitable);
    };
    asio::co_spawn(io, client, [](std::exception_ptr e) {
      if (e) std::rethrow_exception(e);
    });
    auto lazy = s.ask<echo>(2)(support::deferred);
    std::move(lazy)(
        asio::bind_executor(io, [&](std::error_code, int n) { deferred = n; }));
    s.ask<echo>(3)(
        asio::bind_executor(io, [&](std::error_code, int n) { called = n; }));
    s.ask<echo>(4)(asio::detached);
    io.run();
    CHECK(awaited == 1);
    CHECK(deferred == 2);
    CHECK(called == 3);
    CHECK(s.ask<echo>(5)(asio::use_future).get() == 5);
    CHECK(s.ask(echo{6}, asio::use_future).get() == 6);
    CHECK(s.ask(echo{7}, 1h, asio::use_future).get() == 7);
    s.ask<note>()(asio::use_future).get();
  }

  TEST_CASE("asks compose with as_tuple and redirect_error") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    asio::io_context io;
    std::error_code tuple_error, redirected;
    std::string text = "untouched";
    auto client = [&]() -> asio::awaitable<void> {
      auto [e, value] =
          co_await s.ask<refuse>()(support::as_tuple(asio::use_awaitable));
      tuple_error = e;
      text = value;
      co_await s.ask<refuse>()(
          asio::redirect_error(asio::use_awaitable, redirected));
    };
    asio::co_spawn(io, client, asio::detached);
    io.run();
    CHECK(tuple_error == std::errc::permission_denied);
    CHECK(text.empty());  // default constructed
    CHECK(redirected == std::errc::permission_denied);
  }

  TEST_CASE("an ask's error is a system_error with the same code") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    CHECK(error_of([&] { return s.ask<refuse>()(asio::use_future).get(); }) ==
          std::errc::permission_denied);
    s.stop();
    s.stopped().get();
    CHECK(error_of([&] { return s.ask<echo>(1)(asio::use_future).get(); }) ==
          actors::errc::actor_stopped);
    const server_ref null;
    CHECK(error_of([&] { return null.ask<echo>(1)(asio::use_future).get(); }) ==
          actors::errc::actor_stopped);
  }

  TEST_CASE("a callback gets the error and a default constructed reply") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    std::promise<std::pair<std::error_code, std::string>> got;
    s.ask<refuse>()([&](std::error_code e, std::string text) {
      got.set_value({e, std::move(text)});
    });
    auto [e, text] = got.get_future().get();
    CHECK(e == std::errc::permission_denied);
    CHECK(text.empty());
  }

  TEST_CASE("a token's ask ends by its timeout, and by nothing else after") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    asio::io_context io;
    std::vector<std::error_code> ends;
    s.ask<riddle>().within(1ms)(asio::bind_executor(
        io, [&](std::error_code e, int) { ends.push_back(e); }));
    io.run();
    s.stop();
    s.stopped().get();
    REQUIRE(ends.size() == 1);
    CHECK(ends[0] == actors::errc::timed_out);
  }

  TEST_CASE("a timeout of nothing meets the answer: one of them wins") {
    actors::system_options options = quiet(2);
    options.dispatcher = actors::dispatcher::shared();
    actors::actor_system system{options};
    auto s = system.spawn(server);
    auto ended = system.spawn(server);
    ended.stop();
    ended.stopped().get();
    asio::io_context io;
    auto work = asio::make_work_guard(io);
    std::thread loop{[&] { io.run(); }};
    std::atomic<int> answered{0}, late{0}, stopped{0}, other{0};
    constexpr int rounds = 2000;
    for (int i = 0; i != rounds; ++i) {
      auto count = [&](std::error_code e, int) {
        if (!e)
          ++answered;
        else if (e == actors::errc::timed_out)
          ++late;
        else if (e == actors::errc::actor_stopped)
          ++stopped;
        else
          ++other;
      };
      s.ask<echo>(i).within(0ms)(asio::bind_executor(io, count));
      ended.ask<echo>(i).within(0ms)(asio::bind_executor(io, count));
    }
    work.reset();
    loop.join();
    CHECK(answered + late + stopped == 2 * rounds);
    CHECK(other == 0);
    CHECK(stopped > 0);
  }

  TEST_CASE("the associated executor is where the handler runs") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    asio::io_context io;
    std::thread::id ran;
    s.ask<echo>(1)(asio::bind_executor(
        io, [&](std::error_code, int) { ran = std::this_thread::get_id(); }));
    io.run();
    CHECK(ran == std::this_thread::get_id());
  }

  TEST_CASE(
      "without one the handler runs on the system, on no actor's strand") {
    for (const bool pool : {true, false}) {
      actors::system_options options = quiet(2);
      if (!pool) options.dispatcher = actors::dispatcher::shared();
      actors::actor_system system{options};
      // On the second thread, so that it can go on while the handler blocks
      // the first, unless the handler is on its strand.
      auto s = system.spawn({.placement = actors::placement::on(1)}, server);
      std::promise<int> second;
      s.ask<echo>(1)([&](std::error_code, int) {
        std::promise<int> got;
        asio::io_context io;
        s.ask<echo>(2)(asio::bind_executor(
            io, [&](std::error_code, int n) { got.set_value(n); }));
        io.run();
        second.set_value(got.get_future().get());
      });
      CHECK(second.get_future().get() == 2);
    }
  }

  TEST_CASE("memory comes from where the handler says, moved from or not") {
    // As in Asio's example of an allocator: it belongs to what the handler
    // keeps, and has all of it back before the handler is called.
    struct session {
      int blocks = 0;
    };
    struct keeper {
      using allocator_type = session_allocator<char, session>;
      allocator_type get_allocator() const noexcept {
        return allocator_type{*kept};
      }
      void operator()(std::error_code, int) { out->set_value(kept->blocks); }
      std::shared_ptr<session> kept;
      std::promise<int>* out;
    };
    actors::actor_system system{quiet(1)};
    auto s = system.spawn(server);
    for (const bool timed : {false, true}) {
      std::promise<int> blocks;
      keeper handler{std::make_shared<session>(), &blocks};
      auto op = s.ask<echo>(1);
      if (timed)
        std::move(op).within(1h)(std::move(handler));
      else
        std::move(op)(std::move(handler));
      CHECK(blocks.get_future().get() == 0);
    }
  }

  TEST_CASE("an ask whose system ends meanwhile ends once all the same") {
    for (const bool pool : {true, false}) {
      for (int round = 0; round != (support::sanitized ? 20 : 200); ++round) {
        std::atomic<int> asked{0}, ended{0};
        support::flag going;
        std::thread asker;
        {
          actors::system_options options = quiet(1);
          if (!pool) options.dispatcher = actors::dispatcher::shared();
          actors::actor_system system{options};
          auto s = system.spawn(server);
          // No executor of its own: it is to run on threads that end.
          asker = std::thread{[&, s] {
            for (int i = 0; i != 100; ++i) {
              ++asked;
              s.ask<echo>(i).within(1h)([&](std::error_code e, int) {
                if (!e || e == actors::errc::actor_stopped) ++ended;
                ended.notify_all();
              });
              if (i == 10) going.set();
            }
          }};
          going.wait();
        }
        asker.join();
        for (int n = ended; n != asked; n = ended) ended.wait(n);
        CHECK(ended == 100);
      }
    }
  }

  TEST_CASE("a reply that comes after the system has ended still arrives") {
    for (const bool pool : {true, false}) {
      actors::reply_to<int> kept;
      std::promise<int> got;
      {
        actors::system_options options = quiet(1);
        if (!pool) options.dispatcher = actors::dispatcher::shared();
        actors::actor_system system{options};
        auto s =
            system.spawn([&](actors::context<echo> self) -> actors::task<> {
              co_await self.receive([&](echo, actors::reply_to<int> reply) {
                kept = std::move(reply);
              });
            });
        s.ask<echo>(1).within(1h)(
            [&](std::error_code, int n) { got.set_value(n); });
        s.stopped().get();
      }
      CHECK(kept.reply(7));
      CHECK(got.get_future().get() == 7);
    }
  }

  TEST_CASE("the cancellation slot ends an ask with operation_aborted") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    asio::io_context io;
    asio::cancellation_signal signal;
    std::vector<std::error_code> ends;
    s.ask<riddle>()(asio::bind_cancellation_slot(
        signal.slot(), asio::bind_executor(io, [&](std::error_code e, int) {
          ends.push_back(e);
        })));
    asio::post(io, [&] { signal.emit(asio::cancellation_type::terminal); });
    io.run();
    signal.emit(asio::cancellation_type::terminal);  // too late, and harmless
    REQUIRE(ends.size() == 1);
    CHECK(ends[0] == asio::error::operation_aborted);
  }

  TEST_CASE("the associated allocator is used, and given back all of it") {
    actors::actor_system system{quiet()};
    auto s = system.spawn(server);
    asio::io_context io;
    arena used;
    bool called = false;
    s.ask<echo>(1).within(1h)(
        asio::bind_executor(io, arena_handler{&used, &called}));
    io.run();
    CHECK(called);
    CHECK(used.uses > 0);
    CHECK(used.bytes == 0);
  }

  TEST_CASE("a handler waits for its own loop, though the system has gone") {
    asio::io_context io;
    int called = 0;
    std::vector<std::error_code> ends;
    {
      actors::actor_system system{quiet()};
      auto s = system.spawn(server);
      auto end = [&](std::error_code e, int) { ends.push_back(e); };
      s.ask<echo>(1).within(1h)(asio::bind_executor(io, end));
      s.ask<riddle>().within(1h)(asio::bind_executor(io, end));
      s.ask<echo>(1)(
          asio::bind_executor(io, [&](std::error_code, int n) { called = n; }));
    }
    io.run();
    REQUIRE(ends.size() == 2);
    CHECK(!ends[0]);
    CHECK(ends[1] == actors::errc::no_reply);
    CHECK(called == 1);
  }

  TEST_CASE("a callback without an executor is called before its system goes") {
    for (const bool pool : {true, false}) {
      for (int i = 0; i != 100; ++i) {
        std::atomic<int> called{0};
        {
          actors::system_options options = quiet(2);
          if (!pool) options.dispatcher = actors::dispatcher::shared();
          actors::actor_system system{options};
          auto s = system.spawn(server);
          s.ask<echo>(1)([&](std::error_code, int) { ++called; });
          s.ask<riddle>()([&](std::error_code, int) { ++called; });
        }
        CHECK(called == 2);
      }
    }
  }

  TEST_CASE("a callback is called though its actor's system went before") {
    server_ref s;
    {
      actors::actor_system system{quiet()};
      s = system.spawn(server);
    }
    std::promise<std::error_code> end;
    s.ask<echo>(1)([&](std::error_code e, int) { end.set_value(e); });
    CHECK(end.get_future().get() == actors::errc::actor_stopped);
  }

  // --- no allocation ---------------------------------------------------------

#if ACTORS_COUNT_NEW
  TEST_CASE("in steady state nothing comes from operator new") {
    for (const bool pool : {true, false}) {
      actors::system_options options = quiet(1);
      if (!pool) options.dispatcher = actors::dispatcher::shared();
      actors::actor_system system{options};
      auto s = system.spawn(server);
      auto main =
          [&](actors::context<> self) -> actors::task<std::array<long, 5>> {
        connection wire{self.get_executor()};
        asio::steady_timer timer{self.get_executor()};
        std::array<char, 64> data{};
        std::array<long, 5> made{};
        for (int round = 0; round != 2; ++round) {  // the first warms up
          auto before = allocations.load();
          const auto lap = [&](std::size_t i) {
            const auto now = allocations.load();
            made[i] = now - before;
            before = allocations.load();
          };
          for (int i = 0; i != 100; ++i) {
            co_await wire.ours.async_write_some(asio::buffer(data), use_task);
            co_await wire.theirs.async_read_some(asio::buffer(data), use_task);
          }
          lap(0);
          for (int i = 0; i != 100; ++i) {
            co_await asio::async_write(wire.ours, asio::buffer(data), use_task);
            co_await asio::async_read(wire.theirs, asio::buffer(data),
                                      use_task);
          }
          lap(1);
          for (int i = 0; i != 100; ++i) co_await s.ask<echo>(i).within(1h);
          lap(2);
          for (int i = 0; i != 100; ++i) co_await self.sleep_for(1us);
          lap(3);
          for (int i = 0; i != 100; ++i) {
            timer.expires_after(1us);
            co_await timer.async_wait(use_task);
          }
          lap(4);
        }
        co_return made;
      };
      const auto made = system.run(main);
      CAPTURE(pool);
      CHECK(made[0] == 0);  // socket
      // Composed: begun outside of Asio's own loop, as in a message's turn on
      // a pool, Asio takes memory for a signal between its parts.
      CHECK(made[1] <= (pool ? 1 : 0));
      CHECK(made[2] == 0);  // ask
      CHECK(made[3] == 0);  // sleep_for
      CHECK(made[4] == 0);  // timer
    }
  }
#endif
}
