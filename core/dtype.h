// SPDX-License-Identifier: Apache-2.0
// Element types. Quantised weights are not dtypes: they are structs of tensors, so an element
// always has a size. Kernels include this header: plain types and constexpr only.
#pragma once

#include <cstdint>

namespace tenon {

enum class DType : uint8_t { kF32, kBF16, kF16, kI32, kI64, kU8, kI8 };

// Bit patterns of the two half-width floats. Arithmetic happens in fp32; kernels widen on load and
// round on store.
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kBF16:
    case DType::kF16: return 2;
    case DType::kI64: return 8;
    case DType::kU8:
    case DType::kI8: return 1;
  }
  return 0;
}

constexpr bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

// "fp32", "bf16", "fp16", "int32", "int64", "uint8", "int8".
constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "fp32";
    case DType::kBF16: return "bf16";
    case DType::kF16: return "fp16";
    case DType::kI32: return "int32";
    case DType::kI64: return "int64";
    case DType::kU8: return "uint8";
    case DType::kI8: return "int8";
  }
  return "?";
}

}  // namespace tenon
