#include "ask_link.hpp"

#include <string>
#include <utility>
#include <vector>

#include "actors/context.hpp"
#include "actors/detail/group.hpp"
#include "actors/error.hpp"
#include "cell.hpp"
#include "system_core.hpp"

namespace actors::detail {

void release(const ask_link* link) noexcept {
  while (link && link->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    const ask_link* const above = link->above;
    destroy_and_free(const_cast<ask_link*>(link));
    link = above;
  }
}

namespace {

/// The fiber that waits for `m` and cannot go on, nor take a message, before
/// it has ended; null: there is none, or it may.
const fiber* held_up_by(const child_fiber& m) noexcept {
  if (!m.parent) return nullptr;
  return static_cast<const group_member&>(m).of->waits_for_each() ? m.parent
                                                                  : nullptr;
}

}  // namespace

const ask_link* link_above(const fiber& f) noexcept {
  const fiber* i = &f;
  while (!i->hand) {
    if (!i->child) return nullptr;
    i = held_up_by(static_cast<const child_fiber&>(*i));
    if (!i) return nullptr;
  }
  // A slot that was taken out may be anywhere, with somebody who answers.
  if (!i->hand->type->slot(i->hand)) return nullptr;
  const ask_state* q = i->hand->type->question(i->hand);
  if (!q || q->by != ask_state::asked_by::linked_actor) return nullptr;
  return q->from.link;
}

bool blocks(const cell& c, const fiber& f) noexcept {
  if (!c.blocked_by(f)) return false;
  for (const fiber* i = &f; i->child;) {
    i = held_up_by(static_cast<const child_fiber&>(*i));
    if (!i) return false;
  }
  return true;
}

namespace {

std::exception_ptr deadlock(const std::string& chain) {
  return std::make_exception_ptr(
      actor_error{make_error_code(errc::would_deadlock), chain});
}

/// The link by which `to` waits for the end of `above`; null: it does not.
const ask_link* waits_for(const ask_link* above, const cell_base& to) noexcept {
  for (const ask_link* l = above; l; l = l->above) {
    if (!l->waits.load(std::memory_order_acquire)) return nullptr;
    if (l->blocks && l->asker.get() == &to) return l;
  }
  return nullptr;
}

/// "/user/a asks /user/b asks ": from the asker of `last` to that of `above`.
std::string chain(const ask_link* above, const ask_link* last) {
  std::vector<const ask_link*> links;
  for (const ask_link* l = above;; l = l->above) {
    links.push_back(l);
    if (l == last) break;
  }
  std::string text;
  for (; !links.empty(); links.pop_back())
    text += path_of(links.back()->asker.get()) + " asks ";
  return text;
}

}  // namespace

std::exception_ptr cycle(const ask_link* above, cell_base& c, cell_base& to) {
  const ask_link* const last = waits_for(above, to);
  if (!last) return nullptr;
  return deadlock(chain(above, last) + path_of(&c) + " asks " + path_of(&to));
}

std::exception_ptr cycle_of_one(cell_base& c) {
  const std::string path = path_of(&c);
  return deadlock(path + " asks " + path);
}

std::exception_ptr check_forward(cell& c, envelope* e, cell_base* to) {
  if (!to || !c.core().detects_deadlocks()) return nullptr;
  const ask_state* q = e->type->question(e);
  if (!q || q->by != ask_state::asked_by::linked_actor) return nullptr;
  const ask_link* const above = q->from.link;
  const ask_link* const last = waits_for(above, *to);
  if (!last) return nullptr;
  return deadlock(chain(above, last) + path_of(&c) + " hands on to " +
                  path_of(to));
}

// --- of a question ----------------------------------------------------------

cell_base* ask_state::linked_asker() const noexcept {
  return by == asked_by::linked_actor ? from.link->asker.get() : nullptr;
}

void ask_state::release_link() noexcept { release(from.link); }

}  // namespace actors::detail
