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
#include <mutex>
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
/// While it lives, the threads of an actor's system do not end, unless they
/// have. They run the handlers that name no executor. Any thread.
class system_visit {
 public:
  /// `cell` may be null, and is kept alive by the caller until the visit ends.
  explicit system_visit(cell_base* cell) noexcept;
  system_visit(const system_visit&) = delete;
  system_visit& operator=(const system_visit&) = delete;
  ~system_visit();
  /// False: the system has ended, or is about to.
  explicit operator bool() const noexcept { return cell_ != nullptr; }
  /// An executor of the system, or Asio's own when it has ended.
  asio::any_io_executor executor() const;

 private:
  cell_base* cell_;
};
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

/// The place where an initiation of `redirect_error` puts the error.
template <class Initiation>
const std::error_code* error_place(const Initiation& i) noexcept {
  if constexpr (requires { static_cast<const std::error_code&>(i.ec_); })
    return &i.ec_;
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
    error_place_ = error_place(initiation_);
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
    if (abort_pending(*fiber_) && has_aborted()) (void)take_abort(*fiber_);
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
/// wins posts the handler to its executor, and the post owns `*this` from then
/// on. Its memory is the handler's allocator's, and is given back before the
/// handler is called.
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

 public:
  static void start(Handler&& handler, operation<T>&& op) {
    // Until all is under way the system's threads do not end.
    const cell_ptr target = op.target();
    const system_visit visit{target.get()};
    allocator a(asio::get_associated_allocator(handler));
    token_wait* self = std::allocator_traits<allocator>::allocate(a, 1);
    try {
      ::new (static_cast<void*>(self))
          token_wait(std::move(handler), a, target, visit);
    } catch (...) {
      std::allocator_traits<allocator>::deallocate(a, self, 1);
      throw;
    }
    self->submit(op, visit);
  }

 private:
  /// The timer of a timeout. It has a life of its own: the timer's handler
  /// comes when `*this` may be gone.
  class alarm {
    using timer_executor =
        std::conditional_t<has_context, executor, asio::any_io_executor>;

   public:
    alarm(token_wait& who, const cell_ptr& lender, const timer_executor& e)
        : who_{&who}, lender_{lender}, timer_{std::in_place, e} {}

    /// One of the two counts is the timer's handler's.
    void start(duration timeout) {
      std::lock_guard lock{mutex_};
      if (!who_) return;
      timer_->expires_after(std::chrono::ceil<clock::duration>(timeout));
      timer_->async_wait(handler{*this});
    }
    /// From here on it does not touch the one who waits; a count is gone.
    void end() noexcept {
      {
        std::lock_guard lock{mutex_};
        who_ = nullptr;
        // Not while the system closes its context: that destroys the handler,
        // and the last count goes with it or after it.
        const system_visit visit{lender_.get()};
        if (!lender_ || visit) timer_.reset();
      }
      release();
    }
    void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
      if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        destroy_and_free(this);
    }

   private:
    class handler {
     public:
      explicit handler(alarm& a) noexcept : alarm_{&a} { a.add_ref(); }
      handler(handler&& o) noexcept
          : alarm_{std::exchange(o.alarm_, nullptr)} {}
      handler& operator=(handler&&) = delete;
      ~handler() {
        if (alarm_) alarm_->release();
      }
      void operator()(std::error_code e) {
        std::lock_guard lock{alarm_->mutex_};
        alarm_->timer_.reset();
        if (!e && alarm_->who_)
          alarm_->who_->leave(make_error_code(errc::timed_out));
      }

     private:
      alarm* alarm_;
    };

    std::mutex mutex_;
    token_wait* who_;
    /// Whose system has the timer; null when it is the handler's.
    const cell_ptr lender_;
    std::optional<asio::basic_waitable_timer<clock, asio::wait_traits<clock>,
                                             timer_executor>>
        timer_;
    std::atomic<int> refs_{1};
  };

  token_wait(Handler&& handler, const allocator& a, const cell_ptr& target,
             const system_visit& visit)
      : handler_(std::move(handler)),
        allocator_(a),
        executor_(
            asio::get_associated_executor(handler_, asio::any_io_executor{})) {
    if constexpr (std::is_same_v<executor, asio::any_io_executor>) {
      if (!executor_) {
        lender_ = target;
        executor_ = visit.executor();
      }
    }
    work_.emplace(executor_);
  }
  ~token_wait() {
    if (alarm_) alarm_->end();
    if (state_) state_->leave();
  }
  void free() noexcept {
    allocator a(allocator_);
    this->~token_wait();
    std::allocator_traits<allocator>::deallocate(a, this, 1);
  }

  void submit(operation<T>& op, const system_visit& visit) {
    const duration timeout = op.timeout();
    const cell_ptr target = std::move(op.target());
    auto* const question = static_cast<reply_state<T>*>(op.detach());
    state_ = question;
    question->asker = this;
    question->deliver = [](ask_state& s) noexcept {
      auto* self = static_cast<token_wait*>(s.asker);
      self->answered_ = true;
      self->post();
    };
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected())
      slot.assign([this](asio::cancellation_type type) {
        if (type != asio::cancellation_type::none) leave(operation_aborted());
      });
    if (timeout >= duration::zero()) {
      if constexpr (has_context)
        alarm_ = make_node<alarm>(*this, lender_, executor_);
      else
        alarm_ = make_node<alarm>(*this, target, visit.executor());
      alarm* const a = alarm_;
      a->add_ref();
      a->start(timeout);
      a->release();
    }
    // From here on a timeout or a cancellation may have ended `*this`, but
    // frees no question before the asked side has had it.
    if (target && question->type->submit(*question, *target.get())) return;
    if (question->outcome.exchange(ask_state::answered,
                                   std::memory_order_acq_rel) ==
        ask_state::pending) {
      error_ = make_error_code(errc::actor_stopped);
      post();
    } else {
      question->leave();  // it never got there, and nobody listens
    }
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

  /// Once; `*this` may be gone before it returns.
  void post() noexcept {
    // They end in reverse order. The work keeps the context, which its owner
    // may destroy when it runs out of work, until `asio::post` is out of it.
    const cell_ptr lender = lender_;
    const auto work = std::move(work_);
    if (lender) {
      const system_visit visit{lender.get()};
      if (visit)
        asio::post(executor_, completion_handler{*this});
      else
        asio::post(asio::system_executor{}, completion_handler{*this});
    } else {
      asio::post(executor_, completion_handler{*this});
    }
  }

  class completion_handler;

  /// On the handler's executor: nobody emits to the slot meanwhile.
  void complete(completion_handler& owner) {
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected()) slot.clear();
    std::error_code error = error_;
    Handler handler(std::move(handler_));
    if constexpr (std::is_void_v<T>) {
      if (answered_) error = state_->value.error();
      owner.free();
      std::move(handler)(error);
    } else {
      T value{};
      if (answered_) {
        error = state_->value.error();
        if (!error) value = std::move(*state_->value);
      }
      owner.free();
      std::move(handler)(error, std::move(value));
    }
  }

  /// Owns what it is to complete, whether it is called or its context is
  /// destroyed before.
  class completion_handler {
   public:
    explicit completion_handler(token_wait& w) noexcept : who_{&w} {}
    completion_handler(completion_handler&& o) noexcept
        : who_{std::exchange(o.who_, nullptr)} {}
    completion_handler& operator=(completion_handler&&) = delete;
    ~completion_handler() { free(); }
    void free() noexcept {
      if (who_) std::exchange(who_, nullptr)->free();
    }
    void operator()() { who_->complete(*this); }

   private:
    token_wait* who_;
  };

  Handler handler_;
  allocator allocator_;
  /// Who keeps the system's inside, where its executor is used.
  cell_ptr lender_;
  executor executor_;
  std::optional<asio::executor_work_guard<executor>> work_;
  /// There when a timeout was given.
  alarm* alarm_ = nullptr;
  /// Null when the asked side has it.
  reply_state<T>* state_ = nullptr;
  std::error_code error_;
  bool answered_ = false;
  /// Whether a timeout or a cancellation has had its try.
  std::atomic<bool> left_{false};
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
