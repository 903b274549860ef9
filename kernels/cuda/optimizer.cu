// SPDX-License-Identifier: Apache-2.0
// Computes    sums of squares, and a step of AdamW or SGD (formulas in core/kernel_table.h).
// Layout      a list of flat arrays: weights in fp32, bf16 or fp16, the others in fp32.
// Work split  a block for each piece of 4096 elements; one block adds the pieces' sums of squares.
// Numerics    steps in fp32, bf16 weights rounded stochastically; sums of squares in double, where
//             the square of a float is exact, by a fixed tree; the factor of the gradients in
//             double, rounded once.
// Traffic     AdamW reads 4 and writes 3 floats an element: bound by memory.
#include "core/device.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 256, kPack = 4;
constexpr int kSumSlot = 0;  // of device_scratch

// The part of a tensor that is this block's.
struct Piece {
  OptimizerTensor tensor;
  int64_t begin, end;
  bool aligned, weight_aligned;
};

// The last tensor whose first piece is not behind this block's (tensors of no pieces share their
// first piece with the next). The same for all threads, so that each load serves a warp.
__device__ __forceinline__ Piece piece_of_block(const OptimizerList& list) {
  const int64_t piece = blockIdx.x;
  int64_t low = 0, high = list.count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (list.tensors[middle].first_piece <= piece ? low : high) = middle;
  }
  Piece p = {list.tensors[low], 0, 0, true, true};
  p.begin = (piece - p.tensor.first_piece) * kOptimizerPiece;
  p.end = smaller(p.tensor.count, p.begin + kOptimizerPiece);
  const auto addresses = reinterpret_cast<uintptr_t>(p.tensor.grad) |
                         reinterpret_cast<uintptr_t>(p.tensor.m) |
                         reinterpret_cast<uintptr_t>(p.tensor.v);
  p.aligned = addresses % 16 == 0;
  p.weight_aligned = reinterpret_cast<uintptr_t>(p.tensor.weight) % 16 == 0;
  return p;
}

// Runs body(i, left) for the packs of the piece that are this thread's.
template <class Body>
__device__ __forceinline__ void for_packs(const Piece& p, const Body& body) {
  for (int64_t i = p.begin + threadIdx.x * kPack; i < p.end; i += kThreads * kPack)
    body(i, p.end - i);
}

// The weights from element i on.
__device__ __forceinline__ Floats<kPack> load_weights(const Piece& p, int64_t i, int64_t left) {
  switch (p.tensor.dtype) {
    case DType::kBF16:
      return load<kPack>(static_cast<const bf16*>(p.tensor.weight) + i, left, p.weight_aligned);
    case DType::kF16:
      return load<kPack>(static_cast<const f16*>(p.tensor.weight) + i, left, p.weight_aligned);
    default:
      return load<kPack>(static_cast<const float*>(p.tensor.weight) + i, left, p.weight_aligned);
  }
}

// i is a multiple of 4, as the blocks of words are. See Rounding.
__device__ __forceinline__ void store_weights(const Piece& p, Rounding stream, int64_t i,
                                              Floats<kPack> w, int64_t left) {
  const DType dtype = p.tensor.dtype;
  if (dtype != DType::kF32) {
    stream.purpose += p.tensor.number;
    const PhiloxBlock words = philox_block(stream, static_cast<uint64_t>(i / 4));
#pragma unroll
    for (int k = 0; k < kPack; ++k) w[k] = round_to(dtype, w[k], words.word[k]);
  }
  switch (dtype) {
    case DType::kBF16:
      return store(static_cast<bf16*>(p.tensor.weight) + i, w, left, p.weight_aligned);
    case DType::kF16:
      return store(static_cast<f16*>(p.tensor.weight) + i, w, left, p.weight_aligned);
    default: return store(static_cast<float*>(p.tensor.weight) + i, w, left, p.weight_aligned);
  }
}

// partial[p] = the sum of squares of piece p.
__global__ void __launch_bounds__(kThreads) sum_pieces_kernel(OptimizerList list, double* partial) {
  const Piece p = piece_of_block(list);
  double sum = 0;
  for_packs(p, [&](int64_t i, int64_t left) {
    const Floats<kPack> g = load<kPack>(p.tensor.grad + i, left, p.aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum += static_cast<double>(g[k]) * static_cast<double>(g[k]);
  });
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    add_pieces_kernel(const double* partial, int64_t pieces, double* out) {
  double sum = 0;
  for (int64_t p = threadIdx.x; p < pieces; p += kThreads) sum += partial[p];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = sum;
}

__global__ void __launch_bounds__(kThreads) adamw_kernel(AdamWArgs a) {
  if (nothing_to_do(a.scale)) return;
  const Piece p = piece_of_block(a.list);
  const OptimizerTensor& t = p.tensor;
  const float factor = factor_of(a.scale), decay = a.lr * t.weight_decay;
  const float rest1 = 1.0f - a.beta1, rest2 = 1.0f - a.beta2;
  const float rate = a.lr / a.correction1, root = 1.0f / sqrtf(a.correction2);
  for_packs(p, [&](int64_t i, int64_t left) {
    Floats<kPack> w = load_weights(p, i, left), m = load<kPack>(t.m + i, left, p.aligned),
                  v = load<kPack>(t.v + i, left, p.aligned);
    const Floats<kPack> grad = load<kPack>(t.grad + i, left, p.aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const float g = grad[k] * factor;
      m[k] = fmaf(a.beta1, m[k], rest1 * g);
      v[k] = fmaf(a.beta2, v[k], rest2 * g * g);
      w[k] = fmaf(-decay, w[k], w[k]) - rate * m[k] / fmaf(sqrtf(v[k]), root, a.eps);
    }
    store(t.m + i, m, left, p.aligned);
    store(t.v + i, v, left, p.aligned);
    store_weights(p, a.rounding, i, w, left);
  });
}

__global__ void __launch_bounds__(kThreads) sgd_kernel(SgdArgs a) {
  if (nothing_to_do(a.scale)) return;
  const Piece p = piece_of_block(a.list);
  const OptimizerTensor& t = p.tensor;
  const float factor = factor_of(a.scale);
  for_packs(p, [&](int64_t i, int64_t left) {
    Floats<kPack> w = load_weights(p, i, left);
    Floats<kPack> g = load<kPack>(t.grad + i, left, p.aligned), m = {};
    if (t.m != nullptr) m = load<kPack>(t.m + i, left, p.aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      g[k] = fmaf(t.weight_decay, w[k], g[k] * factor);
      if (t.m != nullptr) g[k] = fmaf(a.momentum, m[k], g[k]);
      w[k] = fmaf(-a.lr, g[k], w[k]);
    }
    if (t.m != nullptr) store(t.m + i, g, left, p.aligned);
    store_weights(p, a.rounding, i, w, left);
  });
}

}  // namespace

void sum_squares(const SumSquaresArgs& a) {
  auto* partial = static_cast<double*>(device_scratch(kSumSlot, a.list.pieces * 8));
  launch("sum_squares", sum_pieces_kernel, extent(a.list.pieces), kThreads, 0, a.list, partial);
  launch("sum_squares", add_pieces_kernel, extent(1), kThreads, 0, partial, a.list.pieces, a.out);
}

void adamw(const AdamWArgs& a) {
  launch("adamw", adamw_kernel, extent(a.list.pieces), kThreads, 0, a);
}

void sgd(const SgdArgs& a) { launch("sgd", sgd_kernel, extent(a.list.pieces), kThreads, 0, a); }

}  // namespace tenon::cuda::TENON_SM
