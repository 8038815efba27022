// It is to be quicker than any server, so that the server is what is measured:
// two system calls a round trip, no reactor, and few sleeps, because a sleeper
// costs the server that wakes it. So the server always has the messages of one
// half of the connections, while the other half is read and written.
#include "echo_client.hpp"

#include <array>
#include <ranges>
#include <vector>

#include "workload.hpp"

namespace workloads {

namespace {

using asio::ip::tcp;

class connection {
 public:
  connection(asio::io_context& io, const tcp::endpoint& server) : socket_{io} {
    socket_.connect(server);
  }

  void send() { asio::write(socket_, asio::buffer(data_)); }
  void receive() { asio::read(socket_, asio::buffer(data_)); }

 private:
  asio::basic_stream_socket<tcp, asio::io_context::executor_type> socket_;
  std::array<char, echo_bytes> data_{};
};

using connections = std::vector<connection>;

void make_trips(std::array<connections, 2>& halves, int each) {
  for (auto& half : halves)
    for (auto& c : half) c.send();
  for (int left = each; left != 0; --left)
    for (auto& half : halves) {
      // Who has slept until the last is there finds the others without.
      for (auto& c : half | std::views::reverse) c.receive();
      if (left == 1) continue;
      for (auto& c : half) c.send();
    }
}

}  // namespace

double echo_client(const tcp::endpoint& server) {
  asio::io_context io;
  std::array<connections, 2> halves;
  for (auto& half : halves)
    for (int i = 0; i != echo_connections / 2; ++i)
      half.emplace_back(io, server);

  make_trips(halves, 1);  // from here on the server has accepted all of them
  const stopwatch watch;
  make_trips(halves, echo_trips_each);
  return watch.seconds();
}

}  // namespace workloads
