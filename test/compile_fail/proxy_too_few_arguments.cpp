// expect: proxy_cannot_call_this_with<int \(bank::\*\)\(int\)>
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
  int add(int);
};
void f(actors::proxy<bank>& b) { b.tell(&bank::add); }
