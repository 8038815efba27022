// Each idiom of the README and the samples, with messages that own memory:
// what AddressSanitizer has to see with g++ 12, which destroys some temporaries
// of a co_await expression twice. The forms here are the safe ones.
#include "actors/actors.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "actors/asio.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::actor_system;
using actors::context;
using actors::task;
using asio::ip::tcp;

namespace {

/// Longer than a string keeps in itself, so that each copy owns memory.
const std::string long_text = "a text of more than fifteen letters";
std::string text(int i) { return long_text + ' ' + std::to_string(i); }

struct deposit {
  std::string from;
  int amount;
};
struct get_balance {
  using reply_type = int;
};
struct statement {
  using reply_type = std::vector<std::string>;
  std::string title;
};
struct withdraw {
  using reply_type = std::string;
  std::string to;
  int amount;
};
struct put {
  std::string key;
  std::string value;
};
struct get {
  using reply_type = std::optional<std::string>;
  std::string key;
};
struct box {
  std::unique_ptr<std::string> content;
};
struct exchange {
  using reply_type = std::unique_ptr<std::string>;
  std::unique_ptr<std::string> content;
};
struct ack {
  std::string of;
};
struct introduce {
  actor_ref<introduce, ack> who;
  std::string name;
};

/// Both ways a system may run.
template <class F>
void each_system(F&& f) {
  for (const auto d :
       {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
    actors::system_options options = support::quiet(2);
    options.dispatcher = d;
    actor_system system{options};
    f(system);
  }
}

constexpr int rounds = 50;

// --- the first page ----------------------------------------------------------

task<> account(context<deposit, get_balance, statement, withdraw> self,
               std::string owner, int balance) {
  std::vector<std::string> lines{owner};
  while (co_await self.receive(
      [&](deposit d) {
        balance += d.amount;
        lines.push_back(std::move(d.from));
      },
      [&](get_balance) { return balance; },
      [&](const statement& s) {
        std::vector<std::string> all{s.title};
        all.insert(all.end(), lines.begin(), lines.end());
        return all;
      },
      [&](withdraw w) -> actors::result<std::string> {
        if (w.amount > balance)
          return std::make_error_code(std::errc::operation_not_permitted);
        balance -= w.amount;
        return w.to + " gets it";
      })) {
  }
}

// --- a handler that asks others ---------------------------------------------

task<> teller(context<withdraw, statement> self,
              actor_ref<withdraw, statement> to) {
  while (co_await self.receive(
      [&](withdraw w) -> task<actors::result<std::string>> {
        auto done =
            co_await actors::as_result(to.ask<withdraw>(w.to, w.amount));
        co_return done;
      },
      [&](const statement& s) -> task<std::vector<std::string>> {
        std::vector<std::string> lines = co_await to.ask<statement>(s.title);
        lines.push_back(s.title);  // still there after the await
        co_return lines;
      })) {
  }
}

// --- a reply that is kept ---------------------------------------------------

task<> store(context<put, get> self) {
  std::map<std::string, std::string> values;
  std::multimap<std::string, actors::reply_to<std::optional<std::string>>>
      waiting;
  while (co_await self.receive(
      [&](put p) {
        auto [first, last] = waiting.equal_range(p.key);
        for (auto i = first; i != last; ++i) i->second.reply(p.value);
        waiting.erase(first, last);
        values[std::move(p.key)] = std::move(p.value);
      },
      [&](get g, actors::reply_to<std::optional<std::string>> reply) {
        auto found = values.find(g.key);
        if (found != values.end())
          reply.reply(found->second);
        else
          waiting.emplace(std::move(g.key), std::move(reply));
      })) {
  }
}

}  // namespace

TEST_SUITE("idioms") {
  TEST_CASE("an account: tell, ask, get() on a plain thread") {
    each_system([](actor_system& system) {
      auto alice = system.spawn(account, "alice, " + long_text, 100);
      for (int i = 0; i != rounds; ++i) {
        alice.tell(deposit{text(i), 1});
        alice.tell<deposit>(text(i), 1);
        const deposit named{text(i), 1};
        alice.tell(named);
      }
      CHECK(alice.ask<get_balance>().get() == 100 + 3 * rounds);
      CHECK(alice.ask<statement>(long_text).get().size() == 2 + 3 * rounds);
      CHECK(alice.ask<withdraw>(long_text, 10).get() == long_text + " gets it");
      CHECK(support::error_of([&] {
              return alice.ask<withdraw>(long_text, 1'000'000).get();
            }) == std::errc::operation_not_permitted);
    });
  }

  TEST_CASE("asks in a task, in every form that is safe") {
    each_system([](actor_system& system) {
      auto alice = system.spawn(account, long_text, 1'000'000);
      auto front = system.spawn(teller, alice);
      system.run(
          [](context<>, actor_ref<withdraw, statement> to) -> task<> {
            for (int i = 0; i != rounds; ++i) {
              // Built in the library.
              std::string a = co_await to.ask<withdraw>(text(i), 1);
              CHECK(a == text(i) + " gets it");
              // With a timeout.
              std::string b = co_await to.ask<withdraw>(text(i), 1).within(1h);
              CHECK(a == b);
              // A message with a name.
              withdraw named{text(i), 1};
              std::string c = co_await to.ask(named);
              CHECK(a == c);
              std::string d = co_await to.ask(named, 1h);
              CHECK(a == d);
              // An operation with a name.
              auto op = to.ask<withdraw>(text(i), 1);
              std::string e = co_await op;
              CHECK(a == e);
              // As a result: the value, and an error.
              auto good =
                  co_await actors::as_result(to.ask<withdraw>(text(i), 1));
              CHECK(*good == a);
              auto bad = co_await actors::as_result(
                  to.ask<withdraw>(text(i), 10'000'000));
              CHECK(bad.error() == std::errc::operation_not_permitted);
              // In an expression, and discarded.
              CHECK((co_await to.ask<statement>(text(i))).size() == 3);
              co_await to.ask<statement>(text(i));
              // An error that is thrown.
              std::error_code thrown;
              try {
                co_await to.ask<withdraw>(text(i), 10'000'000);
              } catch (const std::system_error& error) {
                thrown = error.code();
              }
              CHECK(thrown == std::errc::operation_not_permitted);
            }
          },
          front);
    });
  }

  TEST_CASE("a reply that is kept until there is an answer") {
    each_system([](actor_system& system) {
      auto values = system.spawn(store);
      auto waits = system.spawn(
          [](context<> self, actor_ref<get> from) -> task<> {
            (void)self;
            for (int i = 0; i != rounds; ++i) {
              auto value = co_await from.ask<get>(text(i));
              CHECK(value);
              CHECK(*value == text(-i));
            }
          },
          actor_ref<get>{values});
      for (int i = 0; i != rounds; ++i) values.tell<put>(text(i), text(-i));
      CHECK(waits.stopped().get() == actors::exit_reason::normal);
      // Some wait for what never comes.
      auto hopeless = system.spawn(
          [](context<>, actor_ref<get> from) -> task<> {
            co_await from.ask<get>(long_text);
          },
          actor_ref<get>{values});
      hopeless.started().get();
      hopeless.stop();
      hopeless.stopped().get();
    });
  }

  TEST_CASE("receive() in hand: optional, variant, reply") {
    each_system([](actor_system& system) {
      auto one = system.spawn([](context<exchange> self) -> task<> {
        while (auto m = co_await self.receive()) {
          *m->content += "!";
          self.reply(std::move(m->content));
        }
      });
      auto several = system.spawn([](context<exchange, put> self) -> task<> {
        std::string last;
        while (auto m = co_await self.receive()) {
          if (auto* p = std::get_if<put>(&*m))
            last = std::move(p->value);
          else
            self.reply(std::make_unique<std::string>(last));
        }
      });
      for (int i = 0; i != rounds; ++i) {
        CHECK(
            *one.ask<exchange>(std::make_unique<std::string>(text(i))).get() ==
            text(i) + "!");
        several.tell<put>(text(i), text(-i));
        CHECK(*several.ask<exchange>(std::make_unique<std::string>("")).get() ==
              text(-i));
      }
    });
  }

  TEST_CASE("handlers in all their forms, named and in place") {
    each_system([](actor_system& system) {
      auto ref = system.spawn([](context<put, box, ack, get> self) -> task<> {
        std::string prefix = long_text;
        std::vector<std::string> kept;
        // A handler that captures by copy has a name.
        auto on_ack = [prefix](const ack& a) { CHECK(a.of != prefix); };
        auto on_get =
            [&kept, prefix](
                get g) -> task<actors::result<std::optional<std::string>>> {
          if (g.key == prefix) co_return std::optional<std::string>{};
          co_return std::optional<std::string>{g.key +
                                               std::to_string(kept.size())};
        };
        while (co_await self.receive(
            [&](put& p) { kept.push_back(std::move(p.value)); },
            [&](box b) { kept.push_back(std::move(*b.content)); }, on_ack,
            on_get)) {
        }
      });
      for (int i = 0; i != rounds; ++i) {
        ref.tell<put>(text(i), text(i));
        ref.tell(box{std::make_unique<std::string>(text(i))});
        ref.tell<ack>(text(i));
        CHECK(*ref.ask<get>(text(i)).get() ==
              text(i) + std::to_string(2 * i + 2));
      }
      CHECK(!ref.ask<get>(long_text).get());
    });
  }

  TEST_CASE("selective receive, timeouts, serve and a change of behaviour") {
    each_system([](actor_system& system) {
      auto ref = system.spawn([](context<put, ack, get> self) -> task<> {
        // Wait for an acknowledgement first; the rest stays in order.
        auto first = co_await self.receive<ack>();
        std::string greeted = first ? first->of : std::string{};
        int idle = 0;
        for (int i = 0; i != rounds; ++i) {
          co_await self.receive<put, ack>(
              [&](put p) { greeted += p.key.substr(0, 1); }, [&](const ack&) {},
              actors::after(1h, [&] { ++idle; }));
        }
        co_await self.serve(
            [&](put p) -> task<> {
              co_await self.sleep_for(1us);
              greeted += p.value.substr(0, 1);
            },
            [&](const ack& a) { greeted = a.of; },
            [&](const get& g) { return std::optional{g.key + greeted}; });
        greeted.clear();
      });
      for (int i = 0; i != rounds; ++i) ref.tell<put>(text(i), text(i));
      ref.tell<ack>(long_text);
      ref.tell<put>(long_text, long_text);
      const std::string all = *ref.ask<get>(long_text).get();
      CHECK(all.size() == 2 * long_text.size() + rounds + 1);
      ref.tell<ack>(long_text);
      CHECK(*ref.ask<get>("").get() == long_text);
    });
  }

  TEST_CASE("forward, sender, a ref in a message, a helper") {
    struct helper {
      static task<std::string> ask_store(context<>& self, actor_ref<get> from,
                                         std::string key) {
        co_await self.sleep_for(1us);
        auto value = co_await from.ask<get>(key);
        co_return value.value_or("nothing for " + key);
      }
    };
    each_system([](actor_system& system) {
      auto values = system.spawn(store);
      auto front = system.spawn(
          [](context<get, put> self, actor_ref<get, put> to) -> task<> {
            while (co_await self.receive(
                [&](get g) { self.forward(to, std::move(g)); },
                [&](put p) { self.forward(to, std::move(p)); })) {
            }
          },
          values);
      front.tell<put>(long_text, long_text);
      const std::string found = system.run(
          [](context<> self, actor_ref<get> from) -> task<std::string> {
            std::string value =
                co_await helper::ask_store(self, from, long_text);
            co_return value;
          },
          actor_ref<get>{front});
      CHECK(found == long_text);

      const auto polite = [](context<introduce, ack> self,
                             std::shared_ptr<std::atomic<int>> n) -> task<> {
        while (
            co_await self.receive([&](introduce i) { i.who.tell<ack>(i.name); },
                                  [&](const ack& a) {
                                    CHECK(a.of.starts_with(long_text));
                                    ++*n;
                                  })) {
        }
      };
      auto acks = std::make_shared<std::atomic<int>>(0);
      auto a = system.spawn(polite, acks);
      auto b = system.spawn(polite, acks);
      for (int i = 0; i != rounds; ++i) {
        a.tell(introduce{b, text(i)});
        b.tell<introduce>(a, text(i));
      }
      a.tell(ack{long_text}, b);
      for (const auto& ref : {a, b}) {
        // What it was told before the stop of the other is handled.
        ref.drain();
        ref.stopped().get();
      }
      CHECK(*acks >= 1);
    });
  }

  TEST_CASE("spawn owns a capturing lambda and its arguments") {
    std::atomic<int> alive{0};
    each_system([&](actor_system& system) {
      auto shared = std::make_shared<std::string>(long_text);
      auto ref = system.spawn(
          [shared, local = support::counted{alive}](
              context<get> self, std::string prefix,
              std::vector<std::string> list, support::counted) -> task<> {
            while (co_await self.receive([&](const get& g) {
              return std::optional{prefix + g.key + list.back() + *shared};
            })) {
            }
          },
          long_text, std::vector<std::string>{text(1), text(2)},
          support::counted{alive});
      CHECK(*ref.ask<get>(text(3)).get() ==
            long_text + text(3) + text(2) + long_text);
      auto once = system.spawn_once(
          [](context<get> self, std::unique_ptr<std::string> owned) -> task<> {
            while (co_await self.receive(
                [&](const get& g) { return std::optional{g.key + *owned}; })) {
            }
          },
          std::make_unique<std::string>(long_text));
      CHECK(*once.ask<get>(text(3)).get() == text(3) + long_text);
    });
    CHECK(alive == 0);
  }

  TEST_CASE("children that report to their parent, and a supervisor's loop") {
    each_system([](actor_system& system) {
      const std::size_t letters =
          system.run([](context<ack> self) -> task<std::size_t> {
            for (int i = 0; i != rounds; ++i)
              self.spawn(
                  [](context<> me, actor_ref<ack> to,
                     std::string job) -> task<> {
                    co_await me.sleep_for(1us);
                    to.tell<ack>(job);
                  },
                  self.ref(), text(i));
            std::size_t sum = 0;
            for (int i = 0; i != rounds; ++i) {
              auto report = co_await self.receive<ack>();
              sum += report->of.size();
            }
            co_return sum;
          });
      CHECK(letters > rounds * long_text.size());
    });
  }

  TEST_CASE("an actor that throws drops what it owns, and its asker is told") {
    each_system([](actor_system& system) {
      for (int i = 0; i != rounds; ++i) {
        auto ref = system.spawn_once([](context<get, put> self) -> task<> {
          std::vector<std::string> owned;
          while (co_await self.receive(
              [&](const put& p) { owned.push_back(p.value); },
              [&](get g) -> task<std::optional<std::string>> {
                std::string local = g.key + owned.back();
                co_await self.sleep_for(1us);
                throw std::runtime_error{local};
              })) {
          }
        });
        ref.tell<put>(text(i), text(i));
        CHECK(support::error_of([&] { return ref.ask<get>(text(i)).get(); }) ==
              actors::errc::actor_failed);
        const auto why = ref.stopped().get();
        CHECK(why == actors::exit_reason::failed);
        CHECK(support::message_of_error(why.error()) == text(i) + text(i));
      }
    });
  }

  TEST_CASE("a session on a socket, one actor a connection") {
    each_system([](actor_system& system) {
      const auto session = [](context<> self, tcp::socket socket,
                              actor_ref<ack> log) -> task<> {
        (void)self;
        std::array<char, 64> data;
        std::string seen;
        for (;;) {
          auto got = co_await actors::as_result(
              socket.async_read_some(asio::buffer(data), actors::use_task));
          if (!got) break;
          seen.append(data.data(), *got);
          co_await asio::async_write(socket, asio::buffer(data, *got),
                                     actors::use_task);
        }
        log.tell<ack>(seen);
      };
      struct stop_accepting {};
      const auto listener = [session](context<stop_accepting> self,
                                      tcp::acceptor acceptor,
                                      actor_ref<ack> log) -> task<> {
        for (int i = 0; i != 3; ++i) {
          tcp::socket socket = co_await acceptor.async_accept(actors::use_task);
          self.spawn_once(session, std::move(socket), log);
        }
        co_await self.until_stop();
      };
      const auto scribe = [](context<ack, statement> self) -> task<> {
        std::vector<std::string> lines;
        std::vector<actors::reply_to<std::vector<std::string>>> waiting;
        while (co_await self.receive(
            [&](ack a) {
              lines.push_back(std::move(a.of));
              if (lines.size() < 3) return;
              for (auto& w : waiting) w.reply(lines);
              waiting.clear();
            },
            [&](const statement&,
                actors::reply_to<std::vector<std::string>> reply) {
              if (lines.size() < 3)
                waiting.push_back(std::move(reply));
              else
                reply.reply(lines);
            })) {
        }
      };
      auto log = system.spawn(scribe);
      tcp::acceptor acceptor{system.next_executor(),
                             {asio::ip::address_v4::loopback(), 0}};
      const tcp::endpoint where = acceptor.local_endpoint();
      auto server = system.spawn_once(listener, std::move(acceptor), log);
      for (int i = 0; i != 3; ++i) {
        asio::io_context io;
        tcp::socket client{io};
        client.connect(where);
        asio::write(client, asio::buffer(text(i)));
        std::string back(text(i).size(), ' ');
        asio::read(client, asio::buffer(back));
        CHECK(back == text(i));
      }
      CHECK(log.ask<statement>(long_text).get().size() == 3);
      server.stop();
      CHECK(server.stopped().get() == actors::exit_reason::normal);
    });
  }

  TEST_CASE("a guest on a user's io_context, asked by an awaitable") {
    asio::io_context io;
    actors::system_options options;
    options.log.emplace();
    actor_system system{io, options};
    auto values = system.spawn(store);
    int answered = 0;
    const auto client = [](actor_ref<get, put> to,
                           int* n) -> asio::awaitable<void> {
      for (int i = 0; i != rounds; ++i) {
        to.tell<put>(text(i), text(-i));
        std::optional<std::string> value =
            co_await to.ask<get>(text(i))(asio::use_awaitable);
        CHECK(*value == text(-i));
        ++*n;
      }
    };
    asio::co_spawn(io, client(values, &answered),
                   [&](std::exception_ptr) { system.terminate(); });
    io.run();
    CHECK(answered == rounds);
    CHECK(values.path().starts_with("/user/"));
  }

  TEST_CASE("a callback and a future") {
    each_system([](actor_system& system) {
      auto alice = system.spawn(account, long_text, 100);
      auto future = alice.ask<statement>(long_text)(asio::use_future);
      CHECK(future.get().size() == 2);
      support::flag done;
      alice.ask<withdraw>(long_text, 1)(
          [&, copy = long_text](std::error_code e, std::string reply) {
            CHECK(!e);
            CHECK(reply == copy + " gets it");
            done.set();
          });
      done.wait();
    });
  }
}
