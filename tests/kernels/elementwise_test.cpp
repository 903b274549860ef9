// SPDX-License-Identifier: Apache-2.0
// Activations, gated ones too, dropout, add, scale and cast.
#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

constexpr Activation kActivations[] = {Activation::kGeluTanh,  Activation::kGeluErf,
                                       Activation::kQuickGelu, Activation::kRelu,
                                       Activation::kSilu,      Activation::kTanh};

// Inputs from deep in the left tail to deep in the right one, most of them near zero; some far
// outside.
std::vector<float> activation_inputs(int64_t count) {
  std::vector<float> x = random_values(count, 3, -4, 4);
  for (size_t i = 0; i < x.size(); ++i) {
    if (i % 3 == 1) x[i] *= 0.05f;
    if (i % 7 == 2) x[i] *= 5;
    if (i % 31 == 3) x[i] *= 100;
  }
  return x;
}

struct Sigmoid {
  double z, slope;  // the argument and its derivative
};
Sigmoid sigmoid_argument(Activation activation, double x) {
  if (activation == Activation::kSilu) return {x, 1};
  if (activation == Activation::kQuickGelu) return {1.702 * x, 1.702};
  return {1.5957691216 * (x + 0.044715 * x * x * x), 1.5957691216 * (1 + 3 * 0.044715 * x * x)};
}

struct Errors {
  double value, slope;
};

// Four functions are x s with s = sigmoid(z): exp of a z that is off by 5 u |z| (z is a cubic of x,
// or 1.702 x) gives s a relative error e = (1 - s) 5 u |z|, and exp, sum, quotient and product add
// 6 u. Their slope is s + x z' s (1 - s), where 1 - s is off by s e + u. gelu_erf is x cdf, with a
// cdf whose e^(-x^2 / 2) has an exponent off by u x^2, times a quotient and a polynomial (16 u);
// its slope is cdf + x density. The slope of tanh is a quotient of exps. A result below the
// smallest normal number of fp32 may be lost, times |x|; and the reference's 1 + tanh cancels,
// which costs it 2^-52 |x|.
Errors errors_of(Activation activation, double x) {
  const double u = u32(), value = std::fabs(reference::activation(activation, x));
  const double slope = std::fabs(reference::activation_slope(activation, x));
  const double lost = 0x1p-126 + std::fabs(x) * (0x1p-126 + 0x1p-52);
  if (activation == Activation::kRelu) return {0, 0};
  if (activation == Activation::kTanh) return {4 * u * value, 8 * u * slope + lost};
  if (activation == Activation::kGeluErf) {
    const double e = u * (16 + x * x), cdf = x == 0 ? 0.5 : std::fabs(value / x);
    return {e * value + lost, e * (cdf + std::fabs(slope - cdf)) + u * slope + lost};
  }
  const Sigmoid inner = sigmoid_argument(activation, x);
  const double s = 1 / (1 + std::exp(-inner.z)), rest = 1 / (1 + std::exp(inner.z));
  const double e = u * (6 + 5 * std::fabs(inner.z) * rest), outer = std::fabs(x * inner.slope) * s;
  return {e * value + lost,
          s * (e + u) + outer * (rest * (e + 8 * u) + s * e + u) + u * slope + lost};
}

}  // namespace

TEST_CASE("activations match the double reference", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (Activation activation : kActivations) {
        for (int64_t count : kCounts) {
          CAPTURE(target.name, name_of(dtype), static_cast<int>(activation), count);
          const GuardedArray x(dtype, activation_inputs(count)), dy(dtype, random_values(count, 5));
          const auto got = run_on_threads([&] {
            GuardedArray y(dtype, count), dx(dtype, count), y_inplace = x, dx_inplace = dy;
            table->activation({x.data(), y.data(), count, activation, dtype});
            table->activation({y_inplace.data(), y_inplace.data(), count, activation, dtype});
            table->activation_grad({x.data(), dy.data(), dx.data(), count, activation, dtype});
            table->activation_grad(
                {x.data(), dx_inplace.data(), dx_inplace.data(), count, activation, dtype});
            return std::vector<GuardedArray>{y, dx, y_inplace, dx_inplace};
          });
          std::vector<double> y, dx, y_error, dx_error;
          for (int64_t i = 0; i < count; ++i) {
            const Errors errors = errors_of(activation, x.get(i));
            y.push_back(reference::activation(activation, x.get(i)));
            y_error.push_back(errors.value);
            dx.push_back(dy.get(i) * reference::activation_slope(activation, x.get(i)));
            dx_error.push_back(std::fabs(dy.get(i)) * errors.slope + u32() * std::fabs(dx.back()));
          }
          CHECK_WITHIN(got[0].values(), y, Bound{y_error}.then_round(dtype));
          CHECK_WITHIN(got[1].values(), dx, Bound{dx_error}.then_round(dtype));
          CHECK(
              (got[2].bytes() == got[0].bytes() && got[3].bytes() == got[1].bytes()));  // in place
        }
      }
    }
  }
}

TEST_CASE("gated activations match the double reference", "[kernels]") {
  const int64_t rows = 7;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
        for (int64_t channels : {1, 8, 16, 17, 131, 1024}) {
          CAPTURE(target.name, name_of(dtype), static_cast<int>(activation), channels);
          const int64_t stride = 2 * channels, count = rows * channels;  // halves of one array
          std::vector<float> values = activation_inputs(2 * count);
          const std::vector<float> ups = random_values(count, 4);
          for (int64_t i = 0; i < count; ++i)
            values[static_cast<size_t>(i / channels * stride + channels + i % channels)] =
                ups[static_cast<size_t>(i)];
          const GuardedArray x(dtype, values), dy(dtype, random_values(count, 5));
          const int64_t half = channels * size_of(dtype);
          const auto got = run_on_threads([&] {
            GuardedArray y(dtype, count), dx(dtype, 2 * count), dx_inplace = x;
            const char* gate = static_cast<const char*>(x.data());
            table->gated_activation(
                {gate, gate + half, y.data(), rows, channels, stride, activation, dtype});
            char* dgate = static_cast<char*>(dx.data());
            table->gated_activation_grad({gate, gate + half, dy.data(), dgate, dgate + half, rows,
                                          channels, stride, stride, activation, dtype});
            char* both = static_cast<char*>(dx_inplace.data());
            table->gated_activation_grad({both, both + half, dy.data(), both, both + half, rows,
                                          channels, stride, stride, activation, dtype});
            GuardedArray dgate_apart(dtype, count), dup_apart(dtype, count);  // other strides
            table->gated_activation_grad({gate, gate + half, dy.data(), dgate_apart.data(),
                                          dup_apart.data(), rows, channels, stride, channels,
                                          activation, dtype});
            return std::vector<GuardedArray>{y, dx, dx_inplace, dgate_apart, dup_apart};
          });
          int64_t differ = 0;
          std::vector<double> y, y_error, dx(static_cast<size_t>(2 * count)), dx_error = dx;
          for (int64_t i = 0; i < count; ++i) {
            const int64_t at = i / channels * stride + i % channels;
            const double gate = x.get(at), up = x.get(at + channels), d = dy.get(i);
            const Errors errors = errors_of(activation, gate);
            const double value = reference::activation(activation, gate);
            // A product more for y and dup, two for dgate.
            y.push_back(value * up);
            y_error.push_back(std::fabs(up) * errors.value + u32() * std::fabs(y.back()));
            const auto k = static_cast<size_t>(at), l = static_cast<size_t>(at + channels);
            dx[k] = d * up * reference::activation_slope(activation, gate);
            dx_error[k] =
                std::fabs(d * up) * errors.slope * (1 + u32()) + 2 * u32() * std::fabs(dx[k]);
            dx[l] = d * value;
            dx_error[l] = std::fabs(d) * errors.value + u32() * std::fabs(dx[l]);
            const bool same =
                got[3].get(i) == got[1].get(at) && got[4].get(i) == got[1].get(at + channels);
            differ += same ? 0 : 1;
          }
          CHECK_WITHIN(got[0].values(), y, Bound{y_error}.then_round(dtype));
          CHECK_WITHIN(got[1].values(), dx, Bound{dx_error}.then_round(dtype));
          CHECK(got[2].bytes() == got[1].bytes());  // in place
          CHECK(differ == 0);
        }
      }
    }
  }
}

TEST_CASE("NaN passes through elementwise kernels", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      CAPTURE(target.name, name_of(dtype));
      GuardedArray x(dtype, random_values(40, 3)), one(dtype, std::vector<float>(40, 1.0f));
      x.set(21, NAN);
      GuardedArray y(dtype, 40);
      const auto only_21_is_nan = [&] {
        for (int64_t i = 0; i < 40; ++i) {
          if (std::isnan(y.get(i)) != (i == 21)) return false;
        }
        return true;
      };
      for (Activation activation : kActivations) {
        table->activation({x.data(), y.data(), 40, activation, dtype});
        CHECK(only_21_is_nan());
        table->activation_grad({one.data(), x.data(), y.data(), 40, activation, dtype});
        CHECK(only_21_is_nan());
        if (activation == Activation::kRelu) continue;  // its slope at NaN is 0, as in PyTorch
        table->activation_grad({x.data(), one.data(), y.data(), 40, activation, dtype});
        CHECK(only_21_is_nan());
      }
      table->add({x.data(), one.data(), y.data(), 40, dtype});
      CHECK(only_21_is_nan());
      table->scale({x.data(), y.data(), 40, 2.0f, dtype});
      CHECK(only_21_is_nan());
      table->cast({x.data(), y.data(), 40, dtype, dtype});
      CHECK(only_21_is_nan());
    }
  }
}

TEST_CASE("add and scale round once", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (int64_t count : kCounts) {
        CAPTURE(target.name, name_of(dtype), count);
        const GuardedArray a(dtype, random_values(count, 1)), b(dtype, random_values(count, 2));
        const auto got = run_on_threads([&] {
          GuardedArray sum(dtype, count), scaled(dtype, count), sum_a = a, sum_b = b, scaled_a = a;
          table->add({a.data(), b.data(), sum.data(), count, dtype});
          table->add({sum_a.data(), b.data(), sum_a.data(), count, dtype});
          table->add({a.data(), sum_b.data(), sum_b.data(), count, dtype});
          table->scale({a.data(), scaled.data(), count, 0.3f, dtype});
          table->scale({scaled_a.data(), scaled_a.data(), count, 0.3f, dtype});
          return std::vector<GuardedArray>{sum, scaled, sum_a, sum_b, scaled_a};
        });
        std::vector<double> sum, scaled;
        for (int64_t i = 0; i < count; ++i) {
          sum.push_back(a.get(i) + b.get(i));
          scaled.push_back(a.get(i) * static_cast<double>(0.3f));
        }
        // One fp32 operation, then one rounding to dtype.
        CHECK_WITHIN(got[0].values(), sum, Bound::ulps(0.5).then_round(dtype));
        CHECK_WITHIN(got[1].values(), scaled, Bound::ulps(0.5).then_round(dtype));
        CHECK((got[2].bytes() == got[0].bytes() && got[3].bytes() == got[0].bytes()));
        CHECK(got[4].bytes() == got[1].bytes());
      }
    }
  }
}

TEST_CASE("cast rounds to nearest even, bit for bit", "[kernels]") {
  // Every seventh 16-bit pattern, the numbers halfway to the next and either side of them, and the
  // borders of fp16.
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType to : kFloats) {
      std::vector<float> inputs;
      for (DType half : {DType::kBF16, DType::kF16}) {
        for (uint32_t bits = 0; bits < 0x10000; bits += 7) {
          const auto value = static_cast<float>(half_value(half, static_cast<uint16_t>(bits)));
          const auto next = static_cast<float>(half_value(half, static_cast<uint16_t>(bits + 1)));
          const float middle = value / 2 + next / 2;
          for (float x :
               {value, middle, std::nextafter(middle, 1e38f), std::nextafter(middle, -1e38f)})
            inputs.push_back(x);
        }
      }
      for (float x : {65519.0f, 65520.0f, 65536.0f, -65520.0f, 0x1p-25f, 0x1.000002p-25f, 0x1p-24f,
                      0x1.8p-24f, 3.4e38f}) {
        inputs.push_back(x);
      }
      const auto count = static_cast<int64_t>(inputs.size());
      const GuardedArray x(DType::kF32, inputs);
      const auto got = run_on_threads([&] {
        GuardedArray y(to, count), back(DType::kF32, count);
        table->cast({x.data(), y.data(), count, DType::kF32, to});
        table->cast({y.data(), back.data(), count, to, DType::kF32});
        return std::vector<GuardedArray>{y, back};
      });
      int64_t wrong = 0;
      for (int64_t i = 0; i < count; ++i) {
        const double exact = round_to(to, x.get(i));
        for (const GuardedArray& y : got) {
          const double is = y.get(i);
          const bool same = std::isnan(exact)
                                ? std::isnan(is)
                                : is == exact && std::signbit(is) == std::signbit(exact);
          wrong += same ? 0 : 1;
        }
      }
      CAPTURE(target.name, name_of(to));
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("cast keeps a NaN whose payload lies in the bits that are cut off", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType to : kFloats) {
      const PlacedArray<uint32_t> bits(
          {0x7f800001, 0xff800001, 0x7f801fff, 0x7fffffff, 0xffffffff});
      const int64_t count = 5;
      GuardedArray y(to, count);
      table->cast({bits.data(), y.data(), count, DType::kF32, to});
      CAPTURE(target.name, name_of(to));
      for (int64_t i = 0; i < count; ++i) CHECK(std::isnan(y.get(i)));
    }
  }
}

TEST_CASE("cast handles every pair of dtypes and every tail", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType from : kFloats) {
      for (DType to : kFloats) {
        for (int64_t count : kCounts) {
          CAPTURE(target.name, name_of(from), name_of(to), count);
          const GuardedArray x(from, random_values(count, 9));
          GuardedArray y(to, count);
          table->cast({x.data(), y.data(), count, from, to});
          std::vector<double> want = x.values();
          for (double& w : want) w = round_to(to, w);
          CHECK_WITHIN(y.values(), want, Bound::fixed(0));
          CHECK(y.guards_intact());
        }
      }
    }
  }
}

TEST_CASE("dropout keeps what Philox says, wherever the array starts", "[kernels]") {
  const PhiloxBlock known = philox_block({}, 0);  // the first test vector of Random123
  REQUIRE((known.word[0] == 0x6627e8d5 && known.word[3] == 0x9b00dbd8));
  const RandomStream random = {.seed = 0x123456789abcdefull, .purpose = 7, .step = 3};
  const float p = 0.3f;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (int64_t count : kCounts) {
        for (uint64_t position0 :
             {uint64_t{0}, uint64_t{1}, uint64_t{4098}, (uint64_t{1} << 34) - 21}) {
          CAPTURE(target.name, name_of(dtype), count, position0);
          const GuardedArray x(dtype, random_values(count, 1, 0.5f, 1)),
              add(dtype, random_values(count, 2));
          const auto got = run_on_threads([&] {
            GuardedArray y(dtype, count), sum(dtype, count), inplace = x;
            table->dropout({x.data(), nullptr, y.data(), count, p, random, position0, dtype});
            table->dropout({x.data(), add.data(), sum.data(), count, p, random, position0, dtype});
            table->dropout(
                {inplace.data(), nullptr, inplace.data(), count, p, random, position0, dtype});
            return std::vector<GuardedArray>{y, sum, inplace};
          });
          std::vector<double> y, sum, sum_error;
          for (int64_t i = 0; i < count; ++i) {
            const bool kept =
                static_cast<double>(philox_word(random, position0 + static_cast<uint64_t>(i))) >
                static_cast<double>(p) * 0x1p32 - 1;
            y.push_back(kept ? x.get(i) / (1 - static_cast<double>(p)) : 0);
            sum.push_back(y.back() + add.get(i));
            sum_error.push_back(3 * u32() * y.back());
          }
          // 1 - p, its inverse and the product are rounded.
          CHECK_WITHIN(got[0].values(), y, Bound::ulps(1.5).then_round(dtype));
          CHECK_WITHIN(got[1].values(), sum, Bound({sum_error, u32()}).then_round(dtype));
          CHECK(got[2].bytes() == got[0].bytes());
        }
      }
    }
  }
}

}  // namespace tenon::test
