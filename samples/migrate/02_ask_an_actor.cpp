// migrate/02_ask_an_actor: the same callbacks, the shared state is an actor
#include <fmt/format.h>
#include <actors/asio.hpp>

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
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

struct set {
  using reply_type = void;
  std::string key;
  std::string value;
};
struct get {
  using reply_type = std::optional<std::string>;
  std::string key;
};
struct count {
  using reply_type = std::size_t;
};
struct watch {
  using reply_type = void;
  std::string key;
  watcher tell;
};

// What all connections share: one message at a time, so nothing locks, and no
// two changes are told in the wrong order.
actors::task<> store(actors::context<set, get, count, watch> self) {
  std::map<std::string, std::string> values;
  std::map<std::string, std::vector<watcher>> watchers;
  co_await self.serve(
      [&](set s) {
        const auto line = fmt::format("changed {} {}", s.key, s.value);
        values[s.key] = std::move(s.value);
        std::erase_if(watchers[s.key], [&](watcher& t) { return !t(line); });
      },
      [&](get g) -> std::optional<std::string> {
        auto found = values.find(g.key);
        if (found == values.end()) return {};
        return found->second;
      },
      [&](count) { return values.size(); },
      [&](watch w) { watchers[w.key].push_back(std::move(w.tell)); });
}

using store_ref = actors::actor_ref<set, get, count, watch>;

// A connection. It lives as long as a callback holds it, and runs on the strand
// that is its socket's executor.
class session : public std::enable_shared_from_this<session> {
 public:
  session(tcp::socket socket, store_ref values)
      : socket_{std::move(socket)}, store_{std::move(values)} {}

  void read() {
    asio::async_read_until(
        socket_, asio::dynamic_buffer(input_, longest_line), '\n',
        [self = shared_from_this()](std::error_code e, std::size_t size) {
          if (!e) self->obey(take_command(self->input_, size));
        });
  }

 private:
  // The callback for a reply, which `line` puts in words. On our strand, like
  // those of the socket; an error means that the server is about to end.
  template <class F>
  auto answer(F line) {
    return asio::bind_executor(socket_.get_executor(),
                               [self = shared_from_this(), line](
                                   std::error_code e, const auto&... reply) {
                                 if (e) return;
                                 self->send(line(reply...));
                                 self->read();
                               });
  }

  void obey(const command& c) {
    if (c.verb == "set") {
      store_.ask<set>(c.key, c.value)(answer([] { return "ok"; }));
    } else if (c.verb == "get") {
      store_.ask<get>(c.key)(answer(
          [](const get::reply_type& value) { return value.value_or("none"); }));
    } else if (c.verb == "count") {
      store_.ask<count>()(
          answer([](std::size_t keys) { return std::to_string(keys); }));
    } else if (c.verb == "watch") {
      // Not `self`: the store would keep the session for ever.
      store_.ask<watch>(c.key, [weak = weak_from_this()](const auto& line) {
        auto self = weak.lock();
        if (self) self->send(line);
        return bool(self);
      })(answer([] { return "ok"; }));
    } else if (c.verb == "quit") {
      send("bye");  // and nobody reads: the last callback ends the session
    } else {
      send("what?");
      read();
    }
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
  store_ref store_;
  std::string input_;
  std::deque<std::string> output_;
};

void accept(tcp::acceptor& acceptor, store_ref values) {
  acceptor.async_accept(
      asio::make_strand(acceptor.get_executor()),
      [&acceptor, values](std::error_code e, tcp::socket socket) {
        if (!e) std::make_shared<session>(std::move(socket), values)->read();
        accept(acceptor, values);
      });
}

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // its lines reach a log at once
  const auto port = parse_port(argc, argv);
  if (!port) {
    fmt::print(stderr,
               "02_ask_an_actor: give a PORT, a number from 1 to 65535\n");
    return 2;
  }
  asio::io_context io;
  actors::actor_system system{io};  // its actors run where `io` does
  tcp::acceptor acceptor{io};
  try {
    acceptor = {io, {tcp::v4(), *port}};
  } catch (const std::system_error& e) {
    fmt::print(stderr, "02_ask_an_actor: port {}: {}\n", *port,
               e.code().message());
    return 2;
  }
  accept(acceptor, system.spawn(store));
  asio::signal_set signals{io, SIGINT, SIGTERM};
  signals.async_wait([&](std::error_code, int) { io.stop(); });
  fmt::print("listening on port {}\n", *port);
  std::jthread other{[&] { io.run(); }};
  io.run();
}
