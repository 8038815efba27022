#include "actors/mailbox.hpp"

#include <doctest/doctest.h>

#include <array>
#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/asio.hpp"
#include "actors/testing.hpp"
#include "support.hpp"
#include "systems.hpp"

namespace bounded {

using namespace std::chrono_literals;
using actors::actor_ref;
using actors::as_result;
using actors::context;
using actors::dead_letter;
using actors::duration;
using actors::errc;
using actors::lifecycle_event;
using actors::mailbox;
using actors::overflow;
using actors::simulation;
using actors::spawn_options;
using actors::task;
using support::contains;
using support::error_of;
using support::message_of;
using ints = std::vector<int>;
using codes = std::vector<std::error_code>;

struct note {
  int n;
};
struct quote {
  int n;
};
struct query {
  using reply_type = int;
  int n;
};
struct pass {
  using reply_type = void;
};
struct crash : std::runtime_error {
  crash() : runtime_error{"crash"} {}
};

using gate_ref = actor_ref<pass>;
using consumer_ref = actor_ref<note, quote, query>;

/// Takes nothing before it may pass the gate; then everything, in its order.
/// Quotes count from 100, queries from 1000.
task<> consumer(context<note, quote, query> self, gate_ref gate, ints* got) {
  co_await gate.ask<pass>();
  while (co_await self.receive([&](note m) { got->push_back(m.n); },
                               [&](quote m) { got->push_back(100 + m.n); },
                               [&](query m) {
                                 got->push_back(1000 + m.n);
                                 return m.n;
                               })) {
  }
}

task<> ask_one(context<>, consumer_ref to, int n, codes* ends, duration limit) {
  auto op = to.ask<query>(n);
  auto end = co_await as_result(std::move(op).within(limit));
  ends->push_back(end.error());
}
task<> send_one(context<>, consumer_ref to, int n, codes* ends,
                duration limit) {
  auto op = to.send<note>(n);
  auto end = co_await as_result(std::move(op).within(limit));
  ends->push_back(end.error());
}

spawn_options with(mailbox kind) {
  spawn_options options{.name = "consumer"};
  options.mailbox = std::move(kind);
  return options;
}

/// A consumer before its gate.
struct fixture {
  explicit fixture(mailbox kind, std::uint64_t seed = 1) : sim{seed} {
    sim.system().on_dead_letter([this](const dead_letter& l) {
      if (const note* m = l.get<note>()) lost.push_back(m->n);
      if (const quote* m = l.get<quote>()) lost.push_back(100 + m->n);
      if (const query* m = l.get<query>()) lost.push_back(1000 + m->n);
      why.push_back(l.why);
      lines.push_back(l.to_string());
    });
    to = sim.spawn(with(std::move(kind)), consumer, gate.ref(), &got);
    sim.run_until_idle();
  }
  void tell(int from, int to_) {
    for (int n = from; n <= to_; ++n) to.tell(note{n});
  }
  void ask(int n, duration limit = 1h) {
    sim.spawn(ask_one, to, n, &asked, limit);
    sim.run_until_idle();
  }
  void send(int n, duration limit = 1h) {
    sim.spawn(send_one, to, n, &sent, limit);
    sim.run_until_idle();
  }
  void open() {
    gate.expect<pass>().reply();
    sim.run_until_idle();
  }

  ints got;
  ints lost;
  std::vector<dead_letter::reason> why;
  std::vector<std::string> lines;
  codes asked;
  codes sent;
  simulation sim;
  actors::probe<pass> gate{sim, "gate"};
  consumer_ref to;
};

// --- whatever happens, each message has one end ------------------------------

struct item {
  int id;
  support::counted memory;
};
struct item_query {
  using reply_type = int;
  int id;
  support::counted memory;
};
using item_ref = actor_ref<item, item_query>;

/// What became of messages. Any thread.
class ledger {
 public:
  struct entry {
    int taken = 0;
    int lost = 0;
    bool failed = false;
    bool ended = false;
    std::error_code end;
  };
  void taken(int id) {
    with(id, [](entry& e) { ++e.taken; });
  }
  void lost(const dead_letter& l) {
    const bool failed = l.why == dead_letter::reason::failed;
    const auto put = [&](entry& e) {
      ++e.lost;
      e.failed = failed;
    };
    if (const item* m = l.get<item>()) with(m->id, put);
    if (const item_query* m = l.get<item_query>()) with(m->id, put);
  }
  void ended(int id, std::error_code code) {
    with(id, [&](entry& e) {
      e.ended = true;
      e.end = code;
    });
  }
  enum class way { told, sent, asked };
  /// A new one.
  int issue(way w) {
    std::lock_guard lock{mutex_};
    ways_.push_back(w);
    return static_cast<int>(ways_.size()) - 1;
  }
  /// The text is empty when all is well.
  std::string check() {
    std::lock_guard lock{mutex_};
    for (std::size_t i = 0; i != ways_.size(); ++i) {
      const entry& e = entries_[static_cast<int>(i)];
      if (!well(ways_[i], e))
        return "message " + std::to_string(i) + ", way " +
               std::to_string(static_cast<int>(ways_[i])) + ": taken " +
               std::to_string(e.taken) + ", lost " + std::to_string(e.lost) +
               ", end " + (e.ended ? e.end.message() : "none");
    }
    return {};
  }
  std::size_t size() {
    std::lock_guard lock{mutex_};
    return ways_.size();
  }

 private:
  static bool well(way w, const entry& e) {
    if (e.taken > 1 || e.lost > 1) return false;
    const int ends = e.taken + (e.failed ? 0 : e.lost);
    if (w == way::told) return ends == 1;
    if (!e.ended) return false;
    if (w == way::sent) return ends == (e.end ? 0 : 1);
    if (!e.end) return e.taken == 1 && e.lost == 0;
    if (e.lost != 0 && !e.failed) return false;
    return !actors::not_handled(e.end) || e.taken == 0;
  }
  template <class F>
  void with(int id, F f) {
    std::lock_guard lock{mutex_};
    f(entries_[id]);
  }
  std::mutex mutex_;
  std::vector<way> ways_;
  std::map<int, entry> entries_;
};

struct run {
  ledger book;
  std::atomic<int> alive{0};
  /// What each sender's told messages came in as.
  std::mutex mutex;
  std::map<int, int> last;
};

/// Slow now and then; tells itself something with every fifth message.
task<> worker(context<item, item_query> self, run* r, bool slow) {
  int count = 0;
  const auto next = [&](int id) {
    r->book.taken(id);
    if (++count % 5 != 0) return;
    const int more = r->book.issue(ledger::way::told);
    self.ref().tell<item>(more, support::counted{r->alive});
  };
  if (!slow) {
    co_await self.serve([&](const item& m) { next(m.id); },
                        [&](const item_query& q) {
                          next(q.id);
                          return q.id;
                        });
    co_return;
  }
  co_await self.serve(
      [&](const item& m) -> task<> {
        next(m.id);
        co_await self.sleep_for(1ms);
      },
      [&](const item_query& q) -> task<int> {
        next(q.id);
        co_await self.sleep_for(1ms);
        co_return q.id;
      });
}

enum class manner { tell, send, ask, send_within, ask_within };
constexpr std::array manners{manner::tell, manner::send, manner::ask,
                             manner::send_within, manner::ask_within};

task<> sender(context<> self, run* r, item_ref to, manner how, int count) {
  using way = ledger::way;
  for (int i = 0; i != count; ++i) {
    if (i % 3 == 0) co_await self.sleep_for(1ms * (i % 2));
    support::counted memory{r->alive};
    std::error_code end;
    if (how == manner::tell) {
      to.tell<item>(r->book.issue(way::told), std::move(memory));
    } else if (how == manner::send || how == manner::send_within) {
      const int id = r->book.issue(way::sent);
      auto op = to.send<item>(id, std::move(memory));
      if (how == manner::send_within)
        end = (co_await as_result(std::move(op).within(2ms))).error();
      else
        end = (co_await as_result(std::move(op))).error();
      r->book.ended(id, end);
    } else {
      const int id = r->book.issue(way::asked);
      auto op = to.ask<item_query>(id, std::move(memory));
      if (how == manner::ask_within)
        end = (co_await as_result(std::move(op).within(2ms))).error();
      else
        end = (co_await as_result(std::move(op))).error();
      r->book.ended(id, end);
    }
  }
}

mailbox kind_of(overflow policy, bool by_type) {
  const mailbox whole = mailbox::bounded(3, policy);
  return by_type ? whole.limit<item_query>(2, overflow::wait) : whole;
}

enum class ending { drain_last, stop, drain, kill, restart };

/// Each manner of sending at once, and in the middle something happens.
void scenario(simulation& sim, run& r, overflow policy, ending how,
              bool by_type) {
  sim.system().on_dead_letter([&](const dead_letter& l) { r.book.lost(l); });
  const auto to = sim.spawn(with(kind_of(policy, by_type)), worker, &r, true);
  for (const manner m : manners) sim.spawn(sender, &r, to, m, 6);
  sim.advance(1ms * (sim.seed() % 7));
  for (std::uint64_t i = 0; i != sim.seed() % 11; ++i) sim.step();
  switch (how) {
    case ending::drain_last:
      break;
    case ending::stop:
      to.stop();
      break;
    case ending::drain:
      to.drain();
      break;
    case ending::kill:
      to.kill();
      break;
    case ending::restart:
      sim.run(to.started());
      sim.expect_failure<crash>(to);
      sim.inject(to, crash{});
      break;
  }
  sim.advance(1s);
  to.drain();
  sim.run(to.stopped());
  sim.run_until_idle();
  if (const std::string wrong = r.book.check(); !wrong.empty())
    throw std::runtime_error{wrong};
  if (r.alive != 0) throw std::runtime_error{"messages are left"};
}

}  // namespace bounded

TEST_SUITE("mailbox") {
  using namespace bounded;

  // --- what is misuse -------------------------------------------------------

  TEST_CASE("a mailbox without room is refused, with a sentence") {
    CHECK(message_of<std::invalid_argument>(
              [] { (void)mailbox::bounded(0, overflow::fail); }) ==
          "a mailbox has to have room for 1 to 1000000000 messages, not 0");
    CHECK_THROWS_AS(
        (void)mailbox::bounded(static_cast<std::size_t>(-1), overflow::fail),
        std::invalid_argument);
    CHECK_THROWS_AS((void)mailbox::unbounded().limit<note>(0, overflow::wait),
                    std::invalid_argument);
  }

  TEST_CASE("a type has one limit") {
    const auto one = mailbox::unbounded().limit<note>(5, overflow::fail);
    CHECK(contains(message_of<std::invalid_argument>(
                       [&] { (void)one.limit<note>(6, overflow::fail); }),
                   "bounded::note has two"));
    CHECK(one.limit<quote>(1, overflow::wait).limits().size() == 2);
  }

  TEST_CASE("a limit for what the actor does not take is refused at spawn") {
    simulation sim;
    const auto kind = mailbox::bounded(5, overflow::fail)
                          .limit<std::string>(5, overflow::fail);
    const auto f = [](context<note> self) -> task<> {
      co_await self.until_stop();
    };
    CHECK(contains(message_of<std::invalid_argument>(
                       [&] { (void)sim.spawn(with(kind), f); }),
                   "which the actor does not take"));
    CHECK_THROWS_AS((void)sim.spawn_once(with(kind), f), std::invalid_argument);
    // Nothing half made is left: the name is free, and nobody is there.
    for (const auto& s : sim.run(sim.system().snapshot()))
      CHECK(!contains(s.path, "consumer"));
  }

  // --- each policy ----------------------------------------------------------

  TEST_CASE("fail and drop_newest refuse what finds it full") {
    for (const overflow policy : {overflow::fail, overflow::drop_newest}) {
      fixture f{mailbox::bounded(3, policy)};
      f.tell(1, 5);
      f.ask(6);
      f.send(7);
      CHECK(f.lost == ints{4, 5});
      CHECK(f.why == std::vector(2, dead_letter::reason::mailbox_full));
      CHECK(f.lines[0] ==
            "dead letter: bounded::note to /user/consumer, whose mailbox is "
            "full");
      CHECK(f.asked == codes{errc::mailbox_full});
      CHECK(f.sent == codes{errc::mailbox_full});
      CHECK(actors::not_handled(f.asked[0]));
      f.open();
      CHECK(f.got == ints{1, 2, 3});
      f.tell(8, 8);
      f.ask(9);
      f.send(10);
      CHECK(f.got == ints{1, 2, 3, 8, 1009, 10});
      CHECK(f.asked.back() == std::error_code{});
      CHECK(f.sent.back() == std::error_code{});
      CHECK(f.sim.system().dead_letter_count() == 2);
    }
  }

  TEST_CASE("drop_oldest evicts, and tells whom it evicts") {
    fixture f{mailbox::bounded(3, overflow::drop_oldest)};
    f.tell(1, 1);
    f.ask(2);
    f.tell(3, 4);
    CHECK(f.lost == ints{1});
    CHECK(f.asked.empty());
    f.send(5);
    CHECK(f.asked == codes{errc::mailbox_full});
    CHECK(f.sent == codes{std::error_code{}});
    f.ask(6);
    CHECK(f.lost == ints{1, 3});  // a question that is evicted is no letter
    f.open();
    CHECK(f.got == ints{4, 5, 1006});
    CHECK(f.asked.size() == 2);
  }

  TEST_CASE("under wait sends and asks go in as room comes, in their order") {
    fixture f{mailbox::bounded(2, overflow::wait)};
    f.tell(1, 3);
    CHECK(f.lost == ints{3});
    f.send(4);
    f.ask(5);
    f.send(6);
    f.tell(7, 7);  // finds it full: others wait
    CHECK(f.lost == ints{3, 7});
    CHECK(f.sent.empty());
    f.open();
    CHECK(f.got == ints{1, 2, 4, 1005, 6});
    CHECK(f.sent == codes{std::error_code{}, std::error_code{}});
    CHECK(f.asked == codes{std::error_code{}});
  }

  TEST_CASE("a send that is given up is not delivered") {
    fixture f{mailbox::bounded(1, overflow::wait)};
    f.tell(1, 1);
    f.send(2, 1s);
    f.ask(3, 1s);
    f.send(4);
    const auto killed = f.sim.spawn(send_one, f.to, 5, &f.sent, duration{1h});
    const auto stopped = f.sim.spawn(send_one, f.to, 6, &f.sent, duration{1h});
    f.sim.run_until_idle();
    killed.kill();
    stopped.stop();
    f.sim.advance(1s);
    CHECK(f.asked == codes{errc::timed_out});
    REQUIRE(f.sent.size() == 2);
    CHECK(f.sent[0] == asio::error::operation_aborted);
    CHECK(f.sent[1] == errc::timed_out);
    f.open();
    CHECK(f.got == ints{1, 4});
    CHECK(f.sent.size() == 3);
    CHECK(f.lost.empty());
  }

  TEST_CASE(
      "who waits is told when the actor ends, and none is a dead letter") {
    for (int how = 0; how != 3; ++how) {
      fixture f{mailbox::bounded(1, overflow::wait)};
      f.tell(1, 1);
      f.ask(2);
      f.send(3);
      how == 0 ? f.to.stop() : how == 1 ? f.to.drain() : f.to.kill();
      f.sim.run_until_idle();
      CHECK(f.asked == codes{errc::actor_stopped});
      CHECK(f.sent == codes{errc::actor_stopped});
      if (how == 1) f.open();
      CHECK(f.sim.run(as_result(f.to.stopped())).has_value());
      CHECK(f.got == (how == 1 ? ints{1} : ints{}));
      CHECK(f.lost == (how == 1 ? ints{} : ints{1}));
    }
  }

  TEST_CASE("what is forwarded waits for room, too, where somebody asked it") {
    fixture f{mailbox::bounded(1, overflow::wait)};
    f.tell(1, 1);
    const auto forwarder = f.sim.spawn(
        [](context<query, note> self, consumer_ref to) -> task<> {
          while (co_await self.receive(
              [&](query q) { self.forward(to, std::move(q)); },
              [&](note n) { self.forward(to, std::move(n)); })) {
          }
        },
        f.to);
    int answer = 0;
    const auto ask = [&answer](context<>, actor_ref<query> to) -> task<> {
      answer = co_await to.ask<query>(7);
    };
    f.sim.spawn(ask, forwarder);
    f.sim.run_until_idle();
    forwarder.tell(note{2});
    f.sim.run_until_idle();
    CHECK(f.lost == ints{2});
    f.open();
    CHECK(answer == 7);
    CHECK(f.got == ints{1, 1007});
  }

  TEST_CASE("senders that give up again and again leave nothing behind") {
    std::atomic<int> alive{0};
    simulation sim;
    auto gate = sim.probe<pass>();
    using heavy = support::counted;
    const auto to = sim.spawn(
        with(mailbox::bounded(1, overflow::wait)),
        [](context<heavy> self, gate_ref g) -> task<> {
          co_await g.ask<pass>();
          while (co_await self.receive([](heavy&) {})) {
          }
        },
        gate.ref());
    const auto sender = [&alive](context<>, actor_ref<heavy> t) -> task<> {
      co_await t.send<heavy>(alive);
      for (int i = 0; i != 1000; ++i) {
        auto op = t.send<heavy>(alive);
        const auto end = co_await as_result(std::move(op).within(1ms));
        CHECK(end.error() == errc::timed_out);
        CHECK(alive <= 40);
      }
    };
    sim.run(sender, to);
    gate.expect<pass>().reply();
    sim.run_until_idle();
    CHECK(alive == 0);
  }

  // --- limits by type -------------------------------------------------------

  TEST_CASE("a limit by type counts that type alone") {
    fixture f{mailbox::unbounded().limit<quote>(2, overflow::drop_oldest)};
    f.to.tell(quote{1});
    f.tell(1, 3);
    f.to.tell(quote{2});
    f.to.tell(quote{3});
    f.tell(4, 4);
    f.to.tell(quote{4});
    CHECK(f.lost == ints{101, 102});
    f.open();
    CHECK(f.got == ints{1, 2, 3, 103, 4, 104});
  }

  TEST_CASE("a limit by type counts for the whole, too") {
    fixture f{mailbox::bounded(3, overflow::fail)
                  .limit<quote>(2, overflow::drop_oldest)};
    f.to.tell(quote{1});
    f.to.tell(quote{2});
    f.tell(1, 1);
    f.to.tell(quote{3});  // makes its own room
    CHECK(f.lost == ints{101});
    f.tell(2, 2);
    CHECK(f.lost == ints{101, 2});
    f.open();
    CHECK(f.got == ints{102, 1, 103});
  }

  TEST_CASE("the whole evicts whatever is oldest, and its counts stay right") {
    fixture f{mailbox::bounded(3, overflow::drop_oldest)
                  .limit<quote>(2, overflow::fail)};
    f.to.tell(quote{1});
    f.to.tell(quote{2});
    f.to.tell(quote{3});
    CHECK(f.lost == ints{103});
    f.tell(1, 2);  // evicts the first quote
    CHECK(f.lost == ints{103, 101});
    f.to.tell(quote{4});  // evicts the second
    CHECK(f.lost == ints{103, 101, 102});
    f.open();
    CHECK(f.got == ints{1, 2, 104});
  }

  TEST_CASE("who waits for room for its type lets others pass") {
    fixture f{
        mailbox::bounded(4, overflow::wait).limit<query>(1, overflow::wait)};
    f.ask(1);
    f.ask(2);
    f.ask(3);
    f.tell(1, 3);
    CHECK(f.lost.empty());
    f.send(4);  // waits: the whole is full
    f.open();
    CHECK(f.got == ints{1001, 1, 2, 3, 1002, 4, 1003});
  }

  TEST_CASE("the policy of its type holds for one that has waited, too") {
    fixture f{
        mailbox::bounded(2, overflow::wait).limit<query>(1, overflow::fail)};
    f.tell(1, 2);
    f.ask(1);
    f.ask(2);
    CHECK(f.asked.empty());
    // The first goes in behind the notes; for the second there is no room then.
    f.open();
    CHECK(f.got.size() >= 3);
    CHECK(f.asked.size() == 2);
  }

  // --- what is exempt -------------------------------------------------------

  TEST_CASE("the runtime's own messages find room, and are not evicted") {
    for (const overflow policy : {overflow::fail, overflow::drop_oldest}) {
      ints got;
      simulation sim;
      auto gate = sim.probe<pass>();
      const auto brief = [](context<>) -> task<> { co_return; };
      const auto watched = sim.spawn(brief);
      const auto watcher = [&got](context<note, actors::ended> self,
                                  actors::any_actor_ref whom,
                                  gate_ref g) -> task<> {
        self.watch(whom);
        co_await g.ask<pass>();
        while (co_await self.receive(
            [&](note m) { got.push_back(m.n); },
            [&](const actors::ended&) { got.push_back(-1); })) {
        }
      };
      auto options = with(
          mailbox::bounded(1, policy).limit<actors::ended>(1, overflow::fail));
      const auto to = sim.spawn(options, watcher, watched, gate.ref());
      to.tell(note{1});
      sim.run_until_idle();
      for (int n = 2; n != 5; ++n) to.tell(note{n});
      gate.expect<pass>().reply();
      sim.run_until_idle();
      const bool newest = policy == overflow::drop_oldest;
      CHECK(got == (newest ? ints{-1, 4} : ints{1, -1}));
    }
  }

  // --- oneself --------------------------------------------------------------

  TEST_CASE("what an actor tells itself counts as well") {
    std::vector<dead_letter::reason> why;
    ints got;
    simulation sim;
    sim.system().on_dead_letter(
        [&](const dead_letter& l) { why.push_back(l.why); });
    const auto body = [&got](context<note> self) -> task<> {
      for (int n = 1; n != 5; ++n) self.ref().tell(note{n});
      while (co_await self.receive([&](note m) {
        got.push_back(m.n);
        if (m.n < 10) self.ref().tell(note{m.n + 10});
      })) {
      }
    };
    sim.spawn(with(mailbox::bounded(2, overflow::wait)), body);
    sim.run_until_idle();
    CHECK(got == ints{1, 2, 11, 12});
    CHECK(why == std::vector(2, dead_letter::reason::mailbox_full));
  }

  TEST_CASE("a send to oneself that would wait for oneself says so") {
    codes ends;
    ints got;
    simulation sim;
    const auto body = [&](context<note> self) -> task<> {
      for (int n = 1; n != 4; ++n) {
        auto op = self.ref().send<note>(n);
        ends.push_back((co_await as_result(std::move(op))).error());
      }
      // A child task may wait: the body takes messages meanwhile.
      auto t = self.spawn_task(
          [](context<> c, actor_ref<note> me) -> task<> {
            (void)c;
            co_await me.send<note>(4);
            co_await me.send<note>(5);
          },
          self.ref());
      co_await self.receive([&](note m) { got.push_back(m.n); });
      co_await self.serve([&](note m) { got.push_back(m.n); });
    };
    sim.spawn(with(mailbox::bounded(2, overflow::wait)), body);
    sim.advance(1s);
    CHECK(ends == codes{{}, {}, errc::would_deadlock});
    CHECK(got == ints{1, 2, 4, 5});
  }

  // --- restart, selective receive, sizes ------------------------------------

  TEST_CASE("mailbox and those who wait survive a restart") {
    ints got;
    codes ends;
    simulation sim;
    auto gate = sim.probe<pass>();
    const auto body = [&got](context<note, quote, query> self,
                             gate_ref g) -> task<> {
      self.ready();
      co_await g.ask<pass>();
      co_await self.serve([&](note m) { got.push_back(m.n); }, [](quote) {},
                          [](query q) { return q.n; });
    };
    const auto to =
        sim.spawn(with(mailbox::bounded(1, overflow::wait)), body, gate.ref());
    to.tell(note{1});
    sim.spawn(send_one, to, 2, &ends, duration{1h});
    (void)gate.expect<pass>();  // dropped: the ask throws, and the actor fails
    sim.expect_failure<actors::actor_error>(to);
    sim.run_until_idle();
    CHECK(ends.empty());
    gate.expect<pass>().reply();
    sim.run_until_idle();
    CHECK(got == ints{1, 2});
    CHECK(ends == codes{{}});
  }

  TEST_CASE("a selective receive takes from the middle, and makes room") {
    ints got;
    codes ends;
    simulation sim;
    auto gate = sim.probe<pass>();
    const auto body = [&got](context<note, quote, query> self,
                             gate_ref g) -> task<> {
      co_await g.ask<pass>();
      for (int i = 0; i != 3; ++i)
        co_await self.receive<quote>(
            [&](quote m) { got.push_back(100 + m.n); });
      while (co_await self.receive([&](note m) { got.push_back(m.n); },
                                   [](quote) {}, [](query q) { return q.n; })) {
      }
    };
    const auto to = sim.spawn(with(mailbox::bounded(4, overflow::drop_oldest)),
                              body, gate.ref());
    to.tell(note{1});
    to.tell(quote{1});
    to.tell(note{2});
    gate.expect<pass>().reply();
    sim.run_until_idle();
    CHECK(got == ints{101});
    to.tell(note{3});
    to.tell(note{4});
    to.tell(quote{2});  // evicts what has been looked at: the first note
    sim.run_until_idle();
    CHECK(got == ints{101, 102});
    to.tell(quote{3});
    sim.run_until_idle();
    CHECK(got == ints{101, 102, 103, 2, 3, 4});
  }

  TEST_CASE("a snapshot counts what is in the mailbox") {
    fixture f{mailbox::bounded(3, overflow::wait)};
    f.tell(1, 3);
    f.send(4);
    for (const auto& s : f.sim.run(f.sim.system().snapshot()))
      if (s.who == f.to) CHECK(s.queued == 3);
    f.open();
  }

  TEST_CASE("subscribers without room make no letters without end") {
    int heard = 0;
    simulation sim;
    sim.system().on_dead_letter([&](const dead_letter&) { ++heard; });
    auto gate = sim.probe<pass>();
    const auto body = [](context<dead_letter, note> self,
                         gate_ref g) -> task<> {
      co_await g.ask<pass>();
      co_await self.serve([](const dead_letter&) {}, [](note) {});
    };
    for (const overflow policy : {overflow::drop_oldest, overflow::fail}) {
      spawn_options options;
      options.mailbox = mailbox::bounded(2, policy);
      const auto to = sim.spawn(options, body, gate.ref());
      to.tell(note{1});
      to.tell(note{2});
      sim.system().on_dead_letter(to);
    }
    sim.run_until_idle();
    const auto nobody = sim.spawn(
        [](context<note> self) -> task<> { co_await self.until_stop(); });
    nobody.kill();
    sim.run_until_idle();
    const auto before = sim.system().dead_letter_count();
    nobody.tell(note{1});
    nobody.tell(note{2});
    nobody.tell(note{3});
    CHECK(heard == 3);
    // Three of nobody's; of the one subscriber what they evict, of the other
    // the letters themselves.
    CHECK(sim.system().dead_letter_count() - before == 9);
    for (int i = 0; i != 2; ++i) gate.expect<pass>().reply();
  }

  TEST_CASE("the memory of a bounded mailbox is flat, whatever comes") {
    std::atomic<int> alive{0};
    using heavy = support::counted;
    for (const overflow policy : {overflow::fail, overflow::drop_newest,
                                  overflow::drop_oldest, overflow::wait}) {
      support::each_system([&](actors::actor_system& system) {
        const auto to =
            system.spawn(with(mailbox::bounded(100, policy)),
                         [](context<heavy> self) -> task<> {
                           while (co_await self.receive([](heavy&) {})) {
                           }
                         });
        int most = 0;
        for (int i = 0; i != (support::sanitized ? 20'000 : 200'000); ++i) {
          to.tell<heavy>(alive);
          most = std::max(most, alive.load());
        }
        // Those in hand and on their way besides.
        CHECK(most <= 110);
        to.drain();
        to.stopped().get();
      });
      CHECK(alive == 0);
    }
  }

  TEST_CASE("each message has one end, whatever happens") {
    for (const overflow policy : {overflow::fail, overflow::drop_newest,
                                  overflow::drop_oldest, overflow::wait})
      for (const ending how : {ending::drain_last, ending::stop, ending::drain,
                               ending::kill, ending::restart})
        for (const bool by_type : {false, true}) {
          CAPTURE(static_cast<int>(policy));
          CAPTURE(static_cast<int>(how));
          CAPTURE(by_type);
          actors::explore(support::sanitized ? 8 : 60, [&](simulation& sim) {
            // It ends after the actors, and that is in the scenario.
            run r;
            scenario(sim, r, policy, how, by_type);
            sim.terminate();
          });
        }
  }

  TEST_CASE("each message has one end, on threads") {
    for (const overflow policy : {overflow::fail, overflow::drop_newest,
                                  overflow::drop_oldest, overflow::wait})
      for (const ending how : {ending::drain_last, ending::kill}) {
        CAPTURE(static_cast<int>(policy));
        CAPTURE(static_cast<int>(how));
        run r;
        support::each_system([&](actors::actor_system& system) {
          system.on_dead_letter([&](const dead_letter& l) { r.book.lost(l); });
          const auto to =
              system.spawn(with(kind_of(policy, true)), worker, &r, false);
          const int count = support::sanitized ? 300 : 2'000;
          std::vector<actors::any_actor_ref> senders;
          for (int copies = 0; copies != 2; ++copies)
            for (const manner m : manners)
              senders.push_back(system.spawn(sender, &r, to, m, count));
          // Plain threads and tokens besides.
          std::thread thread{[&] {
            for (int i = 0; i != count; ++i) {
              const int id = r.book.issue(ledger::way::sent);
              r.book.ended(
                  id, error_of([&] {
                    to.send<item>(id, support::counted{r.alive})
                        .get(i % 7 == 0 ? duration{10us} : duration{1h});
                  }));
            }
          }};
          std::atomic<int> tokens{0};
          for (int i = 0; i != count; ++i) {
            const int id = r.book.issue(ledger::way::sent);
            ++tokens;
            auto op = to.send<item>(id, support::counted{r.alive});
            const duration limit = i % 7 == 0 ? duration{100us} : duration{1h};
            std::move(op).within(limit)([&, id](std::error_code e) {
              r.book.ended(id, e);
              --tokens;
            });
          }
          if (how == ending::kill) to.kill();
          thread.join();
          for (const auto& s : senders) (void)s.stopped().get();
          while (tokens != 0) std::this_thread::yield();
          to.drain();
          to.stopped().get();
        });
        CHECK(r.book.check() == "");
        CHECK(r.alive == 0);
      }
  }

  TEST_CASE("what one sender sends arrives in its order, on threads") {
    for (const overflow policy : {overflow::drop_oldest, overflow::wait})
      support::each_system([&](actors::actor_system& system) {
        std::map<int, int> last;
        bool in_order = true;
        int count = 0;
        const auto to =
            system.spawn(with(mailbox::bounded(5, policy)),
                         [&](context<note> self) -> task<> {
                           while (co_await self.receive([&](note m) {
                             int& before = last[m.n / 1'000'000];
                             in_order = in_order && m.n % 1'000'000 > before;
                             before = m.n % 1'000'000;
                             ++count;
                           })) {
                           }
                         });
        const auto sends = [](context<>, actor_ref<note> t, int who,
                              int n) -> task<> {
          for (int i = 1; i <= n; ++i)
            co_await t.send<note>(who * 1'000'000 + i);
        };
        const int n = support::sanitized ? 1'000 : 10'000;
        std::vector<actors::any_actor_ref> all;
        for (int who = 0; who != 4; ++who)
          all.push_back(system.spawn(sends, to, who, n));
        for (const auto& a : all) (void)a.stopped().get();
        to.drain();
        to.stopped().get();
        CHECK(in_order);
        if (policy == overflow::wait) CHECK(count == 4 * n);
      });
  }

  TEST_CASE("who waits is told when the io_context goes") {
    asio::io_context other;
    std::error_code end;
    int handled = 0;
    {
      asio::io_context io;
      actors::system_options options;
      options.log.emplace();
      actors::actor_system system{io, options};
      const auto to = system.spawn(
          with(mailbox::bounded(1, overflow::wait)),
          [](context<note> self) -> task<> { co_await self.until_stop(); });
      to.tell(note{1});
      to.send<note>(2)(asio::bind_executor(other, [&](std::error_code e) {
        end = e;
        ++handled;
      }));
      io.poll();
    }
    other.run();
    CHECK(handled == 1);
    CHECK(end == errc::actor_stopped);
  }

  // --- crowds ---------------------------------------------------------------

  TEST_CASE("an unbounded mailbox says when it is crowded, and again") {
    for (const bool limited : {false, true}) {
      std::vector<std::size_t> told;
      support::log_lines lines;
      ints got;
      actors::simulation_options options;
      options.system.log = lines.sink();
      simulation sim{options};
      sim.system().on_event([&](const lifecycle_event& e) {
        if (e.what == lifecycle_event::kind::crowded) told.push_back(e.queued);
      });
      auto gate = sim.probe<pass>();
      const auto body = [](context<note> self, gate_ref g) -> task<> {
        for (;;) {
          co_await g.ask<pass>();
          for (int i = 0; i != 10'000; ++i)
            if (!co_await self.receive([](note) {})) co_return;
        }
      };
      spawn_options spawning{.name = "stuck"};
      if (limited)
        spawning.mailbox =
            mailbox::unbounded().limit<note>(1'000'000, overflow::fail);
      const auto to = sim.spawn(spawning, body, gate.ref());
      const auto flood = [](context<>, actor_ref<note> t, int n) -> task<> {
        for (int i = 0; i != n; ++i) t.tell(note{i});
        co_return;
      };
      const auto within = [&](std::size_t i, std::size_t low) {
        REQUIRE(told.size() > i);
        CHECK(told[i] >= low);
        // A simulated thread may be another one, which has it look when all
        // is there.
        CHECK(told[i] <= 2 * low);
      };
      sim.run(flood, to, 9'990);
      sim.run_until_idle();
      CHECK(told.empty());
      sim.run(flood, to, 5'000);
      sim.run_until_idle();
      REQUIRE(told.size() == 1);
      within(0, 10'000);
      CHECK(contains(lines.find("is behind"), "/user/stuck is behind: 1"));
      sim.run(flood, to, 10'000);
      sim.run_until_idle();
      REQUIRE(told.size() == 2);
      within(1, 20'000);
      // It catches up, and falls behind again.
      for (int i = 0; i != 2; ++i) gate.expect<pass>().reply();
      sim.run_until_idle();
      gate.expect<pass>().reply();
      sim.run_until_idle();
      CHECK(told.size() == 2);
      sim.run(flood, to, 20'000);
      sim.run_until_idle();
      CHECK(told.size() >= 3);
      within(2, 10'000);
      gate.expect<pass>().reply();
      gate.expect<pass>().reply();
      sim.run_until_idle();
    }
  }

  TEST_CASE("a stuck actor is crowded by other threads, too") {
    support::each_system([](actors::actor_system& system) {
      support::flag crowded;
      const auto id = system.on_event([&](const lifecycle_event& e) {
        if (e.what == lifecycle_event::kind::crowded) crowded.set();
      });
      const auto to = system.spawn([](context<note> self) -> task<> {
        co_await self.sleep_for(1h);
        co_await self.until_stop();
      });
      for (int i = 0; i != 20'000; ++i) to.tell(note{i});
      crowded.wait();
      system.unsubscribe(id);
      to.kill();
      to.stopped().get();
    });
  }

  TEST_CASE("an eviction makes room for those who wait for it") {
    struct left {
      int n;
    };
    struct right {
      int n;
    };
    bool sent = false;
    int got = 0;
    actors::simulation sim;
    const auto a = sim.spawn(
        {.mailbox = actors::mailbox::bounded(2, actors::overflow::drop_oldest)
                        .limit<right>(1, actors::overflow::wait)},
        [&](actors::context<left, right> self) -> actors::task<> {
          co_await self.sleep_for(1s);
          co_await self.receive<right>([&](right r) { got = r.n; });
        });
    a.tell(right{1});
    a.tell(left{1});
    sim.spawn([&](actors::context<>) -> actors::task<> {
      co_await a.send<right>(2);
      sent = true;
    });
    sim.run_until_idle();
    CHECK_FALSE(sent);
    a.tell(left{2});  // the oldest, right{1}, makes room for it
    sim.run_until_idle();
    CHECK(sent);
    sim.advance(2s);
    CHECK(got == 2);
  }
}
