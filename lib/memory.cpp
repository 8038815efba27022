#include "actors/detail/memory.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

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
// a lock for each block. What a depot has too much of goes back to the slabs
// (Bonwick, "The Slab Allocator", 1994): 64 KiB of blocks of one size, which
// another size may have when none of them is in use.
//
//   a thread     512 blocks in hand and 512 spare, of each size it uses
//   a depot      64 such lists
//   the slabs    32 MiB that nobody uses; of more, the system may have back
//                what is free in regions of 2 MiB

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
constexpr std::size_t slab_size = 64 * 1024;
constexpr std::size_t region_size = 2 * 1024 * 1024;
constexpr std::size_t warm_slabs = 32 * 1024 * 1024 / slab_size;

constexpr std::size_t size_of(std::size_t index) noexcept {
  return 16 + 8 * index;
}

/// A list of `T`s that have a `next` and a `previous`.
template <class T>
class linked {
 public:
  T* front() const noexcept { return front_; }
  void push(T& t) noexcept {
    t.previous = nullptr;
    t.next = front_;
    if (front_) front_->previous = &t;
    front_ = &t;
  }
  void remove(T& t) noexcept {
    (t.previous ? t.previous->next : front_) = t.next;
    if (t.next) t.next->previous = t.previous;
  }

 private:
  T* front_ = nullptr;
};

/// A large piece of the heap, cut into slabs.
struct region {
  char* memory;
  /// A bit for each slab that nobody has.
  std::uint32_t free;
  region* next;
  region* previous;
};
constexpr std::uint32_t all_free = ~std::uint32_t{0};
static_assert(region_size / slab_size == 32);

/// Head of a slab, which is aligned to its size.
struct alignas(64) slab {
  static slab* of(void* block) noexcept {
    return reinterpret_cast<slab*>(reinterpret_cast<std::uintptr_t>(block) &
                                   ~(slab_size - 1));
  }

  region* home;
  /// Blocks that were used before and are free.
  free_block* free = nullptr;
  /// In the list of slabs with free blocks.
  slab* next = nullptr;
  slab* previous = nullptr;
  /// Where the blocks begin that were never used.
  std::size_t fresh = sizeof(slab);
  std::uint32_t used = 0;
  bool listed = false;
};

/// Where slabs come from. Regions are never given back to the heap, only the
/// memory in them, and that whole, so that large pages stay large.
class slab_source {
 public:
  slab* take() {
    std::lock_guard lock{mutex_};
    if (!some_free_.front()) add_region();
    region& r = *some_free_.front();
    const int i = std::countr_zero(r.free);
    r.free &= r.free - 1;
    --free_slabs_;
    if (r.free == 0) some_free_.remove(r);
    return ::new (r.memory + i * slab_size) slab{&r};
  }
  void give_back(slab* s) noexcept {
    std::lock_guard lock{mutex_};
    region& r = *s->home;
    const auto offset = reinterpret_cast<char*>(s) - r.memory;
    if (r.free == 0) some_free_.push(r);
    r.free |= std::uint32_t{1}
              << (static_cast<std::size_t>(offset) / slab_size);
    ++free_slabs_;
#ifdef __linux__
    if (r.free == all_free && free_slabs_ > warm_slabs) {
      ::madvise(r.memory, region_size, MADV_DONTNEED);
      some_free_.remove(r);
      free_slabs_ -= region_size / slab_size;
      cold_.push(r);
    }
#endif
  }

 private:
  void add_region() {
    region* r = cold_.front();
    if (r) {
      cold_.remove(*r);
    } else {
      auto made = std::make_unique<region>();
      made->memory = static_cast<char*>(
          ::operator new (region_size, std::align_val_t{region_size}));
      made->free = all_free;
      r = made.release();
#ifdef __linux__
      // Memory that is used for the first time costs more than all the rest
      // of making a message: 2 us a page of 4 KiB, and a quarter of that in
      // large pages. Small programs live in the first region, and stay small.
      if (std::exchange(any_, true))
        ::madvise(r->memory, region_size, MADV_HUGEPAGE);
#endif
    }
    free_slabs_ += region_size / slab_size;
    some_free_.push(*r);
  }

  std::mutex mutex_;
  bool any_ = false;
  /// In `some_free_`.
  std::size_t free_slabs_ = 0;
  linked<region> some_free_;
  /// All free, and the system may have their memory.
  linked<region> cold_;
};

/// Free blocks of one size: full magazines, and slabs.
class depot {
 public:
  /// Up to `magazine_size` blocks, and how many; at least one.
  free_block* take(std::size_t size, slab_source& source,
                   std::uint32_t& count) {
    std::lock_guard lock{mutex_};
    if (free_block* list = lists_) {
      lists_ = list->next_list;
      --lists_count_;
      count = magazine_size;
      return list;
    }
    return carve(size, source, count);
  }
  /// One block, for a thread that keeps none.
  free_block* take_one(std::size_t size, slab_source& source) {
    std::lock_guard lock{mutex_};
    std::uint32_t count = 1;
    return carve(size, source, count);
  }
  /// A full magazine.
  void put(free_block* list, slab_source& source) noexcept {
    std::lock_guard lock{mutex_};
    if (lists_count_ == depot_size) {
      release(list, source);
      return;
    }
    list->next_list = lists_;
    lists_ = list;
    ++lists_count_;
  }
  /// Any number of blocks.
  void put_some(free_block* list, slab_source& source) noexcept {
    std::lock_guard lock{mutex_};
    release(list, source);
  }

 private:
  /// At most `count` blocks of one slab.
  free_block* carve(std::size_t size, slab_source& source,
                    std::uint32_t& count) {
    if (!slabs_.front()) enlist(*source.take());
    slab& s = *slabs_.front();
    free_block* list = nullptr;
    std::uint32_t n = 0;
    for (; n != count && s.free; ++n) {
      free_block* b = std::exchange(s.free, s.free->next);
      b->next = list;
      list = b;
    }
    // Last first, so that they are used in the order of their addresses.
    const auto left = static_cast<std::uint32_t>((slab_size - s.fresh) / size);
    const std::uint32_t fresh = std::min(count - n, left);
    auto* at = reinterpret_cast<char*>(&s) + s.fresh;
    for (std::uint32_t i = fresh; i != 0; --i) {
      auto* b = reinterpret_cast<free_block*>(at + (i - 1) * size);
      b->next = list;
      list = b;
    }
    s.fresh += fresh * size;
    s.used += n + fresh;
    count = n + fresh;
    if (!s.free && left == fresh) unlist(s);
    return list;
  }
  void release(free_block* list, slab_source& source) noexcept {
    while (list) {
      free_block* b = std::exchange(list, list->next);
      slab& s = *slab::of(b);
      b->next = s.free;
      s.free = b;
      if (!s.listed) enlist(s);
      if (--s.used == 0) {
        unlist(s);
        source.give_back(&s);
      }
    }
  }

  void enlist(slab& s) noexcept {
    s.listed = true;
    slabs_.push(s);
  }
  void unlist(slab& s) noexcept {
    s.listed = false;
    slabs_.remove(s);
  }

  std::mutex mutex_;
  free_block* lists_ = nullptr;
  std::uint32_t lists_count_ = 0;
  /// Slabs that have free blocks.
  linked<slab> slabs_;
};

/// Never destroyed: threads may outlive `main`. Reachable, so no leak.
struct store {
  slab_source source;
  std::array<depot, size_classes> depots;
};
store& all() {
  static auto* s = new store;
  return *s;
}

void put_some(std::size_t index, free_block* list) noexcept {
  if (list) all().depots[index].put_some(list, all().source);
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
      put_some(i, std::exchange(cache.loaded[i], {}).head);
      put_some(i, std::exchange(spares[i], nullptr));
    }
  }
  bool enlisted = false;
};
thread_local reaper at_exit;

/// Whether this thread may keep blocks: its end will be seen to.
bool keeps() {
  if (life == thread_life::unknown) {
    at_exit.enlist();
    life = thread_life::running;
  }
  return life == thread_life::running;
}

}  // namespace

void* refill_cache(std::size_t bytes) {
  const std::size_t index = size_class(bytes);
  if (index >= size_classes) return ::operator new(bytes);
  const std::size_t size = size_of(index);
  if (!keeps()) return all().depots[index].take_one(size, all().source);
  std::uint32_t count = magazine_size;
  free_block* list = std::exchange(spares[index], nullptr);
  if (!list) {
    // Of large ones fewer: what is carved is to be in the cache when used.
    count = static_cast<std::uint32_t>(
        std::clamp<std::size_t>(16 * 1024 / size, 1, magazine_size));
    list = all().depots[index].take(size, all().source, count);
  }
  magazine& m = cache.loaded[index];
  m.head = list->next;
  m.count = count - 1;
  m.limit = magazine_size;
  return list;
}

void unload_cache(void* memory, std::size_t bytes) noexcept {
  const std::size_t index = size_class(bytes);
  if (index >= size_classes) {
    ::operator delete(memory);
    return;
  }
  auto* b = static_cast<free_block*>(memory);
  if (!keeps()) {
    b->next = nullptr;
    put_some(index, b);
    return;
  }
  magazine& m = cache.loaded[index];
  if (m.count == magazine_size) {
    free_block*& spare = spares[index];
    if (spare) all().depots[index].put(spare, all().source);
    spare = m.head;
    m = {};
  }
  m.limit = magazine_size;
  b->next = m.head;
  m.head = b;
  ++m.count;
}

#endif

}  // namespace actors::detail
