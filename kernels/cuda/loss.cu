// SPDX-License-Identifier: Apache-2.0
// Computes    loss = log(sum(exp(logits))) - logits[target]; logits become
//             (softmax - onehot(target)) scale.
// Layout      rows of V fp32 logits, `stride` apart; a row may begin at any element.
// Work split  one block a row, a warp 128 bytes at a time.
// Numerics    fp32. A thread keeps the maximum and the sum of exp(x - maximum) of its elements,
//             four at a time: the sum is rescaled when the maximum rises. Threads are added in a
//             tree.
// Traffic     reads the row once for the loss; reads and writes it once more for the gradient, from
//             the second-level cache (a row of 50257 logits is 200 KB).
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 512, kEach = 4;

// What is subtracted before exp: a sum over logits of minus infinity is 0, not NaN.
__device__ __forceinline__ float base_of(float maximum) {
  return maximum == -INFINITY ? 0.0f : maximum;
}

struct Softmax {
  float maximum, sum;  // of exp(x - maximum)
};

// Of one row, for all threads of the block.
__device__ Softmax softmax_of(const float* x, int64_t count) {
  float maximum = -INFINITY, sum = 0;
  for (int64_t first = threadIdx.x; first < count; first += kThreads * kEach) {
    float v[kEach], found = maximum;
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const int64_t i = first + k * kThreads;
      v[k] = i < count ? x[i] : -INFINITY;
    }
#pragma unroll
    for (int k = 0; k < kEach; ++k) found = fmaxf(found, v[k]);
    const float base = base_of(found);
    if (found > maximum) sum *= expf(maximum - base);
    maximum = found;
#pragma unroll
    for (int k = 0; k < kEach; ++k) sum += expf(v[k] - base);
  }
  const float most = block_max(maximum);
  return {most, block_sum(sum * expf(maximum - base_of(most)))};
}

__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(CrossEntropyArgs a) {
  float* x = a.logits + int64_t{blockIdx.x} * a.stride;
  const int32_t target = a.targets[blockIdx.x];
  const float chosen = x[target];
  const Softmax softmax =
      softmax_of(x, a.vocabulary);  // its barriers part the read from the writes
  if (threadIdx.x == 0) a.loss[blockIdx.x] = logf(softmax.sum) + (softmax.maximum - chosen);
  if (!a.write_gradient) return;
  const float factor = a.scale / softmax.sum;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < a.vocabulary; i += kThreads) {
    const float share = expf(x[i] - softmax.maximum) * factor;
    x[i] = i == target ? share - a.scale : share;
  }
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& a) {
  launch("cross_entropy", cross_entropy_kernel, extent(a.rows), kThreads, 0, a);
}

}  // namespace tenon::cuda::TENON_SM
