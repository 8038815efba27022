/// An operation of ours, started with a completion token of Asio.
#pragma once

#include <asio.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#include "actors/detail/cell_base.hpp"
#include "actors/detail/envelope.hpp"
#include "actors/error.hpp"
#include "actors/operation.hpp"

namespace actors::detail {

/// When an asker of `target` gives up that waits for `timeout` from now on, by
/// the clock of that actor's system; `never` where that is a virtual one. Any
/// thread.
time_point deadline_in(const cell_base* target, duration timeout) noexcept;

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
          alarm_->who_->leave(ask_state::expired,
                              make_error_code(errc::timed_out));
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
    if (timeout >= duration::zero())
      question->deadline = deadline_in(target.get(), timeout);
    question->from.function = [](ask_state& s) noexcept {
      auto* self = static_cast<token_wait*>(s.asker);
      self->answered_ = true;
      self->post();
    };
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected())
      slot.assign([this](asio::cancellation_type type) {
        if (type != asio::cancellation_type::none)
          leave(ask_state::abandoned, operation_aborted());
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
    if (question->win()) {
      error_ = make_error_code(errc::actor_stopped);
      post();
    } else {
      question->leave();  // it never got there, and nobody listens
    }
  }

  /// Timeout and cancellation: gives the question up, unless it is answered.
  void leave(std::uint8_t how, std::error_code why) noexcept {
    if (left_.exchange(true, std::memory_order_acq_rel)) return;
    if (!state_->give_up(how)) return;  // the answer is being posted
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

/// An operation of nobody's.
struct sample_operation {
  template <class Token>
  requires(!object_pointer<std::decay_t<Token>>) auto operator()(
      Token&& token) && {
    return asio::async_initiate<Token, void()>([](auto&&) {}, token);
  }
};
/// Whether Asio's coroutines await an operation as it is, without a token.
template <class Promise>
concept awaits_operations = requires(Promise& p) {
  p.await_transform(sample_operation{});
};
template <class T, class Promise>
requires(
    std::is_object_v<Promise>) struct token_bridge<operation<T>, Promise*> {
  static constexpr bool needs_token = !awaits_operations<Promise>;
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

}  // namespace actors::detail
