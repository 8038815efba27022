// migrate/04_actor: all of it actors: the shared state, and each connection
#include <fmt/format.h>
#include <actors/asio.hpp>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "protocol.hpp"

using asio::ip::tcp;

// A line for a client.
struct line {
  std::string text;
};
using watcher = actors::actor_ref<line>;

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
  watcher who;
};
struct forget {
  watcher who;
};

// What all connections share: one message at a time, so nothing locks, and no
// two changes are told in the wrong order.
actors::task<> store(actors::context<set, get, count, watch, forget> self) {
  std::map<std::string, std::string> values;
  std::map<std::string, std::set<watcher>> watchers;
  co_await self.serve(
      [&](set s) {
        const auto text = fmt::format("changed {} {}", s.key, s.value);
        values[s.key] = std::move(s.value);
        for (auto& who : watchers[s.key]) who.tell(line{text});
      },
      [&](get g) -> std::optional<std::string> {
        auto found = values.find(g.key);
        if (found == values.end()) return {};
        return found->second;
      },
      [&](count) { return values.size(); },
      [&](watch w) { watchers[w.key].insert(std::move(w.who)); },
      [&](forget f) {
        for (auto& [key, watching] : watchers) watching.erase(f.who);
      });
}

using store_ref = actors::actor_ref<set, get, count, watch, forget>;

// What the client says is answered to the session, in lines to write.
actors::task<> read(tcp::socket& socket, watcher session, store_ref values) {
  std::string input;
  for (;;) {
    auto size = co_await actors::as_result(asio::async_read_until(
        socket, asio::dynamic_buffer(input, longest_line), '\n',
        actors::use_task));
    if (!size) break;
    const command c = take_command(input, *size);
    if (c.verb == "set") {
      co_await values.ask<set>(c.key, c.value);
      session.tell<line>("ok");
    } else if (c.verb == "get") {
      auto value = co_await values.ask<get>(c.key);
      session.tell<line>(value.value_or("none"));
    } else if (c.verb == "count") {
      std::size_t keys = co_await values.ask<count>();
      session.tell<line>(std::to_string(keys));
    } else if (c.verb == "watch") {
      co_await values.ask<watch>(c.key, session);
      session.tell<line>("ok");
    } else if (c.verb == "quit") {
      session.tell<line>("bye");
      break;
    } else {
      session.tell<line>("what?");
    }
  }
  session.drain();  // it ends when all that it has been told is written
}

// A connection. It writes the lines it is told, whoever tells them, one at a
// time, and reads beside that. Both run on its strand, and the socket is there
// until both have ended; the first that fails ends the other.
actors::task<> session(actors::context<line> self, tcp::socket socket,
                       store_ref values) {
  try {
    co_await actors::when_all(read(socket, self.ref(), values),
                              self.serve([&](line l) -> actors::task<> {
                                l.text += '\n';
                                co_await asio::async_write(socket,
                                                           asio::buffer(l.text),
                                                           actors::use_task);
                              }));
  } catch (const std::system_error&) {
    // The client has gone, or the server ends.
  }
  values.tell(forget{self.ref()});
}

actors::task<> listener(actors::context<> self, tcp::acceptor acceptor,
                        store_ref values) {
  try {
    for (;;) {
      auto socket =
          co_await actors::as_result(acceptor.async_accept(actors::use_task));
      if (socket)
        self.spawn_once(session, std::move(*socket), values);
      else if (socket.error() == asio::error::operation_aborted)
        break;
      else  // no file descriptors left, say
        co_await self.sleep_for(std::chrono::milliseconds{100});
    }
  } catch (const std::system_error&) {
    // A stop, while it slept or had just accepted.
  }
}

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // its lines reach a log at once
  const auto port = parse_port(argc, argv);
  if (!port) {
    fmt::print(stderr, "04_actor: give a PORT, a number from 1 to 65535\n");
    return 2;
  }
  actors::actor_system system{{.dispatcher = actors::dispatcher::shared()}};
  system.stop_on_signals({SIGINT, SIGTERM});
  try {
    tcp::acceptor acceptor{system.next_executor(), {tcp::v4(), *port}};
    system.spawn_once(listener, std::move(acceptor), system.spawn(store));
  } catch (const std::system_error& e) {
    fmt::print(stderr, "04_actor: port {}: {}\n", *port, e.code().message());
    return 2;
  }
  fmt::print("listening on port {}\n", *port);
  system.wait();
}
