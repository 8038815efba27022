// expect: actor_parameter_would_dangle_take_it_by_value<int ?&>
// errors: 1
#include <actors/actors.hpp>

actors::task<> counter(actors::context<> self, int&) {
  co_await self.until_stop();
}
void f(actors::actor_system& system, int& count) {
  system.spawn_once(counter, count);
}
