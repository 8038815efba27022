// expect: receive_of_undeclared_message<get_balance>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};

actors::task<> account(actors::context<deposit> self) {
  while (co_await self.receive<get_balance>([](get_balance) { return 1; })) {
  }
}
