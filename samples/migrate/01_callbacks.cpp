// migrate/01_callbacks: a server in plain Asio: callbacks, threads and a mutex
#include <fmt/format.h>
#include <asio.hpp>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "protocol.hpp"

using asio::ip::tcp;

// Is told a line. False: it has gone, and need not be told again.
using watcher = std::function<bool(const std::string& line)>;

// What all connections share. They run on several threads, so each function
// locks.
class store {
 public:
  void set(const std::string& key, const std::string& value) {
    std::lock_guard lock{mutex_};
    values_[key] = value;
    // With the lock held, or two changes could be told in the wrong order. So
    // a watcher must never call the store.
    const std::string line = fmt::format("changed {} {}", key, value);
    std::erase_if(watchers_[key], [&](watcher& tell) { return !tell(line); });
  }
  std::optional<std::string> get(const std::string& key) {
    std::lock_guard lock{mutex_};
    auto found = values_.find(key);
    if (found == values_.end()) return {};
    return found->second;
  }
  std::size_t count() {
    std::lock_guard lock{mutex_};
    return values_.size();
  }
  void watch(const std::string& key, watcher tell) {
    std::lock_guard lock{mutex_};
    watchers_[key].push_back(std::move(tell));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> values_;
  std::map<std::string, std::vector<watcher>> watchers_;
};

// A connection. It lives as long as a callback holds it, and runs on the strand
// that is its socket's executor.
class session : public std::enable_shared_from_this<session> {
 public:
  session(tcp::socket socket, store& values)
      : socket_{std::move(socket)}, store_{values} {}

  void read() {
    asio::async_read_until(
        socket_, asio::dynamic_buffer(input_, longest_line), '\n',
        [self = shared_from_this()](std::error_code e, std::size_t size) {
          if (!e) self->obey(take_command(self->input_, size));
        });
  }

 private:
  void obey(const command& c) {
    if (c.verb == "set") {
      store_.set(c.key, c.value);
      answer("ok");
    } else if (c.verb == "get") {
      answer(store_.get(c.key).value_or("none"));
    } else if (c.verb == "count") {
      answer(std::to_string(store_.count()));
    } else if (c.verb == "watch") {
      // Not `self`: the store would keep the session for ever.
      store_.watch(c.key, [weak = weak_from_this()](const std::string& line) {
        auto self = weak.lock();
        if (self) self->send(line);
        return bool(self);
      });
      answer("ok");
    } else if (c.verb == "quit") {
      send("bye");  // and nobody reads: the last callback ends the session
    } else {
      answer("what?");
    }
  }
  void answer(const std::string& line) {
    send(line);
    read();
  }

  // From any thread. A write must not start before the one before has ended.
  void send(std::string line) {
    asio::post(socket_.get_executor(),
               [self = shared_from_this(), line = std::move(line)] {
                 self->output_.push_back(line + '\n');
                 if (self->output_.size() == 1) self->write();
               });
  }
  void write() {
    asio::async_write(
        socket_, asio::buffer(output_.front()),
        [self = shared_from_this()](std::error_code e, std::size_t) {
          if (e) return;
          self->output_.pop_front();
          if (!self->output_.empty()) self->write();
        });
  }

  tcp::socket socket_;
  store& store_;
  std::string input_;
  std::deque<std::string> output_;
};

void accept(tcp::acceptor& acceptor, store& values) {
  acceptor.async_accept(
      asio::make_strand(acceptor.get_executor()),
      [&](std::error_code e, tcp::socket socket) {
        if (!e) std::make_shared<session>(std::move(socket), values)->read();
        accept(acceptor, values);
      });
}

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // its lines reach a log at once
  const auto port = parse_port(argc, argv);
  if (!port) {
    fmt::print(stderr, "01_callbacks: give a PORT, a number from 1 to 65535\n");
    return 2;
  }
  store values;  // before `io`: it has to outlive the sessions in there
  asio::io_context io;
  tcp::acceptor acceptor{io};
  try {
    acceptor = {io, {tcp::v4(), *port}};
  } catch (const std::system_error& e) {
    fmt::print(stderr, "01_callbacks: port {}: {}\n", *port,
               e.code().message());
    return 2;
  }
  accept(acceptor, values);
  asio::signal_set signals{io, SIGINT, SIGTERM};
  signals.async_wait([&](std::error_code, int) { io.stop(); });
  fmt::print("listening on port {}\n", *port);
  std::jthread other{[&] { io.run(); }};
  io.run();
}
