// In steady state nothing that an actor awaits comes from the heap. Each case
// is done many times to warm up, then again, counted.
//
// A program of its own, because it counts what the C library gives out: `new`
// alone would not do, as Asio takes its memory from `aligned_alloc`. With the
// name of a case as its argument it aborts at the first allocation of that one,
// so that a debugger shows whose it is.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "actors/asio.hpp"

using namespace std::chrono_literals;
using actors::context;
using actors::task;
using actors::use_task;

// --- Allocations, counted ----------------------------------------------------

namespace {

std::atomic<long> allocations{0};
/// Between the warm-up of a case and its end.
std::atomic<bool> forbidden{false};

void count() noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (forbidden.load(std::memory_order_relaxed)) std::abort();
}

}  // namespace

// As glibc wants it: whoever replaces one replaces all. `new` comes here, too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t bytes) {
  count();
  return __libc_malloc(bytes);
}
void* calloc(std::size_t n, std::size_t bytes) {
  count();
  return __libc_calloc(n, bytes);
}
void* realloc(void* p, std::size_t bytes) {
  count();
  return __libc_realloc(p, bytes);
}
void* memalign(std::size_t align, std::size_t bytes) {
  count();
  return __libc_memalign(align, bytes);
}
void* aligned_alloc(std::size_t align, std::size_t bytes) {
  count();
  return __libc_memalign(align, bytes);
}
int posix_memalign(void** p, std::size_t align, std::size_t bytes) {
  count();
  *p = __libc_memalign(align, bytes);
  return *p ? 0 : 12;  // ENOMEM
}
void free(void* p) { __libc_free(p); }
}

namespace {

// --- Cases -------------------------------------------------------------------

struct echo {
  using reply_type = int;
  int value;
};
struct nothing {
  using reply_type = void;
};

task<> server(context<echo, nothing> self) {
  co_await self.serve([](echo e) { return e.value; }, [](nothing) {});
}

struct world {
  explicit world(const asio::any_io_executor& ex)
      : timer{ex}, ours{ex}, theirs{ex} {
    asio::local::connect_pair(ours, theirs);
  }
  actors::actor_ref<echo, nothing> near;
  asio::steady_timer timer;
  asio::local::stream_protocol::socket ours, theirs;
  std::array<char, 64> out{}, in{};
};

task<int> nested(actors::actor_ref<echo, nothing> r) {
  const int n = co_await r.ask<echo>(1);
  co_return n;
}
task<int> large(actors::actor_ref<echo, nothing> r) {
  std::array<char, 1'200> kept{};
  kept.back() = 'x';
  const int n = co_await r.ask<echo>(1);
  co_return n + kept[static_cast<std::size_t>(n)] + kept.back();
}
task<> sleeping(context<> self) { co_await self.sleep_for(0s); }
task<int> at_once(int n) { co_return n; }

struct test {
  const char* name;
  /// Does it so many times.
  task<> (*repeat)(context<>&, world&, int times);
  /// What each time may allocate, on a pool and elsewhere; 0 but where it is
  /// said why.
  long on_pool = 0;
  long elsewhere = 0;
};

constexpr test tests[] = {
    {"a timer",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         w.timer.expires_after(1us);
         co_await w.timer.async_wait(use_task);
       }
     }},
    {"a timer that has expired",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         w.timer.expires_after(0s);
         co_await w.timer.async_wait(use_task);
       }
     }},
    {"a write and a read that waits for nothing",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await w.ours.async_write_some(asio::buffer(w.out), use_task);
         co_await w.theirs.async_read_some(asio::buffer(w.in), use_task);
       }
     }},
    {"a read that waits for its write",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::when_all(
             w.theirs.async_read_some(asio::buffer(w.in), use_task),
             w.ours.async_write_some(asio::buffer(w.out), use_task));
       }
     }},
    // What Asio allocates for its cancellation between the parts, and for
    // what goes through an `any_io_executor`, it recycles inside of `run()`
    // and of one `poll()`; on a pool most turns are outside of both.
    {"a write and a read of several parts",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await asio::async_write(w.ours, asio::buffer(w.out), use_task);
         co_await asio::async_read(w.theirs, asio::buffer(w.in), use_task);
       }
     },
     2, 0},
    // As above.
    {"asio::post to its own strand",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await asio::post(self.get_executor(), use_task);
       }
     },
     2, 0},
    {"asio::post to the next context",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await asio::post(self.system().next_executor(), use_task);
       }
     },
     2, 0},
    {"an ask",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await w.near.ask<echo>(1);
         co_await w.near.ask<nothing>();
       }
     }},
    {"an ask with a timeout",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await w.near.ask<echo>(1).within(1h);
       }
     }},
    {"an ask in a task of its own",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) co_await nested(w.near);
     }},
    {"an ask whose end comes as a result",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         (void)co_await actors::as_result(w.near.ask<echo>(1));
       }
     }},
    // Larger than what the free lists hold.
    {"a task with a frame of more than 1 KiB",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) co_await large(w.near);
     },
     1, 1},
    {"sleep_for",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) co_await self.sleep_for(1us);
     }},
    {"sleep_for nothing",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) co_await self.sleep_for(0s);
     }},
    {"when_all of asks",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::when_all(w.near.ask<echo>(1), w.near.ask<echo>(2));
       }
     }},
    {"when_all of a sleep, a task and a timer",
     [](context<>& self, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         w.timer.expires_after(1us);
         co_await actors::when_all(self.sleep_for(1us), nested(w.near),
                                   w.timer.async_wait(use_task));
       }
     }},
    // The one that loses throws, inside: an exception and its text.
    {"when_any of an ask and a sleep",
     [](context<>& self, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::when_any(w.near.ask<echo>(1), self.sleep_for(1h));
       }
     },
     3, 3},
    {"when_any of a sleep and a read",
     [](context<>& self, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::when_any(
             self.sleep_for(1us),
             w.theirs.async_read_some(asio::buffer(w.in), use_task));
       }
     },
     3, 3},
    {"with_timeout of an ask",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::with_timeout(1h, w.near.ask<echo>(1));
       }
     }},
    {"with_timeout of a sleep",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::with_timeout(1h, self.sleep_for(1us));
       }
     }},
    // As asio::post.
    {"with_timeout of a post",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::with_timeout(
             1h, asio::post(self.get_executor(), use_task));
       }
     },
     2, 0},
    {"with_timeout of a write and a read",
     [](context<>&, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         co_await actors::with_timeout(
             1h, w.ours.async_write_some(asio::buffer(w.out), use_task));
         co_await actors::with_timeout(
             1h, w.theirs.async_read_some(asio::buffer(w.in), use_task));
       }
     }},
    {"a child task",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         auto t = self.spawn_task(at_once, 1);
         co_await t;
       }
     }},
    {"a child task that waits",
     [](context<>& self, world&, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         auto t = self.spawn_task(sleeping);
         co_await t;
       }
     }},
    {"two child tasks that ask",
     [](context<>& self, world& w, int times) -> task<> {
       for (int i = 0; i != times; ++i) {
         auto a = self.spawn_task(nested, w.near);
         auto b = self.spawn_task(nested, w.near);
         co_await a;
         co_await b;
       }
     }},
};

// --- Hosts -------------------------------------------------------------------

constexpr int times = 1'000;
/// How many allocations each case has made in its second round.
using counts = std::array<long, std::size(tests)>;

task<> run(context<> self, counts* made, std::string_view suspect) {
  world w{self.get_executor()};
  w.near = self.spawn(server);
  for (std::size_t i = 0; i != std::size(tests); ++i) {
    co_await tests[i].repeat(self, w, times);
    const long before = allocations;
    forbidden = suspect == tests[i].name;
    co_await tests[i].repeat(self, w, times);
    forbidden = false;
    (*made)[i] = allocations - before;
  }
}

bool report(const char* host, const counts& made, bool pool) {
  bool good = true;
  for (std::size_t i = 0; i != std::size(tests); ++i) {
    const long each = pool ? tests[i].on_pool : tests[i].elsewhere;
    // One is the frame of the case itself, where it is a large one.
    if (made[i] <= each * times + 1) continue;
    good = false;
    std::printf("%s: %s: %ld allocations in %d times, not %ld\n", host,
                tests[i].name, made[i], times, each * times);
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view suspect = argc > 1 ? argv[1] : "";
  bool good = true;
  counts made{};
  {
    actors::actor_system system{
        {.threads = 1, .dispatcher = actors::dispatcher::pool()}};
    system.run(run, &made, suspect);
  }
  good &= report("pool", made, true);
  {
    actors::actor_system system{
        {.threads = 1, .dispatcher = actors::dispatcher::shared()}};
    system.run(run, &made, suspect);
  }
  good &= report("shared", made, false);
  {
    asio::io_context io;
    actors::actor_system system{io};
    const auto ref = system.spawn_once(run, &made, suspect);
    const auto work = asio::make_work_guard(io);
    ref.stopped()([&](std::error_code, actors::exit_reason) { io.stop(); });
    io.run();
  }
  good &= report("guest", made, false);
  // Whether it counts at all.
  const long before = allocations;
  ::operator delete(::operator new(100));  // no compiler may leave these out
  if (allocations == before) {
    std::puts("nothing is counted");
    good = false;
  }
  if (good) std::puts("no allocations");
  return good ? 0 : 1;
}
