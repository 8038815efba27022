# Passes when SOURCE does not compile, and says why in the words it asks for:
#
#   cmake -DCOMMANDS=compile_commands.json -DSOURCE=FILE.cpp -P check.cmake
#
# The file is compiled with the flags that COMMANDS has for it. Its comments
# tell what to expect:
#
#   // expect: REGEX      on the first line: an `error:` line matches it
#   // errors: N          there are exactly N `error:` lines (optional)
#   // only if: VARIABLE  a variable of CMakeLists.txt; where it is false, there
#                         is no such test (optional, read by CMakeLists.txt)

cmake_minimum_required(VERSION 3.25)

# --- What is expected --------------------------------------------------------

file(STRINGS "${SOURCE}" expect REGEX "^// expect: ")
file(STRINGS "${SOURCE}" errors REGEX "^// errors: ")
if(NOT expect MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "${SOURCE} has no line \"// expect: REGEX\"")
endif()
set(expect "${CMAKE_MATCH_1}")
if(errors AND NOT errors MATCHES "^// errors: ([0-9]+)$")
  message(FATAL_ERROR "${SOURCE}: \"${errors}\" is not \"// errors: N\"")
endif()
set(errors "${CMAKE_MATCH_1}")

# --- What happens ------------------------------------------------------------

cmake_path(GET SOURCE FILENAME name)
file(STRINGS "${COMMANDS}" command REGEX "\"command\": .*/compile_fail/${name}")
string(REGEX REPLACE ",$" "" command "${command}")
string(JSON command ERROR_VARIABLE problem GET "{${command}}" command)
if(problem)
  message(FATAL_ERROR "${COMMANDS} has no command for ${name}: ${problem}")
endif()
string(REGEX REPLACE " -o [^ ]+ -c " " -fsyntax-only " command "${command}")
separate_arguments(command UNIX_COMMAND "${command}")

execute_process(
  COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C ${command}
  RESULT_VARIABLE status
  ERROR_VARIABLE output
  OUTPUT_VARIABLE output)

# --- Whether they agree ------------------------------------------------------

# Line by line, and not as a list: brackets and semicolons mean something there.
set(count 0)
set(matches FALSE)
set(rest "${output}\n")
while(rest MATCHES "^([^\n]*)\n(.*)$")
  set(line "${CMAKE_MATCH_1}")
  set(rest "${CMAKE_MATCH_2}")
  if(line MATCHES ": (fatal )?error: ")
    math(EXPR count "${count} + 1")
    if(line MATCHES "${expect}")
      set(matches TRUE)
    endif()
  endif()
endwhile()

string(REPLACE "\n" "\n  " output "\n${output}") # indented, CMake leaves it alone
if(status EQUAL 0)
  message(FATAL_ERROR "${name} compiles")
elseif(NOT matches)
  message(FATAL_ERROR "No error line matches \"${expect}\" in${output}")
elseif(NOT errors STREQUAL "" AND NOT count EQUAL errors)
  message(FATAL_ERROR "${count} error lines instead of ${errors} in${output}")
endif()
