// SPDX-License-Identifier: Apache-2.0
// The kernel tables that this program was built with.
#pragma once

#include "core/cuda_backend.h"

namespace tenon::cuda {

const Implementation* implementations();  // newest first
int implementation_count();

}  // namespace tenon::cuda
