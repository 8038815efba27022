/// The version of the library: as macros, for code that is compiled against
/// several versions, and as a function, for code that wants to know which
/// library it was linked with.
#pragma once

/// The three parts of the version that these headers belong to.
#define ACTORS_VERSION_MAJOR 0
#define ACTORS_VERSION_MINOR 1
#define ACTORS_VERSION_PATCH 0

/// The version as one number that grows with it: 10000 a major version, 100 a
/// minor one, so that `#if ACTORS_VERSION >= 100` means 0.1.0 or later.
#define ACTORS_VERSION                                         \
  (ACTORS_VERSION_MAJOR * 10000 + ACTORS_VERSION_MINOR * 100 + \
   ACTORS_VERSION_PATCH)

namespace actors {

/// The version of the library that the program was linked with, as
/// `"MAJOR.MINOR.PATCH"`. It differs from the macros when a shared library has
/// been replaced. Never null; lives as long as the program; thread-safe.
const char* version() noexcept;

}  // namespace actors
