/// `task<T>`: the coroutine type of actors, their handlers and their helpers.
#pragma once

#include <coroutine>
#include <exception>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

#include "actors/detail/fiber.hpp"
#include "actors/detail/memory.hpp"
#include "actors/fwd.hpp"

namespace actors {

/// Names, in a compile error, what a `task` was asked to await and cannot:
/// something foreign, or an Asio operation without `#include
/// <actors/asio.hpp>`.
template <class T>
struct task_cannot_await_this_without_actors_asio_hpp;

namespace detail {

/// Specialised by <actors/asio.hpp> for what Asio can await.
template <class T>
struct await_bridge;

template <class T>
concept bridged = requires {
  sizeof(await_bridge<T>);
};

/// A library operation: marked by this base.
struct awaitable_base {};

/// Awaits an operation where it is: in the frame of the one who awaits.
template <class Op>
class awaited_in_place {
 public:
  explicit awaited_in_place(Op& op) noexcept : op_{&op} {}
  bool await_ready() { return op_->await_ready(); }
  template <class Promise>
  auto await_suspend(std::coroutine_handle<Promise> frame) {
    return op_->await_suspend(frame);
  }
  decltype(auto) await_resume() { return op_->await_resume(); }

 private:
  Op* op_;
};

/// Stands for any value after a compile error, so that there is only one.
struct anything {
  bool await_ready() noexcept;
  void await_suspend(std::coroutine_handle<>) noexcept;
  anything await_resume() noexcept;
  template <class T>
  operator T() const;
  template <class... Args>
  anything operator()(Args&&...) const;
  template <class... Args>
  anything within(Args&&...) const;
  template <class... Args>
  anything get(Args&&...) const;
};

/// What a check gives: `void` for no mistake, else the type whose name says
/// which. It is never defined, so that `sizeof` of it is the error.
template <class T>
struct mistake {
  using type = T;
};
/// The error itself: compilers say the type's own name here, not an alias.
template <class Mistake>
struct error_line {
  enum { here = sizeof(Mistake) };
  static anything say();
};

template <class T>
struct is_task : std::false_type {};
template <class T>
struct is_task<task<T>> : std::true_type {};

template <class T>
class task_awaiter;
struct task_access;

/// The part of a promise that does not depend on the value.
///
/// No tail calls are needed (g++ makes none at -O0 and under sanitizers): a
/// child is started inside its parent's `await_suspend`; one that ends there
/// returns to it, one that ends later leaves its parent to the trampoline in
/// `fiber::run`. Either way the stack does not grow with the number of awaits.
class promise_base {
 public:
  enum class phase : unsigned char {
    /// Inside the parent's `await_suspend`, or not yet started.
    starting,
    /// The parent is suspended for it.
    detached,
    done,
  };

  promise_base() noexcept = default;
  promise_base(const promise_base&) = delete;
  promise_base& operator=(const promise_base&) = delete;

  static void* operator new(std::size_t bytes) {
    return allocate(frame_size(bytes));
  }
  static void operator delete(void* frame, std::size_t bytes) noexcept {
    deallocate(frame, frame_size(bytes));
  }

  std::suspend_always initial_suspend() const noexcept { return {}; }

  struct final_awaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> frame) const noexcept {
      promise_base& p = frame.promise();
      if (std::exchange(p.phase_, phase::done) == phase::detached)
        p.fiber_->next = p.parent_;
    }
    void await_resume() const noexcept {}
  };
  final_awaiter final_suspend() const noexcept { return {}; }

  template <class A>
  decltype(auto) await_transform(
      A&& awaited,
      std::source_location where = std::source_location::current()) {
    using type = std::remove_cvref_t<A>;
    fiber_->where = where;
    if constexpr (is_task<type>::value)
      return task_awaiter<typename type::value_type>{awaited};
    else if constexpr (std::is_same_v<type, anything>)
      return anything{};
    else if constexpr (std::is_base_of_v<awaitable_base, type> ||
                       std::is_base_of_v<anything, type>)
      return awaited_in_place<type>{awaited};
    else if constexpr (bridged<type>)
      return await_bridge<type>::wrap(std::forward<A>(awaited), *fiber_);
    else {
      (void)sizeof(task_cannot_await_this_without_actors_asio_hpp<type>);
      return anything{};
    }
  }

  /// The fiber it runs in; handed down at `co_await`.
  fiber& current() const noexcept { return *fiber_; }

  /// For whoever starts the frame: the parent comes back by the trampoline.
  void start_detached(fiber& f, std::coroutine_handle<> parent) noexcept {
    fiber_ = &f;
    parent_ = parent;
    phase_ = phase::detached;
  }
  /// Runs the frame here and now; true when it has ended.
  bool start_nested(fiber& f, std::coroutine_handle<> parent,
                    std::coroutine_handle<> frame) {
    fiber_ = &f;
    parent_ = parent;
    frame.resume();
    if (phase_ == phase::done) return true;
    phase_ = phase::detached;
    return false;
  }

 private:
  /// `allocate` reads the alignment off the size. That of a frame says nothing:
  /// clang puts members aligned to 16 bytes into frames of 56.
  static constexpr std::size_t frame_size(std::size_t bytes) noexcept {
    constexpr std::size_t align = alignof(std::max_align_t);
    return (bytes + align - 1) / align * align;
  }

  fiber* fiber_ = nullptr;
  std::coroutine_handle<> parent_;
  phase phase_ = phase::starting;
};

template <class T>
class promise final : public promise_base {
 public:
  promise() noexcept {}
  ~promise() {
    if (state_ == value) value_.~T();
    if (state_ == failure) error_.~exception_ptr();
  }

  task<T> get_return_object() noexcept;
  template <class U = T>
  requires std::is_constructible_v<T, U&&>
  void return_value(U&& v) {
    ::new (static_cast<void*>(&value_)) T(std::forward<U>(v));
    state_ = value;
  }
  void unhandled_exception() noexcept {
    ::new (static_cast<void*>(&error_))
        std::exception_ptr(std::current_exception());
    state_ = failure;
  }
  T take() {
    if (state_ == failure) std::rethrow_exception(std::move(error_));
    return std::move(value_);
  }
  /// What left it; null when nothing has.
  std::exception_ptr error() const noexcept {
    return state_ == failure ? error_ : nullptr;
  }

 private:
  enum : unsigned char { empty, value, failure } state_ = empty;
  union {
    T value_;
    std::exception_ptr error_;
  };
};

template <>
class promise<void> final : public promise_base {
 public:
  task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
  void unhandled_exception() noexcept { error_ = std::current_exception(); }
  void take() {
    if (error_) std::rethrow_exception(std::move(error_));
  }
  std::exception_ptr error() const noexcept { return error_; }

 private:
  std::exception_ptr error_;
};

/// What `co_await some_task` waits with.
template <class T>
class task_awaiter {
 public:
  explicit task_awaiter(const task<T>& t) noexcept : frame_{t.frame_} {}

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> parent) {
    return !frame_.promise().start_nested(parent.promise().current(), parent,
                                          frame_);
  }
  T await_resume() { return frame_.promise().take(); }

 private:
  std::coroutine_handle<promise<T>> frame_;
};

}  // namespace detail

/// A lazy coroutine that runs in an actor: it starts when it is awaited, on
/// the strand of the actor that awaits it, and everything it awaits comes back
/// to that strand.
///
/// A task awaits library operations, other tasks and, with <actors/asio.hpp>,
/// whatever Asio can await; anything else is a compile error. An exception
/// that leaves it comes out of the `co_await`. Dropping a task that was not
/// awaited destroys its arguments and runs nothing. Await a task once.
template <class T>
class [[nodiscard]] task {
 public:
  using promise_type = detail::promise<T>;
  using value_type = T;

  task(task&& other) noexcept : frame_{std::exchange(other.frame_, {})} {}
  task& operator=(task&& other) noexcept {
    std::swap(frame_, other.frame_);
    return *this;
  }
  ~task() {
    if (frame_) frame_.destroy();
  }

 private:
  friend promise_type;
  friend detail::task_awaiter<T>;
  friend detail::task_access;

  explicit task(std::coroutine_handle<promise_type> frame) noexcept
      : frame_{frame} {}

  std::coroutine_handle<promise_type> frame_;
};

namespace detail {

/// The frame of a task, for the runtime.
struct task_access {
  template <class T>
  static std::coroutine_handle<promise<T>> release(task<T>& t) noexcept {
    return std::exchange(t.frame_, {});
  }
};

template <class T>
task<T> promise<T>::get_return_object() noexcept {
  return task<T>{std::coroutine_handle<promise>::from_promise(*this)};
}
inline task<void> promise<void>::get_return_object() noexcept {
  return task<void>{std::coroutine_handle<promise>::from_promise(*this)};
}

}  // namespace detail

}  // namespace actors
