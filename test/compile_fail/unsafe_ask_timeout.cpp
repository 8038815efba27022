// expect: unsafe_temporary_on_this_compiler_use_ask_of_args<get>
// errors: 1
// only if: ACTORS_HAS_CO_AWAIT_TEMPORARIES_BUG
#include <actors/actors.hpp>

#include <string>

struct get {
  using reply_type = int;
  std::string key;
};

actors::task<int> f(actors::actor_ref<get> store) {
  co_return co_await store.ask(get{"key"}, std::chrono::seconds{1});
}
