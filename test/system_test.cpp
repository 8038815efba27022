#include "actors/system.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace std::chrono_literals;
using support::counted;
using support::error_of;
using support::flag;
using support::quiet;

namespace {

struct add {
  int n;
};
struct total {
  using reply_type = int;
};
struct where {
  using reply_type = std::thread::id;
};

actors::task<> counter(actors::context<add, total> self) {
  int sum = 0;
  while (co_await self.receive([&](add a) { sum += a.n; },
                               [&](total) { return sum; })) {
  }
}

actors::task<> resident(actors::context<where> self) {
  while (
      co_await self.receive([](where) { return std::this_thread::get_id(); })) {
  }
}

actors::task<> idle(actors::context<> self) { co_await self.until_stop(); }

/// All kinds of systems with threads of their own.
template <class F>
void each_system(F f) {
  for (const auto kind :
       {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
    for (std::size_t threads = 1; threads <= 4; ++threads) {
      CAPTURE(threads);
      CAPTURE((kind.which() == actors::dispatcher::kind::pool));
      actors::system_options options = quiet(threads);
      options.dispatcher = kind;
      f(options);
    }
  }
}

}  // namespace

TEST_SUITE("system") {
  static_assert(!std::is_copy_constructible_v<actors::actor_system>);
  static_assert(!std::is_move_constructible_v<actors::actor_system>);

  TEST_CASE("run gives the value of its coroutine, with 1 to 4 threads") {
    each_system([](const actors::system_options& options) {
      actors::actor_system system{options};
      auto main = [](actors::context<> self, int n) -> actors::task<int> {
        auto c = self.spawn(counter);
        c.tell(add{n});
        co_return co_await c.ask<total>();
      };
      CHECK(system.run(main, 7) == 7);
      CHECK(system.run(main, 8) == 8);
    });
  }

  TEST_CASE("run gives values that can only be moved, and none") {
    actors::actor_system system{quiet()};
    auto boxed =
        [](actors::context<>,
           std::string s) -> actors::task<std::unique_ptr<std::string>> {
      co_return std::make_unique<std::string>(std::move(s));
    };
    CHECK(*system.run(boxed, "text") == "text");
    bool ran = false;
    auto nothing = [&](actors::context<>) -> actors::task<> {
      ran = true;
      co_return;
    };
    system.run(nothing);
    CHECK(ran);
  }

  TEST_CASE("run moves its arguments in, and its main actor has messages") {
    actors::actor_system system{quiet()};
    auto main = [](actors::context<add> self,
                   std::unique_ptr<int> start) -> actors::task<int> {
      self.ref().tell(add{1});
      auto got = co_await self.receive();
      co_return *start + got->n;
    };
    CHECK(system.run(main, std::make_unique<int>(41)) == 42);
  }

  TEST_CASE("run throws what its coroutine throws") {
    each_system([](const actors::system_options& options) {
      actors::actor_system system{options};
      auto main = [](actors::context<>) -> actors::task<int> {
        throw std::runtime_error{"from main"};
        co_return 0;
      };
      CHECK(support::message_of([&] { return system.run(main); }) ==
            "from main");
    });
  }

  TEST_CASE("run of a main actor that is stopped first is actor_stopped") {
    actors::actor_system system{quiet()};
    auto main = [](actors::context<> self) -> actors::task<int> {
      self.any_ref().kill();
      co_await self.sleep_for(1h);
      co_return 0;
    };
    CHECK(error_of([&] { return system.run(main); }) ==
          actors::errc::actor_stopped);
    system.terminate();
    auto late = [](actors::context<>) -> actors::task<int> { co_return 1; };
    CHECK(error_of([&] { return system.run(late); }) ==
          actors::errc::actor_stopped);
  }

  TEST_CASE("run and wait on a thread of the runtime are would_deadlock") {
    each_system([](const actors::system_options& options) {
      actors::actor_system system{options};
      auto main = [](actors::context<> self) -> actors::task<int> {
        auto inner = [](actors::context<>) -> actors::task<> { co_return; };
        const bool run = error_of([&] {
                           self.system().run(inner);
                           return 0;
                         }) == actors::errc::would_deadlock;
        const bool wait = error_of([&] {
                            self.system().wait();
                            return 0;
                          }) == actors::errc::would_deadlock;
        auto c = self.spawn(counter);
        const bool get = error_of([&] { return c.ask<total>().get(); }) ==
                         actors::errc::would_deadlock;
        co_return run + wait + get;
      };
      CHECK(system.run(main) == 3);
    });
  }

  TEST_CASE("wait ends when a signal stops the system") {
    for (int i = 0; i != 3; ++i) {
      each_system([](const actors::system_options& options) {
        actors::actor_system system{options};
        system.stop_on_signals({SIGTERM, SIGUSR1});
        auto c = system.spawn(counter);
        std::raise(SIGTERM);
        system.wait();
        CHECK(c.stopped().get() == actors::exit_reason::normal);
      });
    }
  }

  TEST_CASE("terminate stops all actors, children first") {
    each_system([](const actors::system_options& options) {
      actors::actor_system system{options};
      std::atomic<int> order{0};
      std::atomic<int> child_at{0}, parent_at{0};
      flag begun;
      auto child = [&](actors::context<> self) -> actors::task<> {
        begun.set();
        co_await self.until_stop();
        child_at = ++order;
      };
      auto parent = [&](actors::context<> self) -> actors::task<> {
        self.spawn(child);
        co_await self.until_stop();
        parent_at = ++order;
      };
      system.spawn(parent);
      begun.wait();
      system.terminate();
      CHECK(child_at == 1);
      CHECK(parent_at == 2);
      system.terminate();  // once more does no harm
      system.wait();
      CHECK(system.spawn(counter).stopped().get() ==
            actors::exit_reason::not_started);
    });
  }

  TEST_CASE("terminate from inside an actor asks, and does not wait") {
    each_system([](const actors::system_options& options) {
      actors::actor_system system{options};
      auto body = [](actors::context<> self) -> actors::task<> {
        self.system().terminate();
        co_await self.until_stop();
      };
      auto a = system.spawn(body);
      system.wait();
      CHECK(a.stopped().get() == actors::exit_reason::normal);
    });
  }

  TEST_CASE("async_terminate is awaited by a plain thread, and by an actor") {
    each_system([](const actors::system_options& options) {
      actors::actor_system system{options};
      auto c = system.spawn(counter);
      CHECK(system.async_terminate().get() == actors::exit_reason::normal);
      CHECK(c.stopped().get() == actors::exit_reason::normal);
    });
  }

  TEST_CASE("the destructor drains: what was told is handled") {
    each_system([](const actors::system_options& options) {
      int sum = 0;
      {
        actors::actor_system system{options};
        auto body = [&sum](actors::context<add> self) -> actors::task<> {
          while (co_await self.receive([&](add a) { sum += a.n; })) {
          }
        };
        auto a = system.spawn(body);
        for (int i = 0; i != 1000; ++i) a.tell(add{1});
      }
      CHECK(sum == 1000);
    });
  }

  TEST_CASE("while an exception unwinds, the destructor does not drain") {
    each_system([](const actors::system_options& given) {
      actors::system_options options = given;
      options.stop_timeout = 1h;  // for so long it would drain
      std::atomic<int> handled{0};
      try {
        actors::actor_system system{options};
        auto body = [&](actors::context<add> self) -> actors::task<> {
          while (co_await self.receive([&](add) -> actors::task<> {
            ++handled;
            handled.notify_all();
            co_await self.sleep_for(1h);
          })) {
          }
        };
        auto a = system.spawn({.stop_timeout = 0ms}, body);
        a.tell(add{1});
        a.tell(add{1});
        handled.wait(0);
        throw std::runtime_error{"unwinding"};
      } catch (const std::runtime_error&) {
      }
      // It came here, and not in an hour.
      CHECK(handled == 1);
    });
  }

  TEST_CASE("the destructor drains for stop_timeout, and then stops") {
    each_system([](const actors::system_options& given) {
      actors::system_options options = given;
      options.stop_timeout = 20ms;
      std::atomic<int> handled{0};
      std::atomic<bool> cleaned_up{false};
      {
        actors::actor_system system{options};
        auto body = [&](actors::context<add> self) -> actors::task<> {
          while (co_await self.receive([&](add) -> actors::task<> {
            ++handled;
            co_await self.sleep_for(5ms);
          })) {
          }
          cleaned_up = true;
        };
        auto a = system.spawn({.stop_timeout = 1h}, body);
        for (int i = 0; i != 100'000; ++i) a.tell(add{1});
      }
      CHECK(handled < 100'000);
      CHECK(cleaned_up);  // asked to end, and not killed
    });
  }

  TEST_CASE("run() ends for a main actor that is abandoned") {
    each_system([](const actors::system_options& given) {
      actors::system_options options = given;
      options.stop_timeout = options.kill_timeout = 1ms;
      flag begun;
      support::stuck* hangs = nullptr;
      {
        actors::actor_system system{options};
        std::thread ender{[&] {
          begun.wait();
          system.terminate();
        }};
        auto body = [&](actors::context<>) -> actors::task<int> {
          support::stuck operation{&hangs};
          begun.set();
          co_await operation;
          co_return 1;
        };
        CHECK(error_of([&] { return system.run(body); }) ==
              actors::errc::actor_stopped);
        ender.join();
      }
      hangs->complete();  // and frees what was left
    });
  }

  TEST_CASE("for ever is a timeout, too") {
    each_system([](const actors::system_options& given) {
      actors::system_options options = given;
      options.stop_timeout = options.kill_timeout = actors::duration::max();
      std::atomic<int> sum{0};
      {
        actors::actor_system system{options};
        auto a = system.spawn([&](actors::context<add> self) -> actors::task<> {
          co_await self.serve([&](add m) { sum += m.n; });
        });
        for (int i = 0; i != 100; ++i) a.tell(add{1});
        a.started().get(actors::duration::max());
      }
      CHECK(sum == 100);
    });
  }

  TEST_CASE("a system is destroyed by one of its own actors") {
    each_system([](const actors::system_options& given) {
      // The log lives as long as the system's inside.
      flag gone;
      auto at_end = std::shared_ptr<void>{nullptr, [&](void*) { gone.set(); }};
      actors::system_options options = given;
      options.log.emplace(
          [keep = std::move(at_end)](std::string_view) { (void)keep; });
      auto system = std::make_unique<actors::actor_system>(options);
      options.log.reset();
      auto body = [&](actors::context<> self) -> actors::task<> {
        self.spawn(idle);
        system.reset();
        co_await self.until_stop();
      };
      {
        auto a = system->spawn(body);
        a.stopped().get();
      }
      gone.wait();
      CHECK(!system);
    });
  }

  TEST_CASE("what actors own is gone after the destructor") {
    each_system([](const actors::system_options& options) {
      std::atomic<int> alive{0};
      {
        actors::actor_system system{options};
        auto body = [](actors::context<add> self, counted) -> actors::task<> {
          co_await self.until_stop();
        };
        for (int i = 0; i != 10; ++i) {
          auto a = system.spawn(body, counted{alive});
          a.tell(add{1});
        }
      }
      CHECK(alive == 0);
    });
  }

  TEST_CASE("placement on(i) is a thread, the same for each i") {
    actors::actor_system system{quiet(3)};
    std::set<std::thread::id> threads;
    for (std::size_t i = 0; i != 3; ++i) {
      auto a = system.spawn({.placement = actors::placement::on(i)}, resident);
      auto b =
          system.spawn({.placement = actors::placement::on(i + 3)}, resident);
      const auto id = a.ask<where>().get();
      CHECK(b.ask<where>().get() == id);
      CHECK(a.ask<where>().get() == id);
      threads.insert(id);
    }
    CHECK(threads.size() == 3);
  }

  TEST_CASE("children of the system take turns on the threads") {
    actors::actor_system system{quiet(4)};
    std::set<std::thread::id> threads;
    for (int i = 0; i != 4; ++i)
      threads.insert(system.spawn(resident).ask<where>().get());
    CHECK(threads.size() == 4);
  }

  TEST_CASE("a child lives beside its parent, unless it is placed") {
    actors::actor_system system{quiet(2)};
    auto main = [](actors::context<> self) -> actors::task<bool> {
      const auto here = std::this_thread::get_id();
      for (int i = 0; i != 8; ++i) {
        auto child = self.spawn(resident);
        if (co_await child.ask<where>() != here) co_return false;
        auto beside = self.spawn(
            {.placement = actors::placement::beside_parent()}, resident);
        if (co_await beside.ask<where>() != here) co_return false;
      }
      std::set<std::thread::id> threads;
      for (int i = 0; i != 2; ++i) {
        auto child = self.spawn({.placement = actors::placement::round_robin()},
                                resident);
        const auto id = co_await child.ask<where>();
        threads.insert(id);
      }
      co_return threads.size() == 2;
    };
    CHECK(system.run(main));
  }

  TEST_CASE("an actor reaches its system: it can spawn beside itself") {
    each_system([](const actors::system_options& options) {
      actors::actor_system system{options};
      auto main = [](actors::context<> self) -> actors::task<std::string> {
        auto c = self.system().spawn({.name = "other"}, counter);
        c.tell(add{1});
        (void)co_await c.ask<total>();
        co_return c.path();
      };
      CHECK(system.run(main) == "/user/other");
      CHECK(system.user().path() == "/user");
    });
  }

  TEST_CASE("stopping /user is terminating") {
    actors::actor_system system{quiet()};
    auto c = system.spawn(counter);
    system.user().stop();
    system.wait();
    CHECK(c.stopped().get() == actors::exit_reason::normal);
  }

  TEST_CASE("refs outlive their system harmlessly") {
    each_system([](const actors::system_options& options) {
      actors::actor_ref<add, total> c;
      {
        actors::actor_system system{options};
        c = system.spawn(counter);
      }
      c.tell(add{1});
      c.stop();
      c.drain();
      c.kill();
      CHECK(error_of([&] { return c.ask<total>().get(); }) ==
            actors::errc::actor_stopped);
      CHECK(c.stopped().get() == actors::exit_reason::normal);
      CHECK(!c.path().empty());
    });
  }

  TEST_CASE("a system ends while a thread of another one still wakes it") {
    each_system([](const actors::system_options& options) {
      actors::actor_system server{quiet(1)};
      const auto sum = server.spawn(counter);
      auto asking = [](actors::context<>,
                       actors::actor_ref<add, total> who) -> actors::task<int> {
        co_return co_await who.ask<total>();
      };
      for (int i = 0; i != 300; ++i) {
        // The answer is all that it waits for: its end follows at once.
        actors::actor_system client{options};
        CHECK(client.run(asking, sum) == 0);
      }
    });
  }

  TEST_CASE("options out of range are refused with a sentence") {
    const auto refused = [](auto change) {
      actors::system_options options = quiet();
      change(options);
      return support::message_of<std::invalid_argument>([&] {
        actors::actor_system system{options};
        return 0;
      });
    };
    CHECK(support::contains(refused([](auto& o) { o.threads = 0; }),
                            "threads has to be 1 to 1024"));
    CHECK(support::contains(refused([](auto& o) { o.threads = 1025; }),
                            "threads has to be 1 to 1024"));
    CHECK(support::contains(refused([](auto& o) { o.throughput = 0; }),
                            "throughput has to be"));
    CHECK(support::contains(refused([](auto& o) { o.stop_timeout = -1ns; }),
                            "stop_timeout may not be negative"));
    CHECK(support::contains(refused([](auto& o) { o.kill_timeout = -1ns; }),
                            "kill_timeout may not be negative"));
  }
}
