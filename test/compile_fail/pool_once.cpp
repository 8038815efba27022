// expect: pool_workers_are_restarted_use_spawn<
// errors: 1
#include <actors/actors.hpp>

struct job {};
actors::task<> worker(actors::context<job> self) { co_await self.until_stop(); }
void spawn(actors::actor_system& system) {
  (void)system.spawn_once(actors::pool(8), worker);
}
