// tcp_proxy: passes TCP connections on, both ways at once in one actor each
#include <fmt/format.h>
#include <actors/asio.hpp>

#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using asio::ip::tcp;

struct address {
  std::string host;
  std::string port;
};

// One way, until its end, which is passed on: who gets it may still send.
actors::task<> pass(tcp::socket& from, tcp::socket& to) {
  std::array<char, 16 * 1024> data;
  for (;;) {
    auto got = co_await actors::as_result(
        from.async_read_some(asio::buffer(data), actors::use_task));
    if (got.error() == asio::error::eof) break;
    const auto size = std::move(got).value();  // throws any other error
    co_await asio::async_write(to, asio::buffer(data, size), actors::use_task);
  }
  to.shutdown(tcp::socket::shutdown_send);
}

actors::task<> connection(actors::context<> self, tcp::socket client,
                          address target) {
  tcp::socket server{self.get_executor()};
  try {
    tcp::resolver resolver{self.get_executor()};
    auto found = co_await resolver.async_resolve(target.host, target.port,
                                                 actors::use_task);
    co_await actors::with_timeout(
        10s, asio::async_connect(server, found, actors::use_task));
  } catch (const std::system_error& e) {
    if (e.code() != asio::error::operation_aborted)  // that is a stop
      fmt::print("no connection to {}:{}: {}\n", target.host, target.port,
                 e.code().message());
    co_return;
  }
  try {
    // Two tasks on this actor's strand, which may share its sockets: `when_all`
    // returns when both have ended. The first that fails ends the other, and a
    // stop ends both.
    co_await actors::when_all(pass(client, server), pass(server, client));
  } catch (const std::system_error&) {
    // Reset by one of the two, or a stop.
  }
}

actors::task<> listener(actors::context<> self, tcp::acceptor acceptor,
                        address target) {
  try {
    for (;;) {
      auto socket =
          co_await actors::as_result(acceptor.async_accept(actors::use_task));
      if (socket)
        self.spawn_once(connection, std::move(*socket), target);
      else if (socket.error() == asio::error::operation_aborted)
        break;
      else  // no file descriptors left, say
        co_await self.sleep_for(100ms);
    }
  } catch (const std::system_error&) {
    // A stop, while it slept or had just accepted.
  }
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  auto [end, error] = std::from_chars(text.begin(), text.end(), port);
  if (error != std::errc{} || end != text.end() || port == 0) return {};
  return port;
}

// HOST:PORT; a host may be "::1".
std::optional<address> parse_address(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == 0 || colon == text.npos) return {};
  const auto port = text.substr(colon + 1);
  if (!parse_port(port)) return {};
  return address{std::string{text.substr(0, colon)}, std::string{port}};
}

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // its lines reach a log at once
  const auto port = parse_port(argc == 3 ? argv[1] : "");
  const auto target = parse_address(argc == 3 ? argv[2] : "");
  if (!port || !target) {
    fmt::print(stderr,
               "tcp_proxy: give a PORT, a number from 1 to 65535, and "
               "the HOST:PORT to connect to\n");
    return 2;
  }
  actors::actor_system system{{.dispatcher = actors::dispatcher::shared()}};
  system.stop_on_signals({SIGINT, SIGTERM});
  try {
    tcp::acceptor acceptor{system.next_executor(), {tcp::v4(), *port}};
    system.spawn_once(listener, std::move(acceptor), *target);
  } catch (const std::system_error& e) {
    fmt::print(stderr, "tcp_proxy: port {}: {}\n", *port, e.code().message());
    return 2;
  }
  fmt::print("listening on port {}\n", *port);
  system.wait();
}
