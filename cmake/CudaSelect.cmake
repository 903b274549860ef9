# SPDX-License-Identifier: Apache-2.0
# The CUDA architectures that Tenon knows: a name (the kernels' namespace), the header with what is its own, and the cards
# that run its kernels.

set(TENON_CUDA_KNOWN 90 80 75 70)  # newest first
function(tenon_cuda_arch_header number variable)
  if(number LESS 80)
    set(${variable} arch_sm70.cuh PARENT_SCOPE)
  elseif(number LESS 90)
    set(${variable} arch_sm80.cuh PARENT_SCOPE)
  else()
    set(${variable} arch_sm90.cuh PARENT_SCOPE)
  endif()
endfunction()

# tenon_cuda_definitions(TARGET NUMBER): what a kernel file is told about the architecture it is compiled for.
function(tenon_cuda_definitions target number)
  tenon_cuda_arch_header(${number} header)
  target_compile_definitions(${target} PRIVATE TENON_SM=sm${number} TENON_SM_NAME="sm${number}" TENON_SM_NUMBER=${number}
                                               TENON_ARCH="kernels/cuda/${header}")
endfunction()

# tenon_cuda_select(FILE NUMBERS... [ALL_CARDS]): writes the list of tables of these architectures. ALL_CARDS: each runs on
# every newer card, as they do on the harness of tests/cuda_on_cpu.
function(tenon_cuda_select file)
  cmake_parse_arguments(ARG "ALL_CARDS" "" "" ${ARGN})
  set(most_70 72)
  set(most_75 75)
  set(most_80 999)  # it comes with PTX
  set(most_90 90)   # sm_90a is no base for what came after
  set(TENON_CUDA_DECLARATIONS "")
  set(TENON_CUDA_ROWS "")
  foreach(number IN LISTS TENON_CUDA_KNOWN)
    if(NOT number IN_LIST ARG_UNPARSED_ARGUMENTS)
      continue()
    endif()
    set(most ${most_${number}})
    if(ARG_ALL_CARDS)
      set(most 999)
    endif()
    string(APPEND TENON_CUDA_DECLARATIONS "namespace sm${number} {\nextern const KernelTable table;\n}\n")
    string(APPEND TENON_CUDA_ROWS "\n    {&sm${number}::table, ${number}, ${most}},")
  endforeach()
  configure_file(${CMAKE_SOURCE_DIR}/kernels/cuda/select.cpp.in ${file} @ONLY)
endfunction()
