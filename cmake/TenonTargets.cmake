# SPDX-License-Identifier: Apache-2.0
# The three kinds of target that Tenon has, so that flags are written once.

add_library(tenon_options INTERFACE)
target_compile_options(tenon_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers)
# GCC 12 is wrong about strings that are put together (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(tenon_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(TENON_WERROR)
  target_compile_options(tenon_options INTERFACE -Werror)
endif()
target_include_directories(tenon_options INTERFACE ${CMAKE_SOURCE_DIR})
if(TENON_SANITIZE)
  target_compile_options(tenon_options INTERFACE -fsanitize=${TENON_SANITIZE} -fno-omit-frame-pointer
                                                 -fno-sanitize-recover=all)
  target_link_options(tenon_options INTERFACE -fsanitize=${TENON_SANITIZE})
endif()
if(TENON_FUZZ)
  target_compile_options(tenon_options INTERFACE -fsanitize=fuzzer-no-link)  # marks what was reached
endif()

# tenon_alone(SOURCES...): compiled each for itself also where several are compiled as one (TENON_UNITY_BUILD): their own
# names, in namespaces without a name, are those of a neighbour.
function(tenon_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# tenon_library(NAME SOURCES... [LINK targets...]): a layer.
function(tenon_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC tenon_options ${ARG_LINK})
  if(TENON_SANITIZE AND TENON_QUICK_BUILD)
    # Where tests run into bounds they spend their time in these two, which are compiled a little slower for it.
    if(name MATCHES "core|text")
      target_compile_options(${name} PRIVATE -O1)
    endif()
    target_compile_options(${name} PRIVATE -Wno-maybe-uninitialized)
  endif()
endfunction()

# tenon_cpu_isa(ISA SOURCES... VEC vectors DOT dots FLAGS flags...): the kernels of kernels/cpu compiled for one
# instruction set, in namespace tenon::cpu::<ISA>, with vec_<vectors>.h and dot_<dots>.h. The flags stand on the target
# and nowhere else. TENON_CPU_ISAS lists those that are built.
function(tenon_cpu_isa isa)
  set_property(GLOBAL APPEND PROPERTY TENON_CPU_ISAS ${isa})
  cmake_parse_arguments(ARG "" "VEC;DOT" "FLAGS" ${ARGN})
  add_library(tenon_cpu_${isa} OBJECT ${ARG_UNPARSED_ARGUMENTS})
  set_target_properties(tenon_cpu_${isa} PROPERTIES UNITY_BUILD OFF)
  target_link_libraries(tenon_cpu_${isa} PRIVATE tenon_options)
  target_compile_definitions(tenon_cpu_${isa} PRIVATE TENON_ISA=${isa} TENON_ISA_NAME="${isa}"
                                                      TENON_ISA_VEC="kernels/cpu/vec_${ARG_VEC}.h"
                                                      TENON_ISA_DOT="kernels/cpu/dot_${ARG_DOT}.h")
  target_compile_options(tenon_cpu_${isa} PRIVATE -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math ${ARG_FLAGS})
endfunction()

# tenon_test_cases(NAME SOURCES... [LINK targets...]): test cases that several programs link.
function(tenon_test_cases name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name}_objects OBJECT ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name}_objects PRIVATE ${ARG_LINK} Catch2::Catch2 Eigen3::Eigen)
  target_compile_definitions(${name}_objects PRIVATE TENON_SOURCE_DIR="${CMAKE_SOURCE_DIR}" EIGEN_DONT_PARALLELIZE)
  add_library(${name} INTERFACE)
  target_sources(${name} INTERFACE $<TARGET_OBJECTS:${name}_objects>)
  target_link_libraries(${name} INTERFACE ${ARG_LINK})
endfunction()

# tenon_test(NAME SOURCES... [LINK targets...] [LABELS labels...] [DEVICE target]): a Catch2 program, one ctest entry a
# test case. DEVICE is what a program takes for its CUDA backend, tenon_device unless said otherwise.
function(tenon_test name)
  cmake_parse_arguments(ARG "" "DEVICE" "LINK;LABELS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  if(NOT ARG_DEVICE)
    set(ARG_DEVICE tenon_device)
  endif()
  target_link_libraries(${name} PRIVATE tenon_test_main ${ARG_LINK} ${ARG_DEVICE})
  if(TENON_QUICK_BUILD)
    target_compile_options(${name} PRIVATE -O0)
    target_precompile_headers(${name} REUSE_FROM tenon_test_headers)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  catch_discover_tests(${name} TEST_PREFIX "${name}: " WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
                       PROPERTIES LABELS "${ARG_LABELS}" SKIP_REGULAR_EXPRESSION "SKIPPED:" TIMEOUT 300)
endfunction()
