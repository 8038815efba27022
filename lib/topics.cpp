#include "topics.hpp"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "cell.hpp"
#include "names.hpp"
#include "system_core.hpp"

namespace actors::detail {

// Lists that are replaced are dropped after the lock: with them may go what
// filters own, and the memory of actors.

std::shared_ptr<topics::list> topics::living(const list& l,
                                             std::uint64_t without) {
  auto copy = std::make_shared<list>();
  copy->reserve(l.size() + 1);
  for (const auto& s : l)
    if (s->id != without && !to_cell(*s->who.get()).closed())
      copy->push_back(s);
  return copy;
}

std::uint64_t topics::subscribe(const std::type_info& type, const cell_ptr& who,
                                std::function<bool(const void*)> filter) {
  auto added =
      std::make_shared<subscriber>(subscriber{0, who, std::move(filter)});
  std::shared_ptr<const list> before;
  const std::lock_guard lock{mutex_};
  if (closed_) return ++last_id_;
  std::shared_ptr<const list>& at = lists_[type];
  if (at)
    for (const auto& s : *at)
      if (s->who.get() == who.get()) added->id = s->id;
  auto copy = living(at ? *at : list{}, added->id);
  if (added->id == 0) added->id = ++last_id_;
  const std::uint64_t id = added->id;
  copy->push_back(std::move(added));
  before = std::exchange(at, std::move(copy));
  return id;
}

bool topics::unsubscribe(std::uint64_t id) noexcept {
  if (!(id & mark)) return false;
  std::shared_ptr<const list> before;
  const std::lock_guard lock{mutex_};
  for (auto& [type, subscribers] : lists_) {
    if (std::none_of(subscribers->begin(), subscribers->end(),
                     [&](const auto& s) { return s->id == id; }))
      continue;
    before = std::exchange(subscribers, living(*subscribers, id));
    break;
  }
  return true;
}

void topics::prune(const std::type_info& type) noexcept {
  std::shared_ptr<const list> before;
  const std::lock_guard lock{mutex_};
  const auto at = lists_.find(type);
  if (at == lists_.end()) return;
  before = std::exchange(at->second, living(*at->second, 0));
}

bool topics::wants(const subscriber& s, const void* message) noexcept {
  try {
    return !s.filter || s.filter(message);
  } catch (...) {
    std::size_t silent = 0;
    if (logged_.allows(silent))
      core_->log("the filter of " + path_of(s.who.get()) +
                 "'s subscription threw, and it gets no message: " +
                 describe(std::current_exception()));
    return false;
  }
}

std::size_t topics::publish(const std::type_info& type, const void* message,
                            envelope* (*copy)(const void*)) {
  std::shared_ptr<const list> subscribers;
  {
    const std::lock_guard lock{mutex_};
    const auto at = lists_.find(type);
    if (at == lists_.end()) return 0;
    subscribers = at->second;
  }
  std::size_t told = 0;
  bool ended = false;
  for (const auto& s : *subscribers) {
    cell& to = to_cell(*s->who.get());
    if (to.closed()) {
      ended = true;
    } else if (wants(*s, message)) {
      tell(&to, copy(message));
      ++told;
    }
  }
  if (ended) prune(type);
  return told;
}

void topics::close() noexcept {
  decltype(lists_) all;
  const std::lock_guard lock{mutex_};
  closed_ = true;
  all.swap(lists_);
}

std::size_t topics::count(const std::type_info& type) {
  const std::lock_guard lock{mutex_};
  const auto at = lists_.find(type);
  return at == lists_.end() ? 0 : at->second->size();
}

std::uint64_t subscribe_to(system_core& core, const message_type& type,
                           const cell_ptr& who,
                           std::function<bool(const void*)> filter) {
  if (!who)
    throw std::invalid_argument("a null ref cannot subscribe to messages");
  if (!accepts(*who.get(), type))
    throw std::invalid_argument(path_of(who.get()) + " does not take " +
                                type_name(*type.info) +
                                ", so it cannot subscribe to it");
  return core.subscriptions().subscribe(*type.info, who, std::move(filter));
}

std::size_t publish_to(system_core& core, const std::type_info& type,
                       const void* message, envelope* (*copy)(const void*)) {
  return core.subscriptions().publish(type, message, copy);
}

}  // namespace actors::detail
