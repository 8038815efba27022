// expect: pre_restart_must_be_public_take_an_exception_ptr_and_return
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
 public:
  void receive(deposit);
  void pre_restart();
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
