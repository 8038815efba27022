// expect: a value that is an error cannot be told from an error
#include <actors/actors.hpp>

struct save {
  using reply_type = std::error_code;
};

auto f(actors::actor_ref<save> ref) { return ref.ask<save>(); }
