// expect: spawn_copies_its_arguments_for_restarts_use_spawn_once<.*unique_ptr
// errors: 1
#include <actors/actors.hpp>

#include <memory>
#include <utility>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit>, std::unique_ptr<int>) {
  co_return;
}
void f(actors::actor_system& system) {
  (void)system.spawn(actor, std::make_unique<int>(1));
}
