// expect: consistent_hash_has_no_key_for<query>
// errors: 1
#include <actors/actors.hpp>

struct job {
  int user;
};
struct query {};
actors::task<> worker(actors::context<job, query> self) {
  co_await self.until_stop();
}
void spawn(actors::actor_system& system) {
  (void)system.spawn(
      actors::pool(8, actors::routing::consistent_hash(&job::user)), worker);
}
