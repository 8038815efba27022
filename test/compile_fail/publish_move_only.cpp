// expect: published_message_must_be_copyable<ticket>
// errors: 1
#include <actors/actors.hpp>

#include <memory>

struct ticket {
  std::unique_ptr<int> number;
};
void publish(actors::actor_system& system) { (void)system.publish(ticket{}); }
