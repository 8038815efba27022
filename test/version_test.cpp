#include <actors/version.hpp>

#include <doctest/doctest.h>

#include <string>

TEST_SUITE("version") {
  TEST_CASE("the version is the build's") {
    CHECK(std::string{actors::version()} == ACTORS_PROJECT_VERSION);
  }

  TEST_CASE("the version function agrees with the macros") {
    CHECK(std::string{actors::version()} ==
          std::to_string(ACTORS_VERSION_MAJOR) + "." +
              std::to_string(ACTORS_VERSION_MINOR) + "." +
              std::to_string(ACTORS_VERSION_PATCH));
  }

  TEST_CASE("the version number orders versions") {
    static_assert(ACTORS_VERSION == ACTORS_VERSION_MAJOR * 10000 +
                                        ACTORS_VERSION_MINOR * 100 +
                                        ACTORS_VERSION_PATCH);
    CHECK(ACTORS_VERSION >= 100);
  }
}
