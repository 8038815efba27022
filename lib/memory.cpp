#include "actors/detail/memory.hpp"

#include <array>
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

// A magazine allocator (Bonwick and Adams, "Magazines and Vmem", 2001): each
// thread keeps two lists a size, and exchanges whole lists with a depot, so
// that memory allocated on one thread and freed on another flows back without
// a lock for each block. A list holds up to 512 blocks, so a thread keeps at
// most 1,024 of a size; the depot is bounded too, and what exceeds it goes
// back to the heap.

namespace actors::detail {

constinit thread_local thread_cache cache{};

#ifdef ACTORS_PLAIN_HEAP

void* refill_cache(std::size_t bytes) { return ::operator new(bytes); }
void unload_cache(void* memory, std::size_t) noexcept {
  ::operator delete(memory);
}

#else

namespace {

constexpr std::uint32_t magazine_size = 512;
constexpr std::uint32_t depot_size = 64;

constexpr std::size_t size_of(std::size_t index) noexcept {
  return 24 + 16 * index;
}

void free_list(free_block* b) noexcept {
  while (b) ::operator delete(std::exchange(b, b->next));
}

/// Full magazines of one size.
class depot {
 public:
  bool put(free_block* list) noexcept {
    std::lock_guard lock{mutex_};
    if (count_ == depot_size) return false;
    list->next_list = lists_;
    lists_ = list;
    ++count_;
    return true;
  }
  free_block* take() noexcept {
    std::lock_guard lock{mutex_};
    free_block* list = lists_;
    if (!list) return nullptr;
    lists_ = list->next_list;
    --count_;
    return list;
  }

 private:
  std::mutex mutex_;
  free_block* lists_ = nullptr;
  std::uint32_t count_ = 0;
};

/// Never destroyed: threads may outlive `main`. Reachable, so no leak.
depot& depot_of(std::size_t index) {
  static auto* all = new std::array<depot, size_classes>;
  return (*all)[index];
}

/// The second list of each size, always full or empty.
constinit thread_local free_block* spares[size_classes]{};

enum class thread_life : unsigned char { unknown, running, ending };
constinit thread_local thread_life life = thread_life::unknown;

/// Gives the lists back when the thread ends.
struct reaper {
  /// A use, by which the language registers the destructor.
  void enlist() noexcept { enlisted = true; }
  ~reaper() {
    life = thread_life::ending;
    for (std::size_t i = 0; i != size_classes; ++i) {
      free_list(std::exchange(cache.loaded[i], {}).head);
      free_list(std::exchange(spares[i], nullptr));
    }
  }
  bool enlisted = false;
};
thread_local reaper at_exit;

}  // namespace

void* refill_cache(std::size_t bytes) {
  const std::size_t index = size_class(bytes);
  if (index >= size_classes) return ::operator new(bytes);
  free_block* list = std::exchange(spares[index], nullptr);
  if (!list && life == thread_life::running) list = depot_of(index).take();
  if (!list) return ::operator new(size_of(index));
  magazine& m = cache.loaded[index];
  m.head = list->next;
  m.count = magazine_size - 1;
  return list;
}

void unload_cache(void* memory, std::size_t bytes) noexcept {
  const std::size_t index = size_class(bytes);
  if (index >= size_classes || life == thread_life::ending) {
    ::operator delete(memory);
    return;
  }
  if (life == thread_life::unknown) {
    at_exit.enlist();
    life = thread_life::running;
  }
  magazine& m = cache.loaded[index];
  if (m.count == magazine_size) {
    free_block*& spare = spares[index];
    if (spare && !depot_of(index).put(spare)) free_list(spare);
    spare = m.head;
    m = {};
  }
  m.limit = magazine_size;
  auto* b = static_cast<free_block*>(memory);
  b->next = m.head;
  m.head = b;
  ++m.count;
}

#endif

}  // namespace actors::detail
