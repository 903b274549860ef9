// SPDX-License-Identifier: Apache-2.0
// Optimizers on weights in bf16 and fp16: what the fp32 step makes of them, rounded.
#include <cmath>

#include "tests/kernels/optimizer_problem.h"

namespace tenon::test {

TEST_CASE("half weights are what the fp32 step makes of them, rounded as their type is",
          "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      for (const int64_t count : kOptimizerSizes) {
        for (const bool adamw : {true, false}) {
          CAPTURE(target.name, name_of(dtype), count, adamw);
          const auto step = [&](OptimizerCase& c) {
            const PlacedList list(c.list());
            if (adamw) {
              table->adamw(adamw_args(list));
            } else {
              table->sgd({.list = list.get(),
                          .scale = {.unscale = 0.5},
                          .rounding = kRounding,
                          .lr = 1e-2f,
                          .momentum = 0.9f});
            }
          };
          const auto got = run_on_threads([&] {
            OptimizerCase c(dtype, count);
            step(c);
            return std::vector<GuardedArray>{c.w[0], c.w[1], c.m[0], c.m[1]};
          });
          OptimizerCase wide(dtype, count);
          std::vector<GuardedArray> wide_weights;
          for (const GuardedArray& w : wide.w) {
            const std::vector<double> values = w.values();
            wide_weights.emplace_back(DType::kF32,
                                      std::vector<float>(values.begin(), values.end()));
          }
          wide.w = std::move(wide_weights);
          step(wide);
          for (uint32_t t = 0; t < 2; ++t) {
            const GuardedArray nearest(dtype, [&] {
              const std::vector<double> values = wide.w[t].values();
              return std::vector<float>(values.begin(), values.end());
            }());
            int64_t wrong = 0, up = 0;
            for (int64_t i = 0; i < got[t].count(); ++i) {
              const double want =
                  dtype == DType::kBF16 ? rounded(wide.w[t].get(i), 10 + t, i) : nearest.get(i);
              wrong += got[t].get(i) != want;
              up += got[t].get(i) != nearest.get(i);
            }
            CHECK(wrong == 0);
            if (dtype == DType::kBF16 && count > 4096 && t == 0) CHECK(up > count / 8);
            CHECK(got[2 + t].bytes() == wide.m[t].bytes());
          }
        }
      }
    }
  }
}

TEST_CASE("an update below bf16's spacing is right on average", "[kernels]") {
  constexpr int64_t kCount = 40000;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    GuardedArray w(DType::kBF16, std::vector<float>(kCount, 1.5f));
    const GuardedArray g(DType::kF32, std::vector<float>(kCount, 1.0f));
    const PlacedList list(
        {{.weight = w.data(), .grad = floats(g), .count = kCount, .dtype = DType::kBF16}});
    // A tenth of the distance 2^-7 of numbers about 1.5.
    table->sgd({.list = list.get(), .rounding = kRounding, .lr = 0.1f * 0x1p-7f});
    double sum = 0;
    for (const double value : w.values()) {
      CHECK((value == 1.5 || value == 1.5 - 0x1p-7));
      sum += (1.5 - value) / 0x1p-7;
    }
    // A mean of draws that are 1 with a chance of 0.1: six standard deviations.
    CHECK(std::fabs(sum / kCount - 0.1) < 6 * std::sqrt(0.1 * 0.9 / kCount));
  }
}

TEST_CASE("a weight that is not finite stays so", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    std::vector<float> values(37, NAN);
    values[3] = INFINITY;
    values[20] = -INFINITY;
    GuardedArray w(DType::kBF16, values);
    const GuardedArray g(DType::kF32, std::vector<float>(37, 1.0f));
    const PlacedList list(
        {{.weight = w.data(), .grad = floats(g), .count = 37, .dtype = DType::kBF16}});
    table->sgd({.list = list.get(), .rounding = kRounding, .lr = 0.1f});
    for (int64_t i = 0; i < 37; ++i) {
      CHECK(!std::isfinite(w.get(i)));
    }
  }
}

}  // namespace tenon::test
