#include "actors/asio.hpp"

#include <cstddef>

#include "cell.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

net::any_io_executor executor_of(cell& c) { return c.home().executor(c); }

system_visit::system_visit(cell_base* cell) noexcept
    : cell_{cell && to_cell(*cell).core().enter() ? cell : nullptr} {}
system_visit::~system_visit() {
  if (cell_) to_cell(*cell_).core().leave();
}
net::any_io_executor system_visit::executor() const {
  if (!cell_) return net::system_executor{};
  return to_cell(*cell_).core().context(0).executor();
}

net::any_io_executor next_executor_of(system_core& core) {
  return core.next_context().executor();
}

namespace {

constinit thread_local bool signals_ended = false;

/// Signals that this thread uses again.
class signal_cache {
 public:
  ~signal_cache() {
    signals_ended = true;
    while (count_ != 0) destroy_and_free(signals_[--count_]);
  }
  net::cancellation_signal& take() {
    return count_ != 0 ? *signals_[--count_]
                       : *make_node<net::cancellation_signal>();
  }
  bool give(net::cancellation_signal& s) noexcept {
    if (count_ == room) return false;
    signals_[count_++] = &s;
    return true;
  }

 private:
  static constexpr std::size_t room = 64;
  std::size_t count_ = 0;
  net::cancellation_signal* signals_[room];
};

thread_local signal_cache signals;

struct no_handler {
  void operator()(net::cancellation_type) const noexcept {}
};

}  // namespace

net::cancellation_signal& take_signal() {
  return signals_ended ? *make_node<net::cancellation_signal>()
                       : signals.take();
}
void give_signal(net::cancellation_signal& s) noexcept {
  // The last handler goes, its memory stays.
  auto slot = s.slot();
  if (slot.has_handler()) slot.emplace<no_handler>();
  if (signals_ended || !signals.give(s)) destroy_and_free(&s);
}

void dropped(fiber& f, wait& w) noexcept { f.owner->dropped(f, w); }

}  // namespace actors::detail
