/// What a pool's router knows of its workers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "actors/detail/envelope.hpp"
#include "actors/detail/memory.hpp"
#include "actors/fwd.hpp"

namespace actors::detail {

/// How many messages a worker has been given that have not come to their end:
/// shared by the router and those messages. Strand adds; who ends a message,
/// on any thread, takes away.
class workload {
 public:
  static workload* make() { return make_node<workload>(); }

  std::uint32_t count() const noexcept {
    return refs_.load(std::memory_order_relaxed) - 1;
  }
  void add() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  /// A message has ended, or the router: the last one frees.
  void done() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      destroy_and_free(this);
  }

 private:
  std::atomic<std::uint32_t> refs_{1};
};

/// A message in the mailbox of a worker whose work is counted: the end of this
/// envelope, after the handler or as a dead letter, is the end of the work.
template <class M>
struct routed final : envelope {
  routed(envelope* e, workload& l) noexcept
      : envelope{nullptr, &type_of}, inner{e}, load{&l} {
    load->add();
  }

  static routed* of(envelope* e) noexcept { return static_cast<routed*>(e); }
  static void* payload_of(envelope* e) noexcept {
    return of(e)->inner->type->payload(of(e)->inner);
  }
  static void drop(envelope* e, errc why) noexcept {
    of(e)->inner->type->drop(of(e)->inner, why);
    of(e)->load->done();
    destroy_and_free(of(e));
  }
  static ask_state* slot_of(envelope* e) noexcept {
    return of(e)->inner->type->slot(of(e)->inner);
  }
  static ask_state* take_slot(envelope* e) noexcept {
    return of(e)->inner->type->take_slot(of(e)->inner);
  }
  static cell_base* sender_of(envelope* e) noexcept {
    return of(e)->inner->type->sender(of(e)->inner);
  }
  static ask_state* question_of(envelope* e) noexcept {
    envelope* const in = of(e)->inner;
    return in->type->question ? in->type->question(in) : nullptr;
  }
  static ask_state* hand_on(envelope* e) noexcept {
    return of(e)->inner->type->hand_on(of(e)->inner);
  }
  static constexpr envelope_type type_of{
      &message_tag<M>, reply_type<M>(), &payload_of,  &drop,   &slot_of,
      &take_slot,      &sender_of,      &question_of, &hand_on};

  envelope* inner;
  workload* load;
};

/// The workers of a pool. Strand.
class route_table {
 public:
  struct worker {
    cell_ptr who;
    /// Null where nobody counts.
    workload* load;
  };
  /// None.
  static constexpr std::size_t npos = static_cast<std::size_t>(-1);

  explicit route_table(bool counts) noexcept : counts_{counts} {}
  route_table(const route_table&) = delete;
  route_table& operator=(const route_table&) = delete;
  ~route_table();

  void add(cell_ptr who);
  /// It has ended; others, and those of an earlier incarnation, do nothing.
  void remove(const cell_base* who) noexcept;
  /// Whether all have ended.
  bool over() const noexcept { return living_ == 0; }

  std::size_t size() const noexcept { return workers_.size(); }
  const worker& operator[](std::size_t i) const noexcept { return workers_[i]; }

  // Which one takes messages still, and is to take this one; `npos`: none.

  std::size_t in_turn() noexcept;
  std::size_t least_busy() noexcept;
  /// J. Lamping and E. Veach, "A fast, minimal memory, consistent hash
  /// algorithm", 2014.
  std::size_t by_hash(std::uint64_t hash) const noexcept;

 private:
  bool open(std::size_t i) const noexcept;
  std::size_t after(std::size_t i) const noexcept {
    return i + 1 == workers_.size() ? 0 : i + 1;
  }

  std::vector<worker> workers_;
  std::size_t living_ = 0;
  std::size_t next_ = 0;
  const bool counts_;
};

/// Ends a message that no worker takes, because all have ended.
void no_worker(cell& router, envelope* e) noexcept;
/// Ends a message whose key, or whose copy, could not be had.
void not_routed(cell& router, envelope* e) noexcept;

}  // namespace actors::detail
