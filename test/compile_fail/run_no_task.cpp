// expect: actor_function_must_return_task<int>
// errors: 1
#include <actors/actors.hpp>

int one(actors::context<>) { return 1; }
int f(actors::actor_system& system) { return system.run(one); }
