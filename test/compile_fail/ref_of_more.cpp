// expect: actor_ref<.*get_balance>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};

actors::actor_ref<deposit, get_balance> f(actors::actor_ref<deposit> account) {
  return account;
}
