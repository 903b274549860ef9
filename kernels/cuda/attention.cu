// SPDX-License-Identifier: Apache-2.0
// Computes    nothing but delta = rowsum(dout out), which both gradient kernels need: this file
//             chooses which kernels attention and its gradient run on.
// Layout      delta (B, H, queries).
// Work split  a warp has one row of out.
// Numerics    fp32 sums.
// Traffic     reads out and dout once.
#include "kernels/cuda/attention.cuh"

#include TENON_ARCH
#include "core/device.h"
#include "kernels/cuda/kernels.h"

namespace tenon::cuda::TENON_SM {
namespace {

using namespace attention_parts;

constexpr int kDeltaWarps = 4;

template <class T>
__global__ void __launch_bounds__(kDeltaWarps* kWarp)
    attention_delta_kernel(AttentionGradArgs g, float* delta) {
  const AttentionArgs& a = g.forward;
  const int query = static_cast<int>(blockIdx.x) * kDeltaWarps + warp_of_thread();
  const int head = static_cast<int>(blockIdx.y);
  const int64_t sequence = blockIdx.z;
  if (query >= a.queries) return;
  const T* out = of_out<T>(a, static_cast<const void*>(a.out), sequence, query, head);
  const T* dout = of_out<T>(a, g.dout, sequence, query, head);
  float sum = 0;
  for (int64_t d = lane_of_thread(); d < a.head_size; d += kWarp) {
    sum = fmaf(to_float(out[d]), to_float(dout[d]), sum);
  }
  sum = warp_sum(sum);
  if (lane_of_thread() == 0) delta[row_of(a, sequence, query, head)] = sum;
}

bool multiplies_by_mma(const AttentionArgs& a) {
  return a.head_size <= kMmaHead &&
         (a.dtype == DType::kF16 || (a.dtype == DType::kBF16 && kHasBf16Mma));
}

}  // namespace

void attention(const AttentionArgs& a) {
  if (a.lse == nullptr && a.dropout == 0 && a.queries <= kFewQueries) {
    attention_decode(a);
  } else if (multiplies_by_mma(a)) {
    attention_by_mma(a);
  } else {
    attention_by_fma(a);
  }
}

void attention_grad(const AttentionGradArgs& g) {
  const AttentionArgs& a = g.forward;
  const int64_t rows = a.batch * a.heads * a.queries;
  auto* const delta =
      static_cast<float*>(device_scratch(kScratchSlot, rows * static_cast<int64_t>(sizeof(float))));
  dispatch_float(a.dtype, [&]<class T>() {
    launch("attention_delta", attention_delta_kernel<T>,
           extent(divide_up(a.queries, kDeltaWarps), a.heads, a.batch), kDeltaWarps * kWarp, 0, g,
           delta);
  });
  if (multiplies_by_mma(a)) {
    attention_grad_by_mma(g, delta);
  } else {
    attention_grad_by_fma(g, delta);
  }
}

}  // namespace tenon::cuda::TENON_SM
