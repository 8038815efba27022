// expect: give_asio_use_awaitable_to_await_in_an_asio_awaitable<actors::oper
// errors: 2
// only if: ASIO_AWAITS_WITH_TOKEN_ONLY
//
// The other error is that of `co_await` itself.
#include <actors/asio.hpp>

struct query {
  using reply_type = int;
};
asio::awaitable<int> f(actors::actor_ref<query> oracle) {
  co_return co_await oracle.ask<query>();
}
