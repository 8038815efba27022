// expect: deleted (copy )?(function|constructor of) .*context<
// errors: 1
#include <actors/actors.hpp>

struct deposit {
  int amount;
};

// A context belongs to its actor's strand; what leaves it is `self.ref()`.
void f(actors::context<deposit>& self) {
  auto callback = [self] { return self.path(); };
  (void)callback;
}
