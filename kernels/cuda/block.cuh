// SPDX-License-Identifier: Apache-2.0
// Sums and maxima over a warp or a block, in a fixed order; every thread gets the result, the same
// bits. Blocks have one dimension and whole warps; all threads take part.
#pragma once

#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {

__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_of_thread() { return static_cast<int>(threadIdx.x) / kWarp; }

// V: float, double or int64_t. The partners of each step add the same two numbers.
template <class V>
__device__ __forceinline__ V warp_sum(V value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

// NaN is passed over.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

template <class V>
__device__ __forceinline__ V block_sum(V value) {
  TENON_SHARED(V, partial, kWarp);
  value = warp_sum(value);
  if (lane_of_thread() == 0) partial[warp_of_thread()] = value;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const V total = warp_sum(lane_of_thread() < warps ? partial[lane_of_thread()] : V(0));
  __syncthreads();  // partial may be written again
  return total;
}

__device__ __forceinline__ float block_max(float value) {
  TENON_SHARED(float, partial, kWarp);
  value = warp_max(value);
  if (lane_of_thread() == 0) partial[warp_of_thread()] = value;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const float most = warp_max(partial[lane_of_thread() < warps ? lane_of_thread() : 0]);
  __syncthreads();
  return most;
}

}  // namespace tenon::cuda::TENON_SM
