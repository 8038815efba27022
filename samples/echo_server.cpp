// echo_server: one actor a TCP connection, a clean end on SIGINT and SIGTERM
#include <fmt/format.h>
#include <actors/asio.hpp>

#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

using asio::ip::tcp;

struct ended {
  bool by_client;
};
struct count_cut {
  using reply_type = int;  // connections that the server itself has ended
};

actors::task<> statistics(actors::context<ended, count_cut> self) {
  int cut = 0;
  while (co_await self.receive([&](ended e) { cut += !e.by_client; },
                               [&](count_cut) { return cut; })) {
  }
}

// Asio's operations are awaited with `use_task`; the actor comes back on its
// own strand. A stop cancels the one it waits for.
actors::task<> session(actors::context<>, tcp::socket socket,
                       actors::actor_ref<ended> stats) {
  std::array<char, 4096> data;
  std::error_code end;
  while (!end) {
    auto got = co_await actors::as_result(
        socket.async_read_some(asio::buffer(data), actors::use_task));
    end = got.error();
    if (end) break;
    auto sent = co_await actors::as_result(
        asio::async_write(socket, asio::buffer(data, *got), actors::use_task));
    end = sent.error();
  }
  stats.tell(ended{end != asio::error::operation_aborted});
}

actors::task<> listener(actors::context<> self, tcp::acceptor acceptor,
                        actors::actor_ref<ended, count_cut> stats) {
  try {
    for (;;) {
      auto socket =
          co_await actors::as_result(acceptor.async_accept(actors::use_task));
      if (socket)
        self.spawn_once(session, std::move(*socket), stats);
      else if (socket.error() == asio::error::operation_aborted)
        break;
      else  // no file descriptors left, say
        co_await self.sleep_for(std::chrono::milliseconds{100});
    }
  } catch (const std::system_error&) {
    // A stop, while it slept or had just accepted.
  }
  // Stopping: its children, the sessions, have ended before.
  int cut = co_await stats.ask<count_cut>();
  fmt::print("closed {} connections\n", cut);
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  auto [end, error] = std::from_chars(text.begin(), text.end(), port);
  if (error != std::errc{} || end != text.end() || port == 0) return {};
  return port;
}

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // its lines reach a log at once
  const auto port = parse_port(argc == 2 ? argv[1] : "");
  if (!port) {
    fmt::print(stderr, "echo_server: give a PORT, a number from 1 to 65535\n");
    return 2;
  }
  // One io_context, a strand an actor: every thread serves every connection.
  actors::actor_system system{{.dispatcher = actors::dispatcher::shared()}};
  system.stop_on_signals({SIGINT, SIGTERM});
  auto stats = system.spawn(statistics);
  try {
    tcp::acceptor acceptor{system.next_executor(), {tcp::v4(), *port}};
    system.spawn_once(listener, std::move(acceptor), stats);
  } catch (const std::system_error& e) {
    fmt::print(stderr, "echo_server: port {}: {}\n", *port, e.code().message());
    return 2;
  }
  fmt::print("listening on port {}\n", *port);
  system.wait();
}
