// expect: guest_system_needs_actors_asio_hpp_and_an_io_context<io>
// errors: 1
#include <actors/actors.hpp>

struct io {};
void f(io& context) { actors::actor_system system{context}; }
