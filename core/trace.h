// SPDX-License-Identifier: Apache-2.0
// TENON_TRACE=1: one line on stderr for each kernel launch, "matmul avx512 m=512 n=2304 k=768 fp32
// 1234.5 us".
#pragma once

#include "core/kernel_table.h"

namespace tenon {

// True when TENON_TRACE is set and not "0".
bool trace_wanted();

// A table whose entries time and print the call and forward it to `table`. One table a process can
// be traced.
const KernelTable* traced(const KernelTable* table);

}  // namespace tenon
