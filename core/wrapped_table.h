// SPDX-License-Identifier: Apache-2.0
// Tables that stand before a device's table: every entry calls Around with the one behind it. The
// trace, the check of launches and the profile are such tables.
#pragma once

#include "core/device.h"
#include "core/kernel_table.h"

namespace tenon {

// Around::run(table, device, kernel, entry, args) is to call entry(args), `table` being the one behind
// and `kernel` the entry's name. There is one such table a device and Around; it takes the name of the
// first that it stands before, and each call puts it before another.
template <class Around, Device device>
const KernelTable* wrapped(const KernelTable* table) {
  static const KernelTable* behind;
  behind = table;
  static const KernelTable wrapper = {.name = table->name,
#define X(fn, Args) \
  .fn = [](const Args& args) { Around::run(*behind, device, #fn, behind->fn, args); },
                                      TENON_KERNELS(X)
#undef X
  };
  return &wrapper;
}

template <class Around>
const KernelTable* wrapped(Device device, const KernelTable* table) {
  return device == Device::kCPU ? wrapped<Around, Device::kCPU>(table)
                                : wrapped<Around, Device::kCUDA>(table);
}

}  // namespace tenon
