// expect: arguments_do_not_construct_the_actor_class<bank, .*char
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
  explicit bank(int);
  void receive(deposit);
};
void f(actors::actor_system& system) { (void)system.spawn<bank>("one"); }
