// SPDX-License-Identifier: Apache-2.0
// How a block multiplies a tile: how operands get into shared memory, and two engines that multiply
// what lies there, on tensor cores (half types) and by fused multiply-adds (fp32).
//
// The words of the tile are its own: `rows` are the lines of the first operand, `columns` those
// of the second, and both have `depth` elements.
#pragma once

#include <type_traits>

#include TENON_ARCH
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {

constexpr int kRun = 8;  // elements that a thread copies at a time

// An operand in global memory: element (line, k) at data[line * stride + k], or at
// data[k * stride + line] where it does not lie along k.
struct Source {
  const void* data;
  int64_t stride, lines, k;
  DType dtype;
  bool along_k;
  bool aligned;  // every run of kRun elements starts at a multiple of 16 bytes
};

// Sizes of a block's tile, and how its warps (or threads) share it.
struct Wide {
  static constexpr int kRows = 128, kColumns = 128, kThreads = 256;
  static constexpr int kWarpRows = 64, kWarpColumns = 32;  // of one warp, on tensor cores
  static constexpr int kThreadsDown = 16;                  // of the block's threads, without them
};
struct Narrow {
  static constexpr int kRows = 64, kColumns = 32, kThreads = 128;
  static constexpr int kWarpRows = 16, kWarpColumns = 32;
  static constexpr int kThreadsDown = 16;
};

// One operand's part of a tile in shared memory: kLines x kDepth elements of T. Tensor cores take
// it as it lies in global memory, (line, k) or (k, line); fused multiply-adds want (k, line).
template <class T, int kLines, int kDepth, bool kAsItLies, int kThreads>
struct Panel {
  // 16 bytes beyond the extents: no bank conflicts, and runs stay aligned.
  static constexpr int kPad = 16 / sizeof(T);
  static constexpr int kStrideLineK = kDepth + kPad, kStrideKLine = kLines + kPad;
  static constexpr int kSize = kAsItLies && kLines * kStrideLineK > kDepth* kStrideKLine
                                   ? kLines* kStrideLineK
                                   : kDepth* kStrideKLine;

  // Starts to copy lines from `line` and depths from `k` on; zeros where the operand ends. Runs
  // that need no conversion are on their way until copy_async_wait().
  static __device__ __forceinline__ void fill(T* panel, const Source& source, int64_t line,
                                              int64_t k) {
    switch (source.dtype) {
      case DType::kBF16: return fill_from<bf16>(panel, source, line, k);
      case DType::kF16: return fill_from<f16>(panel, source, line, k);
      default: return fill_from<float>(panel, source, line, k);
    }
  }

 private:
  template <class S>
  static __device__ __forceinline__ void fill_from(T* panel, const Source& source, int64_t line,
                                                   int64_t k) {
    if (source.along_k) {
      copy_runs<S, true>(panel, source, line, source.lines, k, source.k);
    } else {
      copy_runs<S, false>(panel, source, k, source.k, line, source.lines);
    }
  }

  // Runs lie along `inner`.
  template <class S, bool kAlongK>
  static __device__ __forceinline__ void copy_runs(T* panel, const Source& source, int64_t outer0,
                                                   int64_t outer_end, int64_t inner0,
                                                   int64_t inner_end) {
    constexpr int kOuter = kAlongK ? kLines : kDepth, kInner = kAlongK ? kDepth : kLines;
    constexpr int kRuns = kInner / kRun, kStride = kAlongK ? kStrideLineK : kStrideKLine;
    constexpr bool kTransposes = kAlongK && !kAsItLies;
    constexpr bool kConverts = !std::is_same_v<S, T>;
    const S* data = static_cast<const S*>(source.data);
#pragma unroll
    for (int i = static_cast<int>(threadIdx.x); i < kOuter * kRuns; i += kThreads) {
      const int outer = i / kRuns, inner = i % kRuns * kRun;
      const bool inside = outer0 + outer < outer_end;
      const int64_t left = inside ? inner_end - (inner0 + inner) : 0;
      const S* from = left > 0 ? data + (outer0 + outer) * source.stride + inner0 + inner : data;
      if constexpr (!kTransposes && !kConverts) {
        if (source.aligned && (left >= kRun || left <= 0)) {
          constexpr int kEach = 16 / sizeof(T);
#pragma unroll
          for (int j = 0; j < kRun; j += kEach) {
            copy_async<16>(panel + outer * kStride + inner + j, from + (left > 0 ? j : 0),
                           left > 0);
          }
          continue;
        }
      }
      const Floats<kRun> run = load<kRun>(from, left, source.aligned);
      if constexpr (kTransposes) {
#pragma unroll
        for (int j = 0; j < kRun; ++j) {
          panel[(inner + j) * kStrideKLine + outer] = from_float<T>(run[j]);
        }
      } else {
        store(panel + outer * kStride + inner, run);
      }
    }
  }
};

// Multiplies on tensor cores. T: bf16 or f16.
template <class T, class Shape>
class TensorEngine {
 public:
  static constexpr int kDepth = 32;
  using A = Panel<T, Shape::kRows, kDepth, true, Shape::kThreads>;
  using B = Panel<T, Shape::kColumns, kDepth, true, Shape::kThreads>;

  __device__ TensorEngine() {
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    row_ = warp / kWarpsAcross * Shape::kWarpRows;
    column_ = warp % kWarpsAcross * Shape::kWarpColumns;
  }

  __device__ __forceinline__ void multiply(const T* a, bool a_along_k, const T* b, bool b_along_k) {
    if (a_along_k) {
      b_along_k ? multiply<true, true>(a, b) : multiply<true, false>(a, b);
    } else {
      b_along_k ? multiply<false, true>(a, b) : multiply<false, false>(a, b);
    }
  }

  // Calls put(row, column, x, y) for sums at (row, column) and (row, column + 1) of the tile.
  template <class Put>
  __device__ __forceinline__ void each_pair(const Put& put) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        const int row = row_ + i * 16 + lane / 4, column = column_ + j * 8 + lane % 4 * 2;
        const float(&d)[4] = sum_[i][j].d;
        put(row, column, d[0], d[1]);
        put(row + 8, column, d[2], d[3]);
      }
    }
  }

 private:
  static constexpr int kWarpsAcross = Shape::kColumns / Shape::kWarpColumns;
  static constexpr int kDown = Shape::kWarpRows / 16, kAcross = Shape::kWarpColumns / 8;

  template <bool kAAlongK, bool kBAlongK>
  __device__ __forceinline__ void multiply(const T* a, const T* b) {
#pragma unroll
    for (int k = 0; k < kDepth; k += kMmaK) {
      FragmentA left[kDown];
      FragmentB right[kAcross / 2][2];
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
        const int row = row_ + i * 16;
        if constexpr (kAAlongK) {
          load_a_mk(left[i], a + row * A::kStrideLineK + k, A::kStrideLineK);
        } else {
          load_a_km(left[i], a + k * A::kStrideKLine + row, A::kStrideKLine);
        }
      }
#pragma unroll
      for (int j = 0; j < kAcross / 2; ++j) {
        const int column = column_ + j * 16;
        if constexpr (kBAlongK) {
          load_b_nk(right[j], b + column * B::kStrideLineK + k, B::kStrideLineK);
        } else {
          load_b_kn(right[j], b + k * B::kStrideKLine + column, B::kStrideKLine);
        }
      }
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) mma<T>(sum_[i][j], left[i], right[j / 2][j % 2]);
      }
    }
  }

  int row_, column_;  // where the warp's part begins
  Accumulator sum_[kDown][kAcross] = {};
};

// Multiplies by fused multiply-adds: a thread has groups of 4 x 4 sums, spread over the tile so
// that neighbours read neighbouring words.
template <class T, class Shape>
class FmaEngine {
 public:
  static constexpr int kDepth = 16;
  using A = Panel<T, Shape::kRows, kDepth, false, Shape::kThreads>;
  using B = Panel<T, Shape::kColumns, kDepth, false, Shape::kThreads>;

  __device__ FmaEngine() {
    row_ = static_cast<int>(threadIdx.x) / kThreadsAcross * 4;
    column_ = static_cast<int>(threadIdx.x) % kThreadsAcross * 4;
  }

  __device__ __forceinline__ void multiply(const T* a, bool, const T* b, bool) {
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      Floats<4> left[kDown], right[kAcross];
#pragma unroll
      for (int i = 0; i < kDown; ++i) left[i] = load<4>(a + k * A::kStrideKLine + row(i));
#pragma unroll
      for (int j = 0; j < kAcross; ++j) right[j] = load<4>(b + k * B::kStrideKLine + column(j));
#pragma unroll
      for (int i = 0; i < kDown * 4; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross * 4; ++j) {
          sum_[i][j] = fmaf(left[i / 4][i % 4], right[j / 4][j % 4], sum_[i][j]);
        }
      }
    }
  }

  template <class Put>
  __device__ __forceinline__ void each_pair(const Put& put) const {
#pragma unroll
    for (int i = 0; i < kDown * 4; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross * 4; j += 2) {
        put(row(i / 4) + i % 4, column(j / 4) + j % 4, sum_[i][j], sum_[i][j + 1]);
      }
    }
  }

 private:
  static constexpr int kThreadsDown = Shape::kThreadsDown;
  static constexpr int kThreadsAcross = Shape::kThreads / kThreadsDown;
  static constexpr int kDown = Shape::kRows / (kThreadsDown * 4);
  static constexpr int kAcross = Shape::kColumns / (kThreadsAcross * 4);

  __device__ __forceinline__ int row(int i) const { return row_ + i * kThreadsDown * 4; }
  __device__ __forceinline__ int column(int j) const { return column_ + j * kThreadsAcross * 4; }

  int row_, column_;
  float sum_[kDown * 4][kAcross * 4] = {};
};

}  // namespace tenon::cuda::TENON_SM
