// expect: has to be default constructible
// errors: 1
#include <actors/asio.hpp>

struct answer {
  explicit answer(int);
};
struct query {
  using reply_type = answer;
};
void f(actors::actor_ref<query> oracle) {
  oracle.ask<query>()([](std::error_code, answer) {});
}
