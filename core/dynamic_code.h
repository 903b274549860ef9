// SPDX-License-Identifier: Apache-2.0
// The 8-bit codes of bitsandbytes' create_dynamic_map: see DynamicCode in core/kernel_table.h.
#pragma once

#include "core/kernel_table.h"

namespace tenon {

const DynamicCode& signed_dynamic_code();    // numbers in [-1, 1], of which only 1 has no negative
const DynamicCode& unsigned_dynamic_code();  // numbers in [0, 1]

}  // namespace tenon
