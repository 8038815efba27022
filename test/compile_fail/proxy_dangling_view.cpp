// expect: actor_parameter_would_view_a_temporary_take_it_by_value<.*string_view
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
  void rename(std::string_view to);
};
void f(actors::proxy<bank>& b) { b.tell(&bank::rename, std::string{"bank"}); }
