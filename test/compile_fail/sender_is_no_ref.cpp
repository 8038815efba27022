// expect: sender_is_no_actor_ref<int>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
void f(actors::actor_ref<deposit> ref) { ref.tell(deposit{1}, 7); }
