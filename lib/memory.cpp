#include "actors/detail/memory.hpp"

#include <array>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

// Sanitizers see each block for itself only when it comes from the heap.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ACTORS_PLAIN_HEAP 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ACTORS_PLAIN_HEAP 1
#endif
#endif
#ifndef ACTORS_PLAIN_HEAP
#define ACTORS_PLAIN_HEAP 0
#endif

namespace actors::detail {

#if ACTORS_PLAIN_HEAP

void* allocate(std::size_t bytes) { return ::operator new(bytes); }
void deallocate(void* memory, std::size_t) noexcept {
  ::operator delete(memory);
}

#else

namespace {

// A magazine allocator (Bonwick and Adams, "Magazines and Vmem", 2001): each
// thread keeps two lists a size, and exchanges whole lists with a depot, so
// that memory allocated on one thread and freed on another flows back without
// a lock for each block. A list holds up to 512 blocks, so a thread keeps at
// most 1,024 of a size; the depot is bounded too, what exceeds it goes back to
// the heap.
//
// Sizes are 16·n + 8, as those of glibc's malloc, whose header is 8 bytes.
constexpr std::size_t classes = 64;
constexpr std::uint32_t magazine_size = 512;
constexpr std::uint32_t depot_size = 64;

constexpr std::size_t class_of(std::size_t bytes) noexcept {
  return bytes <= 24 ? 0 : (bytes - 24 + 15) / 16;
}
constexpr std::size_t size_of(std::size_t index) noexcept {
  return 24 + 16 * index;
}

/// A free block; the first of a list in the depot also links the lists.
struct block {
  block* next;
  block* next_list;
};

struct magazine {
  block* head = nullptr;
  std::uint32_t count = 0;
};

void free_list(block* b) noexcept {
  while (b) ::operator delete(std::exchange(b, b->next));
}

/// Full magazines of one size.
class depot {
 public:
  bool put(block* list) noexcept {
    std::lock_guard lock{mutex_};
    if (count_ == depot_size) return false;
    list->next_list = lists_;
    lists_ = list;
    ++count_;
    return true;
  }
  block* take() noexcept {
    std::lock_guard lock{mutex_};
    block* list = lists_;
    if (!list) return nullptr;
    lists_ = list->next_list;
    --count_;
    return list;
  }

 private:
  std::mutex mutex_;
  block* lists_ = nullptr;
  std::uint32_t count_ = 0;
};

/// Never destroyed: threads may outlive `main`. Reachable, so no leak.
std::array<depot, classes>& depots() {
  static auto* all = new std::array<depot, classes>;
  return *all;
}

struct thread_cache {
  struct size_class {
    magazine loaded;
    magazine spare;
  };
  size_class sizes[classes];
  /// Blocks a list may hold: none before the thread's end has been seen to,
  /// and none when it has come.
  std::uint32_t limit = 0;
  bool closed = false;
};

constinit thread_local thread_cache cache{};

/// Gives the cache back when its thread ends.
struct reaper {
  /// A use, by which the language registers the destructor.
  void enlist() noexcept { enlisted = true; }
  ~reaper() {
    cache.closed = true;
    cache.limit = 0;
    for (auto& s : cache.sizes) {
      free_list(s.loaded.head);
      free_list(s.spare.head);
      s = {};
    }
  }
  bool enlisted = false;
};
thread_local reaper at_exit;

[[gnu::noinline]] void* refill(std::size_t index) {
  auto& s = cache.sizes[index];
  if (s.spare.head) {
    std::swap(s.loaded, s.spare);
  } else if (block* list = cache.closed ? nullptr : depots()[index].take()) {
    s.loaded = {list, magazine_size};
  } else {
    return ::operator new(size_of(index));
  }
  block* b = s.loaded.head;
  s.loaded.head = b->next;
  --s.loaded.count;
  return b;
}

[[gnu::noinline]] void unload(std::size_t index, block* b) noexcept {
  if (cache.closed) {
    ::operator delete(b);
    return;
  }
  if (cache.limit == 0) {
    at_exit.enlist();
    cache.limit = magazine_size;
  }
  auto& s = cache.sizes[index];
  if (s.loaded.count == magazine_size) {
    if (s.spare.head && !depots()[index].put(s.spare.head))
      free_list(s.spare.head);
    s.spare = std::exchange(s.loaded, {});
  }
  b->next = s.loaded.head;
  s.loaded.head = b;
  ++s.loaded.count;
}

}  // namespace

void* allocate(std::size_t bytes) {
  const std::size_t index = class_of(bytes);
  if (index >= classes) return ::operator new(bytes);
  magazine& m = cache.sizes[index].loaded;
  block* b = m.head;
  if (!b) [[unlikely]]
    return refill(index);
  m.head = b->next;
  --m.count;
  return b;
}

void deallocate(void* memory, std::size_t bytes) noexcept {
  const std::size_t index = class_of(bytes);
  if (index >= classes) {
    ::operator delete(memory);
    return;
  }
  auto* b = static_cast<block*>(memory);
  magazine& m = cache.sizes[index].loaded;
  if (m.count >= cache.limit) [[unlikely]] {
    unload(index, b);
    return;
  }
  b->next = m.head;
  m.head = b;
  ++m.count;
}

#endif

}  // namespace actors::detail
