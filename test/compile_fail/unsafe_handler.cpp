// expect: unsafe_temporary_on_this_compiler_name_the_handler_first<
// errors: 1
// only if: ACTORS_HAS_CO_AWAIT_TEMPORARIES_BUG
#include <actors/actors.hpp>

#include <memory>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
actors::task<> actor(actors::context<deposit> self) {
  auto shared = std::make_shared<int>(1);
  while (co_await self.receive([shared](deposit) {})) {
  }
}
