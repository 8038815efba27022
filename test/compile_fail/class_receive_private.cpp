// expect: actor_has_no_handler_for<deposit>
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
class bank : public actors::actor<deposit> {
  void receive(deposit);
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
