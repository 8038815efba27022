#include "actors/count_down_latch.hpp"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "cell.hpp"
#include "questions.hpp"
#include "system_core.hpp"

namespace actors::detail {

/// What the handles share.
class latch {
 public:
  latch(system_core& core, std::size_t count)
      : guardian_{&core.guardian()}, count_{count} {}
  latch(const latch&) = delete;
  latch& operator=(const latch&) = delete;
  ~latch() {
    for (ask_state* s : waiting_) reply_state<void>::fail(*s, errc::no_reply);
  }

  void count_down(std::size_t times) {
    std::vector<ask_state*> opened;
    {
      const std::lock_guard lock{mutex_};
      count_ -= std::min(times, count_);
      if (count_ == 0) opened.swap(waiting_);
    }
    // Outside: who waits may be run by this, and count.
    for (ask_state* s : opened) static_cast<reply_state<void>*>(s)->answer({});
  }
  std::size_t count() noexcept {
    const std::lock_guard lock{mutex_};
    return count_;
  }
  void wait(ask_state& s) {
    {
      const std::lock_guard lock{mutex_};
      if (count_ != 0) {
        add_question(waiting_, s);
        return;
      }
    }
    static_cast<reply_state<void>&>(s).answer({});
  }
  const cell_ptr& guardian() const noexcept { return guardian_; }

 private:
  const cell_ptr guardian_;
  std::mutex mutex_;
  std::size_t count_;
  std::vector<ask_state*> waiting_;
};

namespace {

struct latch_question final : reply_state<void> {
  explicit latch_question(std::shared_ptr<latch> l) noexcept
      : reply_state<void>{type}, of{std::move(l)} {}

  static bool submit(ask_state& s, cell_base&) noexcept {
    // From now on it keeps nobody: the latch keeps it.
    const auto of = std::move(static_cast<latch_question&>(s).of);
    of->wait(s);
    return true;
  }
  static void free(ask_state& s) noexcept {
    destroy_and_free(static_cast<latch_question*>(&s));
  }
  static constexpr ask_type type{&submit, &free, &reply_state<void>::fail};

  std::shared_ptr<latch> of;
};

}  // namespace

}  // namespace actors::detail

namespace actors {

count_down_latch::count_down_latch(actor_system& system, std::size_t count)
    : latch_{std::make_shared<detail::latch>(system.core(), count)} {}

void count_down_latch::count_down(std::size_t times) const {
  latch_->count_down(times);
}
std::size_t count_down_latch::count() const noexcept { return latch_->count(); }

operation<void> count_down_latch::wait() const {
  return {latch_->guardian(),
          detail::make_node<detail::latch_question>(latch_)};
}

}  // namespace actors
