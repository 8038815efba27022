// expect: actor_function_must_take_a_context_first<
// errors: 1
#include <actors/actors.hpp>

actors::task<int> one() { co_return 1; }
int f(actors::actor_system& system) { return system.run(one); }
