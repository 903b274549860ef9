# SPDX-License-Identifier: Apache-2.0
# Compiles .cu files with the C++ compiler against the harness of tests/cuda_on_cpu. TENON_CUDA_ON_CPU says whether that
# can be done: it takes gcc's instrumentation, which excludes other sanitizers.
include(CudaSelect)
set(TENON_CUDA_ON_CPU OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64" AND NOT TENON_SANITIZE)
  set(TENON_CUDA_ON_CPU ON)
endif()

# gcc calls functions before each access to memory and for misaligned pointers; the harness defines them, so no
# sanitizer's library is linked. Like nvcc for device code, they let an array be read as another type: kernels move
# packs of 16 bytes.
set(TENON_CUDA_ON_CPU_FLAGS -O2 -g1 -fsanitize=thread,alignment,bounds --param=tsan-instrument-func-entry-exit=0
                            -fno-strict-aliasing -Wno-unknown-pragmas)  # nvcc's unroll

# tenon_cuda_on_cpu(TARGET VARIANT SOURCES...): an object library of the sources compiled as sm70, sm75, sm80 or sm90,
# or as `host` for what is compiled once and belongs to no variant. Sources are relative to the root. Each is compiled
# through a one-line .cpp that includes it, so that nvcc may compile the same file in the same build.
function(tenon_cuda_on_cpu target variant)
  set(wrappers "")
  foreach(source IN LISTS ARGN)
    set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/${target}/${source}.cpp)
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${source}\"\n")
    list(APPEND wrappers ${wrapper})
  endforeach()
  add_library(${target} OBJECT ${wrappers})
  target_include_directories(${target} BEFORE PRIVATE ${CMAKE_SOURCE_DIR}/tests/cuda_on_cpu/include)
  target_link_libraries(${target} PUBLIC tenon_options cuda_on_cpu)
  target_compile_options(${target} PRIVATE ${TENON_CUDA_ON_CPU_FLAGS})
  if(NOT variant STREQUAL "host")
    string(REGEX MATCH "[0-9]+" number ${variant})
    tenon_cuda_definitions(${target} ${number})
  endif()
endfunction()

# tenon_cuda_device_on_cpu(TARGET): the whole CUDA backend, for every architecture, on the harness: what a program links
# in place of tenon_device.
function(tenon_cuda_device_on_cpu target)
  get_property(kernels GLOBAL PROPERTY TENON_CUDA_KERNELS)
  get_property(host GLOBAL PROPERTY TENON_CUDA_HOST)
  list(TRANSFORM kernels PREPEND kernels/cuda/)
  list(TRANSFORM host PREPEND kernels/cuda/)
  add_library(${target} INTERFACE)
  foreach(number IN LISTS TENON_CUDA_KNOWN)
    tenon_cuda_on_cpu(${target}_sm${number} sm${number} ${kernels})
    target_sources(${target} INTERFACE $<TARGET_OBJECTS:${target}_sm${number}>)
  endforeach()
  tenon_cuda_select(${CMAKE_CURRENT_BINARY_DIR}/select.cpp ${TENON_CUDA_KNOWN} ALL_CARDS)
  tenon_cuda_on_cpu(${target}_host host ${host} tests/cuda_on_cpu/cublaslt_load.cpp)
  target_sources(${target}_host PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/select.cpp)
  target_link_libraries(${target}_host PRIVATE fmt::fmt)
  target_sources(${target} INTERFACE $<TARGET_OBJECTS:${target}_host>)
  target_link_libraries(${target} INTERFACE cuda_on_cpu)
endfunction()
