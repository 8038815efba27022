// expect: actor_has_no_handler_for<get_balance>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit, get_balance> self) {
  while (co_await self.receive([](deposit) {})) {
  }
}
