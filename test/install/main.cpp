// A stranger's program: what is installed compiles, links and runs.
#include <actors/version.hpp>

#include <cstdio>

int main() {
  std::printf("actors %s\n", actors::version());
  return ACTORS_VERSION >= 100 ? 0 : 1;
}
