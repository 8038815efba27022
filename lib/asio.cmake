# Defines the target actors::asio, standalone Asio as the library uses it.
#
# Shared by the build and by the installed package, which puts it beside
# actors-config.cmake. Expects Threads::Threads to be there and
# ACTORS_ASIO_INCLUDE_DIR to name the directory that has asio.hpp.

if(NOT TARGET actors::asio)
  add_library(actors::asio INTERFACE IMPORTED GLOBAL)
  target_include_directories(
    actors::asio INTERFACE "${ACTORS_ASIO_INCLUDE_DIR}")
  # Asio before 1.24 does not notice by itself that Clang has coroutines, and
  # whether it frees what it allocates with the right function depends on
  # whether a source includes something of libstdc++ before it. Newer ones
  # define the same. No other definitions: a guest of somebody's Asio does not
  # configure it.
  target_compile_definitions(
    actors::asio
    INTERFACE ASIO_STANDALONE
              $<$<CXX_COMPILER_ID:Clang,AppleClang>:ASIO_HAS_CO_AWAIT=1>
              $<$<PLATFORM_ID:Linux>:ASIO_HAS_STD_ALIGNED_ALLOC=1>)
  target_link_libraries(actors::asio INTERFACE Threads::Threads)
endif()
