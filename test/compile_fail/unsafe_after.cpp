// expect: unsafe_temporary_on_this_compiler_name_the_handler_first<
// errors: 1
// only if: ACTORS_HAS_CO_AWAIT_TEMPORARIES_BUG
#include <actors/actors.hpp>

#include <string>

actors::task<> f(actors::context<int> self, std::string text) {
  co_await self.receive([](int) {},
                        actors::after(std::chrono::seconds{1}, [text] {}));
}
