#include "actors/testing.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "names.hpp"
#include "testing_core.hpp"

namespace actors {

namespace detail {

void throw_other_message(const std::type_info& wanted,
                         const std::type_info& came, const std::string& probe) {
  throw simulation_error(probe + " expected a " + type_name(wanted) +
                         ", but a " + type_name(came) + " came");
}
void throw_unwanted_message(const std::type_info& came,
                            const std::string& probe) {
  throw simulation_error(probe + " expected nothing, but a " + type_name(came) +
                         " came");
}

namespace {

/// A failure on its way to an actor.
struct injected_failure final : system_node {
  std::exception_ptr error;
};

}  // namespace

}  // namespace detail

simulation::simulation(std::uint64_t seed)
    : simulation{simulation_options{.seed = seed}} {}

simulation::simulation(const simulation_options& options)
    : core_{new detail::manual_core{options}} {}

simulation::~simulation() {
  const bool unwinding = std::uncaught_exceptions() > 0;
  const std::string wrong = core_->end();
  if (!unwinding && !wrong.empty())
    std::fprintf(stderr, "actors: a simulation ends, and: %s\n", wrong.c_str());
  core_->events().orphan();
  core_->guardian().release();
  core_->release();
}

actor_system& simulation::system() const noexcept { return core_->facade(); }
std::uint64_t simulation::seed() const noexcept {
  return core_->options().seed;
}
time_point simulation::now() const noexcept { return core_->home().now(); }
std::uint64_t simulation::steps() const noexcept { return core_->steps(); }

bool simulation::step() { return core_->step(); }
std::size_t simulation::run_until_idle() { return core_->run_until_idle(); }
void simulation::advance(duration by) { core_->advance(by); }
void simulation::terminate() { core_->terminate(); }
void simulation::check() { core_->check(); }

void simulation::run_until(const std::function<bool()>& done,
                           std::string_view who) {
  core_->run_until(done, who);
}

void simulation::drive(const any_actor_ref& runner, const bool& ended) {
  try {
    core_->run_until([&] { return ended; }, runner.path());
  } catch (...) {
    detail::cell_inspector::kill(detail::to_cell(*runner.cell().get()));
    throw;
  }
}

std::string simulation::next_run_name() {
  return "run-" + std::to_string(core_->next_run());
}

void simulation::inject_failure(const any_actor_ref& ref,
                                std::exception_ptr error) {
  auto* node = detail::make_node<detail::injected_failure>();
  node->error = std::move(error);
  node->arrive = [](detail::cell& c, detail::system_node& n) noexcept {
    auto* self = static_cast<detail::injected_failure*>(&n);
    std::exception_ptr e = std::move(self->error);
    detail::destroy_and_free(self);
    detail::cell_inspector::fail(c, std::move(e));
  };
  detail::cell_base* to = ref.cell().get();
  if (to && detail::to_cell(*to).push_system(*node)) return;
  detail::destroy_and_free(node);
  throw simulation_error(ref.path() + " has ended and cannot fail any more");
}

void simulation::expect(const any_actor_ref& ref, const std::type_info& type,
                        detail::failure_filter accepts) {
  core_->expect(ref.cell(), type, accepts);
}

// --- exploration -------------------------------------------------------------

namespace {

void explore_seed(const explore_options& options, std::uint64_t seed,
                  const std::function<void(simulation&)>& scenario) {
  simulation_options one = options.simulation;
  one.seed = seed;
  std::exception_ptr cause;
  std::string message;
  try {
    simulation sim{one};
    scenario(sim);
    sim.terminate();
    sim.check();
    return;
  } catch (const std::exception& e) {
    message = e.what();
    cause = std::current_exception();
  } catch (...) {
    message = "an exception that is no std::exception";
    cause = std::current_exception();
  }
  const std::string number = std::to_string(seed);
  const std::string text = "seed " + number + " fails: " + message +
                           "\nto replay it: ACTORS_SEED=" + number +
                           ", or explore({.seeds = 1, .first = " + number +
                           "}, ...)";
  throw exploration_failed(text, seed, std::move(message), std::move(cause));
}

}  // namespace

void explore(const explore_options& options,
             const std::function<void(simulation&)>& scenario) {
  if (options.seeds == 0)
    throw std::invalid_argument("seeds has to be at least 1");
  if (const char* only = std::getenv("ACTORS_SEED")) {
    char* end = nullptr;
    const std::uint64_t seed = std::strtoull(only, &end, 10);
    if (end == only || *end != '\0')
      throw std::invalid_argument("ACTORS_SEED has to be a number, not \"" +
                                  std::string{only} + "\"");
    explore_seed(options, seed, scenario);
    return;
  }
  for (std::uint64_t i = 0; i != options.seeds; ++i)
    explore_seed(options, options.first + i, scenario);
}

}  // namespace actors
