// SPDX-License-Identifier: Apache-2.0
#include "bench/kernel_bench.h"

#include <algorithm>
#include <cmath>

#include "bench/timing.h"
#include "core/error.h"
#include "tests/support/half.h"

namespace tenon::bench {
namespace {

const KernelTable& scalar_table() {
  for (const KernelTable* table : usable_tables()) {
    if (std::string(table->name) == "scalar") return *table;
  }
  fail(Exit::kInternal, "[kernel bench] no scalar table");
}

// Copies of the arrays on the device, after one run.
std::vector<Tensor> after_a_run(const KernelCase& c, Device device, const KernelTable& table) {
  std::vector<Tensor> arrays;
  for (const Tensor& array : c.arrays)
    arrays.push_back(device == Device::kCPU ? array.clone() : array.to(device));
  c.run(table, arrays);
  return arrays;
}

double worst_error(const KernelCase& c, const Tensor& got, const Tensor& want) {
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double w = test::load_element(want.dtype(), want.raw(), i);
    const double error = std::fabs(test::load_element(got.dtype(), got.raw(), i) - w);
    largest = std::max(largest, std::fabs(w));
    if (!(error <= worst)) worst = error;  // a NaN stays
    if (std::isnan(worst)) break;
  }
  DType coarsest = DType::kF32;
  for (const Tensor& array : c.arrays) {
    if (is_float(array.dtype()) && size_of(array.dtype()) == 2) coarsest = array.dtype();
  }
  return worst / (c.roundings * test::unit_roundoff(coarsest) * largest);
}

}  // namespace

KernelTiming run_kernel_bench(const KernelCase& c, Device device, int runs, double seconds) {
  const std::vector<Tensor> arrays = after_a_run(c, device, kernels(device));
  const std::vector<Tensor> want = after_a_run(c, Device::kCPU, scalar_table());
  KernelTiming timing;
  for (const size_t output : c.outputs) {
    const double error = worst_error(c, arrays[output].to(Device::kCPU), want[output]);
    if (!(error <= 1)) {
      fail(Exit::kInternal, "[kernel bench] {} {}: array {} is off by {:.2f} of what is allowed",
           c.kernel, c.size, output, error);
    }
    timing.worst = std::max(timing.worst, error);
  }
  timing.seconds = seconds_of(device, runs, seconds, [&] { c.run(kernels(device), arrays); });
  return timing;
}

}  // namespace tenon::bench
