// expect: arguments_do_not_fit_the_actor_function<
// errors: 1
#include <actors/actors.hpp>

actors::task<int> twice(actors::context<>, int n) { co_return 2 * n; }
int f(actors::actor_system& system) { return system.run(twice, "one"); }
