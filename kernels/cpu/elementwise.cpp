// SPDX-License-Identifier: Apache-2.0
// Computes    add, scale, cast, fill and dropout, elementwise.
// Layout      arrays of `count` elements; the output may be an input of the same dtype.
// Work split  pieces of 32768 elements.
// Numerics    one fp32 operation and one rounding an element; dropout multiplies by 1 / (1 - p),
//             which is rounded to fp32.
// Traffic     each array once. Dropout makes its random words as it goes and is bound by them.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/map.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 32768;

// What dropout does to the elements of a piece, given their words.
template <bool stream, class T>
struct Dropout {
  const T *x, *add;  // add may be null
  T* y;
  IVec threshold;
  Vec factor;

  void apply(const uint32_t* words, int64_t i, int64_t left) const {
    const Mask dropped = less_unsigned(IVec::load(words), threshold);
    Vec v = select(dropped, Vec::zero(), Vec::load(x + i, left) * factor);
    if (add != nullptr) v = v + Vec::load(add + i, left);
    put<stream>(v, y + i, left);
  }
};

// Elements [begin, end). The words come in runs that begin with a block; `skipped` words of the
// first one are not needed.
template <bool stream, class T>
void dropout_piece(const DropoutArgs& a, int64_t begin, int64_t end) {
  constexpr int kGroups = kLanes == 16 ? 2 : 1;  // as many as there are registers for
  constexpr int64_t kRun = kGroups * 4 * kLanes;
  const uint64_t first = a.position0 + static_cast<uint64_t>(begin);
  const int64_t skipped = static_cast<int64_t>(first % 4), count = end - begin;
  const Dropout<stream, T> dropout = {
      static_cast<const T*>(a.x) + begin,
      a.add == nullptr ? nullptr : static_cast<const T*>(a.add) + begin,
      static_cast<T*>(a.y) + begin, IVec::all(dropout_threshold(a.p)),
      Vec::all(1.0f / (1.0f - a.p))};
  alignas(64) uint32_t words[kRun + kLanes];
  for (int64_t w = 0; w < skipped + count; w += kRun) {
    IVec run[kGroups][4];
    philox_words<kGroups>(a.random, (first + static_cast<uint64_t>(w)) / 4, run);
    for (int g = 0; g < kGroups; ++g) {
      for (int k = 0; k < 4; ++k) run[g][k].store(words + (4 * g + k) * kLanes);
    }
    const int64_t last = smaller(count, w + kRun - skipped);
    for (int64_t i = larger(0, w - skipped); i < last; i += kLanes)
      dropout.apply(words + skipped + i - w, i, last - i);
  }
  if (stream) finish_streams();
}

// VecPair keeps the order of its elements for arrays of one type only.
template <bool stream, class From, class To>
void cast_piece(const From* x, To* y, int64_t count) {
  for_vectors(count, [&](int64_t i, int64_t left, int) {
    put<stream>(Vec::load(x + i, left), y + i, left);
  });
  if (stream) finish_streams();
}
template <class From, class To>
void cast_array(const From* x, To* y, int64_t count) {
  const auto piece = rows_past_caches(y, 1, count * static_cast<int64_t>(sizeof(To)))
                         ? cast_piece<true, From, To>
                         : cast_piece<false, From, To>;
  for_ranges(count, kPiece,
             [&](int64_t begin, int64_t end) { piece(x + begin, y + begin, end - begin); });
}
template <class T>
void cast_array(const T* x, T* y, int64_t count) {
  map_pieces([](Vec v) { return v; }, y, count, x);
}

}  // namespace

void add(const AddArgs& args) {
  dispatch_float(args.dtype, [&]<class T>(T) {
    map_pieces([](Vec a, Vec b) { return a + b; }, static_cast<T*>(args.y), args.count,
               static_cast<const T*>(args.a), static_cast<const T*>(args.b));
  });
}

void scale(const ScaleArgs& args) {
  dispatch_float(args.dtype, [&]<class T>(T) {
    const Vec factor = Vec::all(args.factor);
    map_pieces([=](Vec x) { return x * factor; }, static_cast<T*>(args.y), args.count,
               static_cast<const T*>(args.x));
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
    const Vec value = Vec::all(args.value);
    map_pieces([=] { return value; }, static_cast<T*>(args.y), args.count);
  });
}

void dropout(const DropoutArgs& args) {
  dispatch_float(args.dtype, [&]<class T>(T) {
    // Whole vectors in aligned places: position0 is a multiple of 4, and so is kPiece.
    const bool stream = args.y != args.x && args.y != args.add && args.position0 % 4 == 0 &&
                        rows_past_caches(args.y, 1, args.count * static_cast<int64_t>(sizeof(T)));
    const auto piece = stream ? dropout_piece<true, T> : dropout_piece<false, T>;
    for_ranges(args.count, kPiece, [&](int64_t begin, int64_t end) { piece(args, begin, end); });
  });
}

}  // namespace tenon::cpu::TENON_ISA
