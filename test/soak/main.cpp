// Crash and restart, a million times: memory stays where it is, and nothing is
// lost but the messages that failed, each of which is one dead letter.
//
//   actors_soak [CYCLES]
//
// Five actors under four supervisors on two threads, each with its own way to
// crash: a handler of `receive`, one of `serve`, which is resumed, a child task
// beside a message in hand, and two that are restarted together. All messages
// to an actor are numbered: it sees whether one is missing, comes twice or out
// of order, across its incarnations.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "actors/actors.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SOAK_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SOAK_SANITIZED
#endif

using namespace std::chrono_literals;
using actors::context;
using actors::task;

namespace {

#if defined(NDEBUG) && !defined(SOAK_SANITIZED)
constexpr long default_cycles = 1'000'000;
#else
constexpr long default_cycles = 20'000;
#endif
/// After so many, memory is to grow no more than by 1 % and the slack.
constexpr long warm_up = 10'000;
/// proc(5) calls these figures inaccurate: the kernel counts pages in batches.
/// With a leak of one byte a cycle it would be seven times as much.
constexpr long slack = 128 * 1024;

struct crash : std::exception {
  const char* what() const noexcept override { return "crash"; }
};

struct job {
  std::uint64_t number;
  bool fails;
};
/// Answered when all jobs before it have been handled, or have failed.
struct flush {
  using reply_type = void;
};

/// What one actor has been told, and what became of it. On its strand; for the
/// others, when it has answered a `flush`.
struct tally {
  std::uint64_t told = 0;
  std::uint64_t begun = 0;  // incarnations
  std::uint64_t taken = 0;
  std::uint64_t handled = 0;
  std::uint64_t failed = 0;  // dead letters
  std::uint64_t mistakes = 0;
  bool failing = false;  // and its dead letter has not come

  void begin(const job& j) {
    if (j.number != taken++ || failing) ++mistakes;
    failing = j.fails;
    if (!failing) ++handled;
  }
  void letter(const actors::dead_letter& l) {
    const auto* j = l.get<job>();
    if (l.why != actors::dead_letter::reason::failed || !failing ||
        *l.type != typeid(job) || (j && j->number + 1 != taken))
      ++mistakes;
    failing = false;
    ++failed;
  }
};

// --- Ways to crash -----------------------------------------------------------

void work(tally& t, const job& j) {
  t.begin(j);
  if (j.fails) throw crash{};
}

task<> receives(context<job, flush> self, tally& t) {
  ++t.begun;
  while (
      co_await self.receive([&](const job& j) { work(t, j); }, [](flush) {})) {
  }
}

task<> serves(context<job, flush> self, tally& t) {
  ++t.begun;
  co_await self.serve([&](const job& j) { work(t, j); }, [](flush) {});
}

task<> crashes_later(context<> self) {
  co_await self.sleep_for({});
  throw crash{};
}

task<> works_beside(context<job, flush> self, tally& t) {
  ++t.begun;
  const auto take = [&](const job& j) -> task<> {
    t.begin(j);
    if (!j.fails) co_return;
    auto child = self.spawn_task(crashes_later);
    if (j.number % 2 == 0) co_await child;  // it comes out here
    co_await self.sleep_for(1h);            // it ends this, and the actor
  };
  while (co_await self.receive(take, [](flush) {})) {
  }
}

// --- Those who restart them --------------------------------------------------

using worker = actors::actor_ref<job, flush>;

struct get_workers {
  using reply_type = std::vector<worker>;
};

template <class Strategy>
task<> supervisor(context<get_workers> self, Strategy strategy,
                  task<> (*body)(context<job, flush>, tally&),
                  std::vector<tally*> tallies) {
  self.supervise(strategy);
  std::vector<worker> workers;
  for (tally* t : tallies) workers.push_back(self.spawn(body, std::ref(*t)));
  co_await self.serve([&](get_workers) { return workers; });
}

constexpr std::size_t workers = 5;
using tallies = std::array<tally, workers>;

task<> rounds(context<>, std::vector<worker> all, tallies& of, long count) {
  for (long round = 0; round != count; ++round) {
    for (std::size_t i = 0; i != all.size(); ++i)
      for (long n = 0; n != 4; ++n)
        all[i].tell(job{of[i].told++, n == round % 4});
    for (auto& w : all) co_await w.ask<flush>();
  }
}

/// Bytes; 0 where nobody says.
struct memory {
  long resident = 0;
  /// Of that, what is no file: pages of code are read when it first runs.
  long own = 0;
};

memory resident() {
#ifndef SOAK_SANITIZED
  long total = 0, pages = 0, of_files = 0;
  if (std::ifstream{"/proc/self/statm"} >> total >> pages >> of_files) {
    const long bytes = sysconf(_SC_PAGESIZE);
    return {pages * bytes, (pages - of_files) * bytes};
  }
#endif
  return {};
}

bool soak(long cycles) {
  using actors::one_for_all;
  using actors::one_for_one;
  using actors::unlimited;

  tallies of;
  actors::actor_system system{{.threads = 2, .log = nullptr}};
  const one_for_one restart{.max_restarts = unlimited};
  const one_for_one resume{
      .max_restarts = unlimited,
      .decide = {actors::on<crash>(actors::directive::resume)}};
  const one_for_all restart_all{.max_restarts = unlimited};
  std::vector<worker> all;
  const auto add = [&](const auto& strategy, auto body,
                       std::vector<tally*> its) {
    auto ref = system.spawn(supervisor<std::decay_t<decltype(strategy)>>,
                            strategy, body, its);
    for (auto& w : ref.template ask<get_workers>().get()) all.push_back(w);
  };
  add(restart, receives, {&of[0]});
  add(resume, serves, {&of[1]});
  add(restart, works_beside, {&of[2]});
  add(restart_all, receives, {&of[3], &of[4]});

  std::atomic<std::uint64_t> strange = 0;
  system.on_dead_letter([&](const actors::dead_letter& l) {
    for (std::size_t i = 0; i != all.size(); ++i)
      if (l.recipient == all[i]) return of[i].letter(l);
    ++strange;
  });

  const long first = std::min(warm_up, cycles / 2) / long{workers};
  system.run(rounds, all, std::ref(of), first);
  const memory before = resident();
  const auto start = std::chrono::steady_clock::now();
  system.run(rounds, all, std::ref(of), cycles / long{workers} - first);
  const std::chrono::duration<double, std::nano> took =
      std::chrono::steady_clock::now() - start;
  const memory after = resident();

  tally sum;
  sum.mistakes = strange;
  for (const tally& t : of) {
    sum.told += t.told;
    sum.handled += t.handled;
    sum.failed += t.failed;
    sum.mistakes += t.mistakes + (t.told != t.handled + t.failed);
  }
  // One that was not resumed: by each failure, and that of its group.
  sum.mistakes += of[0].begun != of[0].failed + 1;
  sum.mistakes += of[1].begun != 1;
  sum.mistakes += of[2].begun != of[2].failed + 1;
  for (std::size_t i : {3, 4}) sum.mistakes += of[i].begun <= of[i].failed;
  sum.mistakes += system.dead_letter_count() != sum.failed;
  sum.mistakes += sum.told != 4 * sum.failed;
  std::printf(
      "%ju told, %ju handled, %ju failed and as many dead letters, %ju "
      "mistakes\n%.0f ns a cycle, three messages that are handled among it\n",
      std::uintmax_t{sum.told}, std::uintmax_t{sum.handled},
      std::uintmax_t{sum.failed}, std::uintmax_t{sum.mistakes},
      took.count() / static_cast<double>(cycles - first * long{workers}));
  bool good = sum.mistakes == 0;
  if (before.resident != 0) {
    const long more = after.own - before.own;
    std::printf(
        "resident: %ld KiB after %ld cycles, %ld KiB after %ld; without what "
        "is of files %ld KiB more\n",
        before.resident / 1024, first * long{workers}, after.resident / 1024,
        cycles, more / 1024);
    good = good && more <= before.resident / 100 + slack;
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const long cycles = argc > 1 ? std::atol(argv[1]) : default_cycles;
  if (cycles < 2 * long{workers}) {
    std::fprintf(stderr, "usage: %s [CYCLES, at least 10]\n", argv[0]);
    return 2;
  }
  try {
    return soak(cycles / long{workers} * long{workers}) ? 0 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
