// SPDX-License-Identifier: Apache-2.0
// Optimizers on the CPU beyond fp32: weights in bf16 and fp16, moments in 8 bits.
#include <cmath>

#include "core/dynamic_code.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/rounding.h"

namespace tenon::test {
namespace {

constexpr int64_t kSizes[] = {1, 7, 64, 65, 255, 256, 257, 4097, 2 * 4096 + 77};

// Two tensors of `count` and of 3 elements, weights in dtype.
struct Case {
  explicit Case(DType dtype, int64_t count)
      : w{{dtype, random_values(count, 1)}, {dtype, random_values(3, 2)}},
        g{{DType::kF32, random_values(count, 3)}, {DType::kF32, random_values(3, 4)}},
        m{{DType::kF32, random_values(count, 5, -0.1f, 0.1f)},
          {DType::kF32, random_values(3, 6, -0.1f, 0.1f)}},
        v{{DType::kF32, random_values(count, 7, 0, 0.01f)},
          {DType::kF32, random_values(3, 8, 0, 0.01f)}} {}
  std::vector<GuardedArray> w, g, m, v;

  std::vector<OptimizerTensor> list() {
    std::vector<OptimizerTensor> tensors;
    int64_t pieces = 0;
    for (size_t i = 0; i < 2; ++i) {
      tensors.push_back({.weight = w[i].data(),
                         .grad = floats(g[i]),
                         .m = floats(m[i]),
                         .v = floats(v[i]),
                         .count = w[i].count(),
                         .first_piece = pieces,
                         .weight_decay = 0.1f,
                         .dtype = w[i].dtype(),
                         .number = static_cast<uint32_t>(10 + i)});
      pieces += (w[i].count() + kOptimizerPiece - 1) / kOptimizerPiece;
    }
    return tensors;
  }
};

OptimizerList list_of(const std::vector<OptimizerTensor>& tensors) {
  const OptimizerTensor& last = tensors.back();
  return {tensors.data(), static_cast<int64_t>(tensors.size()),
          last.first_piece + (last.count + kOptimizerPiece - 1) / kOptimizerPiece};
}

AdamWArgs adamw_args(const std::vector<OptimizerTensor>& tensors) {
  return {.list = list_of(tensors),
          .scale = {.unscale = 0.5},
          .rounding = kRounding,
          .lr = 1e-2f,
          .beta1 = 0.9f,
          .beta2 = 0.99f,
          .eps = 1e-8f,
          .correction1 = 0.5f,
          .correction2 = 0.25f,
          .signed_code = &signed_dynamic_code(),
          .unsigned_code = &unsigned_dynamic_code()};
}

}  // namespace

TEST_CASE("half weights are what the fp32 step makes of them, rounded as their type is",
          "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      for (const int64_t count : kSizes) {
        for (const bool adamw : {true, false}) {
          CAPTURE(target.name, name_of(dtype), count, adamw);
          const auto step = [&](Case& c) {
            const std::vector<OptimizerTensor> tensors = c.list();
            if (adamw) {
              table->adamw(adamw_args(tensors));
            } else {
              table->sgd({.list = list_of(tensors),
                          .scale = {.unscale = 0.5},
                          .rounding = kRounding,
                          .lr = 1e-2f,
                          .momentum = 0.9f});
            }
          };
          const auto got = run_on_threads([&] {
            Case c(dtype, count);
            step(c);
            return std::vector<GuardedArray>{c.w[0], c.w[1], c.m[0], c.m[1]};
          });
          Case wide(dtype, count);
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
    const std::vector<OptimizerTensor> tensors = {
        {.weight = w.data(), .grad = floats(g), .count = kCount, .dtype = DType::kBF16}};
    // A tenth of the distance 2^-7 of numbers about 1.5.
    table->sgd({.list = list_of(tensors), .rounding = kRounding, .lr = 0.1f * 0x1p-7f});
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
    const std::vector<OptimizerTensor> tensors = {
        {.weight = w.data(), .grad = floats(g), .count = 37, .dtype = DType::kBF16}};
    table->sgd({.list = list_of(tensors), .rounding = kRounding, .lr = 0.1f});
    for (int64_t i = 0; i < 37; ++i) {
      CHECK(!std::isfinite(w.get(i)));
    }
  }
}

namespace {

// Moments in 8 bits for one tensor.
struct EightBits {
  std::vector<uint8_t> m, v;
  std::vector<float> m_scales, v_scales;
};

// A number of a code, and how far its neighbours are: what x becomes is within half of that.
double gap(const DynamicCode& code, double x) {
  const float* end = std::upper_bound(code.numbers, code.numbers + 256, static_cast<float>(x));
  const int64_t at = std::clamp<int64_t>(end - code.numbers, 1, 255);
  return static_cast<double>(code.numbers[at]) - static_cast<double>(code.numbers[at - 1]);
}

}  // namespace

TEST_CASE("moments in 8 bits are those of the fp32 step, in the nearest codes of their block",
          "[kernels]") {
  const DynamicCode &with_sign = signed_dynamic_code(), &without = unsigned_dynamic_code();
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const int64_t count : kSizes) {
      CAPTURE(target.name, count);
      const int64_t blocks = (count + kCodeBlock - 1) / kCodeBlock;
      const auto before = [&] {
        EightBits e;
        std::mt19937 random(9);
        for (int64_t i = 0; i < count; ++i) {
          e.m.push_back(static_cast<uint8_t>(random() >> 24));
          e.v.push_back(static_cast<uint8_t>(random() >> 24));
        }
        e.m_scales = random_values(blocks, 11, 0, 0.1f);
        e.v_scales = random_values(blocks, 12, 0, 0.01f);
        e.m_scales[0] = e.v_scales[0] = 0;  // as at the start
        return e;
      };
      const auto number = [](const DynamicCode& code, uint8_t c, float scale) {
        return code.numbers[c] * scale;
      };
      const auto run = [&](int threads, EightBits& e) {
        set_thread_count(threads);
        Case c(DType::kF32, count);
        OptimizerTensor tensor = c.list()[0];
        tensor.m = tensor.v = nullptr;
        tensor.m_codes = e.m.data();
        tensor.v_codes = e.v.data();
        tensor.m_scales = e.m_scales.data();
        tensor.v_scales = e.v_scales.data();
        table->adamw(adamw_args({tensor}));
        return c.w[0];
      };
      EightBits one = before(), three = before();
      const GuardedArray w = run(1, one);
      CHECK(w.bytes() == run(3, three).bytes());
      CHECK((one.m == three.m && one.v == three.v && one.m_scales == three.m_scales &&
             one.v_scales == three.v_scales));
      set_thread_count(1);
      // The same step in fp32 from what the codes say.
      Case wide(DType::kF32, count);
      const EightBits from = before();
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(i), block = at / kCodeBlock;
        wide.m[0].set(i, static_cast<double>(number(with_sign, from.m[at], from.m_scales[block])));
        wide.v[0].set(i, static_cast<double>(number(without, from.v[at], from.v_scales[block])));
      }
      const std::vector<OptimizerTensor> tensors = wide.list();
      table->adamw(adamw_args({tensors[0]}));
      CHECK(w.bytes() == wide.w[0].bytes());
      int64_t wrong_m = 0, wrong_v = 0, wrong_sign = 0;
      for (int64_t b = 0; b < blocks; ++b) {
        double most_m = 0, most_v = 0;
        const int64_t end = std::min(count, (b + 1) * kCodeBlock);
        for (int64_t i = b * kCodeBlock; i < end; ++i) {
          most_m = std::max(most_m, std::fabs(wide.m[0].get(i)));
          most_v = std::max(most_v, wide.v[0].get(i));
        }
        const auto block = static_cast<size_t>(b);
        CHECK(static_cast<double>(one.m_scales[block]) == most_m);
        CHECK(static_cast<double>(one.v_scales[block]) == most_v);
        for (int64_t i = b * kCodeBlock; i < end; ++i) {
          const auto at = static_cast<size_t>(i);
          const double m = wide.m[0].get(i) / most_m, v = wide.v[0].get(i) / most_v;
          const auto got_m = static_cast<double>(with_sign.numbers[one.m[at]]),
                     got_v = static_cast<double>(without.numbers[one.v[at]]);
          // Half a gap, and the roundings of the share; a sign that is kept may cost a whole gap.
          const bool near_zero = std::fabs(m) < 5.5e-7;
          wrong_m += std::fabs(got_m - m) >
                     gap(with_sign, m) * (near_zero ? 1 : 0.5) + 4 * u32() * std::fabs(m);
          wrong_v += std::fabs(got_v - v) > gap(without, v) * 0.5 + 4 * u32() * v;
          wrong_sign += m != 0 && got_m * m <= 0;
        }
      }
      CHECK(wrong_m == 0);
      CHECK(wrong_v == 0);
      CHECK(wrong_sign == 0);
    }
  }
}

}  // namespace tenon::test
