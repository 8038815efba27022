// expect: actor_function_must_take_a_context_first<
// errors: 1
#include <actors/actors.hpp>

actors::task<> nobody(actors::context<int>&) { co_return; }
void f(actors::actor_system& system) { system.spawn(nobody); }
