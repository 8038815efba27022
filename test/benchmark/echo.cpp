// echo: a TCP server that sends back what it gets, 64 connections on
// loopback. An actor each, on a user's io_context (guest) and on a system's
// own thread (pool, shared); beside it, as echo/asio, the same server as plain
// asio::awaitables. The clients are in a thread of their own.
#include <actors/asio.hpp>
#include <array>
#include <cstddef>
#include <future>
#include <system_error>
#include <utility>

#include "echo_client.hpp"
#include "workload.hpp"

namespace {

using asio::ip::tcp;
using workloads::echo_bytes;
using workloads::echo_connections;

const tcp::endpoint any_port{asio::ip::address_v4::loopback(), 0};

actors::task<> session(actors::context<>, tcp::socket socket) {
  std::array<char, echo_bytes> data;
  try {
    for (;;) {
      const std::size_t got =
          co_await socket.async_read_some(asio::buffer(data), actors::use_task);
      co_await asio::async_write(socket, asio::buffer(data, got),
                                 actors::use_task);
    }
  } catch (const std::system_error&) {
    // The client has closed the connection.
  }
}

asio::awaitable<void> plain_session(tcp::socket socket) {
  std::array<char, echo_bytes> data;
  try {
    for (;;) {
      const std::size_t got = co_await socket.async_read_some(
          asio::buffer(data), asio::use_awaitable);
      co_await asio::async_write(socket, asio::buffer(data, got),
                                 asio::use_awaitable);
    }
  } catch (const std::system_error&) {
  }
}

/// The sessions are its children, beside it.
actors::task<> listener(actors::context<> self, tcp::acceptor acceptor) {
  for (int i = 0; i != echo_connections; ++i)
    self.spawn_once(session, co_await acceptor.async_accept(actors::use_task));
  co_await self.until_stop();
}

asio::awaitable<void> guest_listener(tcp::acceptor acceptor,
                                     actors::actor_system& system) {
  for (int i = 0; i != echo_connections; ++i)
    system.spawn_once(session,
                      co_await acceptor.async_accept(asio::use_awaitable));
}

asio::awaitable<void> plain_listener(tcp::acceptor acceptor) {
  for (int i = 0; i != echo_connections; ++i)
    asio::co_spawn(
        acceptor.get_executor(),
        plain_session(co_await acceptor.async_accept(asio::use_awaitable)),
        asio::detached);
}

double echo(actors::actor_system& system) {
  tcp::acceptor acceptor{system.next_executor(), any_port};
  auto seconds = std::async(std::launch::async, workloads::echo_client,
                            acceptor.local_endpoint());
  auto server = system.spawn_once(listener, std::move(acceptor));
  seconds.wait();
  server.stop();
  server.stopped().get();
  return seconds.get();
}

double echo_as_guest() {
  asio::io_context io{1};
  actors::actor_system system{io};
  tcp::acceptor acceptor{io, any_port};
  auto seconds = std::async(std::launch::async, workloads::echo_client,
                            acceptor.local_endpoint());
  asio::co_spawn(io, guest_listener(std::move(acceptor), system),
                 asio::detached);
  io.run();
  return seconds.get();
}

double plain_echo() {
  asio::io_context io{1};
  tcp::acceptor acceptor{io, any_port};
  auto seconds = std::async(std::launch::async, workloads::echo_client,
                            acceptor.local_endpoint());
  asio::co_spawn(io, plain_listener(std::move(acceptor)), asio::detached);
  io.run();
  return seconds.get();
}

constexpr double round_trips =
    double{workloads::echo_connections} * workloads::echo_trips_each;

const bool guest_added =
    workloads::add("echo/guest/1", round_trips, echo_as_guest);
const bool asio_added = workloads::add("echo/asio/1", round_trips, plain_echo);
const bool pool_added = workloads::add(
    "echo/pool/1", round_trips,
    {.threads = 1, .dispatcher = actors::dispatcher::pool()}, echo);
const bool shared_added = workloads::add(
    "echo/shared/1", round_trips,
    {.threads = 1, .dispatcher = actors::dispatcher::shared()}, echo);

}  // namespace
