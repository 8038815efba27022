#include "dead_letters.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
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

namespace detail {

void dead_letters::report(envelope& e, cell_base* recipient,
                          dead_letter::reason why) noexcept {
  count_.fetch_add(1, std::memory_order_relaxed);
  try {
    const dead_letter letter{e.type->message->info, why,
                             any_actor_ref{cell_ptr{e.type->sender(&e)}},
                             any_actor_ref{cell_ptr{recipient}}};
    std::shared_ptr<const list> subscribers;
    {
      std::lock_guard lock{mutex_};
      subscribers = subscribers_;
    }
    for (const subscriber& s : *subscribers)
      if (!s.f(letter)) unsubscribe(s.id);
    log(letter);
  } catch (...) {
    // Out of memory, or a subscriber that threw: the count has it.
  }
}

void dead_letters::log(const dead_letter& letter) {
  std::size_t silent = 0;
  {
    std::lock_guard lock{mutex_};
    const time_point now = std::chrono::steady_clock::now();
    if (now - second_ >= std::chrono::seconds{1}) {
      second_ = now;
      logged_ = 0;
      silent = std::exchange(silent_, 0);
    }
    if (logged_ >= logged_per_second_) {
      ++silent_;
      return;
    }
    ++logged_;
  }
  if (silent != 0)
    core_->log(std::to_string(silent) + " more dead letters, not logged");
  core_->log(letter.to_string());
}

std::uint64_t dead_letters::subscribe(
    std::function<bool(const dead_letter&)> f) {
  std::lock_guard lock{mutex_};
  auto copy = std::make_shared<list>(*subscribers_);
  copy->push_back({++last_id_, std::move(f)});
  subscribers_ = std::move(copy);
  return last_id_;
}

void dead_letters::unsubscribe(std::uint64_t id) noexcept {
  std::lock_guard lock{mutex_};
  auto copy = std::make_shared<list>(*subscribers_);
  std::erase_if(*copy, [&](const subscriber& s) { return s.id == id; });
  subscribers_ = std::move(copy);
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
  // Of a question the asker is told, and nobody else need be.
  if (!message->type->slot(message)) {
    system_core* core = to               ? &to_cell(*to).core()
                        : here.running() ? &here.running()->core()
                                         : nullptr;
    if (!core && here.home) core = &here.home->core();
    if (core)
      core->letters().report(*message, to, why);
    else
      complain_of_null_ref();
  }
  message->type->drop(message, errc::actor_stopped);
}

}  // namespace detail

}  // namespace actors
