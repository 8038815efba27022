// expect: actor_class_is_abstract<bank>
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
  virtual void receive(deposit) = 0;

 protected:
  ~bank() = default;
};
void f(actors::actor_system& system) { (void)system.spawn<bank>(); }
