/// The bridge to Asio: the one public header to include for it.
///
/// With it a `task` awaits any Asio operation (`use_task`) and any
/// `asio::awaitable`, Asio code awaits actors with any completion token, and a
/// system is a guest on a user's `io_context`.
#pragma once

#include <asio.hpp>
#include <coroutine>
#include <utility>

#include "actors/actors.hpp"
#include "actors/detail/token_wait.hpp"
#include "actors/use_task.hpp"

namespace actors {

namespace detail {

system_core* make_guest(asio::io_context& context,
                        const system_options& options);
asio::any_io_executor next_executor_of(system_core& core);

template <>
struct guest_bridge<asio::io_context> {
  static system_core* make(asio::io_context& context,
                           const system_options& options) {
    return make_guest(context, options);
  }
};

template <>
struct executor_bridge<void> {
  static asio::any_io_executor of(cell& c) { return executor_of(c); }
  static asio::any_io_executor next(system_core& core) {
    return next_executor_of(core);
  }
};

/// `co_await an_asio_awaitable` in a task.
template <class T, class E>
struct await_bridge<asio::awaitable<T, E>> {
  static auto wrap(asio::awaitable<T, E>&& a, fiber& f) {
    return asio::co_spawn(executor_of(*f.owner), std::move(a), use_task);
  }
};

/// `co_await asio::this_coro::executor` in a task: the actor's strand.
template <>
struct await_bridge<asio::this_coro::executor_t> {
  class ready {
   public:
    explicit ready(asio::any_io_executor e) noexcept : value_{std::move(e)} {}
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    asio::any_io_executor await_resume() noexcept { return std::move(value_); }

   private:
    asio::any_io_executor value_;
  };
  static ready wrap(asio::this_coro::executor_t, fiber& f) {
    return ready{executor_of(*f.owner)};
  }
};

}  // namespace detail

}  // namespace actors
