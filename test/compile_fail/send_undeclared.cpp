// expect: actor_does_not_take<note>
// errors: 1
#include <actors/actors.hpp>

struct note {};

actors::task<> f(actors::actor_ref<int> ref) { co_await ref.send<note>(); }
