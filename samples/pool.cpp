// pool: work shared by four workers; one crashes, and the rest does not notice
#include <fmt/format.h>
#include <actors/actors.hpp>

#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

// --- Messages ----------------------------------------------------------------

struct picture {
  std::string name;
  int width, height;
};
struct resized {
  picture result;
  std::string worker;  // who has done it
};
struct resize {
  using reply_type = resized;
  picture what;
};
struct set_width {  // for all workers
  int pixels;
};

// --- A worker ----------------------------------------------------------------

actors::task<> resizer(actors::context<resize, set_width> self) {
  int width = 100;
  auto on_resize = [&](const resize& job) -> actors::task<resized> {
    const picture& p = job.what;
    if (p.width <= 0) throw std::invalid_argument{p.name + " has no width"};
    co_await self.sleep_for(5ms);  // here the work would be
    co_return resized{{p.name, width, p.height * width / p.width}, self.path()};
  };
  co_await self.serve(on_resize, [&](set_width s) { width = s.pixels; });
}

// --- Who has work for them ---------------------------------------------------

// One job: says what became of it.
actors::task<std::string> job(actors::actor_ref<resize> pool, picture p) {
  const std::string name = p.name;
  auto done = co_await actors::as_result(pool.ask<resize>(std::move(p)));
  if (!done) {
    fmt::print("{}: {}\n", name, done.error().message());
    co_return "";
  }
  const picture& r = done->result;
  fmt::print("{}: {} x {}\n", r.name, r.width, r.height);
  co_return done->worker;
}

actors::task<> album(actors::context<>& self,
                     const std::vector<picture>& pictures) {
  // The pool is somewhere, or will be: its path is all that is known here.
  auto pool = co_await self.system().wait_for<resize>("/user/resizers");
  std::vector<actors::child_task<std::string>> jobs;
  for (const picture& p : pictures)
    jobs.push_back(self.spawn_task(job, pool, p));
  std::set<std::string> workers;
  for (auto& j : jobs) {
    std::string worker = co_await j;
    if (!worker.empty()) workers.insert(std::move(worker));
  }
  fmt::print("{} workers\n", workers.size());
}

actors::task<> run(actors::context<> self) {
  // As one actor to all others. A worker that fails is started again.
  self.system().spawn(
      {.name = "resizers"},
      actors::pool(4, actors::routing::least_busy).to_all<set_width>(),
      resizer);

  std::vector<picture> pictures{{"sea", 4000, 3000},
                                {"dunes", 3000, 2000},
                                {"nothing", 0, 10},  // fails its worker
                                {"gulls", 1600, 1200},
                                {"ship", 2000, 2000}};
  co_await album(self, pictures);

  // A setting for all workers. It is state as any other: one that fails after
  // it begins again with the old one. So this time without the bad picture.
  pictures.erase(pictures.begin() + 2);
  self.system().find<set_width>("/user/resizers").tell(set_width{50});
  co_await album(self, pictures);
}

int main() {
  actors::actor_system system{
      {.log = [](std::string_view line) { fmt::print("log: {}\n", line); }}};
  system.run(run);
}
