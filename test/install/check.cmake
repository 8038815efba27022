# Installs the build in BINARY_DIR into a prefix of its own and builds and runs
# the project beside this file as a stranger would: with find_package(), then
# with add_subdirectory(). Works in WORK_DIR, which is emptied first.

cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${output}\nends with ${status}")
  endif()
endfunction()

# Configures, builds and runs the project in WORK_DIR/NAME.
function(build_and_run name)
  run(${CMAKE_COMMAND}
      -S ${CMAKE_CURRENT_FUNCTION_LIST_DIR}
      -B ${WORK_DIR}/${name}
      -G ${GENERATOR}
      -DCMAKE_CXX_COMPILER=${COMPILER}
      -DCMAKE_BUILD_TYPE=Debug
      -DACTORS_ASIO_INCLUDE_DIR=${ASIO_DIR}
      ${ARGN})
  run(${CMAKE_COMMAND} --build ${WORK_DIR}/${name} --parallel 2)
  run(${WORK_DIR}/${name}/stranger)
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${WORK_DIR}/prefix)
build_and_run(find_package "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix;${PREFIXES}")
build_and_run(add_subdirectory -DACTORS_SOURCE_DIR=${SOURCE_DIR}
              "-DCMAKE_PREFIX_PATH=${PREFIXES}")
