// SPDX-License-Identifier: Apache-2.0
// Weights of any float type while an optimizer updates them in fp32: see Rounding in
// core/kernel_table.h.
#pragma once

#include "core/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

// The number of T, as far as T's range goes, that a becomes by the word.
inline Vec round_to(BF16, Vec a, IVec word) { return round_off<16>(a, word); }
inline Vec round_to(F16, Vec a, IVec word) {
  return round_off<13>(a * Vec::all(0x1p-112f), word) * Vec::all(0x1p112f);
}

template <class T>
class Weights {
 public:
  Weights(void* data, Rounding stream, uint32_t number)
      : data_(static_cast<T*>(data)), stream_(stream) {
    stream_.purpose += number;
  }
  Vec load(int64_t i, int64_t left) const { return Vec::load(data_ + i, left); }
  void store(Vec w, int64_t i, int64_t left) {
    if (i < from_ || i + kLanes > from_ + kRun) draw(i);
    round_to(T{}, w, IVec::load(words_ + (i - from_))).store(data_ + i, left);
  }

 private:
  static constexpr int64_t kRun = 4 * kLanes;

  // The words from the block on in which i's is.
  void draw(int64_t i) {
    IVec run[4];
    philox_words<1>(stream_, static_cast<uint64_t>(i) / 4, &run);
    for (int k = 0; k < 4; ++k) run[k].store(words_ + k * kLanes);
    from_ = i / 4 * 4;
  }

  T* data_;
  Rounding stream_;
  int64_t from_ = -kRun;  // the element whose word is the first
  alignas(64) uint32_t words_[kRun];
};

template <>
class Weights<float> {
 public:
  Weights(void* data, Rounding, uint32_t) : data_(static_cast<float*>(data)) {}
  Vec load(int64_t i, int64_t left) const { return Vec::load(data_ + i, left); }
  void store(Vec w, int64_t i, int64_t left) { w.store(data_ + i, left); }

 private:
  float* data_;
};

}  // namespace tenon::cpu::TENON_ISA
