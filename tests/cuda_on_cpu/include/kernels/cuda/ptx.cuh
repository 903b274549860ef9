// SPDX-License-Identifier: Apache-2.0
// Shadows kernels/cuda/ptx.cuh when a .cu file is compiled for the CPU: the harness does what the
// instructions do, and checks who may issue them, where and on which architecture.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifndef TENON_SM_NUMBER
#define TENON_SM_NUMBER 0
#endif

namespace tenon::cuda_on_cpu {

enum class Mma { kM16N8K16F16, kM16N8K16Bf16, kM16N8K8F16, kM8N8K4F16 };

void copy_async(void* shared, const void* global, int bytes, bool valid, int architecture);
void commit_async(int architecture);
void wait_async(int pending, int architecture);
void load_matrix(uint32_t* registers, int matrices, bool transposed, const void* row,
                 int architecture, SourceLine line);
void multiply(Mma shape, float* d, const uint32_t* a, const uint32_t* b, int architecture,
              SourceLine line);

}  // namespace tenon::cuda_on_cpu

namespace tenon::cuda {

#define TENON_INSTRUCTION [[maybe_unused]] static __device__ __forceinline__
#define TENON_LINE const char *file = __builtin_FILE(), int line = __builtin_LINE()

template <int kBytes>
TENON_INSTRUCTION void cp_async(void* shared, const void* global, bool valid = true) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  cuda_on_cpu::copy_async(shared, global, kBytes, valid, TENON_SM_NUMBER);
}
TENON_INSTRUCTION void cp_async_commit() { cuda_on_cpu::commit_async(TENON_SM_NUMBER); }
template <int kPending>
TENON_INSTRUCTION void cp_async_wait() {
  cuda_on_cpu::wait_async(kPending, TENON_SM_NUMBER);
}

TENON_INSTRUCTION void ldmatrix_x4(uint32_t (&r)[4], const void* row, TENON_LINE) {
  cuda_on_cpu::load_matrix(r, 4, false, row, TENON_SM_NUMBER, {file, line});
}
TENON_INSTRUCTION void ldmatrix_x2(uint32_t (&r)[2], const void* row, TENON_LINE) {
  cuda_on_cpu::load_matrix(r, 2, false, row, TENON_SM_NUMBER, {file, line});
}
TENON_INSTRUCTION void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, TENON_LINE) {
  cuda_on_cpu::load_matrix(r, 4, true, row, TENON_SM_NUMBER, {file, line});
}
TENON_INSTRUCTION void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, TENON_LINE) {
  cuda_on_cpu::load_matrix(r, 2, true, row, TENON_SM_NUMBER, {file, line});
}

TENON_INSTRUCTION void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2], TENON_LINE) {
  cuda_on_cpu::multiply(cuda_on_cpu::Mma::kM16N8K16F16, d, a, b, TENON_SM_NUMBER, {file, line});
}
TENON_INSTRUCTION void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2], TENON_LINE) {
  cuda_on_cpu::multiply(cuda_on_cpu::Mma::kM16N8K16Bf16, d, a, b, TENON_SM_NUMBER, {file, line});
}
TENON_INSTRUCTION void mma_m16n8k8_f16(float (&d)[4], const uint32_t (&a)[2], const uint32_t& b,
                                       TENON_LINE) {
  cuda_on_cpu::multiply(cuda_on_cpu::Mma::kM16N8K8F16, d, a, &b, TENON_SM_NUMBER, {file, line});
}
TENON_INSTRUCTION void mma_m8n8k4_f16(float (&d)[8], const uint32_t (&a)[2], const uint32_t (&b)[2],
                                      TENON_LINE) {
  cuda_on_cpu::multiply(cuda_on_cpu::Mma::kM8N8K4F16, d, a, b, TENON_SM_NUMBER, {file, line});
}

#undef TENON_LINE
#undef TENON_INSTRUCTION

}  // namespace tenon::cuda
