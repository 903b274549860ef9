// SPDX-License-Identifier: Apache-2.0
// The inner loops of matmul_few: a tile of the few times the wide, in registers over K. One reads
// rows of the wide that run along K and makes dot products; the other reads rows that run across K
// and adds multiples of them. Both ask for memory in its own order, ahead of what they read: with
// several rows read side by side the hardware would fetch them in turn, a little of each.
#pragma once

#include <cstdint>

#include "kernels/cpu/matmul_few_pack.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA::few {

constexpr int64_t kLineBytes = 64;

// How memory is asked for. Loads of each line, close ahead and in the order of their addresses, are
// what the processor's own prefetcher follows, and it keeps more lines on their way than a core may
// ask for itself: on 2 cores of an EPYC (Zen 4), 8 rows of 1152 bytes read side by side came at 56
// GB/s, with prefetch instructions as close at 37 and without either at 21.
enum class Fetch { kTouch, kPrefetch };

// Walks through memory that the wide will be read from: the rows of a block, one after another, then
// those of the next block.
struct Ahead {
  const char* row;
  const char* last;  // byte that may be read
  int64_t row_bytes, stride_bytes, rows;
  int64_t blocks;       // with this one
  int64_t block_bytes;  // from one block to the next
  int64_t index = 0;    // of the row
  const char* at = row;
  int64_t left = row_bytes;

  // After the last block it stays in its last row: what is in the cache costs little to ask for.
  void next_row() {
    if (index + 1 < rows) {
      row += stride_bytes;
      ++index;
    } else if (blocks > 1) {
      row += block_bytes - index * stride_bytes;
      index = 0;
      --blocks;
    }
    at = row;
    left = row_bytes;
  }
  template <Fetch kFetch>
  void fetch(const char* line) const {
    if constexpr (kFetch == Fetch::kTouch) {
      const char* address = line < last ? line : last;
      char byte;
      asm volatile("movb %1, %0" : "=q"(byte) : "m"(*address));
    } else {
      __builtin_prefetch(line, 0, 2);
    }
  }
  // Asks for the first bytes at once: nobody else does.
  template <Fetch kFetch>
  void begin(int64_t bytes) {
    for (bytes = smaller(bytes, rows * row_bytes); bytes > 0; bytes -= kLineBytes) {
      fetch<kFetch>(at);
      at += kLineBytes;
      left -= kLineBytes;
      if (left <= 0) next_row();
    }
  }
};

// One that stays at a line.
inline Ahead still(const void* line) {
  return {.row = static_cast<const char*>(line),
          .last = static_cast<const char*>(line),
          .row_bytes = kLineBytes,
          .stride_bytes = 0,
          .rows = 1,
          .blocks = 1,
          .block_bytes = 0};
}

// Bytes that a kernel asks for at a step in which it reads `vectors` of T.
template <class T>
constexpr int64_t ahead_bytes(int64_t vectors) {
  return larger(kLineBytes, vectors * kLanes * static_cast<int64_t>(sizeof(T)));
}

// Calls step(p) for p = 0, size, 2 size, ... while p + size <= k, fetching kBytes at each.
template <int64_t kBytes, Fetch kFetch, class Step>
int64_t for_steps(int64_t k, int64_t size, Ahead& ahead, const Step& step) {
  int64_t p = 0;
  while (p + size <= k) {
    const int64_t in_row = divide_up(ahead.left, kBytes);
    const int64_t end = smaller(k - size + 1, p + in_row * size);
    const char* at = ahead.at;
    for (; p < end; p += size) {
      step(p);
#pragma GCC unroll 16
      for (int64_t line = 0; line < kBytes; line += kLineBytes) ahead.fetch<kFetch>(at + line);
      at += kBytes;
    }
    ahead.left -= at - ahead.at;
    ahead.at = at;
    if (ahead.left <= 0) ahead.next_row();
  }
  return p;
}

// Keeps v in a register. GCC 12 loads anew for each of two uses, as an operand of fma: 8 x 2 dot
// products of 768 went from 86 to 106 GFLOP/s (EPYC, Zen 4, one core).
inline Vec kept(Vec v) {
  asm("" : "+v"(v.r));
  return v;
}

// Registers that hold sums of dot products: as many as a vector has lanes, so that they turn into
// one vector.
constexpr int kDots = kLanes == 1 ? 4 : kLanes;
// The few that are multiplied at a time.
constexpr int kDotRows = kLanes == 16 ? 8 : 4;
// The rows of the wide that are read side by side: few, so that they stay in L1 with those that are
// asked for.
constexpr int dot_columns(int rows) {
  return smaller(4, rows == 1 ? kDots : kDots / (rows <= 2 ? 2 : rows <= 4 ? 4 : 8));
}
// Arithmetic on more of the few leaves no room for loads: 8 x 49152 x 576 took 1.6 times as long.
constexpr Fetch dot_fetch(int rows) { return rows <= 2 ? Fetch::kTouch : Fetch::kPrefetch; }

// out[i] = the sum of the lanes of x[i], kCount being a power of 2 of at most kDots: rounds of
// zipping and adding, each of which halves the vectors, then those that halve what is left of one.
template <int kCount>
void sum_lanes(Vec (&x)[kCount], float* out) {
  if constexpr (kLanes == 1) {
    for (int i = 0; i < kCount; ++i) x[i].store(out + i);
  } else {
    Lanes y[kCount];
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) y[i] = lanes_of(x[i]);
#pragma GCC unroll 4
    for (int half = kCount / 2; half > 0; half /= 2) {
#pragma GCC unroll 16
      for (int i = 0; i < half; ++i) {
        y[i] =
            zip<0>(y[i], y[i + half], AllLanes()) + zip<kLanes / 2>(y[i], y[i + half], AllLanes());
      }
    }
    float lanes[kLanes];
    __builtin_memcpy(lanes, &y[0], sizeof(lanes));
#pragma GCC unroll 4
    for (int half = kLanes / 2; half >= kCount; half /= 2) {
#pragma GCC unroll 16
      for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    __builtin_memcpy(out, lanes, kCount * sizeof(float));
  }
}

// sums[i][j] += dot(few i, wide row j), times scales[j] where kI8.
template <class T, int kRows, int kColumns>
void add_dots(int64_t k, const float* few, const T* wide, int64_t stride, const float* scales,
              Ahead& ahead, float* sums, int64_t sums_stride) {
  constexpr int kSums = kRows * kColumns;
  constexpr int kCount = kSums <= 1    ? 1
                         : kSums <= 2  ? 2
                         : kSums <= 4  ? 4
                         : kSums <= 8  ? 8
                         : kSums <= 16 ? 16
                                       : 32;
  Vec sum[kCount];
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) sum[i] = Vec::zero();
  const auto step = [&](int64_t p, auto load) {
    Vec column[kColumns][2];
#pragma GCC unroll 16
    for (int j = 0; j < kColumns; ++j) {
      const VecPair pair = load(wide + j * stride + p);
      column[j][0] = kept(pair.first);
      column[j][1] = kept(pair.second);
    }
    const float* x = few + p * kRows;
#pragma GCC unroll 16
    for (int i = 0; i < 2 * kRows; ++i) {
      const Vec v = kept(Vec::load(x + i * kLanes));
#pragma GCC unroll 16
      for (int j = 0; j < kColumns; ++j) {
        Vec& total = sum[i / 2 * kColumns + j];
        total = fma(v, column[j][i % 2], total);
      }
    }
  };
  const int64_t p = for_steps<ahead_bytes<T>(2 * kColumns), dot_fetch(kRows)>(
      k, kPair, ahead, [&](int64_t at) { step(at, [](const T* x) { return VecPair::load(x); }); });
  if (p < k) step(p, [&](const T* x) { return load_pair(x, k - p); });
  float total[kCount];
  sum_lanes(sum, total);
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kColumns; ++j) {
      const float dot = total[i * kColumns + j];
      sums[i * sums_stride + j] += sizeof(T) == 1 ? dot * scales[j] : dot;
    }
  }
}

// The few that are multiplied at a time by rows across K, and the vectors of a row.
constexpr int kStepRows = kLanes == 16 ? 8 : 4;
constexpr int step_vectors(int rows) {
  if (kLanes == 1) return 4;
  if (kLanes == 8) return rows == 1 ? 4 : rows == 2 ? 4 : 2;
  return rows <= 2 ? 8 : rows <= 4 ? 4 : 3;
}

// sums[i][j] += sum over p of few[p * few_step + i] * wide[p * stride + j]. Of the last vector of a
// row only `left` lanes exist where kTail; the others of the sums get 0.
template <class T, int kRows, int kVectors, bool kTail>
void add_rows(int64_t k, const float* few, int64_t few_step, const T* wide, int64_t stride,
              int64_t left, Ahead& ahead, float* sums, int64_t sums_stride) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) sum[i][j] = Vec::load(sums + i * sums_stride + j * kLanes);
  }
  for_steps<ahead_bytes<T>(kVectors), Fetch::kPrefetch>(k, 1, ahead, [&](int64_t) {
    Vec row[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      const T* at = wide + j * kLanes;
      row[j] = kTail && j == kVectors - 1 ? Vec::load(at, left) : Vec::load(at);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec x = Vec::all(few[i]);
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) sum[i][j] = fma(x, row[j], sum[i][j]);
    }
    few += few_step;
    wide += stride;
  });
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) sum[i][j].store(sums + i * sums_stride + j * kLanes);
  }
}

// The same of one of the few and kSteps rows of any length. Sums are padded to whole vectors. Where
// kTouch, the rows that follow lie behind these and are asked for, up to ahead.last.
template <class T, int kSteps, bool kTouch>
void add_streams(const float* few, int64_t few_step, const T* wide, int64_t stride, int64_t count,
                 const Ahead& ahead, float* sums) {
  constexpr int64_t kBytes = kSteps * kLanes * static_cast<int64_t>(sizeof(T));
  const char* next = reinterpret_cast<const char*>(wide + kSteps * stride);
  Vec x[kSteps];
#pragma GCC unroll 4
  for (int p = 0; p < kSteps; ++p) x[p] = Vec::all(few[p * few_step]);
  const auto add = [&](int64_t j, auto load) {
    Vec sum = Vec::load(sums + j);
#pragma GCC unroll 4
    for (int p = 0; p < kSteps; ++p) sum = fma(x[p], load(wide + p * stride + j), sum);
    sum.store(sums + j);
    if constexpr (kTouch) {
#pragma GCC unroll 4
      for (int64_t line = 0; line < kBytes; line += kLineBytes) {
        ahead.fetch<Fetch::kTouch>(next + line);
      }
      next += kBytes;
    }
  };
  int64_t j = 0;
#pragma GCC unroll 4
  for (; j + kLanes <= count; j += kLanes) add(j, [](const T* at) { return Vec::load(at); });
  if (j < count) add(j, [&](const T* at) { return Vec::load(at, count - j); });
}

}  // namespace tenon::cpu::TENON_ISA::few
