// expect: parameter_would_refer_to_a_copy_take_it_by_value<int ?&>
// errors: 1
#include <actors/actors.hpp>

#include <exception>
#include <memory>
#include <string>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
struct bank {
  void balance(int& to);
};
void f(actors::proxy<bank>& b, int to) { (void)b.call(&bank::balance, to); }
