#include "actors/proxy.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
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
using actors::context;
using actors::errc;
using actors::exit_reason;
using actors::proxy;
using actors::simulation;
using actors::task;
using support::error_of;

struct crash : std::runtime_error {
  crash() : runtime_error{"crash"} {}
};

/// Knows nothing of actors, but for the functions that return a task.
class counter {
 public:
  explicit counter(int from = 0) : n_{from} {}

  int add(int by) { return n_ += by; }
  int value() const noexcept { return n_; }
  const std::string& name() const { return name_; }
  void rename(const std::string& to) { name_ = to; }
  void take(std::unique_ptr<int> p) { n_ = *p; }
  std::unique_ptr<int> give() { return std::make_unique<int>(n_); }
  std::size_t length(std::string_view text) const { return text.size(); }
  void write_to(int& place) { place = n_; }
  int over(int) { return 1; }
  int over(const char*) { return 2; }
  int fail() { throw crash{}; }
  actors::result<int> divide(int by) {
    if (by == 0) return std::make_error_code(std::errc::argument_out_of_domain);
    return n_ / by;
  }
  task<int> slowly(int by) {
    const int before = n_;
    co_await actors::when_all(nothing());
    n_ = before + by;
    co_return n_;
  }
  task<> quietly() {
    co_await nothing();
    ++n_;
  }
  task<actors::result<int>> perhaps(bool yes) {
    co_await nothing();
    if (!yes) co_return std::make_error_code(std::errc::io_error);
    co_return n_;
  }

 private:
  static task<> nothing() { co_return; }
  int n_;
  std::string name_ = "counter";
};

}  // namespace

TEST_SUITE("proxy") {
  TEST_CASE("functions of an object are called in its actor") {
    simulation sim{1};
    auto c = proxy<counter>(sim.system(), 5);
    CHECK(sim.run(c.call(&counter::add, 3)) == 8);
    CHECK(sim.run(c.call(&counter::value)) == 8);
    c.tell(&counter::add, 2);
    CHECK(sim.run(c.call(&counter::value)) == 10);
    c.tell(&counter::rename, "a name that is a copy");
    CHECK(sim.run(c.call(&counter::name)) == "a name that is a copy");
    c.tell(&counter::take, std::make_unique<int>(1));
    CHECK(*sim.run(c.call(&counter::give)) == 1);
    CHECK(sim.run(c.call(&counter::length, "view")) == 4);
    int place = 0;
    sim.run(c.call(&counter::write_to, std::ref(place)));
    CHECK(place == 1);
    CHECK(sim.run(c.call(static_cast<int (counter::*)(int)>(&counter::over),
                         1)) == 1);
    CHECK(sim.run(c.call([](counter& it) { return it.value() + 1; })) == 2);
    CHECK(sim.run(c.call([](counter& it, int n) { return it.add(n); }, 1)) ==
          2);
    CHECK(sim.run(c.call([](auto& it, int n) { return it.add(n); }, 1)) == 3);
  }

  TEST_CASE("a function that returns a task is awaited, one at a time") {
    actors::explore(50, [](simulation& sim) {
      auto c = proxy<counter>(sim.system());
      for (int i = 0; i != 10; ++i) c.tell(&counter::slowly, 1);
      c.tell(&counter::quietly);
      CHECK(sim.run(c.call(&counter::slowly, 1)) == 12);
      CHECK(sim.run(c.call(&counter::perhaps, true)) == 12);
      CHECK(error_of([&] { sim.run(c.call(&counter::perhaps, false)); }) ==
            std::errc::io_error);
      sim.terminate();
    });
  }

  TEST_CASE("a result is an answer, an exception a failure of the actor") {
    simulation sim{1};
    auto c = proxy<counter>({.name = "c"}, sim.system(), 8);
    CHECK(c.ref().path() == "/user/c");
    c.tell(&counter::add, 1);
    CHECK(sim.run(c.call(&counter::divide, 3)) == 3);
    CHECK(error_of([&] { sim.run(c.call(&counter::divide, 0)); }) ==
          std::errc::argument_out_of_domain);
    CHECK(sim.run(c.call(&counter::value)) == 9);  // nothing has happened
    sim.expect_failure<crash>(c.ref(), 2);
    CHECK(error_of([&] { (void)sim.run(c.call(&counter::fail)); }) ==
          errc::actor_failed);
    CHECK(sim.run(c.call(&counter::value)) == 8);  // another one
    c.tell(&counter::fail);
    CHECK(sim.run(c.call(&counter::value)) == 8);
    sim.check();
  }

  TEST_CASE("the end: stop, watch, calls of what has ended, a null proxy") {
    simulation sim{1};
    auto c = proxy<counter>(sim.system(), 8);
    auto same = c;
    CHECK(same == c);
    c.ref().stop();
    CHECK(sim.run(c.ref().stopped()) == exit_reason::normal);
    CHECK(error_of([&] { (void)sim.run(c.call(&counter::value)); }) ==
          errc::actor_stopped);
    c.tell(&counter::add, 1);
    CHECK(sim.system().dead_letter_count() == 1);
    proxy<counter> none;
    CHECK(!none);
    CHECK(error_of([&] { (void)sim.run(none.call(&counter::value)); }) ==
          errc::actor_stopped);
  }

  TEST_CASE("a call is an operation: within, as_result, and not used") {
    simulation sim{1};
    auto c = proxy<counter>(sim.system(), 8);
    CHECK(sim.run(c.call(&counter::value).within(1s)) == 8);
    CHECK(sim.run(actors::as_result(c.call(&counter::value))).value() == 8);
    { const auto unused = c.call(&counter::add, 1); }
    CHECK(sim.run(c.call(&counter::value)) == 8);
  }

  TEST_CASE("an actor's child") {
    simulation sim{1};
    const int n = sim.run([](context<> self) -> task<int> {
      auto c = proxy<counter>(self, 4);
      auto named = proxy<counter>({.name = "n"}, self, 4);
      CHECK(self.children().size() == 2);
      CHECK(named.ref().path() == self.path() + "/n");
      const int sum = co_await c.call(&counter::add, 1);
      co_return sum + co_await named.call(&counter::add, 1);
    });
    CHECK(n == 10);
  }

  TEST_CASE("arguments that can only be moved") {
    struct owner {
      explicit owner(std::unique_ptr<int> p) : value{std::move(p)} {}
      int get() const { return *value; }
      int fail() { throw crash{}; }
      std::unique_ptr<int> value;
    };
    simulation sim{1};
    auto c = proxy<owner>(sim.system(), std::make_unique<int>(3));
    CHECK(sim.run(c.call(&owner::get)) == 3);
    sim.expect_failure<crash>(c.ref());
    c.tell(&owner::fail);
    CHECK(sim.run(c.ref().stopped()) == exit_reason::failed);
  }

  TEST_CASE("on threads: calls from everywhere, with get and with a token") {
    support::each_system([](actors::actor_system& system) {
      auto c = proxy<counter>(system);
      std::vector<std::thread> threads;
      for (int t = 0; t != 2; ++t)
        threads.emplace_back([c] {
          for (int i = 0; i != 200; ++i) {
            c.tell(&counter::add, 1);
            (void)c.call(&counter::slowly, 1).get();
          }
        });
      for (auto& t : threads) t.join();
      CHECK(c.call(&counter::value).get() == 800);
      CHECK(c.call(&counter::value)(asio::use_future).get() == 800);
    });
  }
}
