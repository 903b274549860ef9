// SPDX-License-Identifier: Apache-2.0
// The reduction. It goes through blocks that fit the first-level cache: a block of sums is complete
// before it is stored, so the result may lie where one of the inputs does.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "comm/call.h"
#include "core/backend.h"

namespace tenon {
namespace {

constexpr int64_t kBlock = 2048;

struct Sum {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      using Bits = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Bits>(a) + static_cast<Bits>(b));
    } else {
      return a + b;
    }
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};

// How elements of T in memory become what is summed, and back.
template <class T>
struct Plain {
  using Stored = T;
  using Value = T;
  static const T* load(const T* from, T*, int64_t) { return from; }
  static void store(const T* from, T* to, int64_t n) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  }
};
template <class Half, DType dtype>
struct Widened {
  using Stored = Half;
  using Value = float;
  static const float* load(const Half* from, float* to, int64_t n) {
    kernels(Device::kCPU).cast({.x = from, .y = to, .count = n, .from = dtype, .to = DType::kF32});
    return to;
  }
  static void store(const float* from, Half* to, int64_t n) {
    kernels(Device::kCPU).cast({.x = from, .y = to, .count = n, .from = DType::kF32, .to = dtype});
  }
};

template <class As, class Combine>
void reduce_blocks(const std::vector<const void*>& in, void* out, int64_t count, Combine combine) {
  using Stored = typename As::Stored;
  using Value = typename As::Value;
  alignas(64) Value first[kBlock], next[kBlock], sum[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const Value* left = As::load(static_cast<const Stored*>(in[0]) + begin, first, n);
    for (size_t r = 1; r < in.size(); ++r) {
      const Value* right = As::load(static_cast<const Stored*>(in[r]) + begin, next, n);
      for (int64_t i = 0; i < n; ++i) sum[i] = combine(left[i], right[i]);
      left = sum;
    }
    As::store(left, static_cast<Stored*>(out) + begin, n);
  }
}

template <class As>
void reduce_as(Reduce reduce, const std::vector<const void*>& in, void* out, int64_t count) {
  switch (reduce) {
    case Reduce::kSum: return reduce_blocks<As>(in, out, count, Sum());
    case Reduce::kMax: return reduce_blocks<As>(in, out, count, Max());
    case Reduce::kMin: return reduce_blocks<As>(in, out, count, Min());
  }
}

}  // namespace

void copy_bytes(const void* from, void* to, int64_t bytes) {
  if (from != to && bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

void reduce_in_order(Element element, Reduce reduce, const std::vector<const void*>& in, void* out,
                     int64_t count) {
  switch (element) {
    case Element::kF32: return reduce_as<Plain<float>>(reduce, in, out, count);
    case Element::kBF16: return reduce_as<Widened<BF16, DType::kBF16>>(reduce, in, out, count);
    case Element::kF16: return reduce_as<Widened<F16, DType::kF16>>(reduce, in, out, count);
    case Element::kI32: return reduce_as<Plain<int32_t>>(reduce, in, out, count);
    case Element::kI64: return reduce_as<Plain<int64_t>>(reduce, in, out, count);
    case Element::kU8: return reduce_as<Plain<uint8_t>>(reduce, in, out, count);
    case Element::kI8: return reduce_as<Plain<int8_t>>(reduce, in, out, count);
    case Element::kF64: return reduce_as<Plain<double>>(reduce, in, out, count);
  }
}

}  // namespace tenon
