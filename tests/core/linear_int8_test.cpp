// SPDX-License-Identifier: Apache-2.0
// Linears whose weight is in int8, against LLM.int8()'s definition in double.
#include <catch2/catch.hpp>
#include <cmath>
#include <optional>

#include "core/backend.h"
#include "core/ops.h"
#include "core/ops/linear_int8.h"
#include "tests/support/tensors.h"

namespace tenon::test {
namespace {

struct Size {
  int64_t rows, in, out, rank;
  int outliers;  // of a hundred elements
};
// Few rows and many, K in several parts, no outlier, more columns of outliers than are gathered at a time.
constexpr Size kSizes[] = {{1, 33, 7, 0, 2},
                           {5, 130, 48, 3, 0},
                           {40, 130, 48, 3, 3},
                           {3, 700, 90, 4, 30},
                           {70, 513, 65, 5, 1}};

// Sums in double, with those of magnitudes beside them.
struct Exact {
  std::vector<double> value, magnitude;
  explicit Exact(int64_t count)
      : value(static_cast<size_t>(count)), magnitude(static_cast<size_t>(count)) {}
  void add(int64_t i, double term) {
    value[static_cast<size_t>(i)] += term;
    magnitude[static_cast<size_t>(i)] += std::fabs(term);
  }
  // Of sums of `terms` terms, and `roundings` to dtype on the way.
  Bound bound(int64_t terms, double roundings, DType dtype) const {
    Bound bound = Bound::sum(terms, magnitude);
    for (size_t i = 0; i < magnitude.size(); ++i)
      bound.absolute[i] += roundings * unit_roundoff(dtype) * magnitude[i];
    return bound;
  }
};

std::vector<double> doubles(const Tensor& tensor) {
  const std::vector<float> all = values(tensor);
  return {all.begin(), all.end()};
}

// Adds scale a b^T: a (rows, k), b (columns, k).
void add_product(Exact& sums, const std::vector<double>& a, const std::vector<double>& b, int64_t k,
                 double scale = 1) {
  const int64_t rows = std::ssize(a) / k, columns = std::ssize(b) / k;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const double* x = a.data() + i / columns * k;
    const double* y = b.data() + i % columns * k;
    for (int64_t p = 0; p < k; ++p) sums.add(i, scale * x[p] * y[p]);
  }
}

Weight int8_weight(const Size& s) {
  const Tensor w = filled({s.out, s.in}, 3, -0.3f, 0.3f);
  return Weight(quantize_int8(
      w.shape(),
      [w](int64_t begin, int64_t count, float* to) {
        std::copy_n(w.data<float>() + begin, count, to);
      },
      "w"));
}

Tensor input(const Size& s, DType dtype) {
  const Tensor x = filled({s.rows, s.in}, 7, -2, 2);
  for (int64_t i = 0; i < x.numel(); ++i)
    if (i * 37 % 100 < s.outliers) x.data<float>()[i] *= 20;
  return dtype == DType::kF32 ? x : cast(x, dtype, MemoryKind::kWorkspace);
}

// x as its codes and its outliers have it, by the kernel that is tested elsewhere.
std::vector<double> as_multiplied(const Tensor& x, const Size& s) {
  const Int8Rows rows = int8_rows(x);
  std::vector<double> all = doubles(x);
  for (int64_t i = 0; i < s.rows * s.in; ++i) {
    double& element = all[static_cast<size_t>(i)];
    if (std::fabs(element) >= static_cast<double>(kOutlier)) continue;
    element = static_cast<double>(rows.codes.data<int8_t>()[i]) *
              static_cast<double>(rows.scales.data<float>()[i / s.in]);
  }
  return all;
}

}  // namespace

TEST_CASE("a linear in int8 multiplies codes, and outliers as they are", "[quant]") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Size& s : kSizes) {
      CAPTURE(name_of(dtype), s.rows, s.in, s.out, s.outliers);
      const Weight weight = int8_weight(s);
      const Tensor x = input(s, dtype), bias = filled({s.out}, 9);
      CHECK(int8_rows(x).outliers.empty() == (s.outliers == 0));
      LoraFactors lora;
      if (s.rank > 0)
        lora = {.a = filled({s.rank, s.in}, 11), .b = filled({s.out, s.rank}, 12), .scale = 0.5f};
      const Tensor y = linear(x, weight, WeightLayout::kOutIn, bias, &lora);

      Exact want(s.rows * s.out);
      add_product(want, as_multiplied(x, s), doubles(weight.rows(0, s.out)), s.in);
      if (s.rank > 0) {
        const std::vector<double> a = doubles(lora.a), b = doubles(lora.b);
        std::vector<double> ba(static_cast<size_t>(s.out * s.in));
        for (int64_t i = 0; i < s.out * s.in; ++i) {
          for (int64_t r = 0; r < s.rank; ++r) {
            ba[static_cast<size_t>(i)] += b[static_cast<size_t>(i / s.in * s.rank + r)] *
                                          a[static_cast<size_t>(r * s.in + i % s.in)];
          }
        }
        add_product(want, doubles(x), ba, s.in, 0.5);
        // Those of B A's terms may cancel: T = x A^T is rounded before.
        for (size_t i = 0; i < want.magnitude.size(); ++i)
          want.magnitude[i] += 8 * static_cast<double>(s.rank) * std::sqrt(s.in);
      }
      for (int64_t i = 0; i < s.rows * s.out; ++i)
        want.add(i, static_cast<double>(bias.data<float>()[i % s.out]));
      // What is added to y in its own dtype: the codes' product, each gathering of columns, the adapter.
      const double additions = 2 + std::ceil(static_cast<double>(s.in) / 32);
      CHECK_WITHIN(values(y), want.value,
                   want.bound(s.in + s.in / 16 + s.rank + 8, additions, dtype));
    }
  }
}

TEST_CASE("a linear in int8 and its activation are the linear and then the activation", "[quant]") {
  const Size s = {9, 130, 48, 3, 3};
  const Weight weight = int8_weight(s);
  const Tensor x = input(s, DType::kF32), bias = filled({s.out}, 9);
  for (const Activation kind : {Activation::kGeluTanh, Activation::kRelu}) {
    const Tensor v = linear(x, weight, WeightLayout::kOutIn, bias, nullptr);
    for (const bool records : {false, true}) {
      Tape tape;
      std::optional<Recording> scope;
      if (records) scope.emplace(tape);
      const Activated got = linear_activation(x, weight, WeightLayout::kOutIn, bias, nullptr, kind);
      CHECK(values(got.value) == values(activation(v, kind)));
    }
  }
}

TEST_CASE("the gradient of a linear in int8 is that of the numbers it stands for", "[quant]") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Size& s : kSizes) {
      CAPTURE(name_of(dtype), s.rows, s.in, s.out);
      const Weight weight = int8_weight(s);
      const Tensor dy = dtype == DType::kF32
                            ? filled({s.rows, s.out}, 21)
                            : cast(filled({s.rows, s.out}, 21), dtype, MemoryKind::kWorkspace);
      const auto gradient = [&](const Weight& w) {
        const Tensor x = leaf(input(s, dtype));
        Tape tape;
        Tensor y;
        {
          const Recording scope(tape);
          y = linear(x, w, WeightLayout::kOutIn, {}, nullptr);
        }
        tape.backward(y, dy);
        return values(x.slot()->grad);
      };
      const std::vector<double> w = doubles(weight.rows(0, s.out));
      std::vector<double> transposed(w.size());
      for (int64_t i = 0; i < s.out * s.in; ++i)
        transposed[static_cast<size_t>(i % s.in * s.out + i / s.in)] = w[static_cast<size_t>(i)];
      Exact want(s.rows * s.in);
      add_product(want, doubles(dy), transposed, s.out);
      // In bf16 the weight is rounded for the product too, where this CPU multiplies bf16.
      CHECK_WITHIN(gradient(weight), want.value, want.bound(s.out + s.out / 16 + 4, 3, dtype));
    }
  }
}

TEST_CASE("what is no number in x is none in y", "[quant]") {
  const Size s = {4, 130, 48, 0, 0};
  const Weight weight = int8_weight(s);
  const Tensor x = input(s, DType::kF32);
  x.data<float>()[2 * s.in + 77] = NAN;
  const Tensor y = linear(x, weight, WeightLayout::kOutIn, {}, nullptr);
  for (int64_t i = 0; i < y.numel(); ++i) CHECK(std::isnan(y.data<float>()[i]) == (i / s.out == 2));
}

}  // namespace tenon::test
