// SPDX-License-Identifier: Apache-2.0
// AdamW on the CPU with moments in 8 bits.
#include <algorithm>
#include <cmath>

#include "core/dynamic_code.h"
#include "tests/kernels/optimizer_problem.h"

namespace tenon::test {
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
    for (const int64_t count : kOptimizerSizes) {
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
        OptimizerCase c(DType::kF32, count);
        OptimizerTensor tensor = c.list()[0];
        tensor.m = tensor.v = nullptr;
        tensor.m_codes = e.m.data();
        tensor.v_codes = e.v.data();
        tensor.m_scales = e.m_scales.data();
        tensor.v_scales = e.v_scales.data();
        const PlacedList list({tensor});
        AdamWArgs args = adamw_args(list);
        args.signed_code = &with_sign;
        args.unsigned_code = &without;
        table->adamw(args);
        return c.w[0];
      };
      EightBits one = before(), three = before();
      const GuardedArray w = run(1, one);
      CHECK(w.bytes() == run(3, three).bytes());
      CHECK((one.m == three.m && one.v == three.v && one.m_scales == three.m_scales &&
             one.v_scales == three.v_scales));
      set_thread_count(1);
      // The same step in fp32 from what the codes say.
      OptimizerCase wide(DType::kF32, count);
      const EightBits from = before();
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(i), block = at / kCodeBlock;
        wide.m[0].set(i, static_cast<double>(number(with_sign, from.m[at], from.m_scales[block])));
        wide.v[0].set(i, static_cast<double>(number(without, from.v[at], from.v_scales[block])));
      }
      const PlacedList list({wide.list()[0]});
      table->adamw(adamw_args(list));
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
