// timers: what an actor does with time: sleeps, times out, ticks
#include <fmt/format.h>
#include <actors/actors.hpp>

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

struct beat {};

// `send_every`: a message to itself, in a rhythm that does not drift by the
// time that each beat takes, as `sleep_for` in a loop would. The timer goes
// with the actor, or with `cancel()`.
actors::task<> heart(actors::context<beat> self,
                     actors::actor_ref<heartbeat> listener) {
  (void)self.send_every<beat>(100ms);
  for (int i = 0; i != 5; ++i) {
    if (!co_await self.receive([&](beat) { listener.tell(heartbeat{}); }))
      co_return;
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
