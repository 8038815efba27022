// expect: broadcast_message_must_be_copyable<parcel>
// errors: 1
#include <actors/actors.hpp>

#include <memory>

struct parcel {
  std::unique_ptr<int> what;
};
actors::task<> worker(actors::context<parcel> self) {
  co_await self.until_stop();
}
void spawn(actors::actor_system& system) {
  (void)system.spawn(actors::pool(8).to_all<parcel>(), worker);
}
