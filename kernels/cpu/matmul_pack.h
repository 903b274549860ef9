// SPDX-License-Identifier: Apache-2.0
// The packers of matmul: they bring any operand (fp32, bf16, fp16 or int8, either way round) into
// panels of units. A panel holds `width` rows of op(a), or columns of op(b): unit (i, u), u counting
// along K, lies at u * width + i.
#pragma once

#include <cstdint>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/matmul_expand.h"
#include "kernels/cpu/matmul_source.h"
#include "kernels/cpu/matmul_tile.h"
#include "kernels/cpu/matmul_unit.h"

namespace tenon::cpu::TENON_ISA {

// Both pairs of one side: the units of the second follow those of the first.
struct Sources {
  Source part[2];
};

// Panels in the making: `count` inner indices in all, in panels of `width` that lie panel_size
// apart; what is missing in the last one becomes 0. Whole vectors are stored: one that is wider than
// the panel spills into the next unit, which is written later, or into kLanes floats past the end.
struct Panels {
  int64_t count, width, panel_size;
  float* out;
};

// From a source whose stored rows run along K.
template <class Unit, class T>
void pack_along(const T* x, int64_t stride, int64_t steps, const float* scales,
                const Panels& panels) {
  const int64_t width = panels.width;
  float* out = panels.out;
  for (int64_t first = 0; first < panels.count; first += width, out += panels.panel_size) {
    const int64_t count = smaller(width, panels.count - first);
    for (int64_t p = 0, u = 0; p < steps; p += kLanes * Unit::kSteps, u += kLanes) {
      const int64_t units = smaller(divide_up(steps - p, Unit::kSteps), kLanes);
      for (int64_t i = 0; i < width; i += kLanes) {
        Lanes square[kLanes];
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) {
          Vec v = Vec::zero();
          if (i + r < count) {
            const int64_t row = first + i + r;
            v = Unit::along(x + row * stride + p, steps - p,
                            scales == nullptr ? 1.0f : scales[row]);
          }
          square[r] = lanes_of(v);
        }
        transpose(square);
        float* at = out + u * width + i;
        if (units == kLanes) {
#pragma GCC unroll 16
          for (int q = 0; q < kLanes; ++q)
            __builtin_memcpy(at + q * width, &square[q], sizeof(Lanes));
        } else {
          for (int64_t q = 0; q < units; ++q)
            __builtin_memcpy(at + q * width, &square[q], sizeof(Lanes));
        }
      }
    }
  }
}

// From one where neighbours in memory are neighbours in a panel: row by row, so that memory is read
// in order.
template <class Unit, class T>
void pack_across(const T* x, int64_t stride, int64_t steps, const float* scales,
                 const Panels& panels) {
  const int64_t width = panels.width;
  float* out = panels.out;
  for (int64_t p = 0; p < steps; p += Unit::kSteps, out += width) {
    float* panel = out;
    for (int64_t first = 0; first < panels.count; first += width, panel += panels.panel_size) {
      const int64_t count = smaller(width, panels.count - first);
      for (int64_t i = 0; i < width; i += kLanes) {
        const Vec v = i < count ? Unit::across(x + p * stride + first + i, stride, steps - p,
                                               count - i, scales == nullptr ? nullptr : scales + p)
                                : Vec::zero();
        v.store(panel + i);
      }
    }
  }
}

// From a source whose pieces become fp32 first, at inner index i and step p.
template <class Unit>
void pack_expanded(const Source& part, int64_t i, int64_t p, int64_t steps, const Panels& panels) {
  constexpr int64_t kFloats = 6144, kSteps = 256, kRows = 16;
  alignas(64) float piece[kFloats];
  const int64_t width = panels.width;
  // A panel and many steps, or many panels and a few steps: memory is read in long runs.
  const int64_t inner = part.along_k ? width : kFloats / kRows / width * width;
  const int64_t most = part.along_k ? smaller(kSteps, kFloats / width / 32 * 32) : kRows;
  for (int64_t first = 0; first < panels.count; first += inner) {
    Panels some = {smaller(inner, panels.count - first), width, panels.panel_size,
                   panels.out + first / width * panels.panel_size};
    for (int64_t q = 0; q < steps; q += most, some.out += most / Unit::kSteps * width) {
      const int64_t count = smaller(most, steps - q);
      if (part.along_k) {
        expand(part, i + first, some.count, p + q, count, piece, most);
        pack_along<Unit>(static_cast<const float*>(piece), most, count, nullptr, some);
      } else {
        expand(part, p + q, count, i + first, some.count, piece, inner);
        pack_across<Unit>(static_cast<const float*>(piece), inner, count, nullptr, some);
      }
    }
  }
}

// Calls body(T()) with the type of the source's elements, of those that the unit takes.
template <class Unit, class Body>
void dispatch_source(DType dtype, const Body& body) {
  if constexpr (Unit::kBytes) {
    body(int8_t());
  } else if constexpr (Unit::kSteps == 2) {
    dtype == DType::kF32 ? body(float()) : body(BF16());
  } else {
    dispatch_element(dtype, body);
  }
}

template <class Unit>
int64_t units_of(int64_t steps) {
  return divide_up(steps, Unit::kSteps);
}

// Packs inner indices from `i` on and `units` units from `unit` on of one source, whose first one is
// unit `begin` of the joined K. Those of the range that are not the source's are left alone.
template <class Unit>
void pack_part(const Source& part, int64_t begin, int64_t i, int64_t unit, int64_t units,
               Panels panels) {
  const int64_t end = begin + units_of<Unit>(part.k);
  const int64_t from = larger(unit, begin), to = smaller(unit + units, end);
  if (from >= to) return;
  const int64_t p = (from - begin) * Unit::kSteps,
                steps = smaller(part.k, (to - begin) * Unit::kSteps) - p;
  panels.out += (from - unit) * panels.width;
  if constexpr (!Unit::kBytes) {
    if (part.four_bit != nullptr || (Unit::kSteps == 2 && part.dtype == DType::kI8))
      return pack_expanded<Unit>(part, i, p, steps, panels);
  }
  dispatch_source<Unit>(part.dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = part.at<T>(i, p);
    if (part.along_k || Unit::kBytes) {
      pack_along<Unit>(x, part.stride, steps, part.scale(i), panels);
    } else if constexpr (!Unit::kBytes) {
      pack_across<Unit>(x, part.stride, steps, part.scale(p), panels);
    }
  });
}

// Adds share `index` of `shares` equal ones of what pack_part would read: the memory of a weight is
// far, and its pieces are too short and too far apart for the hardware to foresee.
template <class Unit>
void add_lines(const Source& part, int64_t i, int64_t count, int64_t unit, int64_t units,
               int64_t index, int64_t shares, Lines& lines) {
  const int64_t p = unit * Unit::kSteps, steps = smaller(part.k - p, units * Unit::kSteps);
  const int64_t halves = part.four_bit != nullptr ? 1 : 2 * size_of(part.dtype);  // of a byte
  const int64_t rows = part.along_k ? count : steps;
  const int64_t bytes = divide_up((part.along_k ? steps : count) * halves, 2);
  const int64_t row_lines = divide_up(bytes, 64);
  const char* x = static_cast<const char*>(part.data) +
                  (part.along_k ? i * part.stride + p : p * part.stride + i) * halves / 2;
  const int64_t begin = index * rows * row_lines / shares;
  int64_t left = (index + 1) * rows * row_lines / shares - begin, row = begin / row_lines;
  for (int64_t first = begin % row_lines; left > 0; first = 0, ++row) {
    const int64_t run = smaller(row_lines - first, left);
    lines.add(x + row * part.stride * halves / 2 + first * 64, run);
    left -= run;
  }
}

// Packs from both sources.
template <class Unit>
void pack(const Sources& sources, int64_t i, int64_t unit, int64_t units, const Panels& panels) {
  pack_part<Unit>(sources.part[0], 0, i, unit, units, panels);
  pack_part<Unit>(sources.part[1], units_of<Unit>(sources.part[0].k), i, unit, units, panels);
}

}  // namespace tenon::cpu::TENON_ISA
