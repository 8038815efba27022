// traps: what goes wrong in coroutines and actors, and the form that is safe
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

using namespace std::chrono_literals;

struct note {
  std::string text;
};
struct get_text {
  using reply_type = std::string;
  std::string key;
};

actors::task<> store(actors::context<note, get_text> self) {
  std::string last;
  co_await self.serve([&](note n) { last = n.text; },
                      [&](get_text) { return last; });
}

actors::task<> lookup(actors::context<> self, int* found) {
  co_await self.sleep_for(1ms);
  ++*found;
}

// What follows compiles, and is never called: it would be undefined behaviour
// or stand still. What the compiler can refuse stands in test/compile_fail.
namespace fails {

// The closure is gone when the coroutine reads what it has captured.
[[maybe_unused]] actors::task<int> captures(int x) {
  auto t = [x]() -> actors::task<int> { co_return x; }();
  co_return co_await t;
}

// A parameter by reference, to a temporary that is gone at the `co_await`.
actors::task<std::size_t> length(const std::string& text) {
  co_return text.size();
}
[[maybe_unused]] actors::task<std::size_t> parameters() {
  auto t = length("a temporary, gone at the end of this line");
  co_return co_await t;
}

// An exception ends the body, and its locals, before the child task.
[[maybe_unused]] actors::task<> locals(actors::context<> self) {
  int found = 0;
  (void)self.spawn_task(lookup, &found);
  throw std::runtime_error{"found is gone, and lookup is not yet"};
}

// The message goes with its handler.
[[maybe_unused]] actors::task<> messages(actors::context<note> self) {
  std::string_view kept;
  co_await self.receive([&](const note& n) { kept = n.text; });
  co_await self.sleep_for(1ms);
  fmt::print("{}\n", kept);
}

// No other actor of this thread runs meanwhile, and no I/O.
[[maybe_unused]] actors::task<> blocking(actors::context<> self) {
  std::this_thread::sleep_for(1h);
  co_await self.until_stop();
}

}  // namespace fails

namespace safe {

actors::task<int> captures(int x) {
  const auto f = [x]() -> actors::task<int> { co_return x; };
  auto t = f();  // `f` outlives it; or give `x` as a parameter
  co_return co_await t;
}

actors::task<std::size_t> length(std::string text) { co_return text.size(); }
actors::task<std::size_t> parameters() {
  auto t = length("moved into the coroutine");
  co_return co_await t;
}

actors::task<int> locals(actors::context<>& self) {
  int found = 0;
  co_await self.with_tasks([&](auto& tasks) -> actors::task<> {
    tasks.spawn(lookup, &found);
    tasks.spawn(lookup, &found);
    co_return;
  });  // returns, or throws, after both have ended
  co_return found;
}

actors::task<> messages(actors::context<note> self) {
  std::string kept;
  co_await self.receive([&](note n) { kept = std::move(n.text); });
  co_await self.sleep_for(1ms);
  fmt::print("kept: {}\n", kept);
}

actors::task<int> blocking(actors::context<>& self) {
  co_await self.sleep_for(1ms);
  co_return co_await self.offload([] {
    std::this_thread::sleep_for(1ms);  // or a database without coroutines
    return 42;
  });
}

// g++ before 14: the library builds the message; an awaited condition stands
// alone.
actors::task<std::string> temporaries(actors::actor_ref<note, get_text> texts) {
  bool again = true;
  std::string got;
  while (again) {
    got = co_await texts.ask<get_text>("key");
    again = got.empty();
  }
  co_return got;
}

}  // namespace safe

int main() {
  actors::actor_system system;
  auto texts = system.spawn(store);
  texts.tell<note>("told");
  system.spawn(safe::messages).tell<note>("a message");
  system.run(
      [](actors::context<> self,
         actors::actor_ref<note, get_text> ref) -> actors::task<> {
        const int x = co_await safe::captures(1);
        const std::size_t n = co_await safe::parameters();
        const int found = co_await safe::locals(self);
        const int answer = co_await safe::blocking(self);
        const std::string text = co_await safe::temporaries(ref);
        fmt::print("{} {} {} {} {}\n", x, n, found, answer, text);
      },
      texts);
}
