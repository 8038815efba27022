// expect: actor_does_not_take<get_balance>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};

actors::task<bool> f(actors::actor_ref<deposit> account) {
  auto answer = co_await actors::as_result(account.ask<get_balance>());
  co_return answer.has_value();
}
