// SPDX-License-Identifier: Apache-2.0
// Declares every kernel of the instruction set that is being compiled, and what is the same for all
// of them.
#pragma once

#include "core/kernel_table.h"

namespace tenon::cpu {
void sample_token(const SampleArgs& args);                  // sample.cpp
void penalize_repeated(const RepetitionPenaltyArgs& args);  // sample.cpp
}  // namespace tenon::cpu

namespace tenon::cpu::TENON_ISA {
#define X(fn, Args) void fn(const Args& args);
TENON_KERNELS(X)
#undef X
}  // namespace tenon::cpu::TENON_ISA
