#include "actors/asio.hpp"

#include "cell.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

net::any_io_executor executor_of(cell& c) { return c.home().executor(c); }

net::any_io_executor default_executor(const cell_base* cell) {
  if (!cell) return net::system_executor{};
  return static_cast<const detail::cell*>(cell)->core().context(0).executor();
}

net::any_io_executor next_executor_of(system_core& core) {
  return core.next_context().executor();
}

void dropped(fiber& f, wait& w) noexcept { f.owner->dropped(f, w); }

}  // namespace actors::detail
