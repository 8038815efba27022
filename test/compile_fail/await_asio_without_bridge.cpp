// expect: task_cannot_await_this_without_actors_asio_hpp<asio::
// errors: 1
#include <actors/actors.hpp>

#include <asio/awaitable.hpp>

actors::task<int> f(asio::awaitable<int> (*g)()) { co_return co_await g(); }
