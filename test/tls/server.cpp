// What test/tls.sh drives: lines echoed over TLS by an actor a connection.
//
//   tls_server PORT CERTIFICATE KEY
//
// Asio's TLS streams are composed of many small operations and keep work of
// their own between them; `use_task` and the cancellation by a stop have to
// come through all that.
#include <fmt/format.h>
#include <actors/asio.hpp>
#include <asio/ssl.hpp>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <system_error>
#include <utility>

using asio::ip::tcp;
using tls_stream = asio::ssl::stream<tcp::socket>;

actors::task<> echo(tls_stream& stream) {
  std::string input;
  for (;;) {
    const std::size_t size = co_await asio::async_read_until(
        stream, asio::dynamic_buffer(input), '\n', actors::use_task);
    co_await asio::async_write(stream, asio::buffer(input.data(), size),
                               actors::use_task);
    input.erase(0, size);
  }
}

actors::task<> session(actors::context<>, tcp::socket socket,
                       asio::ssl::context& tls) {
  tls_stream stream{std::move(socket), tls};
  std::error_code end;
  try {
    co_await stream.async_handshake(tls_stream::server, actors::use_task);
    co_await echo(stream);
  } catch (const std::system_error& e) {
    end = e.code();
  }
  // A stop has come out of the operation that it cancelled. What is awaited
  // after that is cleaning up: the client is told that this is the end.
  auto closed =
      co_await actors::as_result(stream.async_shutdown(actors::use_task));
  const bool clean = closed || closed.error() == asio::error::eof;
  fmt::print("ended by {}, {}\n", end.message(),
             clean ? "closed" : closed.error().message());
}

actors::task<> listener(actors::context<> self, tcp::acceptor acceptor,
                        asio::ssl::context& tls) {
  try {
    for (int accepted = 1;; ++accepted) {
      auto socket = co_await acceptor.async_accept(actors::use_task);
      self.spawn_once(session, std::move(socket), std::ref(tls));
      fmt::print("accepted {}\n", accepted);
    }
  } catch (const std::system_error&) {
    // A stop, while it waited or had just accepted.
  }
}

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::uint16_t port = 0;
  if (argc != 4 ||
      std::from_chars(argv[1], argv[1] + std::strlen(argv[1]), port).ec !=
          std::errc{}) {
    fmt::print(stderr, "give a PORT, a CERTIFICATE and its KEY\n");
    return 2;
  }
  try {
    asio::ssl::context tls{asio::ssl::context::tls_server};
    tls.use_certificate_chain_file(argv[2]);
    tls.use_private_key_file(argv[3], asio::ssl::context::pem);
    actors::actor_system system{{.threads = 2,
                                 .dispatcher = actors::dispatcher::shared(),
                                 .stop_timeout = std::chrono::seconds{2}}};
    system.stop_on_signals({SIGTERM});
    tcp::acceptor acceptor{system.next_executor(), {tcp::v4(), port}};
    system.spawn_once(listener, std::move(acceptor), std::ref(tls));
    fmt::print("listening on port {}\n", port);
    system.wait();
  } catch (const std::system_error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 2;
  }
}
