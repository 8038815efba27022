// expect: value_returned_for_message_that_is_no_question<deposit>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit, get_balance> self) {
  while (co_await self.receive([](deposit d) { return d.amount; },
                               [](get_balance) { return 1; })) {
  }
}
