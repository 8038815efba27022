// expect: actor_function_must_take_a_context_first<
// errors: 1
#include <actors/actors.hpp>

void f(actors::actor_system& system) {
  system.spawn([](auto self) -> actors::task<> { co_await self.until_stop(); });
}
