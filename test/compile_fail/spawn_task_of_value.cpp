// expect: actor_function_must_return_task<actors::task<int> ?>
// errors: 1
#include <actors/actors.hpp>

actors::task<int> one(actors::context<>) { co_return 1; }
void f(actors::actor_system& system) { system.spawn(one); }
