// expect: handler_returns_another_type_than_the_reply_of<get_balance>
// errors: 1
#include <actors/actors.hpp>

#include <string>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit, get_balance> self) {
  while (co_await self.receive([](deposit) {},
                               [](get_balance) { return std::string{}; })) {
  }
}
