// SPDX-License-Identifier: Apache-2.0
// Declares every kernel of the architecture that is being compiled.
#pragma once

#include "core/kernel_table.h"

namespace tenon::cuda::TENON_SM {
#define X(fn, Args) void fn(const Args& args);
TENON_KERNELS(X)
#undef X
}  // namespace tenon::cuda::TENON_SM
