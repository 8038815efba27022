// expect: arguments_do_not_construct_the_actor_class<worker
// errors: 1
#include <actors/actors.hpp>

class worker : public actors::actor<int> {
 public:
  explicit worker(int*) {}
  void receive(int) {}
};
void f(actors::actor_system& system) {
  (void)system.spawn<worker>(actors::pool(2), 5.0);
}
