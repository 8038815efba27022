// expect: actor_function_must_return_task<int>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
int actor(actors::context<deposit>) { return 1; }
void f(actors::actor_system& system) { (void)system.spawn(actor); }
