// supervision: crashes that heal: a child is restarted, a tree rebuilds itself
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;

// --- A child that crashes, as in Python's "actors" ---------------------------

struct say {
  using reply_type = int;
  std::string word;
};

// An exception fails this actor and no other. The next incarnation begins here
// again: new state, but the same ref, mailbox and name.
actors::task<> child(actors::context<say> self) {
  int words = 0;
  while (co_await self.receive([&](const say& s) {
    if (s.word.empty()) throw std::invalid_argument{"nothing to say"};
    fmt::print("child: {}, word {}\n", s.word, ++words);
    return words;
  })) {
  }
}

actors::task<> parent(actors::context<say> self) {
  self.supervise(
      actors::one_for_one{.decide = {actors::on<std::invalid_argument>(
                              actors::directive::restart)}});
  auto heir = self.spawn({.name = "child"}, child);
  co_await self.serve([&](say s) { self.forward(heir, std::move(s)); });
}

actors::task<> talk(actors::context<>, actors::actor_ref<say> parent) {
  for (const char* word : {"hello", "again", "", "hello"}) {
    auto said = co_await actors::as_result(parent.ask<say>(word));
    if (!said) fmt::print("talk: no answer, {}\n", said.error().message());
  }
}

// --- A tree that heals: shop → database, orders → connection -----------------

// The world outside, which no restart mends: how often it fails from now on.
struct server {
  std::atomic<int> faults = 0;
};
struct db_lost : std::runtime_error {
  using runtime_error::runtime_error;
};
struct query {
  using reply_type = void;
};
struct order {
  using reply_type = int;  // its number
};

void reach(server& s, const char* fault) {
  if (s.faults == 0) return;
  --s.faults;
  throw db_lost{fault};
}

// It makes no attempt to save itself: a restart connects anew.
actors::task<> connection(actors::context<query> self,
                          std::shared_ptr<server> to) {
  reach(*to, "connection refused");
  fmt::print("connection: connected\n");
  while (
      co_await self.receive([&](query) { reach(*to, "connection reset"); })) {
  }
}

// A connection that is lost is restarted: after 10 ms, 20 ms, 40 ms. A fourth
// loss within 5 s is more than a restart can heal, and the database fails.
actors::task<> database(actors::context<query> self,
                        std::shared_ptr<server> at) {
  self.supervise(actors::one_for_one{
      .max_restarts = 3, .within = 5s, .backoff = {.min = 10ms, .max = 1s}});
  auto current = self.spawn({.name = "connection"}, connection, at);
  co_await self.serve([&](query q) { self.forward(current, std::move(q)); });
}

actors::task<> orders(actors::context<order> self,
                      actors::actor_ref<query> database) {
  fmt::print("orders: open\n");
  int number = 0;
  const auto take = [&](order) -> actors::task<actors::result<int>> {
    auto booked = co_await actors::as_result(database.ask<query>());
    if (!booked) co_return booked.error();  // this order's, not of `orders`
    co_return ++number;
  };
  co_await self.serve(take);
}

// A supervisor written by hand: a coroutine that awaits failures.
actors::task<> rebuild(actors::failures failures) {
  while (auto failure = co_await failures.next()) {
    if (failure->is<db_lost>())
      failure->restart(failure->siblings());  // all of them, in order
    else
      failure->stop();
  }
}

actors::task<> shop(actors::context<order> self, std::shared_ptr<server> db) {
  self.supervise(rebuild);
  auto base = self.spawn({.name = "database"}, database, db);
  auto desk = self.spawn({.name = "orders"}, orders, base);
  co_await self.serve([&](order o) { self.forward(desk, std::move(o)); });
}

actors::task<> customer(actors::context<>, actors::actor_ref<order> shop,
                        std::shared_ptr<server> db) {
  // The second loses its connection, and the third waits for the next one. With
  // the fourth there are more faults than the database can heal: the fifth is
  // lost with it, and the sixth waits until the shop is rebuilt.
  for (int faults : {0, 1, 0, 3, 0, 0}) {
    db->faults += faults;
    auto number = co_await actors::as_result(shop.ask<order>());
    if (number)
      fmt::print("customer: order {}\n", *number);
    else
      fmt::print("customer: no order, {}\n", number.error().message());
  }
}

int main() {
  // One thread: one order. Our log stands in for the system's own.
  actors::actor_system system{{.threads = 1, .log = nullptr}};
  system.on_event([](const actors::lifecycle_event& e) {
    using kind = actors::lifecycle_event::kind;
    if (e.what == kind::failed || e.what == kind::restarted)
      fmt::print("  log: {}\n", e.to_string());
  });

  system.run(talk, system.spawn({.name = "parent"}, parent));
  auto db = std::make_shared<server>();
  system.run(customer, system.spawn({.name = "shop"}, shop, db), db);
}
