// ask: bank accounts that answer: at once, later, by an error, from a thread
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <system_error>
#include <utility>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;  // makes the message a question
};
struct withdraw {
  using reply_type = int;  // what is left
  int amount;
};

actors::task<> account(actors::context<deposit, get_balance, withdraw> self,
                       int balance) {
  while (co_await self.receive(
      [&](deposit d) { balance += d.amount; },
      [&](get_balance) { return balance; },  // the value answers the ask
      [&](withdraw w) -> actors::result<int> {
        if (w.amount > balance)  // an answer too: the account itself is well
          return std::make_error_code(std::errc::operation_not_permitted);
        return balance -= w.amount;
      })) {
  }
}

struct when_full {
  using reply_type = int;
};

// Who cannot answer yet keeps the reply: here until the deposits are enough.
actors::task<> piggy_bank(actors::context<deposit, when_full> self, int goal) {
  int coins = 0;
  actors::reply_to<int> waiting;  // empty: `reply` does nothing
  while (co_await self.receive(
      [&](deposit d) {
        coins += d.amount;
        if (coins >= goal) waiting.reply(coins);
      },
      [&](when_full, actors::reply_to<int> reply) {
        waiting = std::move(reply);
        if (coins >= goal) waiting.reply(coins);
      })) {
  }
}

struct transfer {
  using reply_type = int;
  int amount;
};

// A handler may be a coroutine and ask others. The next transfer waits for it,
// no thread does. A ref converts to one of fewer messages.
actors::task<> bank(actors::context<transfer> self,
                    actors::actor_ref<withdraw> from,
                    actors::actor_ref<deposit> to) {
  while (co_await self.receive(
      [&](transfer t) -> actors::task<actors::result<int>> {
        auto left = co_await actors::as_result(from.ask<withdraw>(t.amount));
        if (left) to.tell(deposit{t.amount});
        co_return left;
      })) {
  }
}

actors::task<int> customer(actors::context<>,
                           actors::actor_ref<transfer> bank) {
  try {
    co_await bank.ask<transfer>(1000);  // an error is thrown by the await
  } catch (const std::system_error& e) {
    fmt::print("transfer of 1000: {}\n", e.code().message());
  }
  co_return co_await bank.ask<transfer>(60);
}

actors::task<> saver(actors::context<>, actors::actor_ref<when_full> pig) {
  int coins = co_await pig.ask<when_full>();
  fmt::print("the pig is full: {}\n", coins);
}

int main() {
  actors::actor_system system{{.threads = 2}};
  auto alice = system.spawn(account, 100);
  alice.tell(deposit{50});                                       // never waits
  fmt::print("alice has {}\n", alice.ask<get_balance>().get());  // blocks

  auto pig = system.spawn(piggy_bank, 50);
  auto waiting = system.spawn(saver, pig);
  int left = system.run(customer, system.spawn(bank, alice, pig));
  waiting.stopped().get();
  fmt::print("alice has {} left\n", left);
}
