// expect: handler_returns_another_type_than_the_reply_of<get_balance>
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
class bank : public actors::actor<get_balance> {
 public:
  std::string receive(get_balance);
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
