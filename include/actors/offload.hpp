/// `self.offload(fn)`: blocking work on a thread of its own.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "actors/detail/fiber.hpp"
#include "actors/error.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"

namespace actors::detail {

/// The part that does not know the function. It lives in the waiting frame,
/// which is there until the function has returned.
class offload_base : public awaitable_base, private wait {
 public:
  offload_base() noexcept = default;
  /// Only before it has started.
  offload_base(offload_base&&) noexcept {}

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    return start(frame.promise().current(), frame);
  }

  /// On a thread of the pool: calls the function, then tells the actor.
  void run_and_tell() noexcept;

  /// Its link in the pool's queue.
  offload_base* next = nullptr;

 protected:
  ~offload_base() = default;
  virtual void run() noexcept = 0;
  bool aborted() const noexcept { return aborted_; }

 private:
  bool start(fiber& f, std::coroutine_handle<> frame);
  static bool cancel_wait(wait& w, fiber& f, cancellation how) noexcept;

  fiber* fiber_ = nullptr;
  bool aborted_ = false;
};

/// `F`: a reference for a function that has a name.
template <class F>
class [[nodiscard]] offload_op final : public offload_base {
 public:
  using value_type = std::decay_t<std::invoke_result_t<F&>>;

  explicit offload_op(F&& f) : f_(std::forward<F>(f)) {}

  value_type await_resume() {
    if (aborted()) throw_error(operation_aborted());
    if (error_) std::rethrow_exception(std::move(error_));
    if constexpr (!std::is_void_v<value_type>) return std::move(*value_);
  }
  result<value_type> take() {
    if (aborted()) return operation_aborted();
    if (error_) return error_;
    if constexpr (std::is_void_v<value_type>)
      return {};
    else
      return std::move(*value_);
  }

 private:
  void run() noexcept override {
    try {
      if constexpr (std::is_void_v<value_type>)
        f_();
      else
        value_.emplace(f_());
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  F f_;
  std::optional<value_or_unit<value_type>> value_;
  std::exception_ptr error_;
};

}  // namespace actors::detail
