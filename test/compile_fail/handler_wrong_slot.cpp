// expect: actor_has_no_handler_for<get_balance>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};

// The slot has to be the question's own: `reply_to<int>`.
actors::task<> account(actors::context<get_balance> self) {
  while (co_await self.receive([](get_balance, actors::reply_to<long>) {})) {
  }
}
