// expect: send_every_copies_its_message
// errors: 1
#include <actors/actors.hpp>

#include <chrono>
#include <memory>

actors::task<> actor(actors::context<std::unique_ptr<int>> self) {
  (void)self.send_every(std::chrono::seconds{1}, std::make_unique<int>(1));
  co_await self.until_stop();
}
