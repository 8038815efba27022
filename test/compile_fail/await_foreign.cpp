// expect: task_cannot_await_this_without_actors_asio_hpp<foreign>
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};
struct get_balance {
  using reply_type = int;
};
struct foreign {};
actors::task<> actor(actors::context<deposit>) {
  int n = co_await foreign{};
  (void)n;
}
