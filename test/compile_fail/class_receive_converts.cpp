// expect: actor_has_no_handler_for<short
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
class bank : public actors::actor<short> {
 public:
  void receive(int);
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
