/// The node a message travels in: header, payload, and for a question the
/// place where its answer goes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <typeinfo>
#include <utility>

#include "actors/detail/cell_base.hpp"
#include "actors/detail/memory.hpp"
#include "actors/message.hpp"
#include "actors/result.hpp"

namespace actors::detail {

class cell;
class operation_base;
struct ask_link;
struct ask_state;

/// What the runtime can do with an envelope without knowing its message.
struct envelope_type {
  const message_type* message;
  /// The reply type of a question that was asked; null when it was told.
  const std::type_info* reply;
  void* (*payload)(envelope*) noexcept;
  /// Ends the envelope; an asker still waiting is told `why`.
  void (*drop)(envelope*, errc why) noexcept;
  /// The open reply slot, or null.
  ask_state* (*slot)(envelope*) noexcept;
  /// Detaches the open slot for one who answers later, or null.
  ask_state* (*take_slot)(envelope*) noexcept;
  /// Whom the message names as its sender, or null.
  cell_base* (*sender)(envelope*) noexcept;
  /// The question that came with it, answered or not, until it is handed on;
  /// null: none. Strand.
  ask_state* (*question)(envelope*) noexcept = nullptr;
  /// Detaches the open slot for another mailbox, or null. Strand.
  ask_state* (*hand_on)(envelope*) noexcept = nullptr;
};

/// Header of every message in a mailbox: two pointers.
struct envelope {
  envelope* next;
  const envelope_type* type;
};

template <class T>
void destroy_and_free(T* object) noexcept {
  object->~T();
  deallocate(object, sizeof(T));
}

/// Builds a `T` in recycled memory. Over-aligned types are refused here.
template <class T, class... Args>
T* make_node(Args&&... args) {
  static_assert(alignof(T) <= alignof(std::max_align_t),
                "a message may not be aligned more strictly than max_align_t");
  void* memory = allocate(sizeof(T));
  try {
    return ::new (memory) T(std::forward<Args>(args)...);
  } catch (...) {
    deallocate(memory, sizeof(T));
    throw;
  }
}

inline ask_state* no_slot(envelope*) noexcept { return nullptr; }
inline cell_base* no_sender(envelope*) noexcept { return nullptr; }

/// As which message an `M` is declared: itself, or a base that it names.
template <class M>
struct declared_as {
  using type = M;
};
template <class M>
requires requires { typename M::declared_message; }
struct declared_as<M> {
  using type = typename M::declared_message;
};
template <class M>
using declared_as_t = typename declared_as<M>::type;

/// A message that was told.
template <class M>
struct told : envelope {
  template <class... Args>
  explicit told(Args&&... args)
      : envelope{nullptr, &type_of}, payload(std::forward<Args>(args)...) {}

  static void* payload_of(envelope* e) noexcept {
    return static_cast<declared_as_t<M>*>(&static_cast<told*>(e)->payload);
  }
  static void drop(envelope* e, errc) noexcept {
    destroy_and_free(static_cast<told*>(e));
  }
  static constexpr envelope_type type_of{&message_tag<declared_as_t<M>>,
                                         nullptr,
                                         &payload_of,
                                         &drop,
                                         &no_slot,
                                         &no_slot,
                                         &no_sender};

  M payload;
};

/// A message that was told with a sender.
template <class M>
struct told_by : envelope {
  template <class... Args>
  explicit told_by(cell_ptr who, Args&&... args)
      : envelope{nullptr, &type_of},
        sender{std::move(who)},
        payload(std::forward<Args>(args)...) {}

  static void* payload_of(envelope* e) noexcept {
    return &static_cast<told_by*>(e)->payload;
  }
  static void drop(envelope* e, errc) noexcept {
    destroy_and_free(static_cast<told_by*>(e));
  }
  static cell_base* sender_of(envelope* e) noexcept {
    return static_cast<told_by*>(e)->sender.get();
  }
  static constexpr envelope_type type_of{&message_tag<M>, nullptr,  &payload_of,
                                         &drop,           &no_slot, &no_slot,
                                         &sender_of};

  cell_ptr sender;
  M payload;
};

/// What travels in the system lane of a cell: replies, timers, ends, orders.
struct system_node {
  system_node* next = nullptr;
  /// Called on the strand of the cell it was pushed to, once.
  void (*arrive)(cell&, system_node&) noexcept = nullptr;
};

/// How one kind of question is sent, failed and freed.
struct ask_type {
  /// Hands the question to the actor; false when it takes none any more, and
  /// the caller keeps the state then.
  bool (*submit)(ask_state&, cell_base& to) noexcept;
  /// Destroys and frees; called by its last owner.
  void (*free)(ask_state&) noexcept;
  /// Answers with an error, for whoever has taken the slot and does not know
  /// its type.
  void (*fail)(ask_state&, errc why) noexcept;
  /// It waits for a place in a mailbox, and for nothing that the actor does
  /// with it: where there is room, an actor may wait for itself.
  bool is_send = false;
  /// It brings a message to an actor. Used while a question is in hand, it
  /// inherits what is left of that one's time, and ends when its asker leaves.
  bool inherits = false;
  /// Puts an error where the answer goes, of a question that was not sent.
  void (*put_error)(ask_state&, std::exception_ptr) noexcept = nullptr;
};

/// Of what has no deadline.
constexpr time_point never = time_point::max();

/// Where the two sides of a question meet. It lives in the question's own
/// node, never in the frame of the asker.
///
/// `outcome` decides who has the last word; the first side to change it does:
///
///   pending -> answered    by whoever answers; the node now belongs to the
///                          asker, to whom `deliver` carries it
///   pending -> abandoned   by an asker that leaves (cancellation, kill); the
///                          node belongs to the asked side
///   pending -> expired     the same, by a timeout
///
/// Bits beside it, until then:
///
///   linked     there is an `ask_link`. Asker, before it is sent
///   watched    asks wait that were made while handling it (`heirs`): who
///              abandons it then pushes the node itself to `watcher`, on whose
///              strand they are ended. An owner of the node is counted for
///              that. Strand of the asked actor
struct ask_state : system_node {
  enum : std::uint8_t {
    pending,
    answered,
    abandoned,
    expired,
    how_it_ended = 3,
    watched = 4,
    linked = 8,
  };
  enum class asked_by : std::uint8_t { function, actor, linked_actor };

  explicit ask_state(const ask_type& t) noexcept : type{&t} {}
  ask_state(const ask_state&) = delete;
  ask_state& operator=(const ask_state&) = delete;
  ~ask_state() {
    if (by == asked_by::actor)
      from.actor->release();
    else if (by == asked_by::linked_actor)
      release_link();
    if (watcher) watcher->release();
  }

  std::atomic<std::uint8_t> outcome{pending};
  /// Strand of the asked actor: nobody has taken or used the reply slot.
  bool open = true;
  /// The payload has an owner (the handler) apart from the slot's. Written
  /// before the slot leaves the strand, so that `deliver` publishes it.
  bool split = false;
  /// Of a `send` to oneself: there is nobody else to make room.
  bool may_not_wait = false;
  /// Strand of the actor that was asked first: the slot is in another mailbox.
  bool handed_on = false;
  /// The answer is in its place.
  bool has_value = false;
  /// What `from` is.
  asked_by by = asked_by::function;
  /// With `split`: owners of the node: the handler's side, the slot's, that of
  /// `watched`, each that `forwarded` it.
  std::atomic<std::uint16_t> holders{0};
  const ask_type* type;
  /// Who asks: an actor's cell, counted, or what carries the answer elsewhere.
  union {
    void (*function)(ask_state&) noexcept = nullptr;
    cell_base* actor;
    ask_link* link;
  } from;
  /// The waiting operation; only the asker's side reads or writes it.
  void* asker = nullptr;
  /// When the asker gives up, at the earliest. Written before it is sent.
  time_point deadline = never;
  /// With `watched`: the cell that has it in hand, counted.
  cell_base* watcher = nullptr;
  /// The asks that wait on its behalf. Strand of the watcher.
  operation_base* heirs = nullptr;

  /// Carries an answered node to its asker. Thread of the one who answers.
  static void deliver(ask_state& s) noexcept {
    if (s.by == asked_by::function)
      s.from.function(s);
    else
      deliver_to_actor(s);
  }
  /// The cell of the asker, where it is an actor.
  cell_base* asker_cell() const noexcept {
    return by == asked_by::actor ? from.actor : linked_asker();
  }

  /// How it stands: `pending` to `expired`.
  std::uint8_t how() const noexcept {
    return outcome.load(std::memory_order_acquire) & how_it_ended;
  }
  /// Whether the asker has left.
  bool gone() const noexcept { return how() >= abandoned; }
  /// For who answers: false when the asker has left.
  bool win() noexcept {
    std::uint8_t found = pending;
    return outcome.compare_exchange_strong(found, answered,
                                           std::memory_order_acq_rel) ||
           win_beside(found);
  }
  /// For an asker that leaves: false when the answer came first. Else it is
  /// the asked side's. Any thread.
  bool give_up(std::uint8_t how) noexcept;

  /// Gives the node up for one of its owners, or frees it.
  void leave() noexcept {
    if (!split || holders.fetch_sub(1, std::memory_order_acq_rel) == 1)
      type->free(*this);
  }
  /// Makes the slot an owner of its own. Strand of the asked actor.
  void split_slot() noexcept {
    open = false;
    add_holder();
  }
  /// Adds an owner. For one that is an owner itself.
  void add_holder() noexcept {
    if (!split) {
      split = true;
      holders.store(1, std::memory_order_relaxed);
    }
    holders.fetch_add(1, std::memory_order_relaxed);
  }

  // Strand of whoever has the question in hand.

  /// Has the asker tell `c` when it leaves; gives `how()` it stands.
  std::uint8_t watch(cell_base& c) noexcept;
  /// What waits on its behalf waits for itself from here on.
  void forget_heirs() noexcept {
    if (heirs) [[unlikely]]
      unlink_heirs();
  }
  /// The slot is going to another mailbox.
  void leave_hand() noexcept;

 private:
  bool win_beside(std::uint8_t found) noexcept;
  cell_base* linked_asker() const noexcept;
  void release_link() noexcept;
  void unlink_heirs() noexcept;
  static void deliver_to_actor(ask_state& s) noexcept;
};

/// The place of the answer.
template <class R>
struct reply_state : ask_state {
  explicit reply_state(const ask_type& t) noexcept : ask_state{t} {}
  ~reply_state() {
    if (has_value) value.~result<R>();
  }

  /// Puts the answer in its place and offers it. True when the asker takes
  /// it. Once; the caller's ownership of the node goes with it.
  bool answer(result<R>&& v) {
    ::new (static_cast<void*>(&value)) result<R>(std::move(v));
    has_value = true;
    return offer();
  }
  bool offer() noexcept {
    if (!win()) {
      leave();
      return false;
    }
    deliver(*this);
    return true;
  }
  static void fail(ask_state& s, errc why) noexcept {
    static_cast<reply_state&>(s).answer(result<R>{why});
  }
  static void put_error(ask_state& s, std::exception_ptr error) noexcept {
    auto& self = static_cast<reply_state&>(s);
    ::new (static_cast<void*>(&self.value)) result<R>(std::move(error));
    self.has_value = true;
  }

  union {
    result<R> value;
  };
};

/// A question with its payload.
template <class M>
struct asked final : envelope, reply_state<reply_of_t<M>> {
  using reply = reply_state<reply_of_t<M>>;

  template <class... Args>
  explicit asked(Args&&... args)
      : envelope{nullptr, &type_of},
        reply{ask_type_of},
        payload(std::forward<Args>(args)...) {}
  ~asked() {
    if (has_payload) payload.~M();
  }

  void destroy_payload() noexcept {
    has_payload = false;
    payload.~M();
  }
  /// Answers from the handler itself and ends the envelope. A throw from the
  /// reply's move leaves the question open.
  void answer_and_end(result<reply_of_t<M>>&& v) {
    ::new (static_cast<void*>(&this->value))
        result<reply_of_t<M>>(std::move(v));
    this->has_value = true;
    this->open = false;
    this->forget_heirs();
    destroy_payload();
    this->offer();
  }

  static asked* of(envelope* e) noexcept { return static_cast<asked*>(e); }
  static void* payload_of(envelope* e) noexcept {
    return static_cast<declared_as_t<M>*>(&of(e)->payload);
  }
  static void drop(envelope* e, errc why) noexcept {
    auto* self = of(e);
    if (self->open) {
      self->answer_and_end(why);
      return;
    }
    if (!self->handed_on) self->forget_heirs();
    self->destroy_payload();
    self->leave();
  }
  static ask_state* slot_of(envelope* e) noexcept {
    return of(e)->open ? of(e) : nullptr;
  }
  static ask_state* take_slot(envelope* e) noexcept {
    if (!of(e)->open) return nullptr;
    of(e)->split_slot();
    return of(e);
  }
  static cell_base* sender_of(envelope* e) noexcept {
    return of(e)->asker_cell();
  }
  static ask_state* question_of(envelope* e) noexcept {
    return of(e)->handed_on ? nullptr : of(e);
  }
  static ask_state* hand_on(envelope* e) noexcept {
    if (!of(e)->open) return nullptr;
    of(e)->split_slot();
    of(e)->leave_hand();
    of(e)->handed_on = true;
    return of(e);
  }
  static bool submit(ask_state& s, cell_base& to) noexcept {
    auto* self = static_cast<asked*>(&s);
    const pushed how = enqueue(to, self);
    if (how == pushed::full) drop(self, errc::mailbox_full);
    return how != pushed::closed;
  }
  static void free(ask_state& s) noexcept {
    destroy_and_free(static_cast<asked*>(&s));
  }
  static constexpr envelope_type type_of{&message_tag<declared_as_t<M>>,
                                         &typeid(reply_of_t<M>),
                                         &payload_of,
                                         &drop,
                                         &slot_of,
                                         &take_slot,
                                         &sender_of,
                                         &question_of,
                                         &hand_on};
  static constexpr ask_type ask_type_of{&submit, &free, &reply::fail,
                                        false,   true,  &reply::put_error};

  bool has_payload = true;
  union {
    M payload;
  };
};

/// A message on its way into a mailbox, for a sender that waits until it is in.
template <class M>
struct sending final : reply_state<void> {
  template <class... Args>
  explicit sending(Args&&... args)
      : reply_state<void>{type_of},
        message{make_node<told<M>>(std::forward<Args>(args)...)} {}
  ~sending() {
    if (message) told<M>::drop(message, errc::no_reply);
  }

  static bool submit(ask_state& s, cell_base& to) noexcept {
    auto& self = static_cast<sending&>(s);
    // Of one that waits, the state may be gone before this returns.
    told<M>* const m = std::exchange(self.message, nullptr);
    if (enqueue_sent(to, m, s)) return true;
    self.message = m;
    return false;
  }
  static void free(ask_state& s) noexcept {
    destroy_and_free(static_cast<sending*>(&s));
  }
  static constexpr ask_type type_of{
      &submit, &free, &reply_state<void>::fail,
      true,    true,  &reply_state<void>::put_error};

  told<M>* message;
};

/// What `envelope_type::reply` is for a message that is handed on.
template <class M>
constexpr const std::type_info* reply_type() noexcept {
  if constexpr (question<M>)
    return &typeid(reply_of_t<M>);
  else
    return nullptr;
}

/// A message handed on with somebody else's reply slot and sender.
template <class M>
struct forwarded final : envelope {
  forwarded(cell_ptr who, M&& m)
      : envelope{nullptr, &type_of},
        sender{std::move(who)},
        payload(std::move(m)) {}

  static forwarded* of(envelope* e) noexcept {
    return static_cast<forwarded*>(e);
  }
  static void* payload_of(envelope* e) noexcept { return &of(e)->payload; }
  static void drop(envelope* e, errc why) noexcept {
    if (ask_state* s = of(e)->slot) {
      s->forget_heirs();
      of(e)->fail(*s, why);
    }
    if (ask_state* s = of(e)->taken) {
      s->forget_heirs();
      s->leave();
    }
    destroy_and_free(of(e));
  }
  static ask_state* slot_of(envelope* e) noexcept { return of(e)->slot; }
  static ask_state* take_slot(envelope* e) noexcept {
    if (ask_state* s = of(e)->slot) {
      s->add_holder();
      of(e)->taken = s;
    }
    return std::exchange(of(e)->slot, nullptr);
  }
  static ask_state* question_of(envelope* e) noexcept {
    return of(e)->slot ? of(e)->slot : of(e)->taken;
  }
  static ask_state* hand_on(envelope* e) noexcept {
    if (ask_state* s = of(e)->slot) s->leave_hand();
    return std::exchange(of(e)->slot, nullptr);
  }
  static cell_base* sender_of(envelope* e) noexcept {
    return of(e)->sender.get();
  }
  static constexpr envelope_type type_of{
      &message_tag<M>, reply_type<M>(), &payload_of,  &drop,   &slot_of,
      &take_slot,      &sender_of,      &question_of, &hand_on};

  /// The asker's, if there is one.
  ask_state* slot = nullptr;
  /// The same when somebody has taken it, to look at.
  ask_state* taken = nullptr;
  void (*fail)(ask_state&, errc) noexcept = nullptr;
  cell_ptr sender;
  M payload;
};

}  // namespace actors::detail
