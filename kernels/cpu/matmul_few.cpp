// SPDX-License-Identifier: Apache-2.0
// Computes    matmul where one side has at most kFew rows (tokens that are generated) or columns (an
//             adapter of low rank).
// Layout      the few are packed to fp32; the long side, the wide, is read as it lies. Where its
//             rows run along K, each element of c is a dot product; otherwise multiples of rows are
//             added.
// Work split  strips of the wide; where they are fewer than kChunks, times parts of K.
// Numerics    fp32 sums: of a dot product by lanes, else in the order of K; then steps of K, then
//             parts of K, in order; one rounding to the dtype of c. None of these depends on how many
//             rows c has.
// Traffic     reads the long side once: bound by memory bandwidth, or, where more than about 8 are
//             multiplied, by arithmetic.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/matmul_expand.h"
#include "kernels/cpu/matmul_few_codes.h"
#include "kernels/cpu/matmul_few_kernel.h"
#include "kernels/cpu/matmul_few_pack.h"
#include "kernels/cpu/matmul_finish.h"

namespace tenon::cpu::TENON_ISA {
namespace {

using namespace few;

// Strips for cores to share, where the wide is long enough.
constexpr int64_t kStrips = 24;
// Chunks that K is cut for where strips are few, and the fewest steps that are worth it: the sums of
// each part of K pass from core to core.
constexpr int64_t kChunks = 12, kLeastPart = 256;
// Rows of a strip where they run along K: a multiple of what is read side by side.
constexpr int64_t kLeastDots = 16, kMostDots = 512;
// The sums of a strip: they stay in L1 or close to it. And the columns whose parts are added at a
// time.
constexpr int64_t kSums = 8192, kAddedColumns = 128;
// Floats of a packed group of the few for one block of K: they stay in L1 while a strip passes. Lanes
// of a dot product are added up after each kDotSteps, however many of the few there are.
constexpr int64_t kDotFloats = 6144, kDotSteps = kDotFloats / kDotRows / kPair * kPair;
// The least of a row of a strip where rows run across K, in bytes. On 2 cores of an EPYC (Zen 4), 8
// x 768 x 2048 took 0.14 ms with 192 to 384 and 0.17 with 2048, when K was cut in parts.
constexpr int64_t kLeastStrip = 384;
// Rows across K for each load and store of the sums, and up to how many bytes of the wide, which may
// then lie in a cache, they are twice as many: 8 x 768 x 2048 went from 105 to 110 GFLOP/s on a core
// of the same, but 8 x 50257 x 768 from 13.5 to 12 GB/s.
constexpr int64_t kStepBlock = 32, kCacheBytes = int64_t{1} << 24;
// How far ahead of the reader prefetch instructions ask for memory.
constexpr int64_t kAheadBytes = 32768;
// Bytes of the wide that are read side by side and, as many, asked for meanwhile: both stay in L1.
constexpr int64_t kTouchBytes = 12288;
// One of the few times rows across K: the least of a row of a strip in bytes, its most columns, the
// fewest steps of a part of K, and the rows that are read side by side. Runs of memory as long as
// that are what the processor fetches best: on 2 cores of an EPYC (Zen 4), 1 x 1024 x 1024 went from
// 24 to 33 GB/s with strips of 8192 bytes, and wider ones from 27 to 36 with 4 rows instead of 2.
constexpr int64_t kAloneStrip = 8192, kAloneColumns = 4096, kAlonePart = 128;
constexpr int kStreams = 4;

// One pair of operands of the product.
struct Pair {
  Source few, wide;
  const float* packed;  // the few, in the order that the wide wants
  int64_t step;         // between steps of K of the packed few where the wide lies across K
};

// The product in hand and how it is split.
struct Job {
  const MatmulArgs* args;
  bool few_columns;  // the few are columns of c
  int64_t few, wide;
  Pair pairs[2];
  int64_t strip, parts, part_steps, step_block;
  float* partial;  // (parts, few, wide padded): sums where there are several parts of K, or null

  int64_t strips() const { return divide_up(wide, strip); }
  int64_t padded() const { return divide_up(wide, kLanes) * kLanes; }
};

// One strip of the wide and its sums.
struct Strip {
  int64_t begin, count;
  float* sums;  // (few, count)
  int64_t stride;
};

// The steps of K that a call takes, and those after which lanes are added up.
struct DotSteps {
  int64_t count, part;
};

// A group of the few times a strip whose rows are read kColumns at a time.
template <class T, int kRows, int kColumns>
void add_dots_strip(const Source& wide, int64_t p, DotSteps steps, const float* packed,
                    const Strip& strip, Ahead& ahead, float* sums) {
  const T* first = wide.at<T>(strip.begin, p);
  const auto add = [&]<int kCount>(int64_t j) {
    for (int64_t q = 0; q < steps.count; q += steps.part) {
      add_dots<T, kRows, kCount>(smaller(steps.part, steps.count - q), packed + q * kRows,
                                 first + j * wide.stride + q, wide.stride,
                                 wide.scale(strip.begin + j), ahead, sums + j, strip.stride);
    }
  };
  int64_t j = 0;
  for (; j + kColumns <= strip.count; j += kColumns) add.template operator()<kColumns>(j);
  for (; j < strip.count; ++j) add.template operator()<1>(j);
}

template <class T, int kRows = kDotRows>
void add_dots_rows(int64_t rows, int64_t columns, const Source& wide, int64_t p, DotSteps steps,
                   const float* packed, const Strip& strip, Ahead& ahead, float* sums) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return add_dots_rows<T, kRows - 1>(rows, columns, wide, p, steps, packed, strip, ahead, sums);
    }
  }
  constexpr int kColumns = static_cast<int>(dot_columns(kRows));
  if constexpr (kRows == 1 && kColumns == 4) {
    if (columns == 2) {
      return add_dots_strip<T, 1, 2>(wide, p, steps, packed, strip, ahead, sums);
    }
    if (columns == 1) {
      return add_dots_strip<T, 1, 1>(wide, p, steps, packed, strip, ahead, sums);
    }
  }
  add_dots_strip<T, kRows, kColumns>(wide, p, steps, packed, strip, ahead, sums);
}

// Where the last element of a strip lies, K ending at `end`.
template <class T>
const char* last_of(const Pair& pair, int64_t end, const Strip& strip) {
  return reinterpret_cast<const char*>(pair.wide.at<T>(strip.begin + strip.count - 1, end - 1));
}

// Adds steps [begin, end) of K of a pair whose wide rows run along K. `begin` is a multiple of
// kPair.
template <class T>
void add_dots_part(const Pair& pair, int64_t few, int64_t begin, int64_t end, const Strip& strip) {
  const int64_t parts = divide_up(end - begin, kDotSteps);
  const int64_t part = divide_up(divide_up(end - begin, parts), kPair) * kPair;
  const int64_t blocks = divide_up(parts, kDotRows / smaller(few, kDotRows));
  const int64_t block = smaller(part * divide_up(parts, blocks), end - begin);
  const int64_t group_floats = divide_up(pair.wide.k, kPair) * kPair;  // of each of the few
  constexpr int64_t kSize = sizeof(T);
  int64_t columns = dot_columns(static_cast<int>(smaller(few, kDotRows)));
  if (few == 1) {
    while (columns > 1 && columns * block * kSize > kTouchBytes) columns /= 2;
  }
  Ahead ahead = {.row = reinterpret_cast<const char*>(pair.wide.at<T>(strip.begin, begin)),
                 .last = last_of<T>(pair, end, strip),
                 .row_bytes = block * kSize,
                 .stride_bytes = pair.wide.stride * kSize,
                 .rows = strip.count,
                 .blocks = blocks,
                 .block_bytes = block * kSize};
  if (blocks == 1 && ahead.stride_bytes == ahead.row_bytes) {  // one run of memory
    ahead.left = ahead.row_bytes = ahead.rows * ahead.row_bytes;
    ahead.rows = 1;
  }
  // Rows are read side by side: while some are, the next ones come.
  if (dot_fetch(static_cast<int>(few)) == Fetch::kTouch) {
    ahead.begin<Fetch::kTouch>(columns * block * kSize);
  } else {
    ahead.begin<Fetch::kPrefetch>(kDotRows * block * kSize + kAheadBytes);
  }
  for (int64_t p = begin; p < end; p += block) {
    const DotSteps steps = {smaller(block, end - p), part};
    // Only the first of several groups walks on; the others read what it brought.
    Ahead here = still(pair.wide.at<T>(strip.begin, p));
    for (int64_t i = 0; i < few; i += kDotRows) {
      const int64_t rows = smaller(kDotRows, few - i);
      add_dots_rows<T>(rows, columns, pair.wide, p, steps,
                       pair.packed + i * group_floats + p * rows, strip, i == 0 ? ahead : here,
                       strip.sums + i * strip.stride);
    }
  }
}

template <class T, int kRows>
void add_rows_strip(const Source& wide, int64_t p, int64_t steps, const float* packed, int64_t step,
                    const Strip& strip, Ahead& ahead, float* sums) {
  constexpr int kVectors = step_vectors(kRows);
  const T* first = wide.at<T>(strip.begin, p);
  int64_t j = 0;
  for (; j + kVectors * kLanes <= strip.count; j += kVectors * kLanes) {
    add_rows<T, kRows, kVectors, false>(steps, packed, step, first + j, wide.stride, 0, ahead,
                                        sums + j, strip.stride);
  }
  for (; j < strip.count; j += kLanes) {
    add_rows<T, kRows, 1, true>(steps, packed, step, first + j, wide.stride, strip.count - j, ahead,
                                sums + j, strip.stride);
  }
}

template <class T, int kRows = kStepRows>
void add_rows_group(int64_t rows, const Source& wide, int64_t p, int64_t steps, const float* packed,
                    int64_t step, const Strip& strip, Ahead& ahead, float* sums) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return add_rows_group<T, kRows - 1>(rows, wide, p, steps, packed, step, strip, ahead, sums);
    }
  }
  add_rows_strip<T, kRows>(wide, p, steps, packed, step, strip, ahead, sums);
}

// One of the few times steps [begin, end) of K of rows that run across K.
template <class T>
void add_alone_part(const Pair& pair, int64_t begin, int64_t end, const Strip& strip) {
  Ahead ahead = still(pair.wide.at<T>(strip.begin, begin));
  ahead.last = last_of<T>(pair, end, strip);
  const auto add = [&]<int kSteps, bool kTouch>(int64_t p) {
    add_streams<T, kSteps, kTouch>(pair.packed + p * pair.step, pair.step,
                                   pair.wide.at<T>(strip.begin, p), pair.wide.stride, strip.count,
                                   ahead, strip.sums);
  };
  const int64_t bytes = kStreams * strip.count * static_cast<int64_t>(sizeof(T));
  // Rows that lie one behind the other are one stream, of which the next rows are asked for;
  // longer ones are streams of their own.
  const bool run = strip.count == pair.wide.stride && bytes <= kTouchBytes;
  int64_t p = begin;
  for (; p + kStreams <= end; p += kStreams) {
    run ? add.template operator()<kStreams, true>(p) : add.template operator()<kStreams, false>(p);
  }
  for (; p < end; ++p) add.template operator()<1, false>(p);
}

// Adds steps [begin, end) of K of a pair whose wide rows run across K.
template <class T>
void add_rows_part(const Pair& pair, int64_t few, int64_t begin, int64_t end, const Strip& strip,
                   int64_t block) {
  constexpr int64_t kSize = sizeof(T);
  if (few == 1) return add_alone_part<T>(pair, begin, end, strip);
  Ahead ahead = {.row = reinterpret_cast<const char*>(pair.wide.at<T>(strip.begin, begin)),
                 .last = last_of<T>(pair, end, strip),
                 .row_bytes = strip.count * kSize,
                 .stride_bytes = pair.wide.stride * kSize,
                 .rows = end - begin,
                 .blocks = 1};
  ahead.begin<Fetch::kPrefetch>(block * ahead.row_bytes);
  for (int64_t p = begin; p < end; p += block) {
    const int64_t steps = smaller(block, end - p);
    Ahead here = still(pair.wide.at<T>(strip.begin, p));
    for (int64_t i = 0; i < few; i += kStepRows) {
      add_rows_group<T>(smaller(kStepRows, few - i), pair.wide, p, steps,
                        pair.packed + p * pair.step + i, pair.step, strip, i == 0 ? ahead : here,
                        strip.sums + i * strip.stride);
    }
  }
}

// The same of a wide in 4 bits, which becomes fp32 piece by piece.
void add_expanded(const Job& job, const Pair& pair, int64_t begin, int64_t end,
                  const Strip& strip) {
  constexpr int64_t kFloats = 8192;  // of the largest piece: it stays in L1
  alignas(64) float piece[kFloats];
  const Source& wide = pair.wide;
  const int64_t columns = wide.along_k ? kLeastDots / 2 : 512, steps = wide.along_k ? 512 : 16;
  if (job.few == 1 && wide.along_k && wide.stride % kCodeRun == 0 && begin % kCodeRun == 0 &&
      end % kCodeRun == 0)
    return add_dots_of_codes(wide, begin, end, steps, pair.packed, strip.begin, strip.count,
                             strip.sums);
  for (int64_t j = 0; j < strip.count; j += columns) {
    const int64_t count = smaller(columns, strip.count - j);
    const Strip part = {0, count, strip.sums + j, strip.stride};
    for (int64_t p = begin; p < end; p += steps) {
      const int64_t stop = smaller(p + steps, end);
      Pair dense = pair;
      dense.wide = {.data = piece,
                    .stride = wide.along_k ? steps : columns,
                    .along_k = wide.along_k,
                    .dtype = DType::kF32,
                    .scales = nullptr,
                    .k = wide.k,
                    .first_step = p};
      if (wide.along_k) {
        expand(wide, strip.begin + j, count, p, stop - p, piece, steps);
        add_dots_part<float>(dense, job.few, p, stop, part);
      } else {
        expand(wide, p, stop - p, strip.begin + j, count, piece, columns);
        add_rows_part<float>(dense, job.few, p, stop, part, job.step_block);
      }
    }
  }
}

// The sums of one strip over one part of K; the second pair belongs to the last.
void multiply_strip(const Job& job, int64_t part, const Strip& strip) {
  __builtin_memset(strip.sums, 0,
                   static_cast<size_t>(job.few * strip.stride) * sizeof(strip.sums[0]));
  const auto add = [&](const Pair& pair, int64_t begin, int64_t end) {
    if (begin >= end) return;
    if (pair.wide.four_bit != nullptr) return add_expanded(job, pair, begin, end, strip);
    dispatch_element(pair.wide.dtype, [&](auto element) {
      using T = decltype(element);
      if (pair.wide.along_k) {
        add_dots_part<T>(pair, job.few, begin, end, strip);
      } else {
        add_rows_part<T>(pair, job.few, begin, end, strip, job.step_block);
      }
    });
  };
  add(job.pairs[0], part * job.part_steps,
      smaller((part + 1) * job.part_steps, job.pairs[0].wide.k));
  if (part == job.parts - 1) add(job.pairs[1], 0, job.pairs[1].wide.k);
}

// The epilogue of the part of c that begins at (row, column).
void finish_part(const MatmulArgs& args, int64_t row, int64_t rows, int64_t column, int64_t columns,
                 const float* sums, int64_t sums_stride) {
  const int64_t at = row * args.c_stride + column;
  dispatch_float(args.c_dtype, [&]<class T>(T) {
    T* c = static_cast<T*>(args.c) + at;
    finish<T>({.alpha = args.alpha,
               .bias = args.bias == nullptr ? nullptr : args.bias + column,
               .base = args.accumulate ? c : nullptr,
               .epilogue = args.epilogue,
               .activation = args.activation,
               .pre = args.pre == nullptr ? nullptr : static_cast<T*>(args.pre) + at,
               .add = args.add == nullptr ? nullptr : static_cast<const T*>(args.add) + at,
               .c = c,
               .stride = args.c_stride},
              sums, sums_stride, rows, columns);
  });
}

void finish_strip(const Job& job, const Strip& strip) {
  if (!job.few_columns) {
    finish_part(*job.args, 0, job.few, strip.begin, strip.count, strip.sums, strip.stride);
    return;
  }
  constexpr int64_t kStride = divide_up(kFew, kLanes) * kLanes;
  alignas(64) float turned[kLanes * kStride];
  for (int64_t j = 0; j < strip.count; j += kLanes) {
    const int64_t rows = smaller(kLanes, strip.count - j);
    for (int64_t i = 0; i < job.few; i += kLanes) {
      turn(strip.sums + i * strip.stride + j, strip.stride, smaller(kLanes, job.few - i), rows,
           nullptr, turned + i, kStride);
    }
    finish_part(*job.args, strip.begin + j, rows, 0, job.few, turned, kStride);
  }
}

Strip strip_at(int64_t begin, int64_t count, float* sums) {
  return {begin, count, sums, divide_up(count, kLanes) * kLanes};
}

void run(const Job& job) {
  for_chunks(job.strips() * job.parts, [&](int64_t chunk) {
    alignas(64) float sums[kSums];
    const int64_t begin = chunk / job.parts * job.strip;
    const Strip strip = strip_at(begin, smaller(job.strip, job.wide - begin), sums);
    multiply_strip(job, chunk % job.parts, strip);
    if (job.partial == nullptr) return finish_strip(job, strip);
    float* to = job.partial + chunk % job.parts * job.few * job.padded() + strip.begin;
    for (int64_t i = 0; i < job.few; ++i) {
      for (int64_t j = 0; j < strip.count; j += kLanes) {
        Vec::load(sums + i * strip.stride + j).store(to + i * job.padded() + j);
      }
    }
  });
  if (job.partial == nullptr) return;
  for_ranges(job.wide, kAddedColumns, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[kSums];
    const Strip strip = strip_at(begin, end - begin, sums);
    for (int64_t i = 0; i < job.few; ++i) {
      for (int64_t j = 0; j < strip.count; j += kLanes) {
        const float* from = job.partial + i * job.padded() + strip.begin + j;
        Vec sum = Vec::load(from);
        for (int64_t part = 1; part < job.parts; ++part) {
          sum = sum + Vec::load(from + part * job.few * job.padded());
        }
        sum.store(sums + i * strip.stride + j);
      }
    }
    finish_strip(job, strip);
  });
}

// How the work is split: a function of the shape alone, and the parts of K, in which sums are added
// up, one of the wide alone.
void split(Job& job) {
  const Source& wide = job.pairs[0].wide;
  int64_t alone = 0;  // strips that one of the few would have
  if (wide.along_k) {
    const int64_t even = divide_up(divide_up(job.wide, kStrips), kLeastDots) * kLeastDots;
    job.strip = smaller(even, smaller(kMostDots, kSums / job.few / kLeastDots * kLeastDots));
    alone = divide_up(job.wide, smaller(even, kMostDots));
  } else {
    // What a kernel reads of a row at a step.
    const auto tile_of = [](int64_t few) {
      return step_vectors(static_cast<int>(smaller(few, kStepRows))) * kLanes;
    };
    const int64_t even = divide_up(job.wide, kStrips);
    const auto strip_of = [&](int64_t few) {
      const int64_t least = (few == 1 ? kAloneStrip : kLeastStrip) / size_of(wide.dtype);
      const int64_t tile = tile_of(few),
                    limit = smaller(few == 1 ? kAloneColumns : 1024, kSums / few) / tile * tile;
      return smaller(divide_up(larger(even, least), tile) * tile, limit);
    };
    job.strip = strip_of(job.few);
    alone = divide_up(job.wide, strip_of(1));
  }
  const int64_t bytes = job.wide * wide.k * size_of(wide.dtype);
  job.step_block = bytes > kCacheBytes ? kStepBlock : 2 * kStepBlock;
  const int64_t wanted = kChunks / alone;
  job.parts = larger(1, smaller(wanted, wide.k / (wide.along_k ? kLeastPart : kAlonePart)));
  job.part_steps = divide_up(divide_up(wide.k, job.parts), kPair) * kPair;
  job.parts = larger(1, divide_up(wide.k, larger(1, job.part_steps)));
}

// Floats that pack() needs.
int64_t packed_floats(const Pair& pair, int64_t few) {
  return step_width(few) * (divide_up(pair.few.k, kPair) * kPair) + kLanes;
}

// Brings the few of a pair into the order that the wide wants, in `out` unless they lie so already.
void pack(Pair& pair, int64_t few, float* out) {
  const bool scaled = !pair.wide.along_k && pair.wide.dtype == DType::kI8;
  if (!pair.wide.along_k && !pair.few.along_k && pair.few.dtype == DType::kF32 && !scaled) {
    pair.packed = static_cast<const float*>(pair.few.data);
    pair.step = pair.few.stride;
    return;
  }
  pair.packed = out;
  pair.step = step_width(few);
  dispatch_element(pair.few.dtype, [&](auto element) {
    using T = decltype(element);
    if (!pair.wide.along_k) return pack_steps<T>(pair.few, few, out);
    const int64_t k = divide_up(pair.few.k, kPair) * kPair;
    const bool unzips = pair.wide.dtype == DType::kBF16;
    for (int64_t i = 0; i < few; i += kDotRows) {
      pack_pairs<T>(pair.few, i, smaller(kDotRows, few - i), unzips, out + i * k);
    }
  });
  if (!scaled) return;
  // A stored row of the wide is a step of K: its scale goes to the few.
  for (int64_t p = 0; p < pair.few.k; ++p) {
    for (int64_t i = 0; i < few; ++i) out[p * pair.step + i] *= pair.wide.scales[p];
  }
}

}  // namespace

void matmul_few(const MatmulArgs& args) {
  const Source left[2] = {left_source(args.a, args.k), left_source(args.a2, args.k2)};
  const Source right[2] = {right_source(args.b, args.k), right_source(args.b2, args.k2)};
  Job job = {.args = &args,
             .few_columns = args.m > kAlikeRows,
             .few = args.m > kAlikeRows ? args.n : args.m,
             .wide = args.m > kAlikeRows ? args.m : args.n};
  for (int i = 0; i < 2; ++i) {
    job.pairs[i] = {.few = job.few_columns ? right[i] : left[i],
                    .wide = job.few_columns ? left[i] : right[i]};
  }
  split(job);

  const int64_t room = packed_floats(job.pairs[0], job.few);
  const int64_t room2 = packed_floats(job.pairs[1], job.few);
  const int64_t partial = job.parts > 1 ? job.parts * job.few * job.padded() : 0;
  float* scratch = static_cast<float*>(
      thread_scratch(0, (room + room2 + partial) * static_cast<int64_t>(sizeof(float))));
  pack(job.pairs[0], job.few, scratch);
  pack(job.pairs[1], job.few, scratch + room);
  job.partial = job.parts > 1 ? scratch + room + room2 : nullptr;
  run(job);
}

}  // namespace tenon::cpu::TENON_ISA
