// expect: receive_of_undeclared_message<
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit, get_balance> self) {
  auto d = co_await self.receive<double>();
}
