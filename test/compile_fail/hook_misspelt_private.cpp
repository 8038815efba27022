// expect: the_hooks_are_pre_start_post_stop_pre_restart_and_post_restart<bank>
// errors: 1
#include <actors/actors.hpp>

#include <exception>
#include <memory>
#include <string>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
class bank : public actors::actor<> {
  void postStop();
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
