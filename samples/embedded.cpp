// embedded: an Asio program asks an actor: a coroutine, a callback, a thread
#include <fmt/format.h>
#include <actors/asio.hpp>

#include <chrono>
#include <string>
#include <system_error>
#include <thread>

using namespace std::chrono_literals;

struct take_number {
  using reply_type = int;
  std::string name;
};

actors::task<> queue(actors::context<take_number> self) {
  int last = 0;
  while (co_await self.receive([&](take_number who) {
    fmt::print("{} is number {}\n", who.name, ++last);
    return last;
  })) {
  }
}

using queue_ref = actors::actor_ref<take_number>;

// A coroutine of Asio's own. It asks like an actor does, and says in addition
// how it wants to wait. An error is thrown as a `std::system_error`.
asio::awaitable<void> coroutine(queue_ref queue) {
  int first = co_await queue.ask<take_number>("awaitable")(asio::use_awaitable);
  int second = co_await queue.ask<take_number>("awaitable")
                   .within(1s)(asio::use_awaitable);
  fmt::print("the awaitable got {} and {}\n", first, second);
}

int main() {
  asio::io_context io;              // the program's own, as ever
  actors::actor_system system{io};  // a guest in it: no thread of its own
  queue_ref numbers = system.spawn(queue);

  asio::co_spawn(io, coroutine(numbers), asio::detached);

  numbers.ask<take_number>("callback")([](std::error_code e, int number) {
    if (e)
      fmt::print("the callback got an error: {}\n", e.message());
    else
      fmt::print("the callback got {}\n", number);
  });

  // A thread that does not run `io` may block; one that does is told
  // `errc::would_deadlock` instead. An actor that waits for messages is no work
  // for `io.run()`, so whoever asks later keeps it going until then.
  std::thread thread{[numbers, work = asio::make_work_guard(io)] {
    std::this_thread::sleep_for(100ms);
    int number = numbers.ask<take_number>("thread").get();
    fmt::print("the thread got {}\n", number);
  }};

  io.run();  // the actor runs in here, and wherever else `io` is run
  thread.join();
}  // a guest never blocks: what it has left goes with `io`
