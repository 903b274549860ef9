// SPDX-License-Identifier: Apache-2.0
// Instructions that CUDA C++ has no words for, one small function each, named as in the PTX ISA.
// All 32 lanes of a warp call ldmatrix and mma together. Fragments are laid out as the PTX ISA's
// chapter on mma draws them. Where the target lacks an instruction the function traps: the choice is
// made in arch_smXX.cuh, and code that is not chosen still compiles.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tenon::cuda {

#define TENON_INSTRUCTION [[maybe_unused]] static __device__ __forceinline__

// Copies kBytes (4, 8 or 16, both addresses aligned to that) from global to shared memory without
// waiting; when not `valid`, writes zeros and reads nothing. sm_80 on.
template <int kBytes>
TENON_INSTRUCTION void cp_async(void* shared, const void* global, bool valid = true) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
#if __CUDA_ARCH__ >= 800
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global),
                 "n"(kBytes), "r"(bytes)
                 : "memory");
  }
#else
  __trap();
#endif
}

// Ends the calling thread's present group of copies.
TENON_INSTRUCTION void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  __trap();
#endif
}

// Waits until at most kPending of the calling thread's groups are under way.
template <int kPending>
TENON_INSTRUCTION void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#else
  __trap();
#endif
}

// Loads 8x8 matrices of 16-bit elements from shared memory; lane 8m + i gives the address of row i
// of matrix m, a multiple of 16 bytes. sm_75 on.
TENON_INSTRUCTION void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
#if __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  __trap();
#endif
}

TENON_INSTRUCTION void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
#if __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  __trap();
#endif
}

// The same, each matrix transposed.
TENON_INSTRUCTION void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
#if __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  __trap();
#endif
}

TENON_INSTRUCTION void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
#if __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  __trap();
#endif
}

// d += a b with fp32 accumulators; a is row-major, b column-major.
TENON_INSTRUCTION void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2]) {  // sm_80 on
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

TENON_INSTRUCTION void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {  // sm_80 on
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

TENON_INSTRUCTION void mma_m16n8k8_f16(float (&d)[4], const uint32_t (&a)[2],
                                       const uint32_t& b) {  // sm_75 on
#if __CUDA_ARCH__ >= 750
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
#else
  __trap();
#endif
}

// Four products at once, one for each pair of quads (lanes 4q.. and 16 + 4q..). Fast on sm_70 only.
TENON_INSTRUCTION void mma_m8n8k4_f16(float (&d)[8], const uint32_t (&a)[2],
                                      const uint32_t (&b)[2]) {  // sm_70 on
#if __CUDA_ARCH__ >= 700
  asm volatile(
      "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9}, {%10, %11}, {%0, %1, %2, %3, %4, %5, %6, %7};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

#undef TENON_INSTRUCTION

}  // namespace tenon::cuda
