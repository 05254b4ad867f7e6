# A CTest test for each GoogleTest suite of a program. One for each case would start the program thousands of times, and
# loading LibTorch takes half a second.
#
#   xt_test_suites(test_core core.)
#
# lists the suites after each build of the program. A suite counts as skipped where all of its tests were. Threads that wait
# sleep: CTest runs several suites at a time, and spinning ones would take the processors from the others.

if(CMAKE_SCRIPT_MODE_FILE)
  # Run after the build with PROGRAM, PREFIX and OUTPUT.
  execute_process(COMMAND "${PROGRAM}" --gtest_list_tests OUTPUT_VARIABLE listed RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} --gtest_list_tests: ${status}")
  endif()
  string(REGEX MATCHALL "(^|\n)[A-Za-z0-9_/]+\\." suites "${listed}")
  set(tests)
  foreach(suite IN LISTS suites)
    string(STRIP "${suite}" suite)
    string(REGEX REPLACE "\\.$" "" suite "${suite}")
    string(APPEND tests "add_test([[${PREFIX}${suite}]] [[${PROGRAM}]] [[--gtest_filter=${suite}.*]])\n"
      "set_tests_properties([[${PREFIX}${suite}]] PROPERTIES TIMEOUT 900 ENVIRONMENT OMP_WAIT_POLICY=PASSIVE"
      " SKIP_REGULAR_EXPRESSION [[\\[  PASSED  \\] 0 tests\\.\n(\\[  SKIPPED \\] [^\n]*\n?)+$]])\n")
  endforeach()
  file(WRITE "${OUTPUT}" "${tests}")
  return()
endif()

set(XT_TEST_SUITES_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

function(xt_test_suites program prefix)
  set(listed "${CMAKE_CURRENT_BINARY_DIR}/${program}_suites.cmake")
  set(included "${CMAKE_CURRENT_BINARY_DIR}/${program}_include.cmake")
  add_custom_command(TARGET ${program} POST_BUILD
    COMMAND "${CMAKE_COMMAND}" "-DPROGRAM=$<TARGET_FILE:${program}>" -DPREFIX=${prefix} "-DOUTPUT=${listed}"
            -P "${XT_TEST_SUITES_SCRIPT}"
    BYPRODUCTS "${listed}" VERBATIM)
  file(WRITE "${included}" "if(EXISTS [[${listed}]])\n  include([[${listed}]])\nelse()\n"
    "  add_test([[${program}_not_built]] [[${program}_not_built]])\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${included}")
endfunction()
