// expect: class_must_derive_from_actors_actor<bank>
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
class bank {
 public:
  void receive(deposit);
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
