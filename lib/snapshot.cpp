/// `system.snapshot()`: asks each actor, from parent to children, what it does.
#include "actors/snapshot.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "actors/child_task.hpp"
#include "actors/detail/group.hpp"
#include "actors/system.hpp"
#include "cell.hpp"
#include "names.hpp"
#include "scheduler.hpp"
#include "system_core.hpp"
#include "timers.hpp"

namespace actors {

std::string_view to_string(actor_snapshot::state value) noexcept {
  switch (value) {
    case actor_snapshot::state::starting:
      return "starting";
    case actor_snapshot::state::running:
      return "running";
    case actor_snapshot::state::failed:
      return "failed";
    case actor_snapshot::state::restarting:
      return "restarting";
    case actor_snapshot::state::stopping:
      return "stopping";
    case actor_snapshot::state::busy:
      return "busy";
  }
  return "?";
}

std::string actor_snapshot::to_string() const {
  std::string line = path + ": ";
  line += actors::to_string(now);
  if (now == state::busy) return line;
  if (message) line += ", with a " + detail::type_name(*message) + " in hand";
  if (where.line() != 0)
    line += std::string{", at "} + where.file_name() + ':' +
            std::to_string(where.line());
  line += ", " + std::to_string(queued) + " queued, " +
          std::to_string(handled) + " taken, " + std::to_string(restarts) +
          " restarts";
  return line;
}

namespace detail {

namespace {

using snapshots = std::vector<actor_snapshot>;

struct entry {
  actor_snapshot of;
  std::vector<std::unique_ptr<entry>> children;

  void add_to(snapshots& all) {
    all.push_back(std::move(of));
    for (const auto& child : children) child->add_to(all);
  }
};

/// A question to the guardian. It is answered on its strand: when all have
/// answered, or when they had the time for it.
struct snapshot_question;

/// One look at a system, shared by the visits that are on their way. What it
/// has found is under its lock: visits come on the strands of those visited.
class look : public std::enable_shared_from_this<look> {
 public:
  look(cell& guardian, snapshot_question& q) noexcept
      : guardian_{&guardian}, question_{&q} {}

  void begin(duration patience);
  void visit(cell& c, entry& e);
  /// On the guardian's strand, or when there is none any more. Once.
  void answer() noexcept;

 private:
  void send(cell& c, entry& e);
  void visited() noexcept;

  std::mutex mutex_;
  cell* guardian_;
  entry root_;
  std::size_t on_their_way_ = 1;
  snapshot_question* question_;
  timer* patience_ = nullptr;
  /// Keeps this while the timer has it.
  std::shared_ptr<look> self_;
};

struct snapshot_question final : reply_state<snapshots> {
  explicit snapshot_question(duration p) noexcept
      : reply_state<snapshots>{type}, patience{p} {}

  static bool submit(ask_state& s, cell_base& to) noexcept {
    s.arrive = [](cell& guardian, system_node& n) noexcept {
      auto& q = static_cast<snapshot_question&>(static_cast<ask_state&>(n));
      std::make_shared<look>(guardian, q)->begin(q.patience);
    };
    if (to_cell(to).push_system(s)) return true;
    static_cast<snapshot_question&>(s).answer(snapshots{});
    return true;
  }
  static void free(ask_state& s) noexcept {
    destroy_and_free(static_cast<snapshot_question*>(&s));
  }
  static constexpr ask_type type{&submit, &free, &reply_state<snapshots>::fail};

  duration patience;
};

void look::begin(duration patience) {
  self_ = shared_from_this();
  patience_ = start_timer(
      *guardian_, patience,
      [](cell&, void* l) noexcept {
        auto* self = static_cast<look*>(l);
        self->patience_ = nullptr;
        self->answer();
      },
      this);
  visit(*guardian_, root_);
}

void look::visit(cell& c, entry& e) {
  actor_snapshot found = c.snapshot();
  std::vector<cell_ptr> children = c.child_cells();
  {
    std::lock_guard lock{mutex_};
    if (!question_) return;
    e.of = std::move(found);
    on_their_way_ += children.size();
    for (const cell_ptr& child : children) {
      auto& below = *e.children.emplace_back(std::make_unique<entry>());
      below.of.who = any_actor_ref{child};
      below.of.path = path_of(child.get());
    }
  }
  for (std::size_t i = 0; i != children.size(); ++i)
    send(to_cell(*children[i].get()), *e.children[i]);
  visited();
}

void look::send(cell& c, entry& e) {
  struct visit_order final : system_node {
    std::shared_ptr<look> by;
    entry* to;
  };
  auto* n = make_node<visit_order>();
  n->by = shared_from_this();
  n->to = &e;
  n->arrive = [](cell& visited, system_node& node) noexcept {
    auto* self = static_cast<visit_order*>(&node);
    const std::shared_ptr<look> by = std::move(self->by);
    entry& to = *self->to;
    destroy_and_free(self);
    by->visit(visited, to);
  };
  if (c.push_system(*n)) return;
  destroy_and_free(n);
  {
    std::lock_guard lock{mutex_};
    e.of.now = actor_snapshot::state::stopping;
  }
  visited();
}

void look::visited() noexcept {
  {
    std::lock_guard lock{mutex_};
    if (--on_their_way_ != 0 || !question_) return;
  }
  struct last final : system_node {
    std::shared_ptr<look> by;
  };
  auto* n = make_node<last>();
  n->by = shared_from_this();
  n->arrive = [](cell&, system_node& node) noexcept {
    const std::shared_ptr<look> by = std::move(static_cast<last*>(&node)->by);
    destroy_and_free(static_cast<last*>(&node));
    by->answer();
  };
  if (guardian_->push_system(*n)) return;
  destroy_and_free(n);
  answer();
}

void look::answer() noexcept {
  const std::shared_ptr<look> keep = std::move(self_);
  snapshot_question* q;
  snapshots all;
  {
    std::lock_guard lock{mutex_};
    q = std::exchange(question_, nullptr);
    if (q) root_.add_to(all);
  }
  if (!q) return;
  if (here.running() == guardian_)
    cancel_timer(std::exchange(patience_, nullptr));
  q->answer(std::move(all));
}

}  // namespace

actor_snapshot cell::snapshot() noexcept {
  using state = actor_snapshot::state;
  actor_snapshot s;
  s.who = any_actor_ref{cell_ptr{this}};
  s.path = path();
  if (renewal_ != renewal::no)
    s.now = renewal_ == renewal::held ? state::failed : state::restarting;
  else if (killed_ || (started_ && body_ended_) || stop_ != stop_phase::no ||
           failing())
    s.now = state::stopping;
  else
    s.now = ready_ ? state::running : state::starting;
  const fiber& at = group::innermost(main_);
  s.where = at.where;
  if (main_.hand) s.message = main_.hand->type->message->info;
  if (at.hand) s.message = at.hand->type->message->info;
  s.queued = count_messages();
  if (extras_) {
    s.restarts = extras_->restarts;
    for (child_task_base* t = extras_->tasks; t; t = t->next_task) ++s.tasks;
  }
  s.children = child_cells().size();
  s.handled = handled_ - budget_;
  return s;
}

std::vector<cell_ptr> cell::child_cells() const {
  std::vector<cell_ptr> all;
  if (cell* c = first_child_) do {
      all.emplace_back(c);
      c = c->next_sibling_;
    } while (c != first_child_);
  return all;
}

}  // namespace detail

operation<std::vector<actor_snapshot>> actor_system::snapshot(
    duration patience) {
  detail::check_timeout(patience);
  operation<std::vector<actor_snapshot>> look{
      detail::cell_ptr{&core_->guardian()},
      detail::make_node<detail::snapshot_question>(patience)};
  return std::move(look).within(std::min(patience, detail::longest) +
                                std::chrono::seconds{1});
}

}  // namespace actors
