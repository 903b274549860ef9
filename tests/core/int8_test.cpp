// SPDX-License-Identifier: Apache-2.0
// Matrices in int8 against what bitsandbytes makes, bit by bit (tests/reference/make_quant_cases.py).
#include "core/int8.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/core/stored_reference.h"
#include "tests/support/compare.h"

namespace tenon::test {
TEST_CASE("int8 by rows has bitsandbytes' bits", "[quant]") {
  const SafetensorsFile file =
      SafetensorsFile::open(TENON_SOURCE_DIR "/tests/reference/quant/int8.safetensors");
  int matrices = 0;
  for (const TensorEntry& entry : file.entries()) {
    if (entry.name.find('.') != std::string::npos) continue;
    INFO(entry.name);
    ++matrices;
    const tenon::Int8Matrix m =
        quantize_int8({entry.shape[0], entry.shape[1]}, reader_of(entry), entry.name);
    CHECK(same_bytes(m.codes, file.find(entry.name + ".codes")));
    CHECK(same_bytes(m.largest, file.find(entry.name + ".largest")));
    // bitsandbytes multiplies the code by the largest magnitude first: two roundings about this one's two.
    const TensorEntry* want = file.find(entry.name + ".values");
    REQUIRE(want != nullptr);
    const Tensor values = m.rows(0, entry.shape[0]);
    std::vector<double> wanted, got;
    for (int64_t i = 0; i < values.numel(); ++i) {
      wanted.push_back(static_cast<double>(element_of(want->data, i, DType::kF32)));
      got.push_back(static_cast<double>(values.data<float>()[i]));
    }
    CHECK_WITHIN(got, wanted, Bound::ulps(2));
    const Tensor last = m.rows(entry.shape[0] - 1, entry.shape[0]);
    CHECK(std::memcmp(last.raw(), values.data<float>() + (entry.shape[0] - 1) * entry.shape[1],
                      static_cast<size_t>(last.bytes())) == 0);
  }
  CHECK(matrices == 9);
}

TEST_CASE("what int8 cannot hold is refused with its place", "[quant]") {
  // The last is a number, but none of fp16, by way of which int8 is made.
  for (const float wrong : {std::numeric_limits<float>::infinity(), std::nanf(""), 1e6f}) {
    const auto read = [&](int64_t begin, int64_t count, float* out) {
      for (int64_t i = 0; i < count; ++i) out[i] = begin + i == 9001 ? wrong : 0.5f;
    };
    CHECK_THROWS_WITH(quantize_int8({100, 100}, read, "m.weight"),
                      Catch::Contains("m.weight: element 9001 is "));
  }
}

}  // namespace tenon::test
