// SPDX-License-Identifier: Apache-2.0
// The kernel table of one architecture; compiled once for each.
#include "kernels/cuda/kernels.h"

namespace tenon::cuda::TENON_SM {

extern const KernelTable table;  // a const object needs this to be visible outside
const KernelTable table = {.name = TENON_SM_NAME,
#define X(fn, Args) .fn = fn,
                           TENON_KERNELS(X)
#undef X
};

}  // namespace tenon::cuda::TENON_SM
