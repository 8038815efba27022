/// Memory for messages, frames and actors: thread-local free lists.
#pragma once

#include <cstddef>

namespace actors::detail {

/// At least `bytes` bytes, aligned for any fundamental type. Any thread.
/// Throws `std::bad_alloc`.
void* allocate(std::size_t bytes);

/// Gives back what `allocate(bytes)` gave. Any thread, also another one.
void deallocate(void* memory, std::size_t bytes) noexcept;

}  // namespace actors::detail
