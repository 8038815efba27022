#include "events.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

#include "cell.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors {

std::string dead_letter::message_name() const {
  return type ? detail::type_name(*type) : "(unknown)";
}

std::string dead_letter::to_string() const {
  std::string line =
      "dead letter: " + message_name() + " to " + recipient.path();
  if (sender) line += " from " + sender.path();
  switch (why) {
    case reason::actor_stopped:
      return line + ", which has ended";
    case reason::not_accepted:
      return line + ", which does not take it";
    case reason::no_recipient:
      return line + ": there is no recipient";
    case reason::failed:
      return line + ", which failed by it";
    case reason::mailbox_full:
      return line + ", whose mailbox is full";
  }
  return line;
}

void any_actor_ref::tell_checked(detail::envelope* message) const noexcept {
  if (cell_ && !detail::accepts(*cell_.get(), *message->type->message))
    detail::report_undelivered(cell_.get(), message,
                               dead_letter::reason::not_accepted);
  else
    detail::tell(cell_.get(), message);
}

std::string_view to_string(lifecycle_event::kind value) noexcept {
  switch (value) {
    case lifecycle_event::kind::started:
      return "started";
    case lifecycle_event::kind::failed:
      return "failed";
    case lifecycle_event::kind::restarted:
      return "restarted";
    case lifecycle_event::kind::stopped:
      return "stopped";
    case lifecycle_event::kind::late:
      return "late";
    case lifecycle_event::kind::abandoned:
      return "abandoned";
    case lifecycle_event::kind::dead_letter:
      return "dead letter";
    case lifecycle_event::kind::crowded:
      return "crowded";
  }
  return "?";
}

namespace {

std::string in_words(directive decision, duration delay) {
  switch (decision) {
    case directive::restart:
      if (delay == duration::zero()) return "restarted";
      return "restarted in " +
             std::to_string(
                 std::chrono::ceil<std::chrono::milliseconds>(delay).count()) +
             " ms";
    case directive::resume:
      return "resumed";
    case directive::stop:
      return "stopped";
    case directive::escalate:
      return "escalated";
  }
  return "?";
}

/// Where somebody hangs, and with what.
std::string describe_place(const lifecycle_event& e) {
  std::string text = " takes too long";
  if (e.where.line() != 0)
    text += std::string{", at "} + e.where.file_name() + ':' +
            std::to_string(e.where.line());
  if (e.message)
    text += ", with a " + detail::type_name(*e.message) + " in hand";
  return text + ", " + std::to_string(e.queued) +
         (e.queued == 1 ? " message" : " messages");
}

}  // namespace

std::string lifecycle_event::to_string() const {
  if (what == kind::dead_letter && letter) return letter->to_string();
  std::string line = who.path();
  switch (what) {
    case kind::started:
      return line + " started";
    case kind::failed:
      line += " failed";
      if (message) line += " on a " + detail::type_name(*message);
      line += ": " + detail::describe(error) + "; ";
      line += in_words(decision, delay);
      return instead_of_resume
                 ? line + ", because only serve() could be resumed"
                 : line;
    case kind::restarted:
      return line + " restarted, number " + std::to_string(restarts);
    case kind::stopped:
      return line + " ended: " + why.to_string();
    case kind::late:
      return line + ": a stop" + describe_place(*this) + " left over";
    case kind::abandoned:
      return line + ": a kill" + describe_place(*this) +
             " left over; nobody waits for it any more";
    case kind::crowded:
      return line + " is behind: " + std::to_string(queued) +
             " messages wait for it";
    case kind::dead_letter:
      break;
  }
  return line;
}

namespace detail {

bool log_limit::allows(std::size_t& silent) noexcept {
  std::lock_guard lock{mutex_};
  const time_point now = std::chrono::steady_clock::now();
  if (now - second_ >= std::chrono::seconds{1}) {
    second_ = now;
    logged_ = 0;
    silent = std::exchange(silent_, 0);
  }
  if (logged_ >= per_second_) {
    ++silent_;
    return false;
  }
  ++logged_;
  return true;
}

event_stream::event_stream(system_core& core, std::size_t letters_per_second,
                           std::size_t failures_per_second, bool silent)
    : core_{&core},
      silent_{silent},
      letters_logged_{letters_per_second},
      failures_logged_{failures_per_second} {
  if (silent) return;
  (void)subscribe(
      bit(kind::failed) | bit(kind::late) | bit(kind::abandoned) |
          bit(kind::dead_letter) | bit(kind::crowded),
      [this](const lifecycle_event& e) {
        log(e);
        return true;
      },
      whose::runtime);
  keeps_messages_ = false;
}

namespace {

/// This thread hands out an event.
constinit thread_local bool handing_out = false;

}  // namespace

void event_stream::publish(const lifecycle_event& e) noexcept {
  std::shared_ptr<const list> subscribers;
  {
    std::lock_guard lock{mutex_};
    subscribers = subscribers_;
  }
  struct until_return {
    const bool before = std::exchange(handing_out, true);
    ~until_return() { handing_out = before; }
  } guard;
  for (const auto& s : *subscribers) {
    if (!(s->kinds & bit(e.what))) continue;
    try {
      if (!s->f(e)) unsubscribe(s->id);
    } catch (...) {
      // Out of memory, or a subscriber that threw: the others hear of it.
    }
  }
}

void event_stream::undelivered(envelope* e, cell_base* recipient,
                               dead_letter::reason why, errc tell,
                               bool whole) noexcept {
  dead_letters_.fetch_add(1, std::memory_order_relaxed);
  // Its owner from here on, with its reason.
  struct end {
    errc why;
    envelope* e;
    ~end() {
      if (e) e->type->drop(e, why);
    }
  } message{tell, e};
  if (!wanted(kind::dead_letter)) return;
  try {
    lifecycle_event event;
    event.what = kind::dead_letter;
    event.who = any_actor_ref{cell_ptr{recipient}};
    event.letter = dead_letter{e->type->message->info, why,
                               any_actor_ref{cell_ptr{e->type->sender(e)}},
                               event.who, nullptr};
    if (whole && keeps_messages_.load(std::memory_order_relaxed)) {
      auto owner = std::make_shared<end>(tell, nullptr);
      owner->e = std::exchange(message.e, nullptr);
      event.letter->value = {std::move(owner), e->type->payload(e)};
    }
    // What subscribers have no room for would make letters without end.
    if (handing_out && why == dead_letter::reason::mailbox_full) {
      if (!silent_) log(event);
    } else {
      publish(event);
    }
  } catch (...) {
    // Out of memory: the count has it.
  }
}

void event_stream::log(const lifecycle_event& e) {
  std::size_t silent = 0;
  if (e.what == kind::dead_letter) {
    if (!letters_logged_.allows(silent)) return;
    if (silent != 0)
      core_->log(std::to_string(silent) + " more dead letters, not logged");
  } else if (e.what == kind::failed) {
    if (!failures_logged_.allows(silent)) return;
    if (silent != 0)
      core_->log(std::to_string(silent) + " more failures, not logged");
  }
  core_->log(e.to_string());
}

std::shared_ptr<const event_stream::list> event_stream::set(
    std::shared_ptr<const list> next) noexcept {
  mask wanted = 0;
  for (const auto& s : *next) wanted |= s->kinds;
  wanted_.store(wanted, std::memory_order_relaxed);
  return std::exchange(subscribers_, std::move(next));
}

std::uint64_t event_stream::subscribe(mask kinds, function f, whose from) {
  auto added = std::make_shared<subscriber>();
  added->kinds = kinds;
  added->f = std::move(f);
  added->from = from;
  std::shared_ptr<const list> before;
  const std::lock_guard lock{mutex_};
  const std::uint64_t id = added->id = ++last_id_;
  if (closed_ && (from == whose::actor || orphan_)) return id;
  auto copy = std::make_shared<list>(*subscribers_);
  copy->push_back(std::move(added));
  before = set(std::move(copy));
  keeps_messages_ = true;
  return id;
}

void event_stream::unsubscribe(std::uint64_t id) noexcept {
  std::shared_ptr<const list> before;
  const std::lock_guard lock{mutex_};
  auto copy = std::make_shared<list>(*subscribers_);
  std::erase_if(*copy, [&](const auto& s) { return s->id == id; });
  before = set(std::move(copy));
}

/// Under the lock: those who may still be told something.
std::shared_ptr<const event_stream::list> event_stream::keep_wanted() noexcept {
  if (!closed_) return {};
  auto copy = std::make_shared<list>(*subscribers_);
  std::erase_if(*copy, [&](const auto& s) {
    return s->from == whose::actor || (orphan_ && s->from == whose::function);
  });
  return set(std::move(copy));
}

void event_stream::close() noexcept {
  std::shared_ptr<const list> before;
  const std::lock_guard lock{mutex_};
  closed_ = true;
  before = keep_wanted();
}

void event_stream::orphan() noexcept {
  std::shared_ptr<const list> before;
  const std::lock_guard lock{mutex_};
  orphan_ = true;
  before = keep_wanted();
}

namespace {

/// On a plain thread there is no system to count it: one line a second.
void complain_of_null_ref() noexcept {
  static std::atomic<std::chrono::seconds::rep> last{-1};
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::steady_clock::now().time_since_epoch())
                       .count();
  if (last.exchange(now, std::memory_order_relaxed) != now)
    std::fputs("actors: a message was told through a null ref\n", stderr);
}

}  // namespace

void report_undelivered(cell_base* to, envelope* message,
                        dead_letter::reason why) noexcept {
  const errc tell = why == dead_letter::reason::mailbox_full
                        ? errc::mailbox_full
                        : errc::actor_stopped;
  // Of a question the asker is told, and nobody else need be.
  if (!message->type->slot(message)) {
    system_core* core = to               ? &to_cell(*to).core()
                        : here.running() ? &here.running()->core()
                                         : nullptr;
    if (!core && here.home) core = &here.home->core();
    if (core) {
      core->events().undelivered(message, to, why, tell);
      return;
    }
    complain_of_null_ref();
  }
  message->type->drop(message, tell);
}

}  // namespace detail

}  // namespace actors
