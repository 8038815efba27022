// pipeline: three stages, the last one slow: bounded mailboxes keep memory flat
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <system_error>

using namespace std::chrono_literals;

// 200 bytes or so of something that is read, packed and stored.
struct chunk {
  std::uint32_t number;
  std::array<std::uint32_t, 48> data;
};
using chunks = actors::actor_ref<chunk>;

// Reads as fast as it may. `send` waits until its message is in the mailbox:
// where that is bounded, this stage is as fast as the next one.
actors::task<> source(actors::context<>, std::uint32_t count, chunks next) {
  for (std::uint32_t i = 0; i != count; ++i) {
    chunk c{.number = i, .data = {}};
    c.data.fill(i);
    co_await next.send<chunk>(c);
  }
}

// While its handler waits for room, it takes nothing itself. So the pressure
// goes on to the stage before.
actors::task<> pack(actors::context<chunk> self, chunks next) {
  co_await self.serve([&](chunk& c) -> actors::task<> {
    for (std::size_t i = 1; i < c.data.size(); ++i) c.data[i] ^= c.data[i - 1];
    co_await next.send<chunk>(c);
  });
}

// The slow one: a microsecond or so for each.
actors::task<> store(actors::context<chunk> self, std::uint64_t* checksum) {
  std::uint32_t expected = 0;
  co_await self.serve([&](const chunk& c) {
    for (int round = 0; round != 16; ++round)
      for (std::uint32_t word : c.data)
        *checksum = (*checksum ^ word) * 0x100000001b3u;
    if (c.number != expected++) std::abort();  // one sender's come in order
  });
}

// Megabytes of memory that the process uses.
long resident() {
  std::ifstream statm{"/proc/self/statm"};
  long total = 0;
  long pages = 0;
  statm >> total >> pages;
  return pages * 4 / 1024;
}

int main(int argc, char** argv) {
  const std::string_view kind = argc > 1 ? argv[1] : "bounded";
  const long items = argc > 2 ? std::atol(argv[2]) : 1'000'000;
  if ((kind != "bounded" && kind != "unbounded") || items < 1 ||
      items > 100'000'000) {
    fmt::print(stderr, "usage: pipeline [bounded|unbounded [ITEMS]]\n");
    return 2;
  }

  // With `unbounded` nothing holds the first stage back. It is done soon, most
  // of its chunks wait before the last stage, and memory is what they need:
  // some 200 MB here, and no end of it where the input has none. The
  // log says so: "/user/store is behind: 10000 messages wait for it".
  actors::mailbox mailbox;
  if (kind == "bounded")
    mailbox = actors::mailbox::bounded(1000, actors::overflow::wait);

  std::uint64_t checksum = 0;
  actors::actor_system system{{.threads = 3}};  // one for each stage
  auto last =
      system.spawn({.name = "store", .mailbox = mailbox}, store, &checksum);
  auto middle = system.spawn({.name = "pack", .mailbox = mailbox}, pack, last);
  auto first = system.spawn({.name = "source"}, source,
                            static_cast<std::uint32_t>(items), middle);

  // Tells how it goes, until `stage` has ended.
  std::size_t most = 0;
  const auto watch = [&](auto stage) {
    for (;;) {
      try {
        (void)stage.stopped().get(200ms);
        return;
      } catch (const std::system_error&) {  // not yet
      }
      std::size_t before_pack = 0;
      std::size_t before_store = 0;
      for (const auto& actor : system.snapshot(10s).get()) {
        if (actor.who == middle) before_pack = actor.queued;
        if (actor.who == last) before_store = actor.queued;
      }
      most = std::max({most, before_pack, before_store});
      fmt::print("{:7} before pack, {:7} before store, {:4} MB\n", before_pack,
                 before_store, resident());
    }
  };
  watch(first);
  middle.drain();
  watch(middle);
  last.drain();
  watch(last);
  fmt::print("{} items, checksum {:016x}, at most {} seen in a mailbox\n",
             items, checksum, most);
}
