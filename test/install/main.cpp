// A stranger's program: what is installed compiles, links and runs, on threads
// of its own and as a guest on an io_context.
#include <actors/actors.hpp>
#include <actors/asio.hpp>

#include <cstdio>

struct add {
  int amount;
};
struct get {
  using reply_type = int;
};

actors::task<> counter(actors::context<add, get> self, int count) {
  while (co_await self.receive([&](add a) { count += a.amount; },
                               [&](get) { return count; })) {
  }
}

asio::awaitable<int> count_as_guest(actors::actor_ref<add, get> ref) {
  ref.tell(add{2});
  co_return co_await ref.ask<get>()(asio::use_awaitable);
}

int main() {
  std::printf("actors %s\n", actors::version());
  if (ACTORS_VERSION < 100) return 1;

  actors::actor_system system{{.threads = 2}};
  auto ref = system.spawn(counter, 40);
  ref.tell(add{2});
  if (ref.ask<get>().get() != 42) return 2;

  int counted = 0;
  asio::io_context io;
  {
    actors::actor_system guest{io};
    asio::co_spawn(io, count_as_guest(guest.spawn(counter, 40)),
                   [&](std::exception_ptr, int n) {
                     counted = n;
                     guest.terminate();
                   });
    io.run();
  }
  return counted == 42 ? 0 : 3;
}
