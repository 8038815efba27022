// migrate/03_inbox: coroutines of Asio's for callbacks, an inbox for each
#include <fmt/format.h>
#include <actors/asio.hpp>

#include <asio/experimental/awaitable_operators.hpp>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>

#include "protocol.hpp"

using asio::ip::tcp;

// A line for a client.
struct line {
  std::string text;
};
// The end of its connection, when what was told before is written.
struct hang_up {};
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

// What the client says is answered to the inbox, in lines to write.
asio::awaitable<void> read(tcp::socket& socket,
                           actors::actor_ref<line, hang_up> out,
                           store_ref values) {
  std::string input;
  for (;;) {
    std::error_code e;
    const std::size_t size = co_await asio::async_read_until(
        socket, asio::dynamic_buffer(input, longest_line), '\n',
        asio::redirect_error(asio::use_awaitable, e));
    if (e) break;
    const command c = take_command(input, size);
    if (c.verb == "set") {
      co_await values.ask<set>(c.key, c.value)(asio::use_awaitable);
      out.tell<line>("ok");
    } else if (c.verb == "get") {
      auto value = co_await values.ask<get>(c.key)(asio::use_awaitable);
      out.tell<line>(value.value_or("none"));
    } else if (c.verb == "count") {
      std::size_t keys = co_await values.ask<count>()(asio::use_awaitable);
      out.tell<line>(std::to_string(keys));
    } else if (c.verb == "watch") {
      co_await values.ask<watch>(c.key, out)(asio::use_awaitable);
      out.tell<line>("ok");
    } else if (c.verb == "quit") {
      out.tell<line>("bye");
      break;
    } else {
      out.tell<line>("what?");
    }
  }
  out.tell(hang_up{});
}

asio::awaitable<void> write(tcp::socket& socket,
                            actors::inbox<line, hang_up>& in) {
  for (;;) {
    auto told = co_await in.receive(asio::use_awaitable);
    auto* next = std::get_if<line>(&told);
    if (!next) break;
    next->text += '\n';
    co_await asio::async_write(socket, asio::buffer(next->text),
                               asio::use_awaitable);
  }
}

// A connection, on a strand. Its inbox is where actors reach it: the store
// knows it as it would know an actor. As all lines go through it, no two are
// written at once.
asio::awaitable<void> session(tcp::socket socket, store_ref values,
                              actors::actor_system& system) {
  using namespace asio::experimental::awaitable_operators;
  actors::inbox<line, hang_up> in{system};
  try {
    co_await (read(socket, in.ref(), values) && write(socket, in));
  } catch (const std::system_error&) {
    // The client has gone.
  }
  values.tell(forget{in.ref()});
}

asio::awaitable<void> listen(tcp::acceptor& acceptor, store_ref values,
                             actors::actor_system& system) {
  for (;;) {
    std::error_code e;
    auto strand = asio::make_strand(acceptor.get_executor());
    tcp::socket socket = co_await acceptor.async_accept(
        strand, asio::redirect_error(asio::use_awaitable, e));
    if (e) continue;
    asio::co_spawn(strand, session(std::move(socket), values, system),
                   asio::detached);
  }
}

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // its lines reach a log at once
  const auto port = parse_port(argc, argv);
  if (!port) {
    fmt::print(stderr, "03_inbox: give a PORT, a number from 1 to 65535\n");
    return 2;
  }
  asio::io_context io;
  actors::actor_system system{io};  // its actors run where `io` does
  tcp::acceptor acceptor{io};
  try {
    acceptor = {io, {tcp::v4(), *port}};
  } catch (const std::system_error& e) {
    fmt::print(stderr, "03_inbox: port {}: {}\n", *port, e.code().message());
    return 2;
  }
  asio::co_spawn(io, listen(acceptor, system.spawn(store), system),
                 asio::detached);
  asio::signal_set signals{io, SIGINT, SIGTERM};
  signals.async_wait([&](std::error_code, int) { io.stop(); });
  fmt::print("listening on port {}\n", *port);
  std::jthread other{[&] { io.run(); }};
  io.run();
}
