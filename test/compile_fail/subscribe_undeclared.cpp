// expect: actor_does_not_take<quote>
// errors: 1
#include <actors/actors.hpp>

struct quote {};
struct order {};
void subscribe(actors::actor_system& system, actors::actor_ref<order> ref) {
  (void)system.subscribe<quote>(ref);
}
