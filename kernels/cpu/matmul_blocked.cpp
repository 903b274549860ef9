// SPDX-License-Identifier: Apache-2.0
// Computes    c = epilogue(alpha * (op(a) op(b) + op(a2) op(b2)) + bias) + add, and t where wanted.
// Layout      any operands, either way round, packed into panels of units (matmul_unit.h): pairs of
//             bf16, pairs or quads of int8 where this instruction set multiplies those and the operands fit,
//             else fp32. The second pair is more K.
// Work split  in steps, one for each block of rows and of K. A step multiplies strips of columns:
//             who takes a strip packs it, into its own cache, and multiplies all rows by it. The
//             next step's rows are packed meanwhile, for all threads, in small pieces that also
//             fill the time of threads that are done.
// Numerics    fp32 sums (of int8: whole numbers, then scaled) in the order of K within a block of K,
//             blocks added in order, whatever the tile; one rounding to the dtype of c.
// Traffic     2 m n k operations; a is packed once, b once for each block of rows.
#include "kernels/cpu/matmul.h"

#include "kernels/cpu/matmul_choice.h"
#include "kernels/cpu/matmul_finish.h"
#include "kernels/cpu/matmul_pack.h"
#include "kernels/cpu/matmul_tile.h"

namespace tenon::cpu::TENON_ISA {
namespace {

// Units of a block of K. K = 768, with an adapter of rank 16, is one block, and as bf16 K = 3072 is:
// c is then written once and never read. (On an EPYC (Zen 4), 256 x 2560 x 2560 in bf16 went from 76
// to 85 % of the peak when its two blocks became one; fp32 gained nothing from larger ones.)
template <class Unit>
constexpr int64_t kBlockUnits = Unit::kSteps == 1 || kLanes < 16 ? 784 : 1568;
// Units of a block of rows, packed: 6 MiB.
constexpr int64_t kRowUnits = 2048 * 784;
// Side of the blocks of c that need an fp32 copy: at most 4 MiB.
constexpr int64_t kPartialSide = 1024;
// Panels of rows that one task packs.
constexpr int64_t kPackPanels = 4;
// Columns in a strip: 128 * 784 units fit a core's second-level cache.
constexpr int64_t kStripColumns = 128;
// Strips are made narrower, down to a panel, until there are so many.
constexpr int64_t kFewStrips = 24;
// Each of the last strips is multiplied in this many tasks, so that threads end together.
constexpr int64_t kSplit = 4;
// Rows for which packing a strip once more costs little.
constexpr int64_t kLeastRows = 96;

// Divides `extent` into the fewest equal blocks of at most `limit`; a block is a multiple of
// `step`.
int64_t block_size(int64_t extent, int64_t limit, int64_t step) {
  const int64_t blocks = divide_up(extent, larger(limit / step, 1) * step);
  return divide_up(divide_up(extent, larger(blocks, 1)), step) * step;
}

float* scratch_floats(int slot, int64_t count) {
  return static_cast<float*>(thread_scratch(slot, count * static_cast<int64_t>(sizeof(float))));
}

// Its address tells this instruction set's products from others'.
const char kName[] = TENON_ISA_NAME;

enum Slot { kRowsSlot, kStripSlot, kPartialSlot, kDownSlot };

// One block of rows, columns and K.
struct Step {
  int64_t row, rows, column, columns, unit, units;
  bool first, last;  // of the blocks along K
  float* a;          // the packed rows
};

template <class Unit>
class Product {
 public:
  Product(const MatmulArgs& args, int shape);
  void run();

  // Of its scratch memory, in floats: packed rows, the packed strip of a thread, sums, op(down).
  struct Room {
    int64_t rows, strip, sums, down;
  };
  Room room() const;

 private:
  Step step(int64_t index) const;
  void pack_rows(const Step& s, int64_t task) const;
  void add_to_t(const Step& s, const float* panel, int64_t i, int64_t rows, int64_t units) const;
  void pack_down();
  void multiply_strip(const Step& s, int64_t begin, int64_t end, int64_t first, int64_t columns,
                      int64_t next) const;
  void add_strip(const Step& s, int64_t first, int64_t index, int64_t shares, Lines& lines) const;
  void scale_tile(const Step& s, float* tile, int64_t i, int64_t rows, int64_t j,
                  int64_t columns) const;
  void finish_tile(const Step& s, const float* tile, int64_t i, int64_t rows, int64_t j,
                   int64_t columns) const;
  template <class T>
  void store_tile(const Step& s, const float* sums, int64_t sums_stride, const T* base, float alpha,
                  int64_t i, int64_t rows, int64_t j, int64_t columns) const;
  void add_tile(const Step& s, int64_t i, int64_t rows, int64_t j, int64_t columns,
                Lines& lines) const;

  int64_t panels(const Step& s) const { return divide_up(s.rows, panel_rows_); }
  int64_t pack_tasks(const Step& s) const { return divide_up(panels(s), kPackPanels); }
  int64_t a_panel_size() const { return depth_ * panel_rows_ + kLanes; }
  int64_t packed_rows() const { return divide_up(rows_, panel_rows_) * a_panel_size(); }
  // Floats in front of a strip's panels.
  int64_t lead() const { return Unit::kWholeNumbers ? panel_columns_ : 0; }

  const MatmulArgs& args_;
  const int shape_;
  Sources left_, right_;
  int64_t first_units_, units_;     // of the first pair, of both
  int64_t depth_, rows_, columns_;  // the largest step
  int64_t panel_rows_, panel_columns_;
  int64_t strip_;          // columns of one
  int64_t deep_, wide_;    // steps along K and along the columns
  bool partial_;           // c cannot hold the sums of the first blocks of K
  float* down_ = nullptr;  // the packed op(down), panels of kLanes columns
  float* sums_ = nullptr;  // (rows, columns) where partial_
};

template <class Unit>
Product<Unit>::Product(const MatmulArgs& args, int shape) : args_(args), shape_(shape) {
  left_ = {{left_source(args.a, args.k), left_source(args.a2, args.k2)}};
  if (args.t != nullptr) left_.part[1] = {args.t, args.k2, true, DType::kF32, nullptr, args.k2};
  right_ = {{right_source(args.b, args.k), right_source(args.b2, args.k2)}};
  first_units_ = units_of<Unit>(args.k);
  units_ = first_units_ + units_of<Unit>(args.k2);
  // Blocks in 4 bits are whole where K is cut.
  const bool four_bit = args.a.four_bit != nullptr || args.b.four_bit != nullptr;
  depth_ = block_size(units_, kBlockUnits<Unit>, four_bit ? 64 / Unit::kSteps : 1);
  // One even where k is 0: c still gets its bias.
  deep_ = larger(divide_up(units_, larger(depth_, 1)), 1);
  partial_ = deep_ > 1 && args.c_dtype != DType::kF32;
  const TileShape tile = Tiles::kAll[shape];
  panel_columns_ = tile.vectors * kLanes;
  const int64_t most = partial_ ? kPartialSide : kRowUnits / larger(depth_, kLanes);
  rows_ = block_size(args.m, most, tile.rows);
  columns_ = partial_ ? block_size(args.n, kPartialSide, panel_columns_) : args.n;
  wide_ = divide_up(args.n, columns_);
  panel_rows_ = block_size(smaller(rows_, args.m), tile.rows, 1);
  strip_ = kStripColumns / panel_columns_ * panel_columns_;
  while (strip_ > panel_columns_ && divide_up(columns_, strip_) < kFewStrips) {
    strip_ -= panel_columns_;
  }
}

template <class Unit>
typename Product<Unit>::Room Product<Unit>::room() const {
  const int64_t tiles = divide_up(smaller(strip_, columns_), panel_columns_);
  return {.rows = 2 * packed_rows(),
          .strip = tiles * (depth_ * panel_columns_ + lead()) + kLanes,
          .sums = partial_ ? rows_ * divide_up(columns_, kLanes) * kLanes : 0,
          .down = args_.t == nullptr
                      ? 0
                      : divide_up(args_.k2, kLanes) * kLanes * first_units_ + kLanes};
}

template <class Unit>
Step Product<Unit>::step(int64_t index) const {
  Step s;
  const int64_t k = index % deep_, block = index / deep_;
  s.unit = k * depth_;
  s.units = smaller(depth_, units_ - s.unit);
  s.first = k == 0;
  s.last = k == deep_ - 1;
  s.column = block % wide_ * columns_;
  s.columns = smaller(columns_, args_.n - s.column);
  s.row = block / wide_ * rows_;
  s.rows = smaller(rows_, args_.m - s.row);
  s.a = scratch_floats(kRowsSlot, room().rows) + index % 2 * packed_rows();
  return s;
}

template <class Unit>
void Product<Unit>::pack_down() {
  const Source down = right_source(args_.down, args_.k);
  constexpr int64_t kUnits = 128;  // of a task
  down_ = scratch_floats(kDownSlot, room().down);
  for_ranges(first_units_, kUnits, [&](int64_t begin, int64_t end) {
    pack_part<typename Unit::Columns>(
        down, 0, 0, begin, end - begin,
        {args_.k2, kLanes, kLanes * first_units_, down_ + begin * kLanes});
  });
}

// t rows += the packed panel's rows times op(down).
template <class Unit>
void Product<Unit>::add_to_t(const Step& s, const float* panel, int64_t i, int64_t rows,
                             int64_t units) const {
  alignas(64) float tile[kMostTileRows * kLanes];
  const MultiplyTile multiply = tile_for<Unit>(shape_, rows, 1);
  for (int64_t j = 0; j < args_.k2; j += kLanes) {
    multiply(units, panel, panel_rows_, down_ + j * first_units_ + s.unit * kLanes, kLanes, tile,
             Lines());
    float* t = args_.t + (s.row + i) * args_.k2 + j;
    finish<float>(
        {.alpha = args_.down_alpha, .base = s.first ? nullptr : t, .c = t, .stride = args_.k2},
        tile, kLanes, rows, smaller(kLanes, args_.k2 - j));
  }
}

template <class Unit>
void Product<Unit>::pack_rows(const Step& s, int64_t task) const {
  const int64_t panel = task * kPackPanels, i = panel * panel_rows_;
  const Panels to = {smaller(kPackPanels * panel_rows_, s.rows - i), panel_rows_, a_panel_size(),
                     s.a + panel * a_panel_size()};
  pack_part<typename Unit::Rows>(left_.part[0], 0, s.row + i, s.unit, s.units, to);
  const int64_t units = smaller(s.units, first_units_ - s.unit);  // of the first pair
  if (args_.t != nullptr && units > 0) {
    for (int64_t r = 0; r < to.count; r += panel_rows_) {
      add_to_t(s, to.out + r / panel_rows_ * to.panel_size, i + r,
               smaller(panel_rows_, to.count - r), units);
    }
  }
  pack_part<typename Unit::Rows>(left_.part[1], first_units_, s.row + i, s.unit, s.units, to);
}

template <class Unit>
template <class T>
void Product<Unit>::store_tile(const Step& s, const float* sums, int64_t sums_stride, const T* base,
                               float alpha, int64_t i, int64_t rows, int64_t j,
                               int64_t columns) const {
  const int64_t at = (s.row + i) * args_.c_stride + s.column + j;
  Finish<T> f = {.alpha = alpha, .c = static_cast<T*>(args_.c) + at, .stride = args_.c_stride};
  if (base != nullptr) f.base = base + at;
  if (s.last) {
    if (args_.bias != nullptr) f.bias = args_.bias + s.column + j;
    f.epilogue = args_.epilogue;
    f.activation = args_.activation;
    if (args_.pre != nullptr) f.pre = static_cast<T*>(args_.pre) + at;
    if (args_.add != nullptr) f.add = static_cast<const T*>(args_.add) + at;
  }
  finish(f, sums, sums_stride, rows, columns);
}

// The epilogue of the tile at (i, j) of the step.
template <class Unit>
void Product<Unit>::finish_tile(const Step& s, const float* tile, int64_t i, int64_t rows,
                                int64_t j, int64_t columns) const {
  if (!partial_) {
    dispatch_float(args_.c_dtype, [&]<class T>(T) {
      const bool adds = !s.first || args_.accumulate;
      store_tile(s, tile, panel_columns_, adds ? static_cast<const T*>(args_.c) : nullptr,
                 args_.alpha, i, rows, j, columns);
    });
    return;
  }
  const int64_t stride = divide_up(columns_, kLanes) * kLanes;
  float* sum = sums_ + i * stride + j;
  finish<float>({.alpha = args_.alpha, .base = s.first ? nullptr : sum, .c = sum, .stride = stride},
                tile, panel_columns_, rows, divide_up(columns, kLanes) * kLanes);
  if (!s.last) return;
  dispatch_float(args_.c_dtype, [&]<class T>(T) {
    store_tile(s, sum, stride, args_.accumulate ? static_cast<const T*>(args_.c) : nullptr, 1.0f, i,
               rows, j, columns);
  });
}

// What the epilogue of a tile will read and write: parts of c, and of `pre` and `add` where it reads
// those.
template <class Unit>
void Product<Unit>::add_tile(const Step& s, int64_t i, int64_t rows, int64_t j, int64_t columns,
                             Lines& lines) const {
  const int64_t size = size_of(args_.c_dtype);
  const int64_t at = ((s.row + i) * args_.c_stride + s.column + j) * size;
  const bool reads_pre = s.last && args_.epilogue == Epilogue::kActivationGrad;
  const void* const parts[] = {reads_pre ? args_.pre : nullptr, s.last ? args_.add : nullptr,
                               args_.c};
  for (const void* part : parts) {
    for (int64_t r = 0; r < rows && part != nullptr; ++r) {
      lines.add(static_cast<const char*>(part) + at + r * args_.c_stride * size,
                divide_up(columns * size, 64));
    }
  }
}

// A share of the strip that begins at column `first` of the step, if there is one.
template <class Unit>
void Product<Unit>::add_strip(const Step& s, int64_t first, int64_t index, int64_t shares,
                              Lines& lines) const {
  if (first >= s.columns || s.unit >= first_units_) return;
  add_lines<Unit>(right_.part[0], s.column + first, smaller(strip_, s.columns - first), s.unit,
                  s.units, index, shares, lines);
}

// Whole numbers times the scales of their row and column.
template <class Unit>
void Product<Unit>::scale_tile(const Step& s, float* tile, int64_t i, int64_t rows, int64_t j,
                               int64_t columns) const {
  const float* row_scales = args_.a.scales;
  const float* column_scales = args_.b.scales;
  for (int64_t at = 0; at < columns; at += kLanes) {
    const Vec column = column_scales == nullptr
                           ? Vec::all(1.0f)
                           : load_some(column_scales + s.column + j + at, columns - at);
    for (int64_t r = 0; r < rows; ++r) {
      float* sums = tile + r * panel_columns_ + at;
      const float row = row_scales == nullptr ? 1.0f : row_scales[s.row + i + r];
      (Vec::load(sums) * (Vec::all(row) * column)).store(sums);
    }
  }
}

// Packs `columns` columns from `first` of the step on and multiplies row panels [begin, end) by
// them. The packed strip belongs to the thread and stays in its cache: on 2 cores of an EPYC (Zen
// 4), 64 x 3072 x 768 took 2.1 ms, and 3.8 ms where threads first packed all columns for each other.
template <class Unit>
void Product<Unit>::multiply_strip(const Step& s, int64_t begin, int64_t end, int64_t first,
                                   int64_t columns, int64_t next) const {
  const int64_t panel_size = s.units * panel_columns_ + lead();
  const int64_t tiles = divide_up(columns, panel_columns_);
  float* b = scratch_floats(kStripSlot, tiles * panel_size + kLanes) + lead();
  pack<typename Unit::Columns>(right_, s.column + first, s.unit, s.units,
                               {columns, panel_columns_, panel_size, b});
  if constexpr (Unit::kWholeNumbers) {
    for (int64_t t = 0; t < tiles; ++t) Unit::correct(b + t * panel_size, s.units, panel_columns_);
  }
  alignas(64) float tile[kMostTileRows * kMostTileColumns];
  for (int64_t p = begin; p < end; ++p) {
    const int64_t i = p * panel_rows_, rows = smaller(panel_rows_, s.rows - i);
    for (int64_t j = 0; j < columns; j += panel_columns_) {
      const int64_t width = smaller(panel_columns_, columns - j);
      const int64_t column = j / panel_columns_;
      Lines lines;
      add_strip(s, next, (p - begin) * tiles + column, (end - begin) * tiles, lines);
      add_tile(s, i, rows, first + j, width, lines);
      tile_for<Unit>(shape_, rows, width)(s.units, s.a + p * a_panel_size(), panel_rows_,
                                          b + column * panel_size, panel_columns_, tile, lines);
      if constexpr (Unit::kWholeNumbers) scale_tile(s, tile, i, rows, first + j, width);
      finish_tile(s, tile, i, rows, first + j, width);
    }
  }
}

template <class Unit>
void Product<Unit>::run() {
  if (args_.t != nullptr) pack_down();
  if (partial_) sums_ = scratch_floats(kPartialSlot, room().sums);
  const int64_t count = divide_up(args_.m, rows_) * wide_ * deep_;
  Step s = step(0);
  for_chunks(pack_tasks(s), [&](int64_t task) { pack_rows(s, task); });
  for (int64_t i = 0; i < count; ++i) {
    const bool more = i + 1 < count;
    const Step next = more ? step(i + 1) : s;
    const int64_t strips = divide_up(s.columns, strip_), all = panels(s);
    const int64_t pieces = smaller(kSplit, larger(all * panel_rows_ / kLeastRows, 1));
    const int64_t whole = larger(0, strips - 2 * thread_count());  // the others are split
    const int64_t multiplications = whole + (strips - whole) * pieces;
    const int64_t packs = more ? pack_tasks(next) : 0, tasks = multiplications + packs;
    for_chunks(tasks, [&](int64_t index) {
      // Packing waits for memory and multiplying for arithmetic: the one is spread among the other.
      const int64_t packed = index * packs / tasks, task = index - packed;
      if ((index + 1) * packs / tasks > packed) return pack_rows(next, packed);
      const int64_t split = task - whole, at = split < 0 ? task : whole + split / pieces;
      const int64_t piece = divide_up(all, split < 0 ? 1 : pieces);
      const int64_t begin = split < 0 ? 0 : split % pieces * piece;
      multiply_strip(s, begin, smaller(begin + piece, all), at * strip_,
                     smaller(strip_, s.columns - at * strip_), (at + thread_count()) * strip_);
    });
    s = next;
  }
}

// Takes as much scratch memory as the largest of the tiles' shapes needs: which shape is taken is
// measured, and what the product takes must not depend on that.
template <class Unit>
void reserve(const MatmulArgs& args) {
  typename Product<Unit>::Room most = {};
  for (int shape = 0; shape < kTileCount; ++shape) {
    const auto room = Product<Unit>(args, shape).room();
    most = {larger(most.rows, room.rows), larger(most.strip, room.strip),
            larger(most.sums, room.sums), larger(most.down, room.down)};
  }
  scratch_floats(kRowsSlot, most.rows);
  if (most.sums > 0) scratch_floats(kPartialSlot, most.sums);
  if (most.down > 0) scratch_floats(kDownSlot, most.down);
  reserve_scratch(kStripSlot, most.strip * static_cast<int64_t>(sizeof(float)));
}

template <class Unit>
void multiply(const MatmulArgs& args) {
  reserve<Unit>(args);
  if (!chunks_are_run()) return;
  const ProductClass product = {.table = kName,
                                .unit_steps = Unit::kSteps,
                                .m = args.m,
                                .n = args.n,
                                .k = args.k + args.k2,
                                .a_transposed = args.a.transposed,
                                .b_transposed = args.b.transposed};
  TileChoice choice(product, kTileCount);
  Product<Unit>(args, choice.tile()).run();
  choice.done();
}

// Whether a pair can be multiplied as bf16 without loss, or with the loss that the caller allows.
bool fits_bf16(const MatmulArgs& args, const MatrixOperand& a, const MatrixOperand& b) {
  const auto fits = [&](const MatrixOperand& x) {
    const bool rounds = x.dtype == DType::kF32 || x.dtype == DType::kI8;
    return x.dtype == DType::kBF16 || (rounds && args.precision == DType::kBF16);
  };
  return fits(a) && fits(b);
}

bool all_fit_bf16(const MatmulArgs& args) {
  const MatrixOperand t;  // fp32
  return fits_bf16(args, args.a, args.b) &&
         (args.k2 == 0 || fits_bf16(args, args.t != nullptr ? t : args.a2, args.b2)) &&
         (args.t == nullptr || fits_bf16(args, args.a, args.down));
}

// Whether both operands are int8 with a scale for each row and column of c.
bool fits_bytes(const MatmulArgs& args) {
  return args.a.dtype == DType::kI8 && args.b.dtype == DType::kI8 && !args.a.transposed &&
         args.b.transposed && args.k2 == 0;
}

}  // namespace

void matmul_blocked(const MatmulArgs& args, bool pairs) {
  if (kHasByteDots && fits_bytes(args)) {
    multiply<ByteUnit>(args);
  } else if (kHasBf16Dots && pairs && all_fit_bf16(args)) {
    multiply<Bf16Unit>(args);
  } else {
    multiply<FloatUnit>(args);
  }
}

}  // namespace tenon::cpu::TENON_ISA
