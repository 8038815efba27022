// expect: actor_has_no_handler_for<long( int)?>
// errors: 1
#include <actors/actors.hpp>

// Handlers take exact types: `int` is no `long`.
actors::task<> counter(actors::context<long, int> self) {
  while (co_await self.receive([](int) {})) {
  }
}
