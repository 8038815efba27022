/// Actors that are objects: how one begins, and what its body is told before
/// its frame goes.
#include "actors/actor.hpp"

#include <functional>
#include <stdexcept>
#include <utility>

#include "actors/error.hpp"
#include "cell.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"

namespace actors::detail {

// --- construction -----------------------------------------------------------

construction::construction(cell& owner, const void* at,
                           std::size_t size) noexcept
    : owner_{&owner},
      begin_{static_cast<const std::byte*>(at)},
      size_{size},
      outer_{std::exchange(here.constructing, this)} {}

construction::~construction() { here.constructing = outer_; }

cell& cell_under_construction(const void* object) {
  construction* const now = here.constructing;
  const auto* const at = static_cast<const std::byte*>(object);
  // The first in there: a member that is an actor, too, comes later.
  const std::less<const std::byte*> before;
  if (now && now->owner_ && !before(at, now->begin_) &&
      before(at, now->begin_ + now->size_))
    return *std::exchange(now->owner_, nullptr);
  throw std::logic_error(
      "an object of a class derived from actors::actor is made by the runtime: "
      "spawn<A>(args...) starts an actor of class A");
}

// --- life -------------------------------------------------------------------

birth cell::born() noexcept {
  birth b;
  if (!extras_) return b;
  b.again = extras_->restarts != 0;
  b.cause = std::exchange(extras_->cause, nullptr);
  return b;
}

parting cell::part() const noexcept {
  parting p;
  p.renewed = renewal_ == renewal::falling;
  if (failing()) p.error = extras_->error;
  return p;
}

/// It has failed, and its object is to be told of the end. Whoever waits for an
/// answer need not wait for that.
void cell::wind_up() noexcept {
  if (extras_) extras_->held = nullptr;
  fail_hands();
  if (!in_handler_) drop_hand(main_);
  if (stop_ == stop_phase::drain) stop_ = stop_phase::requested;
}

/// It was about to end by another failure anyway.
void cell::failed_again(std::exception_ptr error) noexcept {
  core().report_failure(*this, error);
  report_failed(
      error, nullptr,
      renewal_ == renewal::falling ? directive::restart : directive::stop, {},
      false);
}

birth born(cell& c) noexcept { return c.born(); }
parting part(const cell& c) noexcept { return c.part(); }
void begin_service(cell& c) noexcept { c.begin_service(); }

bool failed_before(cell& c, const std::exception_ptr& error) noexcept {
  if (!c.failing()) return false;
  if (!is_operation_aborted(error)) c.failed_again(error);
  return true;
}

}  // namespace actors::detail
