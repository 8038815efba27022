// expect: completion_token_needs_actors_asio_hpp<token>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
struct token {};
void f(actors::actor_ref<get_balance> ref) { ref.ask<get_balance>()(token{}); }
