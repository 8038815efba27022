// expect: broadcast_cannot_answer_the_question<query>
// errors: 1
#include <actors/actors.hpp>

struct query {
  using reply_type = int;
};
actors::task<> worker(actors::context<query> self) {
  co_await self.until_stop();
}
void spawn(actors::actor_system& system) {
  (void)system.spawn(actors::pool(8, actors::routing::broadcast), worker);
}
