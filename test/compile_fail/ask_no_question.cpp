// expect: message_is_no_question_give_it_a_reply_type<deposit>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
void f(actors::actor_ref<deposit> ref) { (void)ref.ask<deposit>(1); }
