// expect: needs_actors_asio_hpp_and_an_io_context<asio::thread_pool>
// errors: 1
#include <actors/asio.hpp>

void f(asio::thread_pool& pool) { actors::actor_system system{pool}; }
