#include "actors/system.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

#include "cell.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors {

namespace detail {

namespace {

void check_throughput(std::size_t value) {
  if (value < 1 || value > 1'000'000)
    throw std::invalid_argument("throughput has to be 1 to 1000000, not " +
                                std::to_string(value));
}

void check_timeout(const char* name, duration value) {
  if (value < duration::zero())
    throw std::invalid_argument(std::string{name} + " may not be negative");
}

void check_dispatchers(const system_options& o) {
  using kind = dispatcher::kind;
  if (const kind k = o.dispatcher.which();
      k != kind::pool && k != kind::shared && k != kind::pinned)
    throw std::invalid_argument(
        "the dispatcher of a system is pool(), shared() or pinned()");
  std::set<std::string_view> names;
  for (const pool_options& p : o.pools) {
    (void)dispatcher::named(p.name);
    const std::string who = "the pool of threads \"" + p.name + '"';
    if (!names.insert(p.name).second)
      throw std::invalid_argument(who + " is named twice");
    if (p.threads < 1 || p.threads > 1024)
      throw std::invalid_argument(who + " has to have 1 to 1024 threads, not " +
                                  std::to_string(p.threads));
    if (const kind k = p.dispatcher.which();
        k != kind::pool && k != kind::shared)
      throw std::invalid_argument("the dispatcher of " + who +
                                  " is pool() or shared()");
  }
}

template <class Strategy>
void check_strategy(const system_options& o) {
  if (const auto* s = o.supervision.target<Strategy>()) s->check();
}

/// `/user`: waits, and owns everybody else.
task<> guardian_body(context<> self) { co_await self.until_stop(); }

}  // namespace

void check_options(const system_options& o) {
  if (o.threads && (*o.threads < 1 || *o.threads > 1024))
    throw std::invalid_argument("threads has to be 1 to 1024, not " +
                                std::to_string(*o.threads));
  if (o.offload_threads < 1 || o.offload_threads > 1024)
    throw std::invalid_argument("offload_threads has to be 1 to 1024, not " +
                                std::to_string(o.offload_threads));
  check_dispatchers(o);
  check_throughput(o.throughput);
  check_timeout("stop_timeout", o.stop_timeout);
  check_timeout("kill_timeout", o.kill_timeout);
  check_strategy<one_for_one>(o);
  check_strategy<one_for_all>(o);
  check_strategy<rest_for_one>(o);
}

void check_options(const spawn_options& o) {
  if (o.name.find('/') != std::string::npos)
    throw std::invalid_argument("an actor's name may not contain '/': \"" +
                                o.name + "\"");
  if (!o.name.empty() && o.name.front() == '$')
    throw std::invalid_argument(
        "'$' and a number is what actors without a name are called, so a name "
        "may not begin with '$': \"" +
        o.name + "\"");
  if (o.throughput) check_throughput(*o.throughput);
  if (o.stop_timeout) check_timeout("stop_timeout", *o.stop_timeout);
}

/// Waits for signals on a context of the system's, until the system ends.
class system_core::signals
    : public std::enable_shared_from_this<system_core::signals> {
 public:
  signals(net::any_io_executor executor, system_core& core)
      : set_{std::move(executor)}, core_{&core} {}

  void add(int signal) { set_.add(signal); }
  void start() {
    set_.async_wait([self = shared_from_this()](std::error_code e, int n) {
      if (e || !self->core_) return;
      self->core_->log("signal " + std::to_string(n) + ": stopping");
      self->core_->stop();
    });
  }
  /// On the executor.
  void end() {
    core_ = nullptr;
    std::error_code ignored;
    set_.cancel(ignored);
  }
  net::any_io_executor executor() { return set_.get_executor(); }

 private:
  net::signal_set set_;
  system_core* core_;
};

namespace {

bool looks_by_default(system_core::kind k) noexcept {
#ifdef NDEBUG
  return k == system_core::kind::manual;
#else
  (void)k;
  return true;
#endif
}

}  // namespace

system_core::system_core(const system_options& options, kind k)
    : options_{options},
      throughput_{static_cast<std::uint32_t>(options.throughput)},
      kind_{k},
      detects_deadlocks_{
          options.detect_deadlocks.value_or(looks_by_default(k))},
      pins_{options.dispatcher.which() == dispatcher::kind::pinned},
      facade_{actor_system::view{}, this},
      events_{*this, options.dead_letters_logged_per_second,
              options.failures_logged_per_second,
              options.log && !*options.log} {
  check_options(options);
  if (k == kind::guest && (pins_ || !options.pools.empty()))
    throw std::invalid_argument(
        "a guest has no threads of its own: it can have no pools of them, nor "
        "pin actors to any");
  groups_.emplace_back("", k == kind::guest ? dispatcher::kind::shared
                           : pins_          ? dispatcher::kind::pool
                                            : options.dispatcher.which());
}

system_core::~system_core() = default;

void system_core::start_guardian() {
  // Made by hand: it has no parent, and nobody starts it from an actor.
  using holder = behaviour<true, decltype(&guardian_body)>;
  static constexpr actor_type type{&typeid(&guardian_body),
                                   &message_set<>::filter,
                                   &holder::start,
                                   &holder::destroy,
                                   sizeof(holder),
                                   alignof(holder),
                                   true};
  guardian_ = &make_root(*this, *schedulers_.front(), type);
  ::new (holder_of(*guardian_)) holder(&guardian_body);
  guardian_->extras().name = "user";
  guardian_->extras().place = names_.reserve(*guardian_);
  names_.appear(guardian_->extras().place);
  add_ref();             // the guardian's, until its memory goes
  guardian_->add_ref();  // the owner's
  guardian_->expect_wake();
  guardian_->home().wake(*guardian_, lane_id::system);
}

void system_core::check(const dispatcher& d) const {
  if (kind_ == system_core::kind::manual) return;
  switch (d.which()) {
    case dispatcher::kind::system:
      return;
    case dispatcher::kind::pinned:
      if (kind_ == system_core::kind::owner) return;
      throw std::invalid_argument(
          "a guest has no threads of its own, so no actor of it can be pinned "
          "to one");
    case dispatcher::kind::pool:
    case dispatcher::kind::shared:
      if (groups_.front().which() == d.which()) return;
      throw std::invalid_argument(
          "the system's own dispatcher is of another kind: give "
          "dispatcher::system(), or name one of system_options::pools");
    case dispatcher::kind::named:
      for (const group& g : groups_)
        if (g.name() == d.name()) return;
      throw std::invalid_argument("there is no pool of threads named \"" +
                                  std::string{d.name()} + "\": " +
                                  (kind_ == system_core::kind::guest
                                       ? "a guest has none of its own"
                                       : "name it in system_options::pools"));
  }
}

scheduler& system_core::place(cell* parent, const spawn_options* options) {
  const long where =
      options ? options->placement.value() : placement::automatic;
  if (!options || !options->dispatcher) {
    if (!parent)
      return pins_ ? pin() : place_in(groups_.front(), nullptr, where);
    scheduler& beside = parent->home();
    if (beside.pinned()) {
      if (where == placement::turn) return pin();
      beside.add_cell();
      return beside;
    }
    if (where < 0 && where != placement::turn) return beside;
    for (group& g : groups_)
      if (g.has(beside)) return place_in(g, parent, where);
    return beside;
  }
  const dispatcher& d = *options->dispatcher;
  group& own = groups_.front();
  // Of a simulation there is one context, which runs all.
  if (kind_ == system_core::kind::manual) return own.at(0);
  check(d);
  if (d.which() == dispatcher::kind::pinned) return pin();
  if (d.which() == dispatcher::kind::named)
    for (group& g : groups_)
      if (g.name() == d.name()) return place_in(g, parent, where);
  return place_in(own, parent, where);
}

scheduler& system_core::place_in(group& g, cell* parent, long where) {
  if (where >= 0) return g.at(static_cast<std::size_t>(where));
  if (parent && where != placement::turn && g.has(parent->home()))
    return parent->home();
  return g.next();
}

scheduler& system_core::pin() { return groups_.front().at(0); }

void system_core::each_context(const std::function<void(scheduler&)>& f) {
  for (const auto& s : schedulers_) f(*s);
}

duration system_core::stop_timeout(const cell& c) const noexcept {
  const cell_extras* x = c.extras_if_any();
  return x && x->stop_timeout ? *x->stop_timeout : options_.stop_timeout;
}

void system_core::log(std::string_view line) const noexcept {
  try {
    if (!options_.log)
      std::fprintf(stderr, "actors: %.*s\n", static_cast<int>(line.size()),
                   line.data());
    else if (*options_.log)
      (*options_.log)(line);
  } catch (...) {
    // A log that throws has said enough.
  }
}

void system_core::trace(const trace_event& e) noexcept {
  static thread_local bool tracing = false;
  if (std::exchange(tracing, true)) return;
  try {
    options_.trace(e);
  } catch (...) {
    if (!trace_threw_.exchange(true, std::memory_order_relaxed))
      log("trace threw, and this is said once: " +
          describe(std::current_exception()));
  }
  tracing = false;
}

double system_core::random() noexcept {
  static thread_local std::minstd_rand numbers{std::random_device{}()};
  return std::generate_canonical<double, 24>(numbers);
}

void system_core::default_policy(cell& c) {
  if (!c.parent() && options_.supervision)
    supervise(c, *make_node<policy_task<std::function<task<>(failures)>>>(
                     options_.supervision));
  else
    supervise(c, *make_node<policy_task<one_for_one>>(one_for_one{}));
}

bool system_core::handle_failure(cell& child,
                                 const std::exception_ptr& e) noexcept {
  if (!options_.on_failure) return false;
  try {
    options_.on_failure(any_actor_ref{cell_ptr{&child}}, e);
    return true;
  } catch (...) {
    log("on_failure threw: " + describe(std::current_exception()));
    return false;
  }
}

void system_core::failed_for_good(const std::exception_ptr& e) noexcept {
  log("a failure was escalated to the top, the system terminates: " +
      describe(e));
  {
    std::lock_guard lock{mutex_};
    if (!failure_) failure_ = e;
  }
  stop();
}

std::exception_ptr system_core::failure() noexcept {
  std::lock_guard lock{mutex_};
  return failure_;
}

bool system_core::on_runtime_thread() const noexcept {
  return here.home || here.running();
}

void system_core::stop_on_signals(std::initializer_list<int> numbers) {
  std::lock_guard lock{mutex_};
  if (ended_) return;
  if (!signals_) {
    scheduler& first = *schedulers_.front();
    signals_ = std::make_shared<signals>(first.executor(*guardian_), *this);
  }
  for (int n : numbers) signals_->add(n);
  signals_->start();
}

void system_core::guardian_ended() noexcept {
  std::shared_ptr<signals> last;
  {
    std::lock_guard lock{mutex_};
    last = std::exchange(signals_, nullptr);
  }
  // On the guardian's strand, which is the signals' executor.
  if (last) last->end();
  if (const std::exception_ptr e = failure()) raise(e);
  std::lock_guard lock{mutex_};
  ended_ = true;
  ended_changed_.notify_all();
}

void system_core::drain() noexcept {
  draining_.store(true, std::memory_order_relaxed);
  request_drain(guardian_);
}

void system_core::stop() noexcept {
  draining_.store(false, std::memory_order_relaxed);
  request_stop(guardian_);
  std::lock_guard lock{mutex_};
  stopping_ = true;
  ended_changed_.notify_all();
}

void system_core::joined() {
  std::lock_guard lock{mutex_};
  threads_.push_back(&here);
}

void system_core::left() noexcept {
  std::lock_guard lock{mutex_};
  std::erase(threads_, &here);
  ended_changed_.notify_all();
}

bool system_core::wait_until_ended(std::optional<duration> timeout) noexcept {
  std::unique_lock lock{mutex_};
  if (!timeout) {
    ended_changed_.wait(lock, [&] { return ended_; });
    return true;
  }
  return ended_changed_.wait_for(lock, std::min(*timeout, longest),
                                 [&] { return ended_; });
}

void system_core::offload(offload_base& op) {
  offload_pool* pool;
  {
    std::lock_guard lock{mutex_};
    if (!offloads_)
      offloads_ = std::make_unique<offload_pool>(options_.offload_threads,
                                                 before_offloads());
    pool = offloads_.get();
  }
  pool->push(op);
}

bool system_core::take_back(offload_base& op) noexcept {
  return offloads_ && offloads_->remove(op);
}

void system_core::wait_for_offloaded() noexcept {
  if (!offloads_) return;
  offloads_->close(std::min(kill_timeout(), longest), [this] {
    if (which() == kind::guest)
      log("the io_context is being destroyed, and waits for an offloaded "
          "function that has not returned");
  });
  offloads_->drop_work();
}

void system_core::drop_offload_work() noexcept {
  if (offloads_) offloads_->drop_work();
}

bool system_core::enter() noexcept {
  auto v = visitors_.load(std::memory_order_relaxed);
  do {
    if (v & locked) return false;
  } while (!visitors_.compare_exchange_weak(v, v + 1, std::memory_order_acquire,
                                            std::memory_order_relaxed));
  return true;
}

void system_core::leave() noexcept {
  if (visitors_.fetch_sub(1, std::memory_order_acq_rel) != (locked | 1)) return;
  std::lock_guard lock{mutex_};
  visitors_left_ = true;
  ended_changed_.notify_all();
}

void system_core::lock_out() noexcept {
  if (visitors_.fetch_or(locked, std::memory_order_acq_rel) == 0) return;
  std::unique_lock lock{mutex_};
  ended_changed_.wait(lock, [&] { return visitors_left_; });
}

system_core* make_system(const system_options& options) {
  return make_owner(options);
}

std::exception_ptr failure_of(system_core& core) noexcept {
  return core.failure();
}

void check_run(system_core& core) {
  if (core.which() != system_core::kind::owner)
    throw std::logic_error(
        "a guest never blocks: spawn an actor and run the io_context instead");
  if (core.on_runtime_thread())
    throw_error(make_error_code(errc::would_deadlock));
}

}  // namespace detail

actor_system::actor_system(const system_options& options)
    : actor_system{detail::make_system(options)} {}

actor_system::actor_system(detail::system_core* core) noexcept : core_{core} {}

actor_system::~actor_system() {
  if (!owner_) return;
  detail::system_core* core = core_;
  if (core->which() != detail::system_core::kind::owner) {
    core->events().orphan();
    core->stop();
    core->guardian().release();
    core->release();
    return;
  }
  const bool unwinding = std::uncaught_exceptions() > exceptions_;
  auto finish = [core] {
    core->shut_down();
    core->events().orphan();
    core->guardian().release();
    core->release();
  };
  auto end = [core, unwinding, finish] {
    bool ended = false;
    if (!unwinding) {
      core->drain();
      ended = core->wait_until_ended(core->stop_timeout(core->guardian()));
    }
    if (!ended) {
      core->stop();
      ended = core->wait_until_ended_or_lost();
    }
    if (ended && core->stop_threads()) {
      finish();
      return;
    }
    // A thread is lost. Should it come back, the rest is done then.
    std::thread{[core, ended, finish] {
      core->wait_until_ended({});
      if (!ended) (void)core->stop_threads();
      finish();
    }}.detach();
  };
  // A system destroyed by one of its own actors cannot wait here for itself.
  if (core->on_runtime_thread())
    std::thread{end}.detach();
  else
    end();
}

void actor_system::terminate() {
  core_->stop();
  if (core_->which() == detail::system_core::kind::owner &&
      !core_->on_runtime_thread())
    (void)core_->wait_until_ended_or_lost();
}

void actor_system::wait() {
  detail::check_run(*core_);
  (void)core_->wait_until_ended_or_lost();
  if (const std::exception_ptr e = core_->failure()) std::rethrow_exception(e);
}

operation<exit_reason> actor_system::async_terminate() {
  core_->stop();
  return user().stopped();
}

void actor_system::stop_on_signals(std::initializer_list<int> signals) {
  core_->stop_on_signals(signals);
}

std::uint64_t actor_system::dead_letter_count() const noexcept {
  return core_->events().dead_letters();
}

namespace {

using kind = lifecycle_event::kind;
using detail::event_stream;

/// Not `tell`: its own dead letter would come back here for ever. False: it
/// has ended.
template <class M>
bool give(const actor_ref<M>& to, const M& m) {
  using detail::pushed;
  auto* e = detail::make_node<detail::told<M>>(m);
  const pushed how = to ? detail::enqueue(*to.cell().get(), e) : pushed::closed;
  if (how == pushed::in) return true;
  if (how == pushed::full) {
    detail::report_undelivered(to.cell().get(), e,
                               dead_letter::reason::mailbox_full);
    return true;
  }
  e->type->drop(e, errc::actor_stopped);
  return false;
}

}  // namespace

std::uint64_t actor_system::on_dead_letter(
    std::function<void(const dead_letter&)> f) {
  return core_->events().subscribe(
      event_stream::bit(kind::dead_letter),
      [f = std::move(f)](const lifecycle_event& e) {
        f(*e.letter);
        return true;
      });
}
std::uint64_t actor_system::on_dead_letter(actor_ref<dead_letter> subscriber) {
  return core_->events().subscribe(
      event_stream::bit(kind::dead_letter),
      [subscriber](const lifecycle_event& e) {
        return give(subscriber, *e.letter);
      },
      event_stream::whose::actor);
}
std::uint64_t actor_system::on_event(
    std::function<void(const lifecycle_event&)> f) {
  return core_->events().subscribe(event_stream::all,
                                   [f = std::move(f)](const auto& e) {
                                     f(e);
                                     return true;
                                   });
}
std::uint64_t actor_system::on_event(actor_ref<lifecycle_event> subscriber) {
  return core_->events().subscribe(
      event_stream::all,
      [subscriber](const lifecycle_event& e) {
        return e.who == any_actor_ref{subscriber} || give(subscriber, e);
      },
      event_stream::whose::actor);
}
void actor_system::unsubscribe(std::uint64_t subscription) noexcept {
  if (core_->subscriptions().unsubscribe(subscription)) return;
  core_->events().unsubscribe(subscription);
}

any_actor_ref actor_system::user() const noexcept {
  return any_actor_ref{detail::cell_ptr{&core_->guardian()}};
}

}  // namespace actors
