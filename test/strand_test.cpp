#include "strand.hpp"

#include <doctest/doctest.h>

#include <asio.hpp>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "actors/asio.hpp"
#include "support.hpp"

using actors::detail::actor_strand;
using support::counted;

namespace {

struct tick {};
struct executor_please {
  using reply_type = asio::any_io_executor;
};

/// Notices when it is entered twice at a time.
class room {
 public:
  void visit() {
    if (inside_.exchange(true)) ++collisions;
    ++visits;
    inside_ = false;
  }
  std::atomic<int> collisions{0};
  int visits = 0;  // not atomic: for ThreadSanitizer to see

 private:
  std::atomic<bool> inside_{false};
};

actors::task<> host(actors::context<tick, executor_please> self, room& r) {
  while (co_await self.receive(
      [&](tick) { r.visit(); },
      [&](executor_please) { return self.get_executor(); })) {
  }
}

/// A guest, an actor in it, and the actor's strand.
struct scene {
  explicit scene() {
    options.log.emplace();
    system = std::make_unique<actors::actor_system>(*io, options);
    actor = system->spawn(host, std::ref(place));
    auto asked = actor.ask<executor_please>()(asio::use_future);
    io->run();
    io->restart();
    strand = asked.get();
  }
  void run(int threads = 1) {
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back([&] { io->run(); });
    io->run();
    for (std::thread& t : others) t.join();
    io->restart();
  }

  std::unique_ptr<asio::io_context> io = std::make_unique<asio::io_context>();
  actors::system_options options;
  room place;
  std::unique_ptr<actors::actor_system> system;
  actors::actor_ref<tick, executor_please> actor;
  asio::any_io_executor strand;
};

}  // namespace

TEST_SUITE("strand") {
  using plain = actor_strand<asio::io_context::executor_type>;
  namespace ex = asio::execution;
  static_assert(ex::is_executor_v<plain>);
  static_assert(asio::can_query_v<plain, ex::context_t>);
  static_assert(asio::can_require_v<plain, ex::blocking_t::never_t>);
  static_assert(!asio::can_require_v<plain, ex::blocking_t::always_t>);
  static_assert(asio::can_prefer_v<plain, ex::outstanding_work_t::tracked_t>);
  static_assert(asio::can_prefer_v<plain, ex::relationship_t::fork_t>);
  static_assert(std::is_constructible_v<asio::any_io_executor, plain>);
  static_assert(std::is_nothrow_copy_constructible_v<plain>);

  TEST_CASE("its context is the io_context") {
    scene s;
    CHECK(&asio::query(s.strand, ex::context) == s.io.get());
  }

  TEST_CASE("executors of one actor are equal, of two are not") {
    scene s;
    auto again = s.actor.ask<executor_please>()(asio::use_future);
    auto other = s.system->spawn(host, std::ref(s.place))
                     .ask<executor_please>()(asio::use_future);
    s.run();
    CHECK(again.get() == s.strand);
    CHECK(other.get() != s.strand);
  }

  TEST_CASE("what is posted, dispatched and deferred runs in turns") {
    constexpr int each = 500;
    scene s;
    std::vector<std::thread> senders;
    auto work = asio::make_work_guard(*s.io);
    std::vector<std::thread> loops;
    for (int i = 0; i != 4; ++i) loops.emplace_back([&] { s.io->run(); });
    for (int i = 0; i != 2; ++i) {
      senders.emplace_back([&] {
        for (int n = 0; n != each; ++n) {
          asio::post(s.strand, [&] { s.place.visit(); });
          asio::dispatch(s.strand, [&] { s.place.visit(); });
          asio::defer(s.strand, [&] { s.place.visit(); });
          s.actor.tell(tick{});
        }
      });
    }
    for (std::thread& t : senders) t.join();
    work.reset();
    for (std::thread& t : loops) t.join();
    CHECK(s.place.visits == 2 * 4 * each);
    CHECK(s.place.collisions == 0);
  }

  TEST_CASE("what one thread posts runs in its order") {
    scene s;
    std::vector<int> seen;
    for (int i = 0; i != 1000; ++i)
      asio::post(s.strand, [&seen, i] { seen.push_back(i); });
    s.run(4);
    REQUIRE(seen.size() == 1000);
    for (int i = 0; i != 1000; ++i) CHECK(seen[std::size_t(i)] == i);
  }

  TEST_CASE("inside of the strand dispatch runs at once, post later") {
    scene s;
    std::vector<int> order;
    asio::post(s.strand, [&] {
      asio::post(s.strand, [&] { order.push_back(3); });
      asio::dispatch(s.strand, [&] { order.push_back(1); });
      order.push_back(2);
    });
    s.run();
    CHECK(order == std::vector<int>{1, 2, 3});
  }

  TEST_CASE("outside of the strand dispatch runs later") {
    scene s;
    bool done = false;
    asio::dispatch(s.strand, [&] { done = true; });
    CHECK(!done);
    s.run();
    CHECK(done);
  }

  TEST_CASE("tracked work keeps run()") {
    scene s;
    auto work = asio::make_work_guard(s.strand);
    s.io->poll();
    CHECK(!s.io->stopped());
    work.reset();
    s.io->poll();
    CHECK(s.io->stopped());
  }

  TEST_CASE("the strand itself is no work") {
    scene s;
    s.io->poll();
    CHECK(s.io->stopped());
  }

  TEST_CASE(
      "an exception of a function comes out of run(), the actor goes on") {
    scene s;
    asio::post(s.strand, [] { throw std::runtime_error{"from a function"}; });
    CHECK_THROWS_AS(s.run(), std::runtime_error);
    s.io->restart();
    s.actor.tell(tick{});
    asio::post(s.strand, [&] { s.place.visit(); });
    s.run();
    CHECK(s.place.visits == 2);
  }

  TEST_CASE("functions that can only be moved are taken") {
    scene s;
    int got = 0;
    asio::post(s.strand, [&got, p = std::make_unique<int>(5)] { got = *p; });
    s.run();
    CHECK(got == 5);
  }

  TEST_CASE("it works after the actor has ended") {
    scene s;
    s.actor.stop();
    s.run();
    int done = 0;
    asio::post(s.strand, [&] { ++done; });
    asio::dispatch(s.strand, [&] { ++done; });
    asio::defer(s.strand, [&] { ++done; });
    s.run();
    CHECK(done == 3);
    s.system.reset();
    s.run();
    asio::post(s.strand, [&] { ++done; });
    s.run();
    CHECK(done == 4);
  }

  TEST_CASE("functions posted while the actor ends are run, each once") {
    for (int i = 0; i != 50; ++i) {
      scene s;
      std::atomic<int> done{0};
      std::thread sender{[&] {
        for (int n = 0; n != 200; ++n) asio::post(s.strand, [&] { ++done; });
      }};
      s.actor.kill();
      s.run(2);
      sender.join();
      s.run();
      CHECK(done == 200);
    }
  }

  TEST_CASE("functions that wait when the io_context goes are destroyed") {
    for (const bool ended : {false, true}) {
      scene s;
      if (ended) {
        s.actor.stop();
        s.run();
      }
      std::atomic<int> alive{0};
      int done = 0;
      asio::post(s.strand, [&done, c = counted{alive}] { ++done; });
      CHECK(alive == 1);
      s.strand = {};
      s.io.reset();
      CHECK(alive == 0);
      CHECK(done == 0);
    }
  }

  TEST_CASE("a function may stop and kill the actor whose strand it is on") {
    scene s;
    asio::post(s.strand, [&] { s.actor.kill(); });
    auto why = s.actor.stopped()(asio::use_future);
    s.run();
    CHECK(why.get() == actors::exit_reason::killed);
  }
}
