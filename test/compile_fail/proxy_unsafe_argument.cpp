// expect: unsafe_temporary_on_this_compiler_name_the_argument_first<line>
// errors: 1
// only if: ACTORS_HAS_CO_AWAIT_TEMPORARIES_BUG
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
struct line {
  std::string text;
};
struct bank {
  int add(line);
};
actors::task<> f(actors::proxy<bank>& b) {
  (void)co_await b.call(&bank::add, line{"a line"});
}
