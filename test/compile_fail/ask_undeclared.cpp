// expect: actor_does_not_take<get_balance>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};

int f(actors::actor_ref<deposit> account) {
  return account.ask<get_balance>().get();
}
