// SPDX-License-Identifier: Apache-2.0
// Declares every kernel of the instruction set that is being compiled.
#pragma once

#include "core/kernel_table.h"

namespace tenon::cpu::TENON_ISA {
#define X(fn, Args) void fn(const Args& args);
TENON_KERNELS(X)
#undef X
}  // namespace tenon::cpu::TENON_ISA
