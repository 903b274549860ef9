// SPDX-License-Identifier: Apache-2.0
// The two ways to multiply that matmul() chooses from.
#pragma once

#include "core/kernel_table.h"

namespace tenon::cpu::TENON_ISA {

// Packs blocks of both sides and multiplies tile by tile: bound by arithmetic. `pairs`: operands that
// fit are multiplied as pairs of bf16, where this instruction set can.
void matmul_blocked(const MatmulArgs& args, bool pairs);

// Up to this many rows or columns are few.
constexpr int64_t kFew = kAlikeRows;

// Streams the long side once, as it lies in memory: bound by memory. Requires: m or n <= kFew, and t
// null.
void matmul_few(const MatmulArgs& args);

// matmul without pairs: for CPUs that multiply them slowly.
void matmul_widening(const MatmulArgs& args);

}  // namespace tenon::cpu::TENON_ISA
