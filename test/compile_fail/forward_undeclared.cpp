// expect: does not take this message|actor_does_not_take
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit> self,
                     actors::actor_ref<get_balance> other) {
  while (co_await self.receive([&](deposit d) { self.forward(other, d); })) {
  }
}
