// SPDX-License-Identifier: Apache-2.0
// Tables that stand before a device's table: one that prints each launch (TENON_TRACE=1), "matmul
// avx512 m=512 n=2304 k=768 fp32 1234.5 us", and one that turns a refused launch into an Error.
#pragma once

#include "core/device.h"
#include "core/kernel_table.h"

namespace tenon {

// True when TENON_TRACE is set and not "0".
bool trace_wanted();

// A table whose entries forward to `table`, wait for the device, and print what the call took. One
// table of a device can be traced in a process.
const KernelTable* traced(Device device, const KernelTable* table);

// A table whose entries forward to `table`, which is the card's, and throw Error(kInternal) naming
// kernel and shapes when the device says that a launch failed. One a process.
const KernelTable* checked(const KernelTable* table);

}  // namespace tenon
