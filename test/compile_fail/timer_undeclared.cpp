// expect: timer_sends_undeclared_message<tick>
// errors: 1
#include <actors/actors.hpp>

#include <chrono>

struct tick {};
actors::task<> actor(actors::context<int> self) {
  (void)self.send_after(std::chrono::seconds{1}, tick{});
  co_await self.until_stop();
}
