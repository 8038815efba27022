// saga: a transfer in steps; when one fails, those before are taken back, even
// if nobody waits any more
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using actors::as_result;
using actors::shield;

// --- An account --------------------------------------------------------------

struct book_entry {
  using reply_type = int;  // the balance
  int transfer;
  int amount;
};
// Takes back what a transfer has done here, or sees to it that it never will.
struct undo {
  using reply_type = void;
  int transfer;
};
struct get_balance {
  using reply_type = int;
};
using account_ref = actors::actor_ref<book_entry, undo, get_balance>;

// What survives a crash: an account's own, apart from its actor's life.
struct book {
  int balance = 0;
  std::map<int, int> entries = {};  // by transfer; taken back: 0
  int faults = 0;                   // how often the disk is going to fail
};
struct disk_error : std::runtime_error {
  using runtime_error::runtime_error;
};

actors::task<> account(actors::context<book_entry, undo, get_balance> self,
                       std::shared_ptr<book> b) {
  co_await self.serve(
      [&](book_entry e) -> actors::task<actors::result<int>> {
        if (b->balance + e.amount < 0)
          co_return make_error_code(std::errc::argument_out_of_domain);
        if (b->faults > 0) {
          --b->faults;
          co_await self.sleep_for(200ms);  // a disk that is about to give up
          throw disk_error{"the disk is gone"};
        }
        // Twice the same is done once.
        if (b->entries.try_emplace(e.transfer, e.amount).second)
          b->balance += e.amount;
        co_return b->balance;
      },
      [&](undo u) { b->balance -= std::exchange(b->entries[u.transfer], 0); },
      [&](get_balance) { return b->balance; });
}

// --- The saga ----------------------------------------------------------------

struct transfer {
  using reply_type = int;  // its number
  int amount;
};

actors::task<> take_back(account_ref from, int number) {
  for (;;) {
    auto done = co_await as_result(from.ask<undo>(number));
    // It may have crashed in between; an undo is safe to repeat.
    if (done) co_return;
    if (done.error() != actors::errc::actor_failed)
      (void)std::move(done).value();
  }
}

actors::task<> bank(actors::context<transfer> self, account_ref from,
                    account_ref to) {
  int last = 0;
  co_await self.serve([&](transfer t) -> actors::task<actors::result<int>> {
    const int number = ++last;
    // Both steps inherit what is left of the asker's time.
    auto taken = co_await as_result(from.ask<book_entry>(number, -t.amount));
    if (!taken) co_return taken.error();
    auto given = co_await as_result(to.ask<book_entry>(number, t.amount));
    if (given) co_return number;

    fmt::print("bank: transfer {}: {}; {}\n", number, given.error().message(),
               self.cancelled() ? "nobody waits any more" : "somebody waits");
    // The money must come back all the same. An ask would end at once, as the
    // one before has: the time is over. What is shielded inherits nothing.
    // Whether the second step was done is not known, so it is undone as well.
    co_await shield(take_back(to, number));
    co_await shield(take_back(from, number));
    fmt::print("bank: transfer {}: taken back\n", number);
    co_return given.error();
  });
}

actors::task<> customer(actors::context<>, actors::actor_ref<transfer> bank) {
  // The first customer has no patience.
  for (const auto& [amount, patience] :
       {std::pair{30, 100ms}, {50, 2000ms}, {1000, 2000ms}}) {
    auto done = co_await as_result(bank.ask<transfer>(amount).within(patience));
    if (done)
      fmt::print("customer: transfer {} of {} is done\n", *done, amount);
    else
      fmt::print("customer: no transfer of {}: {}\n", amount,
                 done.error().message());
  }
}

int main() {
  // One thread: one order. Our log stands in for the system's own.
  actors::actor_system system{{.threads = 1, .log = nullptr}};
  system.on_event([](const actors::lifecycle_event& e) {
    if (e.what == actors::lifecycle_event::kind::failed)
      fmt::print("  log: {}\n", e.to_string());
  });
  auto of_alice = std::make_shared<book>(book{.balance = 100});
  auto of_bob = std::make_shared<book>(book{.balance = 20, .faults = 1});
  auto alice = system.spawn({.name = "alice"}, account, of_alice);
  auto bob = system.spawn({.name = "bob"}, account, of_bob);
  auto teller = system.spawn({.name = "bank"}, bank, account_ref{alice},
                             account_ref{bob});

  system.run(customer, teller);
  const int a = alice.ask<get_balance>().get();
  const int b = bob.ask<get_balance>().get();
  fmt::print("alice has {}, bob has {}, together {}\n", a, b, a + b);
}
