// greeter: an actor as a class, its hooks, and a proxy for a class that is none
#include <fmt/format.h>
#include <actors/actors.hpp>
#include <actors/fmt.hpp>

#include <chrono>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

struct how_many {
  using reply_type = int;
};

// One overload of `receive` a message: it returns nothing, the answer, or a
// task. The hooks are plain members, and all optional.
class greeter : public actors::actor<std::string, how_many> {
 public:
  explicit greeter(std::string format) : format_{std::move(format)} {
    fmt::print("{}: made\n", self().ref());
  }
  ~greeter() { fmt::print("greeter: gone\n"); }

  void receive(std::string name) {
    if (name.empty()) throw std::invalid_argument{"nobody to greet"};
    fmt::print(fmt::runtime(format_ + "\n"), name);
    ++greeted_;
  }
  int receive(how_many) { return greeted_; }

  void pre_start() { fmt::print("greeter: ready for the first message\n"); }
  void pre_restart(std::exception_ptr) {
    fmt::print("greeter: failed after {} greetings\n", greeted_);
  }
  actors::task<> post_stop() {
    co_await self().sleep_for(std::chrono::milliseconds{10});
    fmt::print("greeter: said goodbye\n");
  }

 private:
  std::string format_;
  int greeted_ = 0;
};

// Not written for actors. A proxy makes one of it: its calls are messages, one
// at a time, from whichever thread.
class phone_book {
 public:
  void add(std::string name, int number) { numbers_[name] = number; }
  int find(const std::string& name) const {
    const auto found = numbers_.find(name);
    return found == numbers_.end() ? 0 : found->second;
  }

 private:
  std::map<std::string, int> numbers_;
};

actors::task<> talk(actors::context<> self) {
  auto hello = self.spawn<greeter>({.name = "greeter"}, "Hello {}!");
  hello.tell<std::string>("Alice");
  hello.tell<std::string>("");  // it fails, and begins again
  hello.tell<std::string>("Bob");
  fmt::print("greeted by this one: {}\n", co_await hello.ask<how_many>());
  hello.stop();
  co_await hello.stopped();

  auto book = actors::proxy<phone_book>(self);
  book.tell(&phone_book::add, "Alice", 4711);
  const int number = co_await book.call(&phone_book::find, "Alice");
  fmt::print("Alice's number: {}\n", number);
}

int main() {
  actors::actor_system system{{.threads = 1}};
  system.run(talk);
}
