// expect: concurrent_handler_must_return_a_task<
// errors: 1
#include <actors/actors.hpp>

struct work {};

actors::task<> actor(actors::context<work> self) {
  while (co_await self.receive(actors::concurrent([](work) {}))) {
  }
}
