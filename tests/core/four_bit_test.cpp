// SPDX-License-Identifier: Apache-2.0
// NF4 against what bitsandbytes makes, bit by bit (tests/reference/make_quant_cases.py).
#include "core/four_bit.h"
#include "core/dynamic_code.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/core/stored_reference.h"
#include "tests/support/compare.h"

namespace tenon::test {
namespace {

const char* const kFile = TENON_SOURCE_DIR "/tests/reference/quant/nf4.safetensors";

FourBitMatrix quantized(const TensorEntry& entry, bool doubled) {
  return quantize_nf4({entry.shape[0], entry.shape[1]}, *entry.dtype, reader_of(entry), doubled,
                      entry.name);
}

}  // namespace

TEST_CASE("NF4 has bitsandbytes' bits", "[quant]") {
  const SafetensorsFile file = SafetensorsFile::open(kFile);
  CHECK(std::memcmp(signed_dynamic_code().numbers, file.find("dynamic")->data,
                    256 * sizeof(float)) == 0);
  int matrices = 0;
  for (const TensorEntry& entry : file.entries()) {
    if (entry.name.find('.') != std::string::npos || entry.name == "dynamic") continue;
    ++matrices;
    for (const bool doubled : {false, true}) {
      const std::string at = entry.name + (doubled ? ".double." : ".plain.");
      INFO(at);
      const FourBitMatrix m = quantized(entry, doubled);
      CHECK(same_bytes(m.codes, file.find(at + "codes")));
      CHECK(same_bytes(doubled ? m.scale_codes : m.scales, file.find(at + "absmax")));
      if (doubled) {
        CHECK(same_bytes(m.outer_scales, file.find(at + "outer")));
        CHECK(std::memcmp(&m.offset, file.find(at + "offset")->data, sizeof(float)) == 0);
      }
      // bitsandbytes rounds what it decodes to the dtype of what it encoded.
      const TensorEntry* want = file.find(at + "values");
      const Tensor values = m.rows(0, entry.shape[0]);
      REQUIRE(want->elements() == values.numel());
      bool same = true;
      for (int64_t i = 0; i < values.numel(); ++i) {
        const auto got = static_cast<double>(values.data<float>()[i]);
        same &= round_to(*entry.dtype, got) ==
                static_cast<double>(element_of(want->data, i, *entry.dtype));
      }
      CHECK(same);
      const Tensor some = m.rows(entry.shape[0] / 2, entry.shape[0]);
      CHECK(std::memcmp(some.raw(), values.data<float>() + entry.shape[0] / 2 * entry.shape[1],
                        static_cast<size_t>(some.bytes())) == 0);
    }
  }
  CHECK(matrices == 9);
}

TEST_CASE("what 4 bits cannot hold is refused with its place", "[quant]") {
  for (const float wrong : {std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), std::nanf("")}) {
    const auto read = [&](int64_t begin, int64_t count, float* out) {
      for (int64_t i = 0; i < count; ++i) out[i] = begin + i == 9001 ? wrong : 0.5f;
    };
    CHECK_THROWS_WITH(quantize_nf4({100, 100}, DType::kF32, read, false, "m.weight"),
                      Catch::Contains("m.weight: element 9001 is "));
  }
}

TEST_CASE("4 bits take what they say", "[quant]") {
  const auto read = [](int64_t begin, int64_t count, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = std::sin(static_cast<float>(begin + i));
  };
  const FourBitMatrix plain = quantize_nf4({256, 512}, DType::kF32, read, false, "m");
  CHECK(plain.bytes() == 256 * 512 / 2 + 256 * 512 / 64 * 4 + 64);
  const FourBitMatrix doubled = quantize_nf4({256, 512}, DType::kF32, read, true, "m");
  CHECK(doubled.bytes() == 256 * 512 / 2 + 256 * 512 / 64 + 256 * 512 / 64 / 256 * 4 + 64 + 1024);
}

}  // namespace tenon::test
