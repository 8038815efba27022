// expect: copies_its_arguments_for_restarts_use_spawn_once<
// errors: 1
#include <actors/actors.hpp>

#include <memory>
#include <utility>

void f(actors::actor_system& system) {
  auto owner =
      [p = std::make_unique<int>(1)](actors::context<> self) -> actors::task<> {
    co_await self.until_stop();
  };
  system.spawn(std::move(owner));
}
