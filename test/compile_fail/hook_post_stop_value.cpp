// expect: post_stop_must_be_public_take_nothing_and_return_void_or_task<bank>
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
  int post_stop();
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
