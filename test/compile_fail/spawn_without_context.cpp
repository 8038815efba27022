// expect: actor_function_must_take_a_context_first<
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(int) { co_return; }
void f(actors::actor_system& system) { (void)system.spawn(actor, 1); }
