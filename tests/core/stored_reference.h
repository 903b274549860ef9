// SPDX-License-Identifier: Apache-2.0
// What the tests of quantized matrices share: tensors of a file as what is quantized, and as what must
// come of it.
#pragma once

#include <catch2/catch.hpp>
#include <cstring>

#include "core/element_reader.h"
#include "core/finite.h"
#include "core/safetensors.h"

namespace tenon::test {

// `entry` must live on.
inline ElementReader reader_of(const TensorEntry& entry) {
  return [&entry](int64_t begin, int64_t count, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = element_of(entry.data, begin + i, *entry.dtype);
  };
}

inline bool same_bytes(const Tensor& got, const TensorEntry* want) {
  REQUIRE(want != nullptr);
  return got.bytes() == want->bytes &&
         std::memcmp(got.raw(), want->data, static_cast<size_t>(want->bytes)) == 0;
}

}  // namespace tenon::test
