// SPDX-License-Identifier: Apache-2.0
// sm_70 (Volta) and sm_75 (Turing): fp16 products of depth 8, no bf16, no asynchronous copies. The
// interface is described in mma_k16.cuh.
//
// sm_75 has mma.m16n8k8 and ldmatrix. sm_70 has neither: there fragments are read by plain loads,
// and a product goes through mma.m8n8k4, whose operands and results are carried over by shuffles.
#pragma once

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {

constexpr int kMmaK = 8;
constexpr bool kHasBf16Mma = false;
constexpr bool kHasCpAsync = false;
constexpr int kSharedBytes = 64 * 1024;  // that a block may ask for
constexpr int kStages = 1;  // tiles of operands in shared memory at a time: copies do not overlap

struct FragmentA {
  uint32_t r[2];
};
struct FragmentB {
  uint32_t r;
};
struct Accumulator {
  float d[4];
};

// Two 8 x 8 matrices: the halves of A's rows, or two fragments of B. Stored one below the other.
template <class T>
__device__ __forceinline__ void load_below(uint32_t (&r)[2], const T* tile, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if constexpr (TENON_SM_NUMBER >= 75) {
    ldmatrix_x2(r, tile + lane % 16 * stride);
  } else {
    const T* row = tile + lane / 4 * stride + lane % 4 * 2;
    r[0] = *reinterpret_cast<const uint32_t*>(row);
    r[1] = *reinterpret_cast<const uint32_t*>(row + 8 * stride);
  }
}

// Two 8 x 8 matrices that are stored transposed, side by side.
template <class T>
__device__ __forceinline__ void load_beside(uint32_t (&r)[2], const T* tile, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if constexpr (TENON_SM_NUMBER >= 75) {
    ldmatrix_x2_trans(r, tile + lane % 8 * stride + lane / 8 % 2 * 8);
  } else {
    const T* column = tile + lane % 4 * 2 * stride + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const T pair[2] = {column[8 * half], column[8 * half + stride]};
      memcpy(&r[half], pair, sizeof(pair));
    }
  }
}

template <class T>
__device__ __forceinline__ void load_a_mk(FragmentA& a, const T* tile, int stride) {
  load_below(a.r, tile, stride);
}
template <class T>
__device__ __forceinline__ void load_a_km(FragmentA& a, const T* tile, int stride) {
  load_beside(a.r, tile, stride);
}
template <class T>
__device__ __forceinline__ void load_b_nk(FragmentB (&b)[2], const T* tile, int stride) {
  uint32_t r[2];
  load_below(r, tile, stride);
  b[0].r = r[0];
  b[1].r = r[1];
}
template <class T>
__device__ __forceinline__ void load_b_kn(FragmentB (&b)[2], const T* tile, int stride) {
  uint32_t r[2];
  load_beside(r, tile, stride);
  b[0].r = r[0];
  b[1].r = r[1];
}

// m16n8k8 by m8n8k4. The lanes form four teams of 8 (lane / 4 % 4), each of which multiplies 8 x 4
// by 4 x 8 for itself: team 0 rows 0-7 and depths 0-3, team 1 rows 8-15, teams 2 and 3 the same
// rows and depths 4-7. Within a team, a lane's place is lane % 4, plus 4 for lanes 16 to 31.
__device__ __forceinline__ void mma_by_teams(Accumulator& d, const FragmentA& a,
                                             const FragmentB& b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int place = lane % 4 + lane / 16 * 4, team = lane / 4 % 4;
  uint32_t row[2], column[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int from = place * 4 + team / 2 * 2 + i;
    const uint32_t upper = __shfl_sync(kAllLanes, a.r[0], from);
    const uint32_t lower = __shfl_sync(kAllLanes, a.r[1], from);
    row[i] = team % 2 == 0 ? upper : lower;
    column[i] = __shfl_sync(kAllLanes, b.r, from);
  }
  float sum[8] = {};
  mma_m8n8k4_f16(sum, row, column);
  // Place p of a team now has rows p % 2 (+ 2 in sum[2, 3, 6, 7], + 4 where p >= 4) and columns
  // p & 2 (+ 1 in odd sums, + 4 in sum[4..7]). Of the two teams with the same rows, one adds up the
  // left four columns, the other the right four.
  const int right = team / 2;
  float part[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float other = __shfl_xor_sync(kAllLanes, right != 0 ? sum[i] : sum[4 + i], 8);
    part[i] = (right != 0 ? sum[4 + i] : sum[i]) + other;
  }
  // Lane 4 g + t takes its columns from one lane for each half of the rows. In each round the teams
  // of the two halves offer different rows, as the lanes ask for different halves.
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int round = 0; round < 2; ++round) {
    const int half = g / 2 % 2 ^ round;
    const int from = g / 4 * 16 + (t / 2 * 2 + half) * 4 + g % 2 + t % 2 * 2;
    const bool below = (team % 2 ^ round) != 0;
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const float got = __shfl_sync(kAllLanes, below ? part[2 + odd] : part[odd], from);
      d.d[odd] += half == 0 ? got : 0.0f;
      d.d[2 + odd] += half == 0 ? 0.0f : got;
    }
  }
}

template <class T>
__device__ __forceinline__ void mma(Accumulator& d, const FragmentA& a, const FragmentB& b);
template <>
__device__ __forceinline__ void mma<f16>(Accumulator& d, const FragmentA& a, const FragmentB& b) {
  if constexpr (TENON_SM_NUMBER >= 75) {
    mma_m16n8k8_f16(d.d, a.r, b.r);
  } else {
    mma_by_teams(d, a, b);
  }
}

// The interface of asynchronous copies; these are complete when they return.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid = true) {
  using W = typename Word<kBytes>::Type;
  W word = {};
  if (valid) word = *static_cast<const W*>(global);
  *static_cast<W*>(shared) = word;
}
__device__ __forceinline__ void copy_async_commit() {}
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {}

}  // namespace tenon::cuda::TENON_SM
