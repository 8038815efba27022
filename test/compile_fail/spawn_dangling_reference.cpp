// expect: actor_parameter_would_dangle_take_it_by_value<
// errors: 1
#include <actors/actors.hpp>

#include <string>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit>, const std::string&) {
  co_return;
}
void f(actors::actor_system& system) {
  (void)system.spawn(actor, std::string{"gone"});
}
