// SPDX-License-Identifier: Apache-2.0
// Computes    c = alpha * (op(a) op(b) + op(a2) op(b2)) + bias, or that added to c.
// Layout      fp32, bf16 or fp16, either way round, packed into fp32 panels of kTileRows rows and
//             of kTileColumns columns. The second pair is more K.
// Work split  blocks of (rows, K) in turn. In each, chunks of row panels are packed for all
//             threads; then who takes a strip of columns packs it and multiplies all rows by it.
// Numerics    fp32 sums in the order of K within a block of K, blocks added in order; one rounding
//             to the dtype of c.
// Traffic     2 m n k operations; a is packed once, b once for each block of rows.
#include "kernels/cpu/matmul.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/matmul_pack.h"
#include "kernels/cpu/matmul_tile.h"

namespace tenon::cpu::TENON_ISA {
namespace {

// K = 768, with an adapter of rank 16, is one block: c is then written once and never read.
constexpr int64_t kBlockK = 784;
// The packed block of rows: 6 MiB, shared by all threads.
constexpr int64_t kRowElements = 2048 * kBlockK;
// Side of the blocks of c that need an fp32 copy: at most 4 MiB.
constexpr int64_t kPartialSide = 1024;
// Panels of rows that one chunk packs.
constexpr int64_t kPackRows = 8;
// Panels of columns in a strip: 4 * 32 * 784 floats fit a core's L2.
constexpr int64_t kStripPanels = 4;
// With fewer chunks than this they are made smaller, so that cores share evenly.
constexpr int64_t kFewChunks = 12;
// Panels of rows for which packing a strip anew costs little.
constexpr int64_t kLeastPanels = 32;

// Divides `extent` into the fewest equal blocks of at most `limit`; a block is a multiple of
// `step`.
int64_t block_size(int64_t extent, int64_t limit, int64_t step) {
  const int64_t blocks = divide_up(extent, larger(limit / step, 1) * step);
  return divide_up(divide_up(extent, larger(blocks, 1)), step) * step;
}

float* scratch_floats(int slot, int64_t count) {
  return static_cast<float*>(thread_scratch(slot, count * static_cast<int64_t>(sizeof(float))));
}

// One block of the product, and where its parts are.
struct Block {
  const MatmulArgs* args;
  Sources left, right;
  int64_t row, rows, column, columns, k, depth;
  bool first, last;  // of the blocks along K
  int64_t panel_rows;
  float* a;        // the packed panels
  float* partial;  // (rows, columns): the sum so far where c cannot hold it, or null

  int64_t row_panels() const { return divide_up(rows, panel_rows); }
  int64_t a_panel_size() const { return depth * panel_rows + kLanes; }
};

void pack_rows(const Block& block) {
  for_chunks(divide_up(block.row_panels(), kPackRows), [&](int64_t chunk) {
    const int64_t panel = chunk * kPackRows, i = panel * block.panel_rows;
    pack(block.left, block.row + i, smaller(kPackRows * block.panel_rows, block.rows - i), block.k,
         block.depth, block.panel_rows, block.a_panel_size(),
         block.a + panel * block.a_panel_size());
  });
}

// The epilogue of the tile at (i, j) of the block.
void finish_tile(const Block& block, float* tile, int64_t i, int64_t rows, int64_t j,
                 int64_t columns) {
  const MatmulArgs& args = *block.args;
  const float* bias = block.last && args.bias != nullptr ? args.bias + block.column + j : nullptr;
  const int64_t at = (block.row + i) * args.c_stride + block.column + j;
  if (block.partial == nullptr) {
    dispatch_float(args.c_dtype, [&](auto element) {
      finish(tile, kTileColumns, rows, columns, args.alpha, bias, args.accumulate || !block.first,
             static_cast<decltype(element)*>(args.c) + at, args.c_stride);
    });
    return;
  }
  const int64_t stride = divide_up(block.columns, kLanes) * kLanes;
  float* sum = block.partial + i * stride + j;
  finish(tile, kTileColumns, rows, divide_up(columns, kLanes) * kLanes, args.alpha, nullptr,
         !block.first, sum, stride);
  if (!block.last) return;
  dispatch_float(args.c_dtype, [&](auto element) {
    finish(sum, stride, rows, columns, 1.0f, bias, args.accumulate,
           static_cast<decltype(element)*>(args.c) + at, args.c_stride);
  });
}

// Asks for the part of c that a tile will need when it is done: its rows are too far apart for the
// hardware to foresee.
void prefetch_tile(const Block& block, int64_t i, int64_t rows, int64_t j, int64_t columns) {
  const MatmulArgs& args = *block.args;
  const int64_t size = size_of(args.c_dtype);
  char* c =
      static_cast<char*>(args.c) + ((block.row + i) * args.c_stride + block.column + j) * size;
  for (int64_t r = 0; r < rows; ++r, c += args.c_stride * size) {
    for (int64_t at = 0; at < columns * size; at += 64) __builtin_prefetch(c + at, 1);
  }
}

// Packs `count` panels of columns from `first` on and multiplies row panels [begin, end) by them.
// The packed strip belongs to the thread and stays in its cache: on 2 cores of an EPYC (Zen 4),
// 64 x 3072 x 768 took 2.1 ms, and 3.8 ms where threads first packed all columns for each other.
void multiply_strip(const Block& block, int64_t begin, int64_t end, int64_t first, int64_t count) {
  const int64_t panel_size = block.depth * kTileColumns;
  float* b = scratch_floats(1, count * panel_size + kLanes);
  const int64_t column = first * kTileColumns;
  const int64_t columns = smaller(count * kTileColumns, block.columns - column);
  pack(block.right, block.column + column, columns, block.k, block.depth, kTileColumns, panel_size,
       b);
  alignas(64) float tile[kTileRows * kTileColumns];
  for (int64_t p = begin; p < end; ++p) {
    const int64_t i = p * block.panel_rows, rows = smaller(block.panel_rows, block.rows - i);
    const float* a = block.a + p * block.a_panel_size();
    for (int64_t j = 0; j < columns; j += kTileColumns) {
      const int64_t width = smaller(kTileColumns, columns - j);
      prefetch_tile(block, i, rows, column + j, width);
      const auto run = width <= kLanes ? multiply_for<float, 1, false>(rows)
                                       : multiply_for<float, kTileVectors, false>(rows);
      run(block.depth, a, block.panel_rows, b + j / kTileColumns * panel_size, kTileColumns, 0,
          tile, kTileColumns, false);
      finish_tile(block, tile, i, rows, column + j, width);
    }
  }
}

void multiply_block(const Block& block) {
  const int64_t row_panels = block.row_panels();
  const int64_t column_panels = divide_up(block.columns, kTileColumns);
  int64_t rows = row_panels, columns = kStripPanels;
  while (columns > 1 && divide_up(column_panels, columns) < kFewChunks) columns /= 2;
  const int64_t strips = divide_up(column_panels, columns);
  while (rows >= 2 * kLeastPanels && strips * divide_up(row_panels, rows) < kFewChunks) {
    rows = divide_up(rows, 2);
  }
  const int64_t groups = divide_up(row_panels, rows);
  for_chunks(groups * strips, [&](int64_t chunk) {
    const int64_t p = chunk % groups * rows, q = chunk / groups * columns;
    multiply_strip(block, p, smaller(p + rows, row_panels), q, smaller(columns, column_panels - q));
  });
}

}  // namespace

void matmul_blocked(const MatmulArgs& args) {
  const int64_t k = args.k + args.k2, depth = block_size(k, kBlockK, 1);
  const bool partial = args.c_dtype != DType::kF32 && depth < k;
  const int64_t rows =
      block_size(args.m, partial ? kPartialSide : kRowElements / larger(depth, kLanes), kTileRows);
  const int64_t columns = partial ? block_size(args.n, kPartialSide, kTileColumns) : args.n;
  const int64_t panel_rows = block_size(smaller(rows, args.m), kTileRows, 1);

  Block block = {.args = &args,
                 .left = left_sources(args),
                 .right = right_sources(args),
                 .panel_rows = panel_rows};
  block.a = scratch_floats(0, divide_up(rows, panel_rows) * (depth * panel_rows + kLanes));
  block.partial = partial ? scratch_floats(2, rows * columns) : nullptr;
  for (block.row = 0; block.row < args.m; block.row += rows) {
    block.rows = smaller(rows, args.m - block.row);
    for (block.column = 0; block.column < args.n; block.column += columns) {
      block.columns = smaller(columns, args.n - block.column);
      block.k = 0;
      do {  // once even where k is 0: c still gets its bias
        block.depth = smaller(depth, k - block.k);
        block.first = block.k == 0;
        block.last = block.k + block.depth == k;
        pack_rows(block);
        multiply_block(block);
        block.k += block.depth;
      } while (block.k < k);
    }
  }
}

void matmul(const MatmulArgs& args) {
  if (args.m == 0 || args.n == 0) return;
  if (smaller(args.m, args.n) <= kFew) {
    matmul_few(args);
  } else {
    matmul_blocked(args);
  }
}

}  // namespace tenon::cpu::TENON_ISA
