// Which threads run an actor: pinned, named pools, the system's own.
#include "actors/dispatcher.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::context;
using actors::dispatcher;
using actors::errc;
using actors::exit_reason;
using actors::pinned;
using actors::placement;
using actors::simulation;
using actors::system_options;
using actors::task;
using support::contains;
using support::counted;
using support::error_of;
using support::flag;
using support::message_of;
using thread_id = std::thread::id;

/// Where do you run?
struct where {
  using reply_type = thread_id;
};
/// Blocks the thread.
struct block {
  flag* entered;
  flag* until;
};
struct add {
  int n;
};
struct total {
  using reply_type = int;
};

task<> worker(context<where, block> self) {
  co_await self.serve([](where) { return std::this_thread::get_id(); },
                      [](block b) {
                        b.entered->set();
                        b.until->wait();
                      });
}
task<> counter(context<add, total> self) {
  int sum = 0;
  co_await self.serve([&](add a) { sum += a.n; }, [&](total) { return sum; });
}

thread_id thread_of(const actor_ref<where>& who) {
  return who.ask<where>().get();
}

/// With a pool "db" of this kind.
system_options with_pool(dispatcher own, dispatcher db, std::size_t threads) {
  system_options options = support::quiet(2);
  options.dispatcher = own;
  options.pools = {{.name = "db", .threads = threads, .dispatcher = db}};
  return options;
}

std::string refusal(system_options options) {
  return message_of<std::invalid_argument>(
      [&] { actor_system system{options}; });
}

}  // namespace

TEST_SUITE("dispatcher") {
  static_assert(dispatcher::named("db").name() == "db");
  static_assert(dispatcher::pool().name().empty());

  // --- pinned ---------------------------------------------------------------

  TEST_CASE(
      "a pinned actor has a thread of its own, and its children share "
      "it") {
    for (const auto own : {dispatcher::pool(), dispatcher::shared()}) {
      system_options options = support::quiet(1);
      options.dispatcher = own;
      actor_system system{options};
      const auto first = system.spawn({.dispatcher = pinned()}, worker);
      const auto second = system.spawn({.dispatcher = pinned()}, worker);
      const auto other = system.spawn(worker);
      const std::set<thread_id> threads{thread_of(first), thread_of(second),
                                        thread_of(other)};
      CHECK(threads.size() == 3);
      CHECK(thread_of(first) == thread_of(first));

      actors::inbox<actor_ref<where>> in{system};
      (void)system.spawn(
          {.dispatcher = pinned()}, [to = in.ref()](context<> self) -> task<> {
            to.tell(actor_ref<where>{self.spawn(worker)});
            to.tell(actor_ref<where>{
                self.spawn({.dispatcher = dispatcher::system()}, worker)});
            to.tell(
                actor_ref<where>{self.spawn({.dispatcher = pinned()}, worker)});
            to.tell(actor_ref<where>{
                self.spawn({.placement = placement::round_robin()}, worker)});
            to.tell(actor_ref<where>{
                self.spawn({.placement = placement::on(3)}, worker)});
            co_await self.until_stop();
          });
      std::vector<thread_id> at;
      for (int i = 0; i != 5; ++i) at.push_back(thread_of(in.receive().get()));
      CHECK(threads.count(at[0]) == 0);
      CHECK(at[1] == thread_of(other));
      CHECK(at[2] != at[0]);
      CHECK(at[3] != at[0]);
      CHECK(at[3] != at[2]);
      CHECK(at[4] == at[0]);
    }
  }

  TEST_CASE("a pinned actor may block without harm to others") {
    actor_system system{support::quiet(1)};
    flag entered, until;
    const auto blocks = system.spawn({.dispatcher = pinned()}, worker);
    const auto other = system.spawn(worker);
    const auto also = system.spawn({.dispatcher = pinned()}, worker);
    blocks.tell(block{&entered, &until});
    entered.wait();
    CHECK(thread_of(other) != thread_of(also));
    until.set();
    CHECK(thread_of(blocks) != thread_of(also));
  }

  TEST_CASE("threads of pinned actors are used again") {
    actor_system system{support::quiet(1)};
    std::set<thread_id> threads;
    const int count = support::sanitized ? 500 : 10'000;
    for (int i = 0; i != count; ++i) {
      const auto a = system.spawn({.dispatcher = pinned()}, worker);
      threads.insert(thread_of(a));
      i % 2 ? a.stop() : a.kill();
      (void)a.stopped().get();
    }
    CHECK(threads.size() <= 8);
  }

  TEST_CASE("a thread is kept while a child of the actor is on it") {
    actor_system system{support::quiet(1)};
    actors::inbox<actor_ref<where>> in{system};
    flag entered, until;
    const auto parent = system.spawn(
        {.dispatcher = pinned()}, [to = in.ref()](context<add> self) -> task<> {
          to.tell(actor_ref<where>{self.spawn({.stop_timeout = 1h}, worker)});
          (void)co_await self.receive();
        });
    const auto child = in.receive().get();
    const thread_id at = thread_of(child);
    parent.tell(add{1});
    (void)parent.stopped().get();
    CHECK(child.stopped().get() == exit_reason::normal);
    // Only now it is free.
    std::vector<actor_ref<where>> next;
    for (int i = 0; i != 3; ++i)
      next.push_back(system.spawn({.dispatcher = pinned()}, worker));
    int same = 0;
    for (const auto& n : next) same += thread_of(n) == at;
    CHECK(same <= 1);
  }

  TEST_CASE("a pinned actor that is restarted stays where it is") {
    actor_system system{support::quiet(1)};
    const auto a = system.spawn(
        {.dispatcher = pinned()}, [](context<where, add> self) -> task<> {
          co_await self.serve([](where) { return std::this_thread::get_id(); },
                              [](add) { throw std::runtime_error{"add"}; });
        });
    const thread_id at = thread_of(a);
    a.tell(add{1});
    CHECK(thread_of(a) == at);
  }

  TEST_CASE("a spawn that is refused leaves no thread taken") {
    actor_system system{support::quiet(1)};
    const auto one =
        system.spawn({.name = "one", .dispatcher = pinned()}, worker);
    std::set<thread_id> threads{thread_of(one)};
    for (int i = 0; i != 20; ++i)
      CHECK(error_of([&] {
              (void)system.spawn({.name = "one", .dispatcher = pinned()},
                                 worker);
            }) == errc::name_taken);
    for (int i = 0; i != 20; ++i) {
      const auto a = system.spawn({.dispatcher = pinned()}, worker);
      threads.insert(thread_of(a));
      a.stop();
      (void)a.stopped().get();
    }
    CHECK(threads.size() <= 4);
  }

  TEST_CASE(
      "timers, I/O and offload of a pinned actor come back to its "
      "thread") {
    actor_system system{support::quiet(1)};
    const auto a = system.spawn_once(
        {.dispatcher = pinned()}, [](context<> self) -> task<> {
          const thread_id at = std::this_thread::get_id();
          co_await self.sleep_for(1ms);
          CHECK(std::this_thread::get_id() == at);
          asio::steady_timer timer{self.get_executor()};
          timer.expires_after(1ms);
          co_await timer.async_wait(actors::use_task);
          CHECK(std::this_thread::get_id() == at);
          auto elsewhere = [] { return std::this_thread::get_id(); };
          CHECK(co_await self.offload(elsewhere) != at);
          CHECK(std::this_thread::get_id() == at);
        });
    CHECK(a.stopped().get() == exit_reason::normal);
  }

  TEST_CASE("get() on the thread of a pinned actor is refused") {
    actor_system system{support::quiet(1)};
    const auto other = system.spawn(worker);
    const auto a = system.spawn_once(
        {.dispatcher = pinned()}, [other](context<>) -> task<> {
          CHECK(error_of([&] { (void)other.ask<where>().get(); }) ==
                errc::would_deadlock);
          co_return;
        });
    CHECK(a.stopped().get() == exit_reason::normal);
  }

  TEST_CASE("a system may pin each actor that has not chosen") {
    system_options options = support::quiet(2);
    options.threads.reset();
    options.dispatcher = pinned();
    actor_system system{options};
    std::vector<actor_ref<where>> all;
    for (int i = 0; i != 4; ++i) all.push_back(system.spawn(worker));
    const actor_ref<where> own =
        system.spawn({.dispatcher = dispatcher::system()}, worker);
    std::set<thread_id> threads{thread_of(own)};
    for (const auto& a : all) threads.insert(thread_of(a));
    CHECK(threads.size() == 5);
    CHECK(system.run([](context<> self) -> task<bool> {
      const auto child = self.spawn(worker);
      co_return co_await child.ask<where>() == std::this_thread::get_id();
    }));
    CHECK(thread_of(system.spawn({.dispatcher = dispatcher::pool()}, worker)) ==
          thread_of(own));
  }

  TEST_CASE("a spawn on a system that has ended takes no thread") {
    actor_system system{support::quiet(1)};
    (void)thread_of(system.spawn({.dispatcher = pinned()}, worker));
    system.terminate();
    const auto a = system.spawn({.dispatcher = pinned()}, worker);
    CHECK(a.stopped().get() == exit_reason::not_started);
  }

  TEST_CASE("the end of a system ends its pinned actors, and drains them") {
    std::atomic<int> handled{0}, alive{0};
    {
      actor_system system{support::quiet(1)};
      for (int i = 0; i != 5; ++i) {
        const auto a = system.spawn(
            {.dispatcher = pinned()},
            [&handled](context<add> self, counted) -> task<> {
              co_await self.serve([&](add) { ++handled; });
            },
            counted{alive});
        for (int k = 0; k != 100; ++k) a.tell(add{k});
      }
    }
    CHECK(handled == 500);
    CHECK(alive == 0);
  }

  TEST_CASE("a pinned thread that does not come back is left behind") {
    support::log_lines lines;
    flag entered, until, left;
    std::thread late;
    {
      system_options options;
      options.threads = 1;
      options.log = lines.sink();
      options.stop_timeout = 20ms;
      options.kill_timeout = 20ms;
      actor_system system{options};
      const auto a =
          system.spawn({.name = "stuck", .dispatcher = pinned()}, worker);
      a.tell(block{&entered, &until});
      entered.wait();
      system.terminate();
      CHECK(contains(lines.find("does not come back"), "/user/stuck"));
      until.set();
      system.wait();
    }
  }

  // --- named pools ----------------------------------------------------------

  TEST_CASE(
      "an actor of a named pool runs on its threads, and so do its "
      "children") {
    for (const auto own : {dispatcher::pool(), dispatcher::shared(), pinned()})
      for (const auto db : {dispatcher::pool(), dispatcher::shared()}) {
        actor_system system{with_pool(own, db, 2)};
        std::set<thread_id> of_db, of_system;
        for (int i = 0; i != 8; ++i) {
          const auto a =
              system.spawn({.dispatcher = dispatcher::named("db")}, worker);
          of_db.insert(thread_of(a));
          of_system.insert(thread_of(
              system.spawn({.dispatcher = dispatcher::system()}, worker)));
        }
        CHECK(of_db.size() <= 2);
        if (db.which() == dispatcher::kind::pool) CHECK(of_db.size() == 2);
        for (const auto id : of_db) CHECK(of_system.count(id) == 0);

        actors::inbox<actor_ref<where>> in{system};
        (void)system.spawn(
            {.dispatcher = dispatcher::named("db")},
            [to = in.ref()](context<> self) -> task<> {
              to.tell(actor_ref<where>{self.spawn(worker)});
              to.tell(actor_ref<where>{
                  self.spawn({.placement = placement::round_robin()}, worker)});
              to.tell(actor_ref<where>{
                  self.spawn({.placement = placement::on(1)}, worker)});
              co_await self.until_stop();
            });
        for (int i = 0; i != 3; ++i)
          CHECK(of_system.count(thread_of(in.receive().get())) == 0);
      }
  }

  TEST_CASE("placement is among the threads of the pool") {
    actor_system system{with_pool(dispatcher::pool(), dispatcher::pool(), 3)};
    const auto at = [&](std::size_t i) {
      return thread_of(system.spawn({.dispatcher = dispatcher::named("db"),
                                     .placement = placement::on(i)},
                                    worker));
    };
    CHECK(at(0) == at(3));
    CHECK(at(1) == at(4));
    CHECK(std::set<thread_id>{at(0), at(1), at(2)}.size() == 3);
  }

  TEST_CASE("a pool of workers on a dispatcher has its workers there") {
    actor_system system{with_pool(dispatcher::pool(), dispatcher::pool(), 3)};
    const auto threads = [](const auto& pool) {
      std::set<thread_id> ids;
      for (int i = 0; i != 6; ++i) ids.insert(thread_of(pool));
      return ids;
    };
    const auto db = system.spawn({.dispatcher = dispatcher::named("db")},
                                 actors::pool(3), worker);
    CHECK(threads(db).size() == 3);
    const auto alone =
        system.spawn({.dispatcher = pinned()}, actors::pool(4), worker);
    CHECK(threads(alone).size() == 4);
    const auto below =
        system.spawn(actors::pool(4).workers({.dispatcher = pinned()}), worker);
    CHECK(threads(below).size() == 4);
  }

  TEST_CASE("a dispatcher that is not there is refused, and nothing starts") {
    actor_system system{with_pool(dispatcher::pool(), dispatcher::pool(), 1)};
    const auto say = [&](dispatcher d) {
      return message_of<std::invalid_argument>([&] {
        (void)system.spawn({.name = "one", .dispatcher = d}, worker);
      });
    };
    CHECK(contains(say(dispatcher::named("fs")),
                   "there is no pool of threads named \"fs\": name it in "
                   "system_options::pools"));
    CHECK(contains(say(dispatcher::shared()), "of another kind"));
    CHECK_FALSE(system.find("/user/one"));
    CHECK(say(dispatcher::pool()) == "");
    CHECK_THROWS_AS((void)dispatcher::named(""), std::invalid_argument);
    CHECK_THROWS_AS((void)dispatcher::named(std::string(32, 'x')),
                    std::invalid_argument);
    CHECK(dispatcher::named(std::string(31, 'x')).name().size() == 31);
  }

  TEST_CASE("bad pools of threads are refused") {
    const auto pools = [](std::vector<actors::pool_options> p) {
      system_options options = support::quiet(1);
      options.pools = std::move(p);
      return refusal(options);
    };
    CHECK(contains(pools({{.name = "a"}, {.name = "a"}}),
                   "\"a\" is named twice"));
    CHECK(contains(pools({{.name = "a", .threads = 0}}),
                   "\"a\" has to have 1 to 1024 threads, not 0"));
    CHECK(contains(pools({{.name = "a", .threads = 1025}}), "not 1025"));
    CHECK(contains(pools({{.name = ""}}), "1 to 31 characters"));
    CHECK(contains(pools({{.name = "a", .dispatcher = pinned()}}),
                   "is pool() or shared()"));
    CHECK(pools({{.name = "a"}, {.name = "b"}}) == "");
    system_options options = support::quiet(1);
    options.dispatcher = dispatcher::named("a");
    CHECK(contains(refusal(options), "pool(), shared() or pinned()"));
  }

  TEST_CASE("a guest has no threads, and says so") {
    asio::io_context io;
    const auto say = [&](system_options options) {
      options.log.emplace();
      return message_of<std::invalid_argument>([&] {
        actor_system system{io, options};
      });
    };
    CHECK(contains(say({.dispatcher = pinned()}), "no threads of its own"));
    system_options options;
    options.pools = {{.name = "db"}};
    CHECK(contains(say(options), "no threads of its own"));
    options.pools.clear();
    options.log.emplace();
    actor_system system{io, options};
    const auto spawn = [&](dispatcher d) {
      return message_of<std::invalid_argument>([&] {
        (void)system.spawn({.name = "one", .dispatcher = d}, worker);
      });
    };
    CHECK(contains(spawn(pinned()), "no threads of its own"));
    CHECK(contains(spawn(dispatcher::named("db")), "a guest has none"));
    CHECK(contains(spawn(dispatcher::pool()), "of another kind"));
    CHECK_FALSE(system.find("/user/one"));
    CHECK(spawn(dispatcher::system()) == "");
    io.poll();
  }

  TEST_CASE("a simulation runs all dispatchers itself") {
    for (std::uint64_t seed = 1; seed != 20; ++seed) {
      actors::simulation_options options;
      options.seed = seed;
      options.system.dispatcher = pinned();
      options.system.pools = {{.name = "db"}};
      simulation sim{options};
      std::vector<actor_ref<add, total>> all;
      for (const auto d : {pinned(), dispatcher::named("db"),
                           dispatcher::pool(), dispatcher::shared(),
                           dispatcher::system(), dispatcher::named("fs")})
        all.push_back(sim.system().spawn({.dispatcher = d}, counter));
      all.push_back(sim.system().spawn(counter));
      for (const auto& a : all) {
        a.tell(add{2});
        CHECK(sim.run(a.ask<total>()) == 2);
      }
    }
  }

  // --- all of them together -------------------------------------------------

  TEST_CASE("actors of all dispatchers tell one another in order") {
    for (const auto own : {dispatcher::pool(), dispatcher::shared()}) {
      system_options options = with_pool(own, dispatcher::shared(), 2);
      options.pools.push_back({.name = "fs", .threads = 2});
      actor_system system{options};
      struct token {
        int hops;
      };
      struct next {
        actor_ref<token, int> who;
      };
      std::atomic<int> wrong{0};
      flag done;
      const auto body =
          [&](context<token, int> self,
              std::shared_ptr<actor_ref<token, int>> to) -> task<> {
        int last = -1;
        co_await self.serve(
            [&](token t) {
              if (t.hops == 0) {
                done.set();
                return;
              }
              for (int i = 0; i != 3; ++i) to->tell(t.hops * -3 + i);
              to->tell(token{t.hops - 1});
            },
            [&](int n) {
              if (last != -1 && n <= last) ++wrong;
              last = n;
            });
      };
      std::vector<actor_ref<token, int>> ring;
      std::vector<std::shared_ptr<actor_ref<token, int>>> links;
      int i = 0;
      for (const auto d :
           {pinned(), dispatcher::named("db"), pinned(), dispatcher::system(),
            dispatcher::named("fs"), pinned()}) {
        (void)i;
        links.push_back(std::make_shared<actor_ref<token, int>>());
        ring.push_back(system.spawn({.dispatcher = d}, body, links.back()));
      }
      for (std::size_t k = 0; k != ring.size(); ++k)
        *links[k] = ring[(k + 1) % ring.size()];
      ring[0].tell(token{support::sanitized ? 300 : 3000});
      done.wait();
      CHECK(wrong == 0);
    }
  }

  TEST_CASE("pinned actors come and go from many threads, and at the end") {
    for (int round = 0; round != (support::sanitized ? 3 : 10); ++round) {
      std::atomic<int> alive{0};
      {
        actor_system system{support::quiet(2)};
        std::vector<std::thread> threads;
        std::atomic<bool> go{false};
        for (int t = 0; t != 3; ++t)
          threads.emplace_back([&, t] {
            while (!go) std::this_thread::yield();
            for (int i = 0; i != 30; ++i) {
              const auto a = system.spawn(
                  {.dispatcher = pinned()},
                  [](context<add> self, counted) -> task<> {
                    (void)self.spawn([](context<> child) -> task<> {
                      co_await child.until_stop();
                    });
                    co_await self.serve([](add) {});
                  },
                  counted{alive});
              a.tell(add{1});
              if (t == 0) a.kill();
              if (t == 1) a.stop();
              if (t == 2) a.drain();
              if (i % 7 == 0) (void)a.stopped().get();
            }
          });
        go = true;
        // The last ones meet the end of the system.
        threads.emplace_back([&] {
          while (!go) std::this_thread::yield();
          std::this_thread::yield();
          if (round % 2) system.terminate();
        });
        for (auto& t : threads) t.join();
      }
      CHECK(alive == 0);
    }
  }
}
