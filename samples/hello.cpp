// hello: an actor that greets, in the first lines of Python's "actors"
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <string>

// An actor is a coroutine that awaits its mailbox. This one takes strings.
actors::task<> greeter(actors::context<std::string> self) {
  while (co_await self.receive(
      [&](std::string name) { fmt::print("Hello {}\n", name); })) {
  }
}

int main() {
  actors::actor_system system;
  auto hello = system.spawn(greeter);
  hello.tell<std::string>("world");
}  // the system drains before it ends: what was told is handled
