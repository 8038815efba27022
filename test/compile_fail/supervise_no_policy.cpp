// expect: supervise_takes_a_strategy_or_a_coroutine
// errors: 1
#include <actors/actors.hpp>

actors::task<> parent(actors::context<> self) {
  self.supervise([](int failures) { return failures; });
  co_await self.until_stop();
}
