// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "bench/groups.h"
#include "bench/peak.h"
#include "bench/row_cases.h"
#include "bench/values.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/profile.h"

namespace tenon::bench {
namespace {

int64_t default_width(Width width) {
  return width == Width::kModel ? 768 : width == Width::kInner ? 3072 : 50257;
}

const KernelTable& scalar_table() {
  for (const KernelTable* table : usable_tables()) {
    if (std::string(table->name) == "scalar") return *table;
  }
  fail(Exit::kInternal, "[rows bench] no scalar table");
}

// Copies of the arrays on the device, after one run.
std::vector<Tensor> after_a_run(const RowCase& c, Device device, const KernelTable& table) {
  std::vector<Tensor> arrays;
  for (const Tensor& array : c.arrays)
    arrays.push_back(device == Device::kCPU ? array.clone() : array.to(device));
  c.run(table, arrays);
  return arrays;
}

// The largest error of an output, as a share of what is allowed.
double error_of(const RowCase& c, const Tensor& got, const Tensor& want, const std::string& where) {
  DType coarsest = DType::kF32;
  for (const Tensor& array : c.arrays) {
    if (is_float(array.dtype()) && roundoff(array.dtype()) > roundoff(coarsest))
      coarsest = array.dtype();
  }
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double w = element(want, i), error = std::fabs(element(got, i) - w);
    largest = std::max(largest, std::fabs(w));
    if (!(error <= worst)) worst = error;  // a NaN stays
    if (std::isnan(worst)) break;
  }
  Errors errors(where);
  errors.check(worst, 0, c.roundings * roundoff(coarsest) * largest, "the largest error");
  return errors.worst();
}

// Enough rows that each of the arrays is well beyond the last cache.
int64_t rows_beyond_cache(const RowKernel& kernel, int64_t channels, DType dtype) {
  constexpr int64_t kLeast = int64_t{256} << 20, kMost = int64_t{1} << 30, kProbe = 64;
  int64_t bytes = 0;
  for (const Tensor& array : kernel.make(kProbe, channels, dtype).arrays) {
    if (array.dim(0) == kProbe || array.dim(0) == kProbe * channels) bytes += array.bytes();
  }
  const int64_t target = std::clamp(12 * last_cache_bytes(), kLeast, kMost);
  return std::max<int64_t>(64, target * kProbe / bytes / 64 * 64);
}

void run_rows(const Options& options, const RowKernel& kernel, int64_t rows, int64_t channels,
              DType dtype, std::optional<Copy>& copy, Report& report) {
  const std::string size = fmt::format("{}x{}", rows, channels);
  if (!options.wants(fmt::format("rows {} {} {}", kernel.name, size, name_of(dtype)))) return;
  const RowCase c = kernel.make(rows, channels, dtype);
  Line line{.group = "rows", .name = kernel.name, .size = size, .dtype = dtype};
  std::vector<Tensor> arrays;
  {
    Profile profile;
    const Profiling scope(profile, options.device);
    arrays = after_a_run(c, options.device, kernels(options.device));
    for (const Profile::Row& row : profile.rows()) line.work += row.work;
  }
  {
    const std::vector<Tensor> want = after_a_run(c, Device::kCPU, scalar_table());
    for (const size_t output : c.outputs) {
      line.error =
          std::max(line.error,
                   error_of(c, arrays[output].to(Device::kCPU), want[output],
                            fmt::format("rows bench {} {} {}", kernel.name, size, name_of(dtype))));
    }
  }
  std::vector<Contender> contenders = {{"", [&] { c.run(kernels(options.device), arrays); }}};
  if (copy) contenders.push_back({"copy", [&] { copy->run(); }});
  const std::vector<Spread> times = race(options.device, contenders, options.patience);
  line.time = times[0];
  if (copy) line.copy = copy->bytes() / times[1].median * 1e-9;
  line.more = {{"rows", rows}, {"channels", channels}};
  report.add(line);
}

}  // namespace

void bench_rows(const Options& options, Report& report) {
  constexpr int64_t kStepRows = 2048, kLogitRows = 256;
  std::vector<std::pair<int64_t, int64_t>> shapes;
  for (const std::string& text : options.shapes) {
    const auto words = match_shape(text, R"(([1-9]\d{0,8})x([1-9]\d{0,8}))", "ROWSxCHANNELS");
    shapes.emplace_back(extent(words[0]), extent(words[1]));
  }
  report.begin();
  std::optional<Copy> copy;  // a card's bandwidth is its own
  if (options.device == Device::kCPU) copy.emplace(last_cache_bytes());
  for (const DType dtype : options.dtypes) {
    for (const RowKernel& kernel : row_kernels()) {
      for (const auto& [rows, channels] : shapes)
        run_rows(options, kernel, rows, channels, dtype, copy, report);
      if (!shapes.empty()) continue;
      const int64_t channels = default_width(kernel.width);
      const int64_t of_step = kernel.width == Width::kVocabulary ? kLogitRows : kStepRows;
      const int64_t rows = options.in_cache ? of_step : rows_beyond_cache(kernel, channels, dtype);
      run_rows(options, kernel, rows, channels, dtype, copy, report);
    }
  }
}

}  // namespace tenon::bench
