// expect: actor_constructor_would_refer_to_a_copy_take_it_by_value<bank, int>
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
  explicit bank(int&);
  void receive(deposit);
};
void f(actors::actor_system& system, int n) {
  (void)system.spawn<bank>({.name = "bank"}, n);
}
