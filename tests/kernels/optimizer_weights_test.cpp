// SPDX-License-Identifier: Apache-2.0
// Optimizers on weights in bf16 and fp16: what the fp32 step makes of them, rounded.
#include <cmath>

#include "tests/kernels/optimizer_problem.h"

namespace tenon::test {

TEST_CASE("half weights are what the fp32 step makes of them, rounded by the stream", "[kernels]") {
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
              wrong += got[t].get(i) != rounded(dtype, wide.w[t].get(i), 10 + t, i);
              up += got[t].get(i) != nearest.get(i);
            }
            CHECK(wrong == 0);
            if (count > 4096 && t == 0) CHECK(up > count / 8);
            CHECK(got[2 + t].bytes() == wide.m[t].bytes());
          }
        }
      }
    }
  }
}

// What becomes of weights of one value by a step that takes a tenth of the distance to the next number from
// each: the share that went there.
double share_of_moved(const KernelTable* table, DType dtype, float value, float distance) {
  constexpr int64_t kCount = 40000;
  GuardedArray w(dtype, std::vector<float>(kCount, value));
  const GuardedArray g(DType::kF32, std::vector<float>(kCount, 1.0f));
  const PlacedList list({{.weight = w.data(), .grad = floats(g), .count = kCount, .dtype = dtype}});
  table->sgd({.list = list.get(), .rounding = kRounding, .lr = 0.1f * distance});
  int64_t moved = 0;
  for (const float got : w.values()) {
    CHECK((got == value || got == value - distance));
    moved += got != value;
  }
  return static_cast<double>(moved) / kCount;
}

TEST_CASE("an update below the spacing of a half type is right on average", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    // Draws that are 1 with a chance of 0.1: six standard deviations of their mean.
    const double bound = 6 * std::sqrt(0.1 * 0.9 / 40000);
    CHECK(std::fabs(share_of_moved(table, DType::kBF16, 1.5f, 0x1p-7f) - 0.1) < bound);
    CHECK(std::fabs(share_of_moved(table, DType::kF16, 1.5f, 0x1p-10f) - 0.1) < bound);
    // Smaller than fp16's normal numbers, whose distance does not shrink there.
    CHECK(std::fabs(share_of_moved(table, DType::kF16, 0x1.8p-18f, 0x1p-24f) - 0.1) < bound);
  }
}

TEST_CASE("a weight that is not finite stays so", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      CAPTURE(target.name, name_of(dtype));
      std::vector<float> values(37, NAN);
      values[3] = INFINITY;
      values[20] = -INFINITY;
      GuardedArray w(dtype, values);
      const GuardedArray g(DType::kF32, std::vector<float>(37, 1.0f));
      const PlacedList list({{.weight = w.data(), .grad = floats(g), .count = 37, .dtype = dtype}});
      table->sgd({.list = list.get(), .rounding = kRounding, .lr = 0.1f});
      for (int64_t i = 0; i < 37; ++i) {
        CHECK(!std::isfinite(w.get(i)));
      }
    }
  }
}

}  // namespace tenon::test
