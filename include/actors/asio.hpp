/// The bridge to Asio, and the only public header that includes it.
///
/// With it a `task` awaits any Asio operation (`use_task`) and any
/// `asio::awaitable`, Asio code awaits actors with any completion token, and a
/// system is a guest on a user's `io_context`.
#pragma once

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

#include "actors/actors.hpp"
#include "actors/detail/memory.hpp"

namespace actors {

namespace detail {

system_core* make_guest(asio::io_context& context,
                        const system_options& options);
/// The strand of an actor. Strand.
asio::any_io_executor executor_of(cell& c);
/// Where completions go that name no executor; `cell` may be null.
asio::any_io_executor default_executor(const cell_base* cell);
asio::any_io_executor next_executor_of(system_core& core);
/// The handler of an operation was dropped without being called: ends the
/// wait with what the operation says, on the strand. Any thread.
void dropped(fiber& f, wait& w) noexcept;
/// A cancellation signal for one operation, with the memory that its last slot
/// handler had: Asio recycles that only inside of `run()` and `poll()`.
asio::cancellation_signal& take_signal();
void give_signal(asio::cancellation_signal& s) noexcept;

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
    if (!result_->has_value() && result_->error() == operation_aborted())
      (void)take_abort(*fiber_);
    if (!inline_) detail::complete(*fiber_, *this);
  }
  void drop() noexcept {
    result_.emplace(operation_aborted());
    if (!inline_) detail::dropped(*fiber_, *this);
  }
  static bool cancel_operation(wait& w, fiber&, cancellation) noexcept {
    auto& self = static_cast<use_task_op&>(w);
    // Emitted on the strand. Should the handler be called in here, the frame
    // goes on by what this returns.
    self.inline_ = true;
    self.signal_->emit(asio::cancellation_type::all);
    self.inline_ = false;
    return self.result_.has_value();
  }

  Initiation initiation_;
  std::tuple<InitArgs...> args_;
  fiber* fiber_ = nullptr;
  std::optional<result<value_type>> result_;
  asio::cancellation_signal* signal_ = nullptr;
  bool inline_ = false;
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

/// Waits for an actor on behalf of an Asio handler.
///
/// Three things may end it, on any threads: the answer, the timeout, the
/// cancellation slot. They meet in the question's `outcome`; the one that
/// wins posts the handler to its executor. It lives until the post, the
/// timer's handler and whoever lost have let go of it.
///
/// The timer belongs to the handler's executor where that has a context: the
/// system may be gone when the handler's turn comes.
template <class T, class Handler>
class token_wait {
  using executor = asio::associated_executor_t<Handler, asio::any_io_executor>;
  using allocator = typename std::allocator_traits<
      asio::associated_allocator_t<Handler>>::template rebind_alloc<token_wait>;
  using clock = std::chrono::steady_clock;
  static constexpr bool has_context = requires(const executor& e) {
    static_cast<asio::execution_context&>(
        asio::query(e, asio::execution::context));
  };
  using timer_executor =
      std::conditional_t<has_context, executor, asio::any_io_executor>;
  using timer_type = asio::basic_waitable_timer<clock, asio::wait_traits<clock>,
                                                timer_executor>;

 public:
  static void start(Handler&& handler, operation<T>&& op) {
    allocator a(asio::get_associated_allocator(handler));
    token_wait* self = std::allocator_traits<allocator>::allocate(a, 1);
    try {
      ::new (static_cast<void*>(self)) token_wait(std::move(handler), op);
    } catch (...) {
      std::allocator_traits<allocator>::deallocate(a, self, 1);
      throw;
    }
    self->submit(op);
  }

 private:
  token_wait(Handler&& handler, operation<T>& op)
      : handler_(std::move(handler)),
        executor_(asio::get_associated_executor(
            handler_, default_executor(op.target().get()))),
        work_(asio::make_work_guard(executor_)) {}

  void submit(operation<T>& op) {
    const duration timeout = op.timeout();
    cell_ptr target = std::move(op.target());
    // Its own name for it: a timeout may forget `state_` at any moment, but
    // frees nothing before the asked side has had it.
    auto* const question = static_cast<reply_state<T>*>(op.detach());
    state_ = question;
    question->asker = this;
    question->deliver = [](ask_state& s) noexcept {
      auto* self = static_cast<token_wait*>(s.asker);
      self->answered_ = true;
      self->post();
    };
    // One count for the winner, one for this function.
    if (timeout >= duration::zero()) {
      if constexpr (has_context)
        timer_.emplace(executor_);
      else
        timer_.emplace(default_executor(target.get()));
      timer_->expires_after(std::chrono::ceil<clock::duration>(timeout));
      timer_->async_wait(timer_handler{*this});
    }
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected())
      slot.assign([this](asio::cancellation_type type) {
        if (type != asio::cancellation_type::none) leave(operation_aborted());
      });
    if (!target || !question->type->submit(*question, *target.get())) {
      // It never got there.
      if (question->outcome.exchange(ask_state::answered,
                                     std::memory_order_acq_rel) ==
          ask_state::pending) {
        error_ = make_error_code(errc::actor_stopped);
        post();
      } else {
        question->leave();  // a timeout or a cancellation was faster
      }
    }
    release();
  }

  /// Timeout and cancellation: gives the question up, unless it is answered.
  void leave(std::error_code why) noexcept {
    if (left_.exchange(true, std::memory_order_acq_rel)) return;
    if (state_->outcome.exchange(ask_state::abandoned,
                                 std::memory_order_acq_rel) !=
        ask_state::pending)
      return;  // the answer is being posted
    state_ = nullptr;
    error_ = why;
    post();
  }

  void post() noexcept { asio::post(executor_, completion_handler{*this}); }

  /// On the handler's executor: nobody emits to the slot meanwhile.
  void complete() {
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected()) slot.clear();
    if (timer_) timer_->cancel();
    std::error_code error = error_;
    Handler handler(std::move(handler_));
    if constexpr (std::is_void_v<T>) {
      if (answered_) error = state_->value.error();
      work_.reset();
      release();
      std::move(handler)(error);
    } else {
      T value{};
      if (answered_) {
        error = state_->value.error();
        if (!error) value = std::move(*state_->value);
      }
      work_.reset();
      release();
      std::move(handler)(error, std::move(value));
    }
  }

  /// One count, given back when it is destroyed uncalled: its executor's
  /// context was destroyed.
  class counted_handler {
   public:
    explicit counted_handler(token_wait& w) noexcept : who_{&w} {}
    counted_handler(counted_handler&& o) noexcept
        : who_{std::exchange(o.who_, nullptr)} {}
    counted_handler& operator=(counted_handler&&) = delete;
    ~counted_handler() {
      if (who_) who_->release();
    }

   protected:
    token_wait* who_;
  };
  struct completion_handler : counted_handler {
    using counted_handler::counted_handler;
    void operator()() { std::exchange(this->who_, nullptr)->complete(); }
  };
  struct timer_handler : counted_handler {
    explicit timer_handler(token_wait& w) noexcept : counted_handler{w} {
      w.refs_.fetch_add(1, std::memory_order_relaxed);
    }
    void operator()(std::error_code e) {
      if (!e) this->who_->leave(make_error_code(errc::timed_out));
    }
  };

  void release() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    allocator a(asio::get_associated_allocator(handler_));
    this->~token_wait();
    std::allocator_traits<allocator>::deallocate(a, this, 1);
  }
  ~token_wait() {
    if (state_) state_->leave();
  }

  Handler handler_;
  executor executor_;
  asio::executor_work_guard<executor> work_;
  /// There when a timeout was given.
  std::optional<timer_type> timer_;
  /// Null when the asked side has it.
  reply_state<T>* state_ = nullptr;
  std::error_code error_;
  bool answered_ = false;
  /// Whether a timeout or a cancellation has had its try.
  std::atomic<bool> left_{false};
  std::atomic<int> refs_{2};
};

template <class T>
struct token_signature {
  using type = void(std::error_code, T);
};
template <>
struct token_signature<void> {
  using type = void(std::error_code);
};

template <class T, class Token>
struct token_bridge<operation<T>, Token> {
  template <class Given>
  static decltype(auto) start(operation<T>&& op, Given&& token) {
    static_assert(std::is_void_v<T> || std::is_default_constructible_v<T>,
                  "a reply given to an Asio completion token has to be "
                  "default constructible: errors come with an empty one");
    return asio::async_initiate<Given, typename token_signature<T>::type>(
        [](auto&& handler, operation<T> started) {
          using type = std::decay_t<decltype(handler)>;
          // Otherwise the assertion has said it all.
          if constexpr (std::is_void_v<T> || std::is_default_constructible_v<T>)
            token_wait<T, type>::start(type(std::move(handler)),
                                       std::move(started));
        },
        token, std::move(op));
  }
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
