/// Memory for messages, frames and actors: thread-local free lists.
#pragma once

#include <cstddef>
#include <cstdint>

namespace actors::detail {

/// Sizes are 16, 24, 32 … 1,032: what is aligned to 16 bytes has a size that
/// is a multiple of 16, and so have all blocks of its class.
inline constexpr std::size_t size_classes = 128;
constexpr std::size_t size_class(std::size_t bytes) noexcept {
  return bytes <= 16 ? 0 : (bytes - 16 + 7) / 8;
}

/// A free block; the first of a list in the depot also links the lists.
struct free_block {
  free_block* next;
  free_block* next_list;
};
struct magazine {
  free_block* head = nullptr;
  std::uint32_t count = 0;
  /// Blocks it may hold; none before the thread's end has been seen to, none
  /// when it has come, and none at all where a sanitizer has to see the heap.
  std::uint32_t limit = 0;
};
struct thread_cache {
  magazine loaded[size_classes];
};
extern constinit thread_local thread_cache cache;

void* refill_cache(std::size_t bytes);
void unload_cache(void* memory, std::size_t bytes) noexcept;

/// `bytes` bytes, aligned for any type of that size that is not over-aligned.
/// Any thread. Throws `std::bad_alloc`.
inline void* allocate(std::size_t bytes) {
  const std::size_t index = size_class(bytes);
  if (index < size_classes) [[likely]] {
    magazine& m = cache.loaded[index];
    if (free_block* b = m.head) [[likely]] {
      m.head = b->next;
      --m.count;
      return b;
    }
  }
  return refill_cache(bytes);
}

/// Gives back what `allocate(bytes)` gave. Any thread, also another one.
inline void deallocate(void* memory, std::size_t bytes) noexcept {
  const std::size_t index = size_class(bytes);
  if (index < size_classes) [[likely]] {
    magazine& m = cache.loaded[index];
    if (m.count < m.limit) [[likely]] {
      auto* b = static_cast<free_block*>(memory);
      b->next = m.head;
      m.head = b;
      ++m.count;
      return;
    }
  }
  unload_cache(memory, bytes);
}

}  // namespace actors::detail
