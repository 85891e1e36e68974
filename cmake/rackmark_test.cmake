# rackmark_test(NAME SOURCES a_test.cpp ... LIBS rackmark::x ... [LABEL unit|engine|mpi|gpu] [TIMEOUT s]
#               [UNDER_SANITIZERS_ONLY])
# One GoogleTest executable; every case is its own CTest entry. Sources are relative to the caller.
# UNDER_SANITIZERS_ONLY: elsewhere it is built when it is asked for by name, and CTest does not know it
# (what it tests does not depend on how it is compiled, and CI's time is short).
include(GoogleTest)
add_custom_target(unit_tests)  # builds every executable labelled unit, and nothing else
function(rackmark_test name)
  cmake_parse_arguments(arg "UNDER_SANITIZERS_ONLY" "LABEL;TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gmock GTest::gtest_main rackmark::warnings)
  # The code under test keeps its own optimisation; that of the tests themselves only costs build time.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O0>)
  target_compile_definitions(${name} PRIVATE RACKMARK_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                             RACKMARK_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  if(arg_UNDER_SANITIZERS_ONLY AND NOT RACKMARK_SANITIZE)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    return()
  endif()
  if(arg_LABEL STREQUAL "unit")
    add_dependencies(unit_tests ${name})
  endif()
  # Tests run side by side: an OpenMP thread that spins while it waits takes another test's core.
  # MPI's ranks spin as well, and stay alone.
  set(processors 1)
  if(arg_LABEL STREQUAL "mpi")
    set(processors 2)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT} PROCESSORS ${processors}
               ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()
