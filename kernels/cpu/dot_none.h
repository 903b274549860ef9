// SPDX-License-Identifier: Apache-2.0
// For instruction sets that multiply nothing narrower than floats.
#pragma once

namespace tenon::cpu::TENON_ISA {

constexpr bool kHasBf16Dots = false, kHasByteDots = false;

// Never packed: the names alone are needed.
using Bf16Unit = FloatUnit;
using ByteUnit = FloatUnit;

}  // namespace tenon::cpu::TENON_ISA
