#include "actors/detail/router.hpp"

#include <algorithm>
#include <utility>

#include "cell.hpp"
#include "events.hpp"
#include "system_core.hpp"

namespace actors::detail {

route_table::~route_table() {
  for (const worker& w : workers_)
    if (w.load) w.load->done();
}

void route_table::add(cell_ptr who) {
  workers_.push_back({std::move(who), nullptr});
  ++living_;
  if (counts_) workers_.back().load = workload::make();
}

void route_table::remove(const cell_base* who) noexcept {
  // Its place stays, so that the keys of others keep theirs.
  for (const worker& w : workers_)
    if (w.who.get() == who) --living_;
}

bool route_table::open(std::size_t i) const noexcept {
  return !to_cell(*workers_[i].who.get()).closed();
}

std::size_t route_table::in_turn() noexcept {
  for (std::size_t tries = workers_.size(); tries != 0; --tries) {
    const std::size_t i = std::exchange(next_, after(next_));
    if (open(i)) return i;
  }
  return npos;
}

std::size_t route_table::least_busy() noexcept {
  std::size_t best = npos;
  std::uint32_t least = 0;
  std::size_t i = next_;
  for (std::size_t tries = workers_.size(); tries != 0; --tries, i = after(i)) {
    const std::uint32_t busy = workers_[i].load->count();
    if ((best != npos && busy >= least) || !open(i)) continue;
    best = i;
    least = busy;
    if (busy == 0) break;
  }
  if (best != npos) next_ = after(best);
  return best;
}

namespace {

/// The finish of SplitMix64: `std::hash` of a number is often the number.
std::uint64_t mixed(std::uint64_t z) noexcept {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::size_t jump(std::uint64_t key, std::size_t buckets) noexcept {
  std::int64_t bucket = -1;
  std::int64_t next = 0;
  while (next < static_cast<std::int64_t>(buckets)) {
    bucket = next;
    key = key * 2862933555777941757u + 1;
    next =
        static_cast<std::int64_t>(static_cast<double>(bucket + 1) *
                                  (static_cast<double>(std::int64_t{1} << 31) /
                                   static_cast<double>((key >> 33) + 1)));
  }
  return static_cast<std::size_t>(bucket);
}

}  // namespace

std::size_t route_table::by_hash(std::uint64_t hash) const noexcept {
  // The keys of one that has ended are spread over the others, and no other
  // key moves.
  constexpr int tries = 8;
  std::size_t i = 0;
  for (int t = 0; t != tries; ++t) {
    hash = mixed(hash);
    i = jump(hash, workers_.size());
    if (open(i)) return i;
  }
  for (std::size_t left = workers_.size(); left != 0; --left, i = after(i))
    if (open(i)) return i;
  return npos;
}

void no_worker(cell& router, envelope* e) noexcept {
  report_undelivered(&router, e, dead_letter::reason::actor_stopped);
}

void not_routed(cell& router, envelope* e) noexcept {
  // Who wants dead letters may keep it: its asker is not to wait for that.
  if (ask_state* s = e->type->take_slot(e))
    s->type->fail(*s, errc::actor_failed);
  router.core().events().undelivered(e, &router, dead_letter::reason::failed,
                                     errc::actor_failed);
}

}  // namespace actors::detail
