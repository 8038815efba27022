#include "actors/version.hpp"

#define ACTORS_STRING(x) #x
#define ACTORS_DOTTED(major, minor, patch) \
  ACTORS_STRING(major) "." ACTORS_STRING(minor) "." ACTORS_STRING(patch)

namespace actors {

const char* version() noexcept {
  return ACTORS_DOTTED(ACTORS_VERSION_MAJOR, ACTORS_VERSION_MINOR,
                       ACTORS_VERSION_PATCH);
}

}  // namespace actors
