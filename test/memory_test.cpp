#include "actors/detail/memory.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "support.hpp"

using actors::detail::allocate;
using actors::detail::deallocate;

namespace {

/// Pages of this process that are in memory; 0 where nobody can say.
std::size_t resident_bytes() {
  std::size_t total = 0, resident = 0;
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%zu %zu", &total, &resident) != 2) resident = 0;
    std::fclose(f);
  }
  return resident * 4096;
}

struct item {
  std::string text;
};
struct batch_done {};
struct next_batch {};

constexpr int batch = 1'000;

/// Makes messages on its thread, which are freed on the other's.
actors::task<> source(actors::context<next_batch> self,
                      actors::actor_ref<item, batch_done> sink) {
  while (co_await self.receive([&](next_batch) {
    for (int i = 0; i != batch; ++i)
      sink.tell<item>("longer than a string keeps in itself: 0123456789");
    sink.tell(batch_done{}, self.ref());
  })) {
  }
}

actors::task<> sink(actors::context<item, batch_done> self, int batches,
                    std::size_t* warm, std::size_t* in_the_end) {
  int seen = 0;
  std::size_t letters = 0;
  while (co_await self.receive([&](item i) { letters += i.text.size(); },
                               [&](batch_done) {
                                 ++seen;
                                 if (seen == batches / 4)
                                   *warm = resident_bytes();
                                 if (seen == batches) {
                                   *in_the_end = resident_bytes();
                                   self.stop();
                                 } else {
                                   self.sender().tell(next_batch{});
                                 }
                               })) {
  }
  CHECK(letters >= 40u * batch * static_cast<std::size_t>(batches));
}

}  // namespace

TEST_SUITE("memory") {
  TEST_CASE("a size belongs to the smallest class that holds it") {
    using actors::detail::size_class;
    CHECK(size_class(0) == 0);
    CHECK(size_class(16) == 0);
    CHECK(size_class(17) == 1);
    CHECK(size_class(24) == 1);
    CHECK(size_class(25) == 2);
    for (std::size_t n = 1; n != 2'000; ++n) {
      REQUIRE(16 + 8 * size_class(n) >= n);
      if (n > 16) REQUIRE(16 + 8 * (size_class(n) - 1) < n);
    }
  }

  TEST_CASE("blocks are aligned, apart, and as large as was asked for") {
    for (std::size_t size = 8; size < 3'000; size += 56) {
      // As strictly as a type of that size can ask for.
      const std::size_t align = size % 16 == 0 ? 16 : 8;
      std::vector<unsigned char*> blocks;
      for (unsigned char i = 0; i != 100; ++i) {
        auto* b = static_cast<unsigned char*>(allocate(size));
        REQUIRE(reinterpret_cast<std::uintptr_t>(b) % align == 0);
        std::memset(b, i, size);
        blocks.push_back(b);
      }
      unsigned char expected = 0;
      bool intact = true;
      for (unsigned char* b : blocks) {
        for (std::size_t k = 0; k != size; ++k) intact &= b[k] == expected;
        ++expected;
        deallocate(b, size);
      }
      CHECK(intact);
    }
  }

  TEST_CASE("what nobody uses any more serves other sizes, and the system") {
    if (support::sanitized) return;  // there the heap decides
    constexpr std::size_t bytes = 100'000'000;
    const auto use = [](std::size_t size, std::size_t& peak) {
      std::vector<void*> blocks(bytes / size);
      for (void*& b : blocks) b = std::memset(allocate(size), 1, size);
      peak = resident_bytes() - blocks.size() * sizeof(void*);
      for (void* b : blocks) deallocate(b, size);
    };
    const std::size_t before = resident_bytes();
    std::size_t first = 0, second = 0;
    use(56, first);
    const std::size_t between = resident_bytes();
    use(200, second);
    if (before == 0) return;
    CHECK(first > bytes);
    // 32 MiB are kept, and what threads and depots have in stock.
    CHECK(between < before + 50'000'000);
    CHECK(second < first + 20'000'000);
  }

  TEST_CASE("a block that was given back is used again") {
    if (support::sanitized) return;  // there each block is the heap's own
    void* first = allocate(100);
    deallocate(first, 100);
    void* second = allocate(100);
    CHECK(first == second);
    deallocate(second, 100);
  }

  TEST_CASE("a block may be given back on another thread, and when it ends") {
    constexpr std::size_t count = 5'000;
    std::vector<void*> blocks;
    std::thread maker{[&] {
      for (std::size_t i = 0; i != count; ++i) blocks.push_back(allocate(64));
    }};
    maker.join();
    std::thread ender{[&] {
      for (void* b : blocks) deallocate(b, 64);
      // What this thread keeps goes back at its end.
    }};
    ender.join();
  }

  TEST_CASE("a destructor that runs at a thread's end may give memory back") {
    struct late {
      ~late() { deallocate(block, 48); }
      void* block = allocate(48);
    };
    std::thread t{[] {
      thread_local late l;
      deallocate(allocate(48), 48);
      CHECK(l.block);
    }};
    t.join();
  }

  TEST_CASE("threads that pass blocks on keep memory flat") {
    // One allocates, the other frees, a million times: far more than all
    // lists together hold.
    constexpr int rounds = support::sanitized ? 200 : 2'000;
    constexpr std::size_t count = 1'000;
    std::vector<void*> blocks(count);
    std::atomic<int> turn{0};
    std::size_t warm = 0;
    std::thread freeing{[&] {
      for (int i = 0; i != rounds; ++i) {
        turn.wait(2 * i);
        for (void*& b : blocks) deallocate(std::exchange(b, nullptr), 128);
        turn = 2 * i + 2;
        turn.notify_one();
      }
    }};
    for (int i = 0; i != rounds; ++i) {
      for (void*& b : blocks) b = allocate(128);
      turn = 2 * i + 1;
      turn.notify_one();
      turn.wait(2 * i + 1);
      if (i == rounds / 4) warm = resident_bytes();
    }
    freeing.join();
    const std::size_t end = resident_bytes();
    // 1.5 million blocks of 128 bytes would be 190 MB.
    if (!support::sanitized && warm != 0) CHECK(end < warm + 8'000'000);
  }

  TEST_CASE("a pipeline over two threads has flat memory") {
    const int batches = support::sanitized ? 40 : 1'000;
    std::size_t warm = 0, in_the_end = 0;
    {
      actors::actor_system system{{.threads = 2}};
      auto to = system.spawn({.placement = actors::placement::on(0)}, sink,
                             batches, &warm, &in_the_end);
      auto from =
          system.spawn({.placement = actors::placement::on(1)}, source, to);
      from.tell(next_batch{});
      to.stopped().get();
    }
    // 750,000 messages of two blocks each would be 100 MB.
    if (!support::sanitized && warm != 0) CHECK(in_the_end < warm + 8'000'000);
  }
}
