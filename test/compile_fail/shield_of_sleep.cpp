// expect: shield_needs_an_operation_or_task_that_it_can_move<.*sleep_op
// errors: 1
#include <actors/actors.hpp>

using namespace std::chrono_literals;

actors::task<> f(actors::context<> self) {
  co_await actors::shield(self.sleep_for(1s));
}
