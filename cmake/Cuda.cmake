# SPDX-License-Identifier: Apache-2.0
# The CUDA backend by nvcc: one OBJECT library an architecture from the same sources, as for the CPU's instruction sets.
# The runtime is linked statically and cuBLASLt loaded when first needed, so that the program starts where there is no
# driver, no card and no toolkit.
if(NOT TENON_CUDA_ARCHS)
  set(TENON_CUDA_ARCHS 75 80 90)
endif()
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13 AND NOT 70 IN_LIST TENON_CUDA_ARCHS)
  list(PREPEND TENON_CUDA_ARCHS 70)  # CUDA 13 has no sm_70
endif()

set(TENON_CUDA_OBJECTS "")
foreach(number IN LISTS TENON_CUDA_ARCHS)
  set(target tenon_cuda_sm${number})
  add_library(${target} OBJECT ${TENON_CUDA_KERNELS})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE --expt-relaxed-constexpr -lineinfo -Xcompiler=-Wall,-Wextra
                                           $<$<BOOL:${TENON_WERROR}>:-Werror=all-warnings -Xcompiler=-Werror>)
  if(TENON_QUICK_BUILD AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    target_compile_options(${target} PRIVATE -Ofc max)  # a quarter of the time; the kernels are slower
  endif()
  tenon_cuda_definitions(${target} ${number})
  if(number EQUAL 90)
    set(code 90a-real)
  elseif(number EQUAL 80)
    set(code 80)  # with PTX, which the driver compiles for newer cards
  else()
    set(code ${number}-real)
  endif()
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${code}")
  list(APPEND TENON_CUDA_OBJECTS $<TARGET_OBJECTS:${target}>)
endforeach()

tenon_cuda_select(${CMAKE_CURRENT_BINARY_DIR}/select.cpp ${TENON_CUDA_ARCHS})
add_library(tenon_cuda_host OBJECT ${TENON_CUDA_HOST} cublaslt_load.cpp ${CMAKE_CURRENT_BINARY_DIR}/select.cpp)
target_link_libraries(tenon_cuda_host PRIVATE tenon_options fmt::fmt CUDA::toolkit)
target_sources(tenon_device INTERFACE $<TARGET_OBJECTS:tenon_cuda_host> ${TENON_CUDA_OBJECTS})
target_link_libraries(tenon_device INTERFACE CUDA::cudart_static ${CMAKE_DL_LIBS})
