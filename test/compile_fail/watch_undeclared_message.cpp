// expect: watch_delivers_undeclared_message<gone>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct gone {};
actors::task<> actor(actors::context<deposit, actors::ended> self,
                     actors::any_actor_ref who) {
  self.watch(who, gone{});
  co_await self.until_stop();
}
