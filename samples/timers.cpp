// timers: what an actor does with time: sleeps, times out, ticks
#include <fmt/format.h>
#include <actors/asio.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <system_error>

using namespace std::chrono_literals;

void say(std::string_view what) {
  static const auto start = std::chrono::steady_clock::now();
  const auto passed = std::chrono::steady_clock::now() - start;
  fmt::print("{:4} ms  {}\n", passed / 1ms, what);
}

struct coffee {
  using reply_type = std::string;
};

// `sleep_for` waits without a thread. What arrives meanwhile, other orders,
// stays in the mailbox until this handler is done.
actors::task<> machine(actors::context<coffee> self) {
  while (co_await self.receive([&](coffee) -> actors::task<std::string> {
    co_await self.sleep_for(200ms);
    co_return "a cup of coffee";
  })) {
  }
}

// `.within(…)` is how long one asker is willing to wait. The question goes on
// without him: the machine brews his coffee all the same.
actors::task<> guest(actors::context<>, actors::actor_ref<coffee> machine) {
  try {
    (void)co_await machine.ask<coffee>().within(50ms);
  } catch (const std::system_error& e) {
    if (e.code() != actors::errc::timed_out) throw;
    say("the guest in a hurry leaves");
  }
  std::string cup = co_await machine.ask<coffee>().within(10s);
  say("the guest with time gets " + cup);
}

struct heartbeat {};

// A timer of Asio's. It has a point in time: here the beats do not drift by the
// time that each of them takes, as they would with `sleep_for`.
actors::task<> heart(actors::context<> self,
                     actors::actor_ref<heartbeat> listener) {
  asio::steady_timer timer{self.get_executor(), 100ms};
  for (int i = 0; i != 5; ++i) {
    co_await timer.async_wait(actors::use_task);
    listener.tell(heartbeat{});
    timer.expires_at(timer.expiry() + 100ms);
  }
}

// `after`, the last handler: nothing has come for so long. Each message starts
// the time anew.
actors::task<> monitor(actors::context<heartbeat> self) {
  while (co_await self.receive([](heartbeat) { say("beep"); },
                               actors::after(250ms, [&] {
                                 say("no heartbeat any more");
                                 self.stop();
                               }))) {
  }
}

int main() {
  actors::actor_system system;
  say("start");
  system.spawn(guest, system.spawn(machine));
  auto watching = system.spawn(monitor);
  system.spawn(heart, watching);
  watching.stopped().get();  // the plain thread waits, too
}
