// expect: actor_class_needs_no_proxy_spawn_it<bank>
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
};
void f(actors::actor_system& system) { actors::proxy<bank> b{system}; }
