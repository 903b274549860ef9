// SPDX-License-Identifier: Apache-2.0
// Computes    c = alpha * (op(a) op(b) + op(a2) op(b2)) + bias, or that added to c: the product of
//             a layer with an adapter as one, and products with few rows or columns.
// Layout      fp32, bf16 or fp16, either way round, any strides; each operand is rounded to the
//             type of the product on its way into shared memory. The second pair is more K.
// Work split  a tile of c for each block: 128 x 128, or 64 x 32 where rows or columns are few (the
//             few are then the tile's columns; few rows are multiplied as columns of c^T). Where
//             tiles are fewer than kBlocks, several blocks share a tile's K.
// Numerics    fp32 sums in the order of K (tensor cores: by steps of 8 or 16); parts of a shared K
//             are added in order by a second kernel. One rounding to the dtype of c.
// Traffic     2 m n k operations; a is read once for each 128 columns, b for each 128 rows. With
//             few columns, everything is read once: bound by memory.
#include <type_traits>

#include "core/device.h"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/matmul_tile.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

// Panels in shared memory at a time: one that is multiplied, the others on their way. Without
// asynchronous copies two save one of two barriers.
constexpr int kPanels = kStages > 2 ? kStages : 2;
// Blocks that fill a card (two for each of the 108 to 132 multiprocessors of an A100 or H100). Not
// asked of the card, so that sums are the same on all of one architecture.
constexpr int64_t kBlocks = 256;
// A block that shares K has at least this many steps, so that its sums are worth writing.
constexpr int64_t kLeastSteps = 8;
constexpr int kSumThreads = 256;

// Where sums go: c, or its transpose.
struct Output {
  void* c;
  int64_t row_stride, column_stride;
  DType dtype;
  const float* bias;  // (columns), or (rows) where bias_by_row, or null
  bool bias_by_row;
  float alpha;
  bool accumulate;

  __device__ __forceinline__ void finish(int64_t row, int64_t column, float sum) const {
    float y = alpha * sum;
    if (bias != nullptr) y += bias[bias_by_row ? row : column];
    const int64_t at = row * row_stride + column * column_stride;
    switch (dtype) {
      case DType::kBF16: return put(static_cast<bf16*>(c) + at, y);
      case DType::kF16: return put(static_cast<f16*>(c) + at, y);
      default: return put(static_cast<float*>(c) + at, y);
    }
  }

 private:
  template <class T>
  __device__ __forceinline__ void put(T* element, float y) const {
    *element = from_float<T>(accumulate ? y + to_float(*element) : y);
  }
};

struct Product {
  Source a[2], b[2];  // lines of a are the rows of the output, those of b its columns
  int64_t rows, columns;
  int64_t first_steps;  // steps along K of the first pair
  int64_t steps;        // of both
  int64_t block_steps;  // of one block; blocks along z share K
  float* partial;       // (blocks along z, rows, columns) where K is shared, or null
  Output output;
};

template <class T, class Engine, class Shape>
__global__ void __launch_bounds__(Shape::kThreads) tile_kernel(Product p) {
  using A = typename Engine::A;
  using B = typename Engine::B;
  constexpr int kSize = A::kSize + B::kSize;
  T* panels = dynamic_shared<T>();  // (kPanels, kSize)
  const int64_t row = int64_t{blockIdx.x} * Shape::kRows;
  const int64_t column = int64_t{blockIdx.y} * Shape::kColumns;
  const int64_t begin = blockIdx.z * p.block_steps;
  const int64_t end = smaller(begin + p.block_steps, p.steps);

  const auto panel_of = [&](int64_t step) { return panels + (step - begin) % kPanels * kSize; };
  const auto fetch = [&](int64_t step) {
    if (step < end) {
      const int pair = step < p.first_steps ? 0 : 1;
      const int64_t k = (step - pair * p.first_steps) * Engine::kDepth;
      A::fill(panel_of(step), p.a[pair], row, k);
      B::fill(panel_of(step) + A::kSize, p.b[pair], column, k);
    }
    copy_async_commit();  // a group for each step, so that the count below is right at the end
  };

  Engine engine;
#pragma unroll
  for (int i = 0; i < kPanels - 1; ++i) fetch(begin + i);
  for (int64_t step = begin; step < end; ++step) {
    copy_async_wait<kPanels - 2>();
    __syncthreads();  // this step's panel is complete, and nobody reads the one before it any more
    fetch(step + kPanels - 1);
    const int pair = step < p.first_steps ? 0 : 1;
    const T* panel = panel_of(step);
    engine.multiply(panel, p.a[pair].along_k, panel + A::kSize, p.b[pair].along_k);
  }

  engine.each_pair([&](int i, int j, float x, float y) {
    if (row + i >= p.rows) return;
    const float sums[2] = {x, y};
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (column + j + e >= p.columns) return;
      if (p.partial == nullptr) {
        p.output.finish(row + i, column + j + e, sums[e]);
      } else {
        p.partial[(blockIdx.z * p.rows + row + i) * p.columns + column + j + e] = sums[e];
      }
    }
  });
}

// Adds the parts of a shared K, in order.
__global__ void __launch_bounds__(kSumThreads)
    sum_kernel(const float* partial,  // (parts, rows, columns)
               int64_t parts, int64_t rows, int64_t columns, Output output) {
  const int64_t i = int64_t{blockIdx.x} * kSumThreads + threadIdx.x;
  if (i >= rows * columns) return;
  float sum = 0;
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * rows * columns + i];
  output.finish(i / columns, i % columns, sum);
}

Source source_of(const MatrixOperand& x, int64_t lines, int64_t k, bool along_k) {
  return {.data = x.data,
          .stride = x.stride,
          .lines = lines,
          .k = k,
          .dtype = x.dtype,
          .along_k = along_k,
          .aligned = alignment_of(x.data) >= 16 && x.stride * size_of(x.dtype) % 16 == 0};
}

Product product_of(const MatmulArgs& args, bool swapped) {
  const MatrixOperand* pairs[2][2] = {{&args.a, &args.b}, {&args.a2, &args.b2}};
  const int64_t k[2] = {args.k, args.k2};
  Product p = {};
  for (int i = 0; i < 2; ++i) {
    const Source left = source_of(*pairs[i][0], args.m, k[i], !pairs[i][0]->transposed);
    const Source right = source_of(*pairs[i][1], args.n, k[i], pairs[i][1]->transposed);
    p.a[i] = swapped ? right : left;
    p.b[i] = swapped ? left : right;
  }
  p.rows = swapped ? args.n : args.m;
  p.columns = swapped ? args.m : args.n;
  p.output = {.c = args.c,
              .row_stride = swapped ? 1 : args.c_stride,
              .column_stride = swapped ? args.c_stride : 1,
              .dtype = args.c_dtype,
              .bias = args.bias,
              .bias_by_row = swapped,
              .alpha = args.alpha,
              .accumulate = args.accumulate};
  return p;
}

template <class T, class Engine, class Shape>
void run(const MatmulArgs& args, Product p) {
  p.first_steps = divide_up(args.k, Engine::kDepth);
  p.steps = p.first_steps + divide_up(args.k2, Engine::kDepth);
  const int64_t down = divide_up(p.rows, Shape::kRows);
  const int64_t across = divide_up(p.columns, Shape::kColumns);
  const int64_t wanted = larger(smaller(kBlocks / (down * across), p.steps / kLeastSteps), 1);
  p.block_steps = larger(divide_up(p.steps, wanted), 1);
  const int64_t parts = larger(divide_up(p.steps, p.block_steps), 1);
  const int64_t elements = p.rows * p.columns;
  if (parts > 1) {
    const int64_t bytes = parts * elements * static_cast<int64_t>(sizeof(float));
    p.partial = static_cast<float*>(device_scratch(kPartialSums, bytes));
  }
  constexpr int64_t kShared = kPanels * int64_t{sizeof(T)} * (Engine::A::kSize + Engine::B::kSize);
  static_assert(kShared <= kSharedBytes);
  launch("matmul", tile_kernel<T, Engine, Shape>, extent(down, across, parts), Shape::kThreads,
         kShared, p);
  if (parts == 1) return;
  launch("matmul_sum", sum_kernel, extent(divide_up(elements, kSumThreads)), kSumThreads, 0,
         p.partial, parts, p.rows, p.columns, p.output);
}

template <class T, template <class, class> class Engine>
void run_shape(const MatmulArgs& args) {
  const bool few = smaller(args.m, args.n) <= kFew;
  const Product product = product_of(args, few && args.m < args.n);
  if (few) {
    run<T, Engine<T, Narrow>, Narrow>(args, product);
  } else {
    run<T, Engine<T, Wide>, Wide>(args, product);
  }
}

}  // namespace

void multiply_by_tiles(const MatmulArgs& args, DType type) {
  if (type == DType::kF16) return run_shape<f16, TensorEngine>(args);
  if constexpr (kHasBf16Mma) {
    if (type == DType::kBF16) return run_shape<bf16, TensorEngine>(args);
  }
  run_shape<float, FmaEngine>(args);
}

}  // namespace tenon::cuda::TENON_SM
