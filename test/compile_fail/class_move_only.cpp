// expect: spawn_copies_its_arguments_for_restarts_use_spawn_once<.*unique_ptr
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
  explicit bank(std::unique_ptr<int>);
  void receive(deposit);
};
void f(actors::context<>& self) {
  (void)self.spawn<bank>(std::make_unique<int>(1));
}
