/// Compiler facts the headers depend on. Included by all others.
#pragma once

/// ACTORS_CO_AWAIT_TEMPORARIES_BUG: 1 where the compiler has the bug that the
/// README warns of, 0 where it has not.
//
// g++ before 14 destroys some temporaries of a co_await expression twice: an
// aggregate with a non-trivial member, a lambda that captures one by copy.
// CMake finds out and defines the macro; this is for those who build without.
#ifndef ACTORS_CO_AWAIT_TEMPORARIES_BUG
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 14
#define ACTORS_CO_AWAIT_TEMPORARIES_BUG 1
#else
#define ACTORS_CO_AWAIT_TEMPORARIES_BUG 0
#endif
#endif
