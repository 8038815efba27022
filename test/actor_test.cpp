#include "actors/actor.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "actors/actors.hpp"
#include "actors/testing.hpp"

namespace {
using actors::task;
struct how_many {
  using reply_type = int;
};
class greeter : public actors::actor<std::string, how_many> {
 public:
  explicit greeter(std::string format) : format_{format} {}
  void receive(std::string name) { names_.push_back(format_ + name); }
  int receive(how_many) { return static_cast<int>(names_.size()); }

 private:
  std::string format_;
  std::vector<std::string> names_;
};
}  // namespace
TEST_SUITE("actor") {
  TEST_CASE("a class is an actor") {
    actors::simulation sim{1};
    auto g = sim.spawn<greeter>("Hello ");
    g.tell<std::string>("world");
    CHECK(sim.run(g.ask<how_many>()) == 1);
  }
}
