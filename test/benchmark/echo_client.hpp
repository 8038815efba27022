/// The other side of `echo`: 64 connections in a thread of their own, with
/// nothing of ours, so that they are the same for every server.
#pragma once

#include <asio.hpp>
#include <cstddef>

namespace workloads {

inline constexpr int echo_connections = 64;
inline constexpr int echo_trips_each = 4'000;
inline constexpr std::size_t echo_bytes = 64;

/// Connects to a server, makes all round trips, closes the connections and
/// gives the seconds of the round trips alone. Blocks.
double echo_client(const asio::ip::tcp::endpoint& server);

}  // namespace workloads
