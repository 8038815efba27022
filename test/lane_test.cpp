#include "lane.hpp"

#include <doctest/doctest.h>

#include <array>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

namespace {

struct node {
  explicit node(int v = 0, int from = 0) noexcept : value{v}, producer{from} {}
  node* next = nullptr;
  int value;
  int producer;
};

using lane = actors::detail::lane<node>;
using queue = actors::detail::queue<node>;
using pushed = lane::pushed;

std::vector<int> values(node* first) {
  std::vector<int> found;
  for (; first; first = first->next) found.push_back(first->value);
  return found;
}

std::vector<int> take(lane& l) {
  node* last = nullptr;
  return values(l.take_all(last));
}

/// Wakes that are owed and have not come yet.
class doorbell {
 public:
  void ring() {
    std::lock_guard lock{mutex_};
    ++rings_;
    changed_.notify_one();
  }
  void wait() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return rings_ != 0; });
    --rings_;
  }
  int rings() {
    std::lock_guard lock{mutex_};
    return rings_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int rings_ = 0;
};

}  // namespace

TEST_SUITE("lane") {
  TEST_CASE("a lane gives its nodes in the order they were pushed") {
    lane l;
    node a{1}, b{2}, c{3};
    CHECK(!l.has_nodes());
    CHECK(l.push(&a) == pushed::quietly);
    CHECK(l.push(&b) == pushed::quietly);
    CHECK(l.push(&c) == pushed::quietly);
    CHECK(l.has_nodes());
    node* last = nullptr;
    node* first = l.take_all(last);
    CHECK(values(first) == std::vector{1, 2, 3});
    CHECK(last == &c);
    CHECK(!l.has_nodes());
    CHECK(!l.take_all(last));
  }

  TEST_CASE(
      "the first push to a sleeping lane owes a wake, the next does not") {
    lane l;
    node a{1}, b{2};
    CHECK(!l.asleep());
    CHECK(l.sleep());
    CHECK(l.asleep());
    CHECK(!l.owes());
    CHECK(l.push(&a) == pushed::owing_a_wake);
    CHECK(l.push(&b) == pushed::quietly);
    CHECK(l.owes());
    CHECK(take(l) == std::vector{1, 2});
    // The message is there before its wake is.
    CHECK(l.owes());
    CHECK(!l.close_if_empty());
    l.woken();
    CHECK(!l.owes());
    CHECK(l.close_if_empty());
  }

  TEST_CASE("there is one wake on its way at a time") {
    lane l;
    node a{1}, b{2};
    CHECK(l.sleep());
    CHECK(l.push(&a) == pushed::owing_a_wake);
    // The consumer, awake for another reason, finds it before the wake comes.
    CHECK(take(l) == std::vector{1});
    CHECK(l.sleep());
    CHECK(l.owes());
    CHECK(!l.close_if_empty());
    CHECK(l.push(&b) == pushed::quietly);
    CHECK(!l.sleep());
    l.woken();
    CHECK(take(l) == std::vector{2});
    CHECK(l.sleep());
    CHECK(l.asleep());
  }

  TEST_CASE("a lane with nodes does not go to sleep") {
    lane l;
    node a{1};
    CHECK(l.push(&a) == pushed::quietly);
    CHECK(!l.sleep());
    CHECK(!l.asleep());
    CHECK(take(l) == std::vector{1});
    CHECK(l.sleep());
    CHECK(l.sleep());  // twice is once
    CHECK(l.asleep());
  }

  TEST_CASE("a closed lane refuses, and keeps what is in it") {
    lane l;
    node a{1}, b{2};
    CHECK(l.push(&a) == pushed::quietly);
    l.close();
    CHECK(l.closed());
    CHECK(l.push(&b) == pushed::refused);
    CHECK(l.has_nodes());
    CHECK(!l.close_if_empty());
    CHECK(take(l) == std::vector{1});
    CHECK(l.closed());
    CHECK(l.push(&b) == pushed::refused);
    CHECK(l.close_if_empty());
  }

  TEST_CASE("closing a sleeping lane owes no wake") {
    lane l;
    CHECK(l.sleep());
    l.close();
    CHECK(!l.owes());
    node a{1};
    CHECK(l.push(&a) == pushed::refused);
    CHECK(l.close_if_empty());
  }

  TEST_CASE("a nudge wakes a sleeper without a node, once") {
    lane l;
    CHECK(!l.nudge());  // awake: it looks anyhow
    CHECK(l.sleep());
    CHECK(l.nudge());
    CHECK(l.owes());
    CHECK(!l.nudge());
    CHECK(!l.asleep());
    CHECK(l.sleep());  // the wake is on its way
    CHECK(l.owes());
    l.woken();
    CHECK(!l.owes());
    CHECK(l.sleep());
    CHECK(l.asleep());
    CHECK(l.nudge());
    l.close();
    CHECK(l.owes());
    CHECK(!l.nudge());
  }

  TEST_CASE("a producer on the consumer's thread passes an empty lane only") {
    lane l;
    node a{1};
    CHECK(l.passable());
    CHECK(l.sleep());
    CHECK(l.passable());
    l.push(&a);
    CHECK(!l.passable());
    l.woken();
    CHECK(take(l) == std::vector{1});
    CHECK(l.passable());
    l.close();
    CHECK(!l.passable());
  }

  TEST_CASE("many producers lose nothing and keep their order") {
    constexpr int producers = 4;
    constexpr int each = 20'000;
    lane l;
    doorbell bell;
    std::array<std::vector<node>, producers> nodes;
    std::vector<std::thread> threads;
    for (int p = 0; p != producers; ++p) {
      auto& mine = nodes[static_cast<std::size_t>(p)];
      mine.reserve(each);
      for (int i = 0; i != each; ++i) mine.emplace_back(i, p);
      threads.emplace_back([&] {
        for (node& n : mine)
          if (l.push(&n) == pushed::owing_a_wake) bell.ring();
      });
    }

    std::array<int, producers> next{};
    int seen = 0;
    bool in_order = true;
    while (seen != producers * each) {
      node* last = nullptr;
      for (node* n = l.take_all(last); n; n = n->next) {
        in_order &= n->value == next[static_cast<std::size_t>(n->producer)]++;
        ++seen;
      }
      if (seen != producers * each && l.sleep()) {
        bell.wait();
        l.woken();
      }
    }
    for (std::thread& t : threads) t.join();
    CHECK(in_order);
    CHECK(bell.rings() == 0);
    CHECK(l.close_if_empty());
  }

  TEST_CASE("who closes against producers has each node refused or taken") {
    constexpr int producers = 3;
    constexpr int each = 2'000;
    for (int round = 0; round != 10; ++round) {
      lane l;
      std::array<std::vector<node>, producers> nodes;
      std::array<int, producers> refused{};
      std::vector<std::thread> threads;
      for (int p = 0; p != producers; ++p) {
        auto& mine = nodes[static_cast<std::size_t>(p)];
        mine.reserve(each);
        for (int i = 0; i != each; ++i) mine.emplace_back(i, p);
        threads.emplace_back([&l, &mine, &count = refused[p]] {
          for (node& n : mine)
            if (l.push(&n) == pushed::refused) ++count;
        });
      }
      int taken = 0;
      node* last = nullptr;
      for (int i = 0; i != 50; ++i)
        for (node* n = l.take_all(last); n; n = n->next) ++taken;
      l.close();
      for (std::thread& t : threads) t.join();
      for (node* n = l.take_all(last); n; n = n->next) ++taken;
      CHECK(taken + refused[0] + refused[1] + refused[2] == producers * each);
    }
  }

  TEST_CASE("a queue is first in, first out") {
    queue q;
    node a{1}, b{2}, c{3}, d{4};
    CHECK(q.empty());
    CHECK(!q.pop());
    q.push(&a);
    b.next = &c;
    q.append(&b, &c);
    q.push(&d);
    CHECK(values(q.front()) == std::vector{1, 2, 3, 4});
    CHECK(q.pop() == &a);
    CHECK(q.pop() == &b);
    CHECK(q.pop() == &c);
    CHECK(q.pop() == &d);
    CHECK(q.empty());
    q.push(&a);
    CHECK(values(q.front()) == std::vector{1});
  }

  TEST_CASE("a queue lets a node go from any place") {
    queue q;
    node a{1}, b{2}, c{3}, d{4};
    for (node* n : {&a, &b, &c}) q.push(n);
    q.unlink(&a, &b);
    CHECK(values(q.front()) == std::vector{1, 3});
    q.unlink(&a, &c);  // the last
    q.push(&d);
    CHECK(values(q.front()) == std::vector{1, 4});
    q.unlink(nullptr, &a);  // the first
    CHECK(values(q.front()) == std::vector{4});
    q.unlink(nullptr, &d);
    CHECK(q.empty());
    q.push(&a);
    CHECK(values(q.front()) == std::vector{1});
  }
}
