/// Memory of the runtime's free lists for what Asio allocates.
#pragma once

#include <cstddef>
#include <utility>

#include "actors/detail/memory.hpp"

namespace actors::detail {

/// Asio recycles the memory of its operations in each call of `run()` and
/// `poll()`, and has none outside; handlers with this allocator always have.
template <class T>
class recycling_allocator {
 public:
  using value_type = T;
  recycling_allocator() noexcept = default;
  template <class U>
  recycling_allocator(const recycling_allocator<U>&) noexcept {}

  T* allocate(std::size_t n) {
    static_assert(alignof(T) <= alignof(std::max_align_t));
    return static_cast<T*>(detail::allocate(n * sizeof(T)));
  }
  void deallocate(T* p, std::size_t n) noexcept {
    detail::deallocate(p, n * sizeof(T));
  }
  template <class U>
  bool operator==(const recycling_allocator<U>&) const noexcept {
    return true;
  }
};

/// A handler made of a callable, with that allocator.
template <class F>
class recycled : public F {
 public:
  using allocator_type = recycling_allocator<std::byte>;
  explicit recycled(F f) : F(std::move(f)) {}
  allocator_type get_allocator() const noexcept { return {}; }
};

}  // namespace actors::detail
