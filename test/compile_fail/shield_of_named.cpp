// expect: shield_needs_an_operation_or_task_that_it_can_move<.*operation<int>
// errors: 1
#include <actors/actors.hpp>

struct get {
  using reply_type = int;
};

actors::task<> f(actors::actor_ref<get> ref) {
  auto op = ref.ask<get>();
  co_await actors::shield(op);
}
