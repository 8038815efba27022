#include "actors/testing.hpp"

#include <doctest/doctest.h>

TEST_SUITE("explore") {
  TEST_CASE("every seed is run") {
    int runs = 0;
    actors::explore(10, [&](actors::simulation&) { ++runs; });
    CHECK(runs == 10);
  }
}
