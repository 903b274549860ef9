// SPDX-License-Identifier: Apache-2.0
// The kernels of the harness's own tests (good_kernels.cu, bad_kernels.cu, instruction_kernels.cu).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

namespace tenon::cuda_on_cpu {

// A kernel on one block. `count` floats lie at `data`.
struct TestKernel {
  const char* name;
  const char* kind;  // of the report that it must raise; where several may be, all of them
  int threads;
  void (*kernel)(float* data, int count);
};

constexpr int64_t kTestShared = 1024;  // bytes of dynamic shared memory that a TestKernel has

// Kernels that each break one rule.
const std::vector<TestKernel>& bad_kernels();
// Kernels that break none and leave i, or 1000 for a failure that they saw themselves, in data[i].
const std::vector<TestKernel>& good_kernels();
void start(const TestKernel& kernel, float* data, int count);

// y[row] = sum of x[row], one block a row.
void start_row_sums(const float* x, float* y, int rows, int columns);
// data[i] += value, over many blocks; waits for nothing.
void start_add(float* data, int count, float value);
// Launches that CUDA refuses, each an argument beyond its limit.
void start_sized(dim3 blocks, dim3 threads, int64_t shared_bytes);
cudaError_t start_raw(int64_t shared_bytes);  // without raising the limit
// Asks for this many bytes of dynamic shared memory and uses all of them.
void start_full_shared(float* data, int64_t shared_bytes);
// Calls itself to this depth.
void start_deep(int depth);

// One instruction by one warp, on registers as lanes hold them.
enum class Instruction { kM16N8K16F16, kM16N8K16Bf16, kM16N8K8F16, kM8N8K4F16 };
void start_mma(Instruction instruction, const uint32_t* a, const uint32_t* b, float* d);
// rows: 32 rows of 8 16-bit elements; registers: (32, 4) or (32, 2).
void start_ldmatrix(const uint16_t* rows, uint32_t* registers, int matrices, bool transposed);

// The stream of tenon::cuda::stream() in these tests.
void set_stream(cudaStream_t stream);

}  // namespace tenon::cuda_on_cpu
