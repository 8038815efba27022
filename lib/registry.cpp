#include "registry.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <stdexcept>
#include <utility>

#include "actors/error.hpp"
#include "cell.hpp"
#include "names.hpp"
#include "system_core.hpp"

namespace actors::detail {

namespace {

std::exception_ptr error_of(std::string text) {
  return std::make_exception_ptr(std::invalid_argument(std::move(text)));
}

/// What keeps `c` from being known by messages of these types; null: nothing.
std::exception_ptr refusal(const cell_base& c, const message_filter& wanted) {
  for (std::size_t i = 0; i != wanted.count; ++i)
    if (!accepts(c, *wanted.types[i]))
      return error_of("the actor at " + path_of(&c) + " does not take " +
                      type_name(*wanted.types[i]->info));
  return nullptr;
}

void answer(path_question& q, cell_ptr who) noexcept {
  if (std::exception_ptr e = refusal(*who.get(), *q.wanted))
    q.failed(q, std::move(e));
  else
    q.found(q, std::move(who));
}

void fail(path_question& q) noexcept {
  q.failed(q, std::make_exception_ptr(
                  actor_error(make_error_code(errc::actor_stopped),
                              "nobody appears at " + q.path + " any more")));
}

}  // namespace

void check_path(std::string_view path) {
  constexpr std::string_view root = "/user";
  const bool below = path.substr(0, root.size() + 1) == "/user/";
  if (path != root && (!below || path.back() == '/' ||
                       path.find("//") != std::string_view::npos))
    throw std::invalid_argument(
        "the path of an actor is \"/user\", or \"/user/\" and names with a '/' "
        "between them, not \"" +
        std::string{path} + '"');
  if (path[path.rfind('/') + 1] == '$')
    throw std::invalid_argument(
        "only actors with a name are found by their path, and \"" +
        std::string{path} + "\" is the path of one without");
}

registry::place* registry::reserve(cell& c) {
  std::string path = c.path();
  std::unique_lock lock{mutex_};
  const auto [at, is_free] = places_.try_emplace(std::move(path), entry{&c});
  if (is_free) return &*at;
  lock.unlock();
  throw actor_error(make_error_code(errc::name_taken),
                    "an actor lives at " + c.path() +
                        " already: wait for its end, or give another name");
}

void registry::appear(place* p) noexcept {
  path_question* list = nullptr;
  path_question** end = &list;
  cell_ptr who;
  {
    const std::lock_guard lock{mutex_};
    p->second.there = true;
    if (waiting_.empty()) return;
    for (;;) {
      const auto found = waiting_.find(p->first);
      if (found == waiting_.end()) break;
      *end = found->second;
      end = &found->second->next;
      waiting_.erase(found);
    }
    if (!list) return;
    who = cell_ptr{p->second.who};
  }
  while (list) {
    path_question& q = *std::exchange(list, list->next);
    answer(q, who);
  }
}

void registry::leave(place* p) noexcept {
  const std::lock_guard lock{mutex_};
  places_.erase(places_.find(p->first));
}

cell_ptr registry::find(const std::string& path) {
  const std::lock_guard lock{mutex_};
  const auto at = places_.find(path);
  if (at == places_.end() || !at->second.there) return {};
  return cell_ptr{at->second.who};
}

/// Who waits again and again with a timeout leaves questions behind. Under the
/// lock.
path_question* registry::take_abandoned() noexcept {
  path_question* list = nullptr;
  std::erase_if(waiting_, [&](const waiting::value_type& w) {
    if (!w.second->state->gone()) return false;
    w.second->next = std::exchange(list, w.second);
    return true;
  });
  sweep_at_ = std::max<std::size_t>(16, 2 * waiting_.size());
  return list;
}

void registry::wait(path_question& q) noexcept {
  path_question* left = nullptr;
  cell_ptr who;
  bool over;
  {
    const std::lock_guard lock{mutex_};
    const auto at = places_.find(q.path);
    over = closed_;
    if (at != places_.end() && at->second.there) {
      who = cell_ptr{at->second.who};
    } else if (!over) {
      if (waiting_.size() >= sweep_at_) left = take_abandoned();
      waiting_.emplace(q.path, &q);
    }
  }
  while (left) std::exchange(left, left->next)->state->leave();
  if (who)
    answer(q, std::move(who));
  else if (over)
    fail(q);
}

void registry::close() noexcept {
  waiting all;
  {
    const std::lock_guard lock{mutex_};
    closed_ = true;
    all.swap(waiting_);
  }
  while (!all.empty()) {
    // Its own path is the key.
    path_question& q = *all.begin()->second;
    all.erase(all.begin());
    fail(q);
  }
}

cell_ptr find_actor(system_core& core, std::string_view path,
                    const message_filter& wanted) {
  check_path(path);
  cell_ptr who = core.names().find(std::string{path});
  if (who)
    if (const std::exception_ptr e = refusal(*who.get(), wanted))
      std::rethrow_exception(e);
  return who;
}

void submit_path(path_question& q, cell_base& guardian) noexcept {
  to_cell(guardian).core().names().wait(q);
}

cell_ptr guardian_of(system_core& core) noexcept {
  return cell_ptr{&core.guardian()};
}

}  // namespace actors::detail
