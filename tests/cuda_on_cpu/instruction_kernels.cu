// SPDX-License-Identifier: Apache-2.0
// One instruction a kernel: registers come from and go to arrays that the test fills by the tables
// of the PTX ISA.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "tests/cuda_on_cpu/test_kernels.h"

namespace tenon::cuda_on_cpu {
namespace {

using namespace tenon::cuda;

// a: (32, kA), b: (32, kB), d: (32, kD).
template <int kA, int kB, int kD, class Multiply>
__device__ void multiply_registers(const uint32_t* a, const uint32_t* b, float* d,
                                   Multiply multiply_fragments) {
  uint32_t x[kA], y[kB];
  float z[kD];
  for (int i = 0; i < kA; ++i) x[i] = a[threadIdx.x * kA + i];
  for (int i = 0; i < kB; ++i) y[i] = b[threadIdx.x * kB + i];
  for (int i = 0; i < kD; ++i) z[i] = d[threadIdx.x * kD + i];
  multiply_fragments(z, x, y);
  for (int i = 0; i < kD; ++i) d[threadIdx.x * kD + i] = z[i];
}

__global__ void m16n8k16_f16(const uint32_t* a, const uint32_t* b, float* d) {
  multiply_registers<4, 2, 4>(a, b, d,
                              [](auto& z, auto& x, auto& y) { mma_m16n8k16_f16(z, x, y); });
}
__global__ void m16n8k16_bf16(const uint32_t* a, const uint32_t* b, float* d) {
  multiply_registers<4, 2, 4>(a, b, d,
                              [](auto& z, auto& x, auto& y) { mma_m16n8k16_bf16(z, x, y); });
}
__global__ void m16n8k8_f16(const uint32_t* a, const uint32_t* b, float* d) {
  multiply_registers<2, 1, 4>(a, b, d,
                              [](auto& z, auto& x, auto& y) { mma_m16n8k8_f16(z, x, y[0]); });
}
__global__ void m8n8k4_f16(const uint32_t* a, const uint32_t* b, float* d) {
  multiply_registers<2, 2, 8>(a, b, d, [](auto& z, auto& x, auto& y) { mma_m8n8k4_f16(z, x, y); });
}

__global__ void load_rows(const uint16_t* rows, uint32_t* registers, int matrices,
                          bool transposed) {
  uint16_t* s = dynamic_shared<uint16_t>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) s[8 * lane + i] = rows[8 * lane + i];
  __syncwarp();
  if (matrices == 4) {
    uint32_t r[4];
    if (transposed) {
      ldmatrix_x4_trans(r, s + 8 * lane);
    } else {
      ldmatrix_x4(r, s + 8 * lane);
    }
    for (int i = 0; i < 4; ++i) registers[4 * lane + i] = r[i];
  } else {
    uint32_t r[2];
    // The upper lanes' addresses count for nothing.
    const uint16_t* row = lane < 16 ? s + 8 * lane : nullptr;
    if (transposed) {
      ldmatrix_x2_trans(r, row);
    } else {
      ldmatrix_x2(r, row);
    }
    for (int i = 0; i < 2; ++i) registers[2 * lane + i] = r[i];
  }
}

}  // namespace

void start_mma(Instruction instruction, const uint32_t* a, const uint32_t* b, float* d) {
  const auto kernel = instruction == Instruction::kM16N8K16F16    ? m16n8k16_f16
                      : instruction == Instruction::kM16N8K16Bf16 ? m16n8k16_bf16
                      : instruction == Instruction::kM16N8K8F16   ? m16n8k8_f16
                                                                  : m8n8k4_f16;
  launch("mma", kernel, dim3(1), dim3(32), 0, a, b, d);
}

void start_ldmatrix(const uint16_t* rows, uint32_t* registers, int matrices, bool transposed) {
  launch("ldmatrix", load_rows, dim3(1), dim3(32), 512, rows, registers, matrices, transposed);
}

}  // namespace tenon::cuda_on_cpu
