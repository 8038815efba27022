// expect: child_task_must_take_its_arguments_and_return_a_task<
// errors: 1
#include <actors/actors.hpp>

actors::task<> actor(actors::context<> self) {
  auto t = self.spawn_task([](int n) { return n; }, 1);
  co_await self.until_stop();
}
