// SPDX-License-Identifier: Apache-2.0
// Computes    add, scale, cast, fill and dropout, elementwise.
// Layout      arrays of `count` elements; the output may be an input of the same dtype.
// Work split  pieces of 4096 elements.
// Numerics    one fp32 operation and one rounding an element; dropout multiplies by 1 / (1 - p),
//             which is rounded to fp32.
// Traffic     each array once. Dropout makes its random words as it goes and is bound by them.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 4096;

// One piece of dropout: the words are made first, from the block that holds the first of them.
template <class T>
void dropout_piece(const DropoutArgs& a, int64_t begin, int64_t end) {
  alignas(64) uint32_t words[kPiece + 8 * kLanes];
  const uint64_t first = a.position0 + static_cast<uint64_t>(begin);
  const int64_t skipped = static_cast<int64_t>(first % 4), count = end - begin;
  for (int64_t w = 0; w < skipped + count; w += 4 * kLanes) {
    IVec group[4];
    philox_words(a.random, (first + static_cast<uint64_t>(w)) / 4, group);
    for (int64_t g = 0; g < 4; ++g) group[g].store(words + w + g * kLanes);
  }
  const IVec threshold = IVec::all(dropout_threshold(a.p));
  const Vec factor = Vec::all(1.0f / (1.0f - a.p));
  const T* x = static_cast<const T*>(a.x) + begin;
  const T* add = a.add == nullptr ? nullptr : static_cast<const T*>(a.add) + begin;
  T* y = static_cast<T*>(a.y) + begin;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t left = count - i;
    const Mask dropped = less_unsigned(IVec::load(words + skipped + i), threshold);
    Vec v = select(dropped, Vec::zero(), Vec::load(x + i, left) * factor);
    if (add != nullptr) v = v + Vec::load(add + i, left);
    v.store(y + i, left);
  }
}

template <class From, class To>
void cast_array(const From* x, To* y, int64_t count) {
  for_ranges(count, kPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) Vec::load(x + i, end - i).store(y + i, end - i);
  });
}

}  // namespace

void add(const AddArgs& args) {
  dispatch_float(args.dtype, [&]<class T>(T) {
    const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
    T* y = static_cast<T*>(args.y);
    for_ranges(args.count, kPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kLanes) {
        (Vec::load(a + i, end - i) + Vec::load(b + i, end - i)).store(y + i, end - i);
      }
    });
  });
}

void scale(const ScaleArgs& args) {
  dispatch_float(args.dtype, [&]<class T>(T) {
    const T* x = static_cast<const T*>(args.x);
    T* y = static_cast<T*>(args.y);
    const Vec factor = Vec::all(args.factor);
    for_ranges(args.count, kPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kLanes)
        (Vec::load(x + i, end - i) * factor).store(y + i, end - i);
    });
  });
}

void cast(const CastArgs& args) {
  dispatch_float(args.from, [&]<class From>(From) {
    dispatch_float(args.to, [&]<class To>(To) {
      cast_array(static_cast<const From*>(args.x), static_cast<To*>(args.y), args.count);
    });
  });
}

void fill(const FillArgs& args) {
  dispatch_float(args.dtype, [&]<class T>(T) {
    T* y = static_cast<T*>(args.y);
    const Vec value = Vec::all(args.value);
    for_ranges(args.count, kPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kLanes) value.store(y + i, end - i);
    });
  });
}

void dropout(const DropoutArgs& args) {
  dispatch_float(args.dtype, [&]<class T>(T) {
    for_ranges(args.count, kPiece,
               [&](int64_t begin, int64_t end) { dropout_piece<T>(args, begin, end); });
  });
}

}  // namespace tenon::cpu::TENON_ISA
