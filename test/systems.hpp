/// The same test on each kind of system that has threads.
#pragma once

#include <doctest/doctest.h>

#include <asio.hpp>
#include <thread>
#include <vector>

#include "actors/asio.hpp"
#include "support.hpp"

namespace support {

/// Threads that run an `io_context`.
class runners {
 public:
  runners(asio::io_context& io, int threads)
      : work_{asio::make_work_guard(io)} {
    for (int i = 0; i < threads; ++i)
      threads_.emplace_back([&io] { io.run(); });
  }
  ~runners() {
    work_.reset();
    for (std::thread& t : threads_) t.join();
  }

 private:
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
};

/// On threads: one context a thread, one context for all, and the user's.
template <class F>
void each_system(F test) {
  for (const auto& d :
       {actors::dispatcher::pool(), actors::dispatcher::shared()}) {
    CAPTURE(static_cast<int>(d.which()));
    actors::system_options options = quiet(2);
    options.dispatcher = d;
    actors::actor_system system{options};
    test(system);
  }
  INFO("guest");
  asio::io_context io;
  runners threads{io, 2};
  actors::system_options options;
  options.log.emplace();
  actors::actor_system system{io, options};
  test(system);
  system.async_terminate().get();
}

}  // namespace support
