// SPDX-License-Identifier: Apache-2.0
// Times every kernel but matmul on either device at sizes of a GPT-2 (124M) step, after comparing
// what it computes with the CPU's plain table.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace tenon::bench {

// One kernel at one size. The arrays are its inputs and outputs, as they are before it runs.
struct KernelCase {
  std::string kernel, size;
  double operations = 0;  // floating-point, of one run; 0 where memory alone counts
  double bytes = 0;       // read and written, each array once
  std::vector<Tensor> arrays;
  std::vector<size_t> outputs;  // those of the arrays that are compared
  // The largest error allowed, as a share of an output's largest magnitude, in units of the rounding
  // of the arrays' dtype; a sum of many terms has more.
  double roundings = 4;
  std::function<void(const KernelTable& table, const std::vector<Tensor>& arrays)> run;
};

// All cases with activations of this dtype, in the order of the table of kernels.
std::vector<KernelCase> kernel_cases(DType dtype);

struct KernelTiming {
  double seconds = 0;  // median of a run
  double worst = 0;    // largest error, as a share of what is allowed
};

// Throws Error(kInternal) when the device's result is not that of the scalar table.
KernelTiming run_kernel_bench(const KernelCase& kernel_case, Device device, int runs,
                              double seconds);

}  // namespace tenon::bench
