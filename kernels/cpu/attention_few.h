// SPDX-License-Identifier: Apache-2.0
// Attention of a few queries on many keys (generation), where reading K and V is all there is to
// it: attention_few.cpp.
#pragma once

#include "core/kernel_table.h"

namespace tenon::cpu::TENON_ISA::flash {

// Whether attend_few is to be taken. On Zen 4, 1024 keys of heads of 64: 8 queries take 0.82 ms
// there and 1.2 in blocks (12 heads), 1.6 and 2.0 (32 heads that share 8).
inline bool few_queries(const AttentionArgs& a) {
  return a.queries <= kFewQueries && a.dropout == 0 && a.keys > 0;
}

// As attention.
void attend_few(const AttentionArgs& a);

}  // namespace tenon::cpu::TENON_ISA::flash
