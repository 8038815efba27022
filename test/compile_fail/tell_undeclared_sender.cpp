// expect: actor_does_not_take<get_balance>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};

void f(actors::actor_ref<deposit> account) {
  account.tell(get_balance{}, account);
}
