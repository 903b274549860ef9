// SPDX-License-Identifier: Apache-2.0
// Tensor cores by mma.m16n8k16 and copies by cp.async: what sm_80 and later have in common. The
// interface is the same in arch_sm70.cuh, with kMmaK = 8:
//
//   FragmentA     16 x kMmaK  of a warp's product
//   FragmentB     kMmaK x 8
//   Accumulator   16 x 8 in fp32: lane 4 g + t holds (g, 2t), (g, 2t + 1), (g + 8, 2t) and
//                 (g + 8, 2t + 1)
//   load_a_mk, load_a_km, load_b_nk, load_b_kn   from shared memory, named by how the matrix is
//                 stored: (m, k) is row after row of A, (k, m) its transpose. B comes two fragments
//                 at a time, kMmaK x 16. Rows are `stride` elements apart.
//   mma           d += a b
//   copy_async, copy_async_commit, copy_async_wait   global to shared memory in groups
//
// Requires: in loads, 16-byte aligned rows; 16 bytes more than a power of two from row to row keep
// them free of bank conflicts.
#pragma once

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {

constexpr int kMmaK = 16;
constexpr bool kHasBf16Mma = true;
constexpr bool kHasCpAsync = true;

struct FragmentA {
  uint32_t r[4];
};
struct FragmentB {
  uint32_t r[2];
};
struct Accumulator {
  float d[4];
};

// Each of the four 8 x 8 matrices that ldmatrix reads takes its row addresses from eight lanes, in
// the order of the registers.
template <class T>
__device__ __forceinline__ void load_a_mk(FragmentA& a, const T* tile, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  ldmatrix_x4(a.r, tile + lane % 16 * stride + lane / 16 * 8);
}

template <class T>
__device__ __forceinline__ void load_a_km(FragmentA& a, const T* tile, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  ldmatrix_x4_trans(a.r, tile + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
}

template <class T>
__device__ __forceinline__ void load_b_nk(FragmentB (&b)[2], const T* tile, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  uint32_t r[4];
  ldmatrix_x4(r, tile + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
  b[0] = {{r[0], r[1]}};
  b[1] = {{r[2], r[3]}};
}

template <class T>
__device__ __forceinline__ void load_b_kn(FragmentB (&b)[2], const T* tile, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  uint32_t r[4];
  ldmatrix_x4_trans(r, tile + lane % 16 * stride + lane / 16 * 8);
  b[0] = {{r[0], r[1]}};
  b[1] = {{r[2], r[3]}};
}

template <class T>
__device__ __forceinline__ void mma(Accumulator& d, const FragmentA& a, const FragmentB& b);
template <>
__device__ __forceinline__ void mma<f16>(Accumulator& d, const FragmentA& a, const FragmentB& b) {
  mma_m16n8k16_f16(d.d, a.r, b.r);
}
template <>
__device__ __forceinline__ void mma<bf16>(Accumulator& d, const FragmentA& a, const FragmentB& b) {
  mma_m16n8k16_bf16(d.d, a.r, b.r);
}

// kBytes: 4, 8 or 16, to which both addresses are aligned. Not valid: zeros are written and nothing
// is read.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid = true) {
  cp_async<kBytes>(shared, global, valid);
}
__device__ __forceinline__ void copy_async_commit() { cp_async_commit(); }
// Waits until all but the thread's last kPending groups have arrived.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  cp_async_wait<kPending>();
}

}  // namespace tenon::cuda::TENON_SM
