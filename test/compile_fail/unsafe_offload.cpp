// expect: unsafe_temporary_on_this_compiler_name_the_handler_first<
// errors: 1
// only if: ACTORS_HAS_CO_AWAIT_TEMPORARIES_BUG
#include <actors/actors.hpp>

#include <memory>

actors::task<> actor(actors::context<> self) {
  auto shared = std::make_shared<int>(1);
  co_await self.offload([shared] { ++*shared; });
}
