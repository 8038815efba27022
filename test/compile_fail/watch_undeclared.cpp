// expect: watch_delivers_undeclared_message<actors::ended>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
actors::task<> actor(actors::context<deposit> self, actors::any_actor_ref who) {
  self.watch(who);
  co_await self.until_stop();
}
