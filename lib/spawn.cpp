#include "actors/spawn.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

#include "actors/error.hpp"
#include "cell.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

namespace {

/// The callable and the arguments follow the cell in one block of memory.
std::size_t holder_offset(const actor_type& type) {
  const std::size_t align = std::max(type.align, alignof(cell));
  return (sizeof(cell) + align - 1) / align * align;
}
std::size_t block_size(const actor_type& type) {
  const std::size_t spare =
      type.align > alignof(std::max_align_t) ? type.align : std::size_t{0};
  // The size says how the block is to be aligned.
  const std::size_t align = std::max(type.align, alignof(cell));
  const std::size_t size = holder_offset(type) + type.size + spare;
  return (size + align - 1) / align * align;
}

void check_mailbox(const mailbox& kind, const message_filter& accepted) {
  for (const mailbox_limit& l : kind.limits())
    if (l.type && !accepted.accepts(l.type))
      throw std::invalid_argument("the mailbox has a limit for " +
                                  type_name(*l.type->info) +
                                  ", which the actor does not take");
}

}  // namespace

void cell_base::destroy() noexcept {
  cell& c = to_cell(*this);
  scheduler& home = c.home();
  const std::size_t size = block_size(c.type());
  // The last cell of a system, its guardian, lets the system go.
  cell_ptr parent{c.parent()};
  system_core* core = c.parent() ? nullptr : &home.core();
  home.core().before_memory_goes();
  c.~cell();
  deallocate(&c, size);
  parent = {};
  if (core) core->release();
}

void* holder_of(cell& c) noexcept {
  auto at = reinterpret_cast<std::uintptr_t>(&c) + holder_offset(c.type());
  const std::size_t align = c.type().align;
  return reinterpret_cast<void*>((at + align - 1) / align * align);
}

void check_worker_options(const system_core& core, const spawn_options& options,
                          const message_filter& accepted) {
  check_options(options);
  check_mailbox(options.mailbox, accepted);
  if (options.dispatcher) core.check(*options.dispatcher);
}

cell& create_cell(system_core& core, cell* parent, const actor_type& type,
                  const spawn_options* options) {
  if (parent && parent->stopping())
    throw_error(make_error_code(errc::actor_stopped));
  if (options) {
    check_options(*options);
    check_mailbox(options->mailbox, *type.accepts);
  }
  if (options && options->restart && type.once &&
      *options->restart != restart_policy::never)
    throw std::invalid_argument(
        "spawn_once moves its arguments in, so there is no second "
        "incarnation: restart can only be never");
  cell& above = parent ? *parent : core.guardian();
  scheduler& home = core.place(parent, options);
  std::uint32_t number = 0;
  cell* c;
  try {
    if (!options || options->name.empty())
      number = parent ? parent->next_child_number() : core.next_number();
    c = ::new (allocate(block_size(type))) cell(home, type);
  } catch (...) {
    core.unplace(home);
    throw;
  }
  above.add_ref();
  c->parent_ = &above;
  auto traits = static_cast<std::uint8_t>(type.once ? restart_policy::never
                                          : options && options->restart
                                              ? *options->restart
                                              : restart_policy::transient);
  if (options && options->stop_timeout) traits |= cell::own_stop_timeout;
  c->traits_ = traits;
  c->number_ = number;
  try {
    if (options && !options->name.empty()) c->extras().name = options->name;
    if (options && options->stop_timeout)
      c->extras().stop_timeout = options->stop_timeout;
    const bool limited = options && !options->mailbox.limits().empty();
    if (limited || core.traces()) {
      c->extras().mailbox = std::make_unique<bounded_mailbox>(
          limited ? options->mailbox : mailbox{}, c->user_);
      c->traits_ |= cell::elsewhere;
    }
    if (options && !options->name.empty())
      c->extras().place = core.names().reserve(*c);
  } catch (...) {
    discard(*c);
    throw;
  }
  if (options) {
    if (options->throughput)
      c->throughput_ = static_cast<std::uint32_t>(*options->throughput);
  }
  return *c;
}

cell& make_root(system_core&, scheduler& home, const actor_type& type) {
  return *::new (allocate(block_size(type))) cell(home, type);
}

void discard(cell& c) noexcept {
  c.leave_name();
  c.core().unplace(c.home());
  c.release();
}

cell_ptr launch(cell& c) noexcept {
  cell_ptr handle{&c};
  cell& above = *c.parent();
  const bool at_home = here.home == &c.home();
  // From the next lines on others may stop it, and it may not end before the
  // wake that is sent at the end.
  if (!at_home) c.expect_wake();
  registry::place* const place = c.number_ == 0 ? c.extras_->place : nullptr;
  system_core& core = c.core();
  if (here.running() == &above) {
    above.adopt(c);
  } else if (!send_order(
                 above,
                 [](cell& parent, cell* child) noexcept {
                   parent.adopt(*child);
                 },
                 &c)) {
    c.end_unstarted();
    return handle;
  }
  // Not before its parent is about to know it: who finds it may stop it.
  if (place) core.names().appear(place);
  if (at_home)
    c.home().queue(c);
  else
    c.home().wake(c, lane_id::system);
  return handle;
}

}  // namespace actors::detail
