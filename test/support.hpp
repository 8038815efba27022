/// Small helpers of the tests: errors as values, objects that are counted, log
/// lines that are kept.
#pragma once

#include <atomic>
#include <condition_variable>
#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "actors/system.hpp"

namespace support {

/// The code that `f` throws; none when it throws nothing.
template <class F>
std::error_code error_of(F&& f) {
  try {
    (void)f();
  } catch (const std::system_error& e) {
    return e.code();
  }
  return {};
}

/// What the `E` that `f` throws says; "" when it throws nothing.
template <class E = std::exception, class F>
std::string message_of(F&& f) {
  try {
    (void)f();
  } catch (const E& e) {
    return e.what();
  }
  return {};
}

inline std::string message_of_error(const std::exception_ptr& error) {
  if (!error) return {};
  return message_of([&] { std::rethrow_exception(error); });
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Counts how many of it are alive, on any thread. It owns memory, so that a
/// sanitizer sees one destroyed twice or never.
class counted {
 public:
  explicit counted(std::atomic<int>& alive)
      : alive_{&alive}, memory_{std::make_unique<int>(++alive)} {}
  counted(counted&& other) noexcept = default;
  counted& operator=(counted&&) = delete;
  counted(const counted& other) : counted{*other.alive_} {}
  ~counted() {
    if (memory_) --*alive_;
  }

 private:
  std::atomic<int>* alive_;
  std::unique_ptr<int> memory_;
};

/// Does something when it goes out of scope.
template <class F>
class at_exit {
 public:
  explicit at_exit(F f) : f_(std::move(f)) {}
  at_exit(const at_exit&) = delete;
  at_exit& operator=(const at_exit&) = delete;
  ~at_exit() { f_(); }

 private:
  F f_;
};

/// A flag that threads and actors set, and plain threads wait for.
class flag {
 public:
  void set() {
    std::lock_guard lock{mutex_};
    set_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

/// An operation that ignores its cancellation, as a driver that hangs does.
class stuck : public actors::detail::awaitable_base,
              private actors::detail::wait {
 public:
  using value_type = void;
  explicit stuck(stuck** where) : where_{where} {}
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> frame) {
    fiber_ = &frame.promise().current();
    waiter = frame;
    cancel = [](wait&, actors::detail::fiber&,
                actors::detail::cancellation) noexcept { return false; };
    fiber_->waiting = this;
    *where_ = this;
  }
  void await_resume() const noexcept {}
  /// Comes back after all.
  void complete() { actors::detail::complete(*fiber_, *this); }

 private:
  stuck** where_;
  actors::detail::fiber* fiber_ = nullptr;
};

/// Keeps the lines of a system's log: `{.log = lines.sink()}`.
class log_lines {
 public:
  std::function<void(std::string_view)> sink() {
    return [this](std::string_view line) {
      std::lock_guard lock{mutex_};
      lines_.emplace_back(line);
    };
  }
  /// The first line that has `part` in it; "" when there is none.
  std::string find(std::string_view part) const {
    std::lock_guard lock{mutex_};
    for (const std::string& line : lines_)
      if (contains(line, part)) return line;
    return {};
  }
  std::size_t size() const {
    std::lock_guard lock{mutex_};
    return lines_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

/// Options of a system that says nothing.
inline actors::system_options quiet(std::size_t threads = 2) {
  actors::system_options options;
  options.threads = threads;
  options.log.emplace();
  return options;
}

/// Whether the program is instrumented: slower, and its memory is not ours.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace support
