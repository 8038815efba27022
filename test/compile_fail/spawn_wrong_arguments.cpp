// expect: arguments_do_not_fit_the_actor_function<
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit>, int) { co_return; }
void f(actors::actor_system& system) { (void)system.spawn(actor, "one"); }
