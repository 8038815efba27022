// only if: ACTORS_WERROR
// expect: discard|unused
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
void f(actors::actor_ref<get_balance> ref) { ref.ask<get_balance>(); }
