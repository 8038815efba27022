/// `use_task`: any operation of Asio, awaited in an `actors::task`. Part of
/// <actors/asio.hpp>.
#pragma once

#include <asio.hpp>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/detail/envelope.hpp"
#include "actors/detail/fiber.hpp"
#include "actors/detail/memory.hpp"
#include "actors/result.hpp"
#include "actors/task.hpp"

namespace actors {

namespace detail {

/// The strand of an actor. Strand.
asio::any_io_executor executor_of(cell& c);
/// The handler of an operation was dropped without being called: ends the
/// wait with what the operation says, on the strand. Any thread.
void dropped(fiber& f, wait& w) noexcept;
/// A cancellation signal for one operation, with the memory that its last slot
/// handler had: Asio recycles that only inside of `run()` and `poll()`.
asio::cancellation_signal& take_signal();
void give_signal(asio::cancellation_signal& s) noexcept;

}  // namespace detail

/// A completion token: the operation gives something to `co_await` in an
/// `actors::task`, whose frame it lives in, so that nothing is allocated.
///
/// `std::size_t n = co_await socket.async_read_some(buffer, use_task);` The
/// actor comes back on its own strand. A first argument `std::error_code` or
/// `std::exception_ptr` is thrown (`as_result(op)` gives it instead); what is
/// left is the value. A stop or kill of the actor cancels the operation on
/// the strand; such a stop comes out as `operation_aborted`.
struct use_task_t {
  constexpr use_task_t() noexcept = default;

  /// `Executor` with this token as the default of its I/O objects.
  template <class Executor>
  struct executor_with_default : Executor {
    using default_completion_token_type = use_task_t;
    executor_with_default(const Executor& e) noexcept : Executor(e) {}
    template <class Other>
    requires(!std::is_same_v<Other, executor_with_default>) &&
        std::is_convertible_v<const Other&, Executor> executor_with_default(
            const Other& e) noexcept
        : Executor(e) {}
  };

  /// An I/O object `T` with this token as its default.
  template <class T>
  using as_default_on_t = typename T::template rebind_executor<
      executor_with_default<typename T::executor_type>>::other;
  /// The I/O object with this token as its default.
  template <class T>
  static as_default_on_t<std::decay_t<T>> as_default_on(T&& object) {
    return as_default_on_t<std::decay_t<T>>(std::forward<T>(object));
  }
};

/// See `use_task_t`.
inline constexpr use_task_t use_task{};

namespace detail {

/// What a completion gives: an error, if its first argument is one, and the
/// rest.
template <class... Args>
struct completion {
  using value = std::conditional_t<
      sizeof...(Args) == 0, std::tuple<void>,
      std::conditional_t<sizeof...(Args) == 1, std::tuple<Args...>,
                         std::tuple<std::tuple<Args...>>>>;
  using type = std::tuple_element_t<0, value>;
  template <class... Bs>
  static result<type> make(Bs&&... bs) {
    if constexpr (sizeof...(Args) == 0)
      return {};
    else
      return type(std::forward<Bs>(bs)...);
  }
};
template <class... Args>
struct completion<std::error_code, Args...> : completion<Args...> {
  using base = completion<Args...>;
  template <class... Bs>
  static result<typename base::type> make(std::error_code e, Bs&&... bs) {
    if (e) return e;
    return base::make(std::forward<Bs>(bs)...);
  }
};
template <class... Args>
struct completion<std::exception_ptr, Args...> : completion<Args...> {
  using base = completion<Args...>;
  template <class... Bs>
  static result<typename base::type> make(std::exception_ptr e, Bs&&... bs) {
    if (e) return e;
    return base::make(std::forward<Bs>(bs)...);
  }
};

/// What `as_tuple` gives shows its error, too.
template <class... Args>
struct completion<std::tuple<std::error_code, Args...>> {
  using type = std::tuple<std::error_code, Args...>;
  static result<type> make(type values) { return values; }
};

/// The place where `redirect_error` puts the error: Asio before 1.31 keeps it
/// in the initiation, later ones give it a pointer among the arguments.
template <class Initiation, class... Args>
const std::error_code* error_place(const Initiation& i,
                                   const std::tuple<Args...>& args) noexcept {
  if constexpr (requires { static_cast<const std::error_code&>(i.ec_); })
    return &i.ec_;
  else if constexpr ((std::is_same_v<Args, std::error_code*> + ... + 0) == 1)
    return std::get<std::error_code*>(args);
  else
    return nullptr;
}

/// Room for what Asio allocates for one operation; more comes recycled.
class operation_memory {
 public:
  void* allocate(std::size_t bytes) {
    if (used_ || bytes > sizeof room_) return detail::allocate(bytes);
    used_ = true;
    return room_;
  }
  void deallocate(void* p, std::size_t bytes) noexcept {
    if (p == room_)
      used_ = false;
    else
      detail::deallocate(p, bytes);
  }

 private:
  alignas(std::max_align_t) std::byte room_[256];
  bool used_ = false;
};

template <class T>
class operation_allocator {
 public:
  using value_type = T;
  explicit operation_allocator(operation_memory& m) noexcept : memory_{&m} {}
  template <class U>
  operation_allocator(const operation_allocator<U>& o) noexcept
      : memory_{o.memory()} {}

  T* allocate(std::size_t n) {
    static_assert(alignof(T) <= alignof(std::max_align_t));
    return static_cast<T*>(memory_->allocate(n * sizeof(T)));
  }
  void deallocate(T* p, std::size_t n) noexcept {
    memory_->deallocate(p, n * sizeof(T));
  }
  operation_memory* memory() const noexcept { return memory_; }
  template <class U>
  bool operator==(const operation_allocator<U>& o) const noexcept {
    return memory_ == o.memory();
  }

 private:
  operation_memory* memory_;
};

template <class Op>
class use_task_handler;

/// An Asio operation that an actor awaits; lives in the awaiting frame.
template <class Initiation, class Completion, class... InitArgs>
class [[nodiscard]] use_task_op : public awaitable_base, private wait {
 public:
  using value_type = typename Completion::type;

  template <class I, class... As>
  explicit use_task_op(I&& initiation, As&&... args)
      : initiation_(std::forward<I>(initiation)),
        args_(std::forward<As>(args)...) {}
  /// Only before it has started.
  use_task_op(use_task_op&& other)
      : initiation_(std::move(other.initiation_)),
        args_(std::move(other.args_)) {}
  ~use_task_op() {
    if (signal_) give_signal(*signal_);
  }

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    return start(frame.promise().current(), frame);
  }
  value_type await_resume() { return take().value(); }
  result<value_type> take() {
    result<value_type> r = std::move(*result_);
    return r;
  }

  /// What `await_suspend` does.
  bool start(fiber& f, std::coroutine_handle<> frame) {
    if (take_abort(f)) {
      result_.emplace(operation_aborted());
      return false;
    }
    signal_ = &take_signal();
    fiber_ = &f;
    waiter = frame;
    wait::cancel = &cancel_operation;
    error_place_ = error_place(initiation_, args_);
    inline_ = true;
    std::apply(
        [this](auto&... args) {
          std::move(initiation_)(use_task_handler<use_task_op>{*this},
                                 std::move(args)...);
        },
        args_);
    inline_ = false;
    if (result_) return false;  // some operations complete at once
    f.waiting = this;
    return true;
  }

 private:
  friend class use_task_handler<use_task_op>;

  template <class... As>
  void complete(As&&... as) {
    result_.emplace(Completion::make(std::forward<As>(as)...));
    // The stop is told by this. An operation that has just succeeded is not
    // undone; the next one tells it then.
    if (fiber_->abort && has_aborted()) (void)take_abort(*fiber_);
    on_its_way_ = !inline_;
    if (on_its_way_) detail::complete(*fiber_, *this);
  }
  bool has_aborted() const noexcept {
    if (error_place_ && *error_place_ == operation_aborted()) return true;
    if (!result_->has_value()) return result_->error() == operation_aborted();
    if constexpr (requires { std::error_code{std::get<0>(**result_)}; })
      return std::get<0>(**result_) == operation_aborted();
    else
      return false;
  }
  void drop() noexcept {
    result_.emplace(operation_aborted());
    on_its_way_ = !inline_;
    if (on_its_way_) detail::dropped(*fiber_, *this);
  }
  static bool cancel_operation(wait& w, fiber&, cancellation) noexcept {
    auto& self = static_cast<use_task_op&>(w);
    // Emitted on the strand. Should the handler be called in here, the frame
    // goes on by what this returns.
    self.inline_ = true;
    self.signal_->emit(asio::cancellation_type::all);
    self.inline_ = false;
    return self.result_.has_value() && !self.on_its_way_;
  }

  Initiation initiation_;
  std::tuple<InitArgs...> args_;
  fiber* fiber_ = nullptr;
  std::optional<result<value_type>> result_;
  asio::cancellation_signal* signal_ = nullptr;
  const std::error_code* error_place_ = nullptr;
  bool inline_ = false;
  /// It has ended, and the cell is being told.
  bool on_its_way_ = false;
  operation_memory memory_;
};

/// Asio asks a moved-from handler for what is associated with it, so that is
/// kept beside the pointer to the operation.
template <class Op>
class use_task_handler {
 public:
  explicit use_task_handler(Op& op) noexcept
      : op_{&op},
        cell_{op.fiber_->owner},
        memory_{&op.memory_},
        slot_{op.signal_->slot()} {}
  use_task_handler(use_task_handler&& other) noexcept
      : op_{std::exchange(other.op_, nullptr)},
        cell_{other.cell_},
        memory_{other.memory_},
        slot_{other.slot_} {}
  use_task_handler& operator=(use_task_handler&&) = delete;
  ~use_task_handler() {
    if (op_) op_->drop();
  }

  using allocator_type = operation_allocator<std::byte>;
  allocator_type get_allocator() const noexcept {
    return allocator_type{*memory_};
  }
  using executor_type = asio::any_io_executor;
  executor_type get_executor() const noexcept { return executor_of(*cell_); }
  using cancellation_slot_type = asio::cancellation_slot;
  cancellation_slot_type get_cancellation_slot() const noexcept {
    return slot_;
  }

  template <class... As>
  void operator()(As&&... as) {
    std::exchange(op_, nullptr)->complete(std::forward<As>(as)...);
  }

 private:
  Op* op_;
  cell* cell_;
  operation_memory* memory_;
  asio::cancellation_slot slot_;
};

/// A `use_task_op` whose initiation has no name: what Asio's adapters of
/// tokens ask for, which want one type for all operations of a signature. It
/// lives in recycled memory.
template <class Completion>
class [[nodiscard]] any_use_task_op : public awaitable_base {
 public:
  using value_type = typename Completion::type;

  template <class Initiation, class... InitArgs>
  any_use_task_op(use_task_op<Initiation, Completion, InitArgs...>&& op)
      : op_{make_node<holder<use_task_op<Initiation, Completion, InitArgs...>>>(
            std::move(op))} {}
  /// Only before it has started.
  any_use_task_op(any_use_task_op&& other) noexcept
      : op_{std::exchange(other.op_, nullptr)} {}
  any_use_task_op& operator=(any_use_task_op&&) = delete;
  ~any_use_task_op() {
    if (op_) op_->destroy();
  }

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> frame) {
    return op_->start(frame.promise().current(), frame);
  }
  value_type await_resume() { return take().value(); }
  result<value_type> take() { return op_->take(); }

 private:
  class interface {
   public:
    virtual bool start(fiber& f, std::coroutine_handle<> frame) = 0;
    virtual result<value_type> take() = 0;
    virtual void destroy() noexcept = 0;

   protected:
    ~interface() = default;
  };
  template <class Op>
  class holder final : public interface {
   public:
    explicit holder(Op&& op) : op_{std::move(op)} {}
    bool start(fiber& f, std::coroutine_handle<> frame) override {
      return op_.start(f, frame);
    }
    result<value_type> take() override { return op_.take(); }
    void destroy() noexcept override { destroy_and_free(this); }

   private:
    Op op_;
  };

  interface* op_;
};

}  // namespace detail

}  // namespace actors

/// How Asio turns an operation with `use_task` into something to await.
template <class R, class... Args>
class asio::async_result<actors::use_task_t, R(Args...)> {
 public:
  /// For adapters of tokens that cannot name what `initiate` gives.
  using return_type = actors::detail::any_use_task_op<
      actors::detail::completion<std::decay_t<Args>...>>;

  template <class Initiation, class... InitArgs>
  static auto initiate(Initiation&& initiation, actors::use_task_t,
                       InitArgs&&... args) {
    return actors::detail::use_task_op<
        std::decay_t<Initiation>,
        actors::detail::completion<std::decay_t<Args>...>,
        std::decay_t<InitArgs>...>(std::forward<Initiation>(initiation),
                                   std::forward<InitArgs>(args)...);
  }
};
