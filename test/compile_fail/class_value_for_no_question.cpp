// expect: value_returned_for_message_that_is_no_question<deposit>
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
  int receive(deposit);
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
