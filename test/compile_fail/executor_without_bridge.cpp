// expect: executor_needs_actors_asio_hpp<void>
// errors: 1
#include <actors/actors.hpp>

void f(actors::context<>& self) { (void)self.get_executor(); }
