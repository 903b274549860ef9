# SPDX-License-Identifier: Apache-2.0
# Shows that CheckLayers.cmake finds wrong includes and calls: cmake -DWORK=<scratch folder> -P CheckLayersTest.cmake.
cmake_minimum_required(VERSION 3.25)

# expect(<file> <text of line 2> <what the report must say, or GOOD>): a tree of this one file.
function(expect file include report)
  file(REMOVE_RECURSE "${WORK}")
  file(WRITE "${WORK}/${file}" "// A file with one include.\n${include}\nint x;  // [;\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${WORK} -P ${CMAKE_CURRENT_LIST_DIR}/CheckLayers.cmake
                  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(FIND "${output}" "${report}" at)
  if(report STREQUAL "GOOD")
    if(NOT result EQUAL 0)
      message(SEND_ERROR "${file} with ${include}: expected no complaint, got ${output}")
    endif()
  elseif(result EQUAL 0 OR at EQUAL -1)
    message(SEND_ERROR "${file} with ${include}: expected '${report}', got exit ${result} and ${output}")
  endif()
endfunction()

expect(core/tensor.h "#include \"models/gpt2.h\"" "core/tensor.h:2: #include \"models/gpt2.h\"")
expect(core/tensor.h "#include <fmt/format.h>" "core/tensor.h:2:")
expect(core/tensor.cpp "  #  include \"kernels/cpu/vec_avx2.h\"" "core/tensor.cpp:2:")
expect(kernels/cpu/gemm.cpp "#include <algorithm>" "kernels/cpu/gemm.cpp:2:")
expect(kernels/cpu/gemm.cpp "#include \"core/tensor.h\"" "kernels/cpu/gemm.cpp:2:")
expect(comm/self.cpp "#include <mpi.h>" "comm/self.cpp:2:")
expect(models/gpt2.cpp "#include \"text/tokenizer/bpe.h\"" "models/gpt2.cpp:2:")
expect(text/tokenizer/bpe.cpp "#include \"text/data/documents.h\"" "text/tokenizer/bpe.cpp:2:")
expect(utils/misc.cpp "#include <vector>" "no rule")
expect(core/tensor.h "#include \"tensor.h\"" "core/tensor.h:2:")  # our headers are named from the root

expect(train/job.cpp "  fs::create_directories(folder);" "train/job.cpp:2:   fs::create_directories(folder);: core/files.h")
expect(text/data/sources.cpp "if (std::filesystem::exists(cache)) {" "text/data/sources.cpp:2:")
expect(tools/init.cpp "void f(const fs::directory_entry& entry);" "tools/init.cpp:2:")

expect(core/files.cpp "#include <vector>\nstd::filesystem::weakly_canonical(path, error);" GOOD)
expect(tools/init.cpp "#include <vector>\nstd::filesystem::path f(const fs::path& p) { return files::real(p); }" GOOD)
expect(tests/tools/lab.cpp "#include <filesystem>\nbool b = std::filesystem::exists(x);" GOOD)
expect(core/tensor.cpp "#include <fmt/format.h>" GOOD)
expect(comm/mpi.cpp "#include <mpi.h>" GOOD)
expect(kernels/cpu/gemm.cpp "#include <immintrin.h>" GOOD)
expect(tools/finetune.cpp "#include \"train/trainer.h\"" GOOD)
file(REMOVE_RECURSE "${WORK}")
