// SPDX-License-Identifier: Apache-2.0
// What AdamW's rules share.
#pragma once

#include "train/update_rule.h"

namespace tenon {

AdamWArgs adamw_args(const UpdateStep& step);

}  // namespace tenon
