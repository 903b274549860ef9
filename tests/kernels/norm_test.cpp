// SPDX-License-Identifier: Apache-2.0
// Layer and root-mean-square normalisation and their gradients.
#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

constexpr int64_t kChannels[] = {1, 7, 8, 9, 15, 16, 17, 131, 1024};
constexpr float kEps = 1e-5f;

// With f = share of a sum of C terms: the mean is off by e = (f + 2 u) mean|s|, so s - mean by e +
// u |s - mean|, and the variance, a mean of squares, by the share f + 3 u and e^2; half of that
// goes into rstd, with 3 u for root and quotient. y adds three roundings.
std::vector<double> norm_error(const reference::Values& s, const reference::Values& weight,
                               const reference::Values& bias, const reference::LayerNorm& n) {
  const size_t channels = weight.size();
  const double f = reference::sum_share(static_cast<int64_t>(channels));
  std::vector<double> error(s.size());
  for (size_t r = 0; r < n.mean.size(); ++r) {
    double size = 0;
    for (size_t c = 0; c < channels; ++c)
      size += std::fabs(s[r * channels + c]) / static_cast<double>(channels);
    const double e = (f + 2 * u32()) * size,
                 variance = f + 3 * u32() + e * e * n.rstd[r] * n.rstd[r];
    for (size_t c = 0; c < channels; ++c) {
      const double scaled = n.y[r * channels + c] - bias[c];
      error[r * channels + c] = std::fabs(weight[c]) * n.rstd[r] * e +
                                std::fabs(scaled) * (variance / 2 + 6 * u32()) +
                                u32() * std::fabs(n.y[r * channels + c]);
    }
  }
  return error;
}

}  // namespace

TEST_CASE("layer_norm matches the double reference", "[kernels]") {
  const int64_t rows = 35;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (int64_t channels : kChannels) {
        CAPTURE(target.name, name_of(dtype), channels);
        const int64_t count = rows * channels;
        const GuardedArray x(dtype, random_values(count, 1, -2, 3)),
            residual(dtype, random_values(count, 2));
        const GuardedArray weight(DType::kF32, random_values(channels, 3)),
            bias(DType::kF32, random_values(channels, 4));
        const auto got = run_on_threads([&] {
          GuardedArray y(dtype, count), sum(dtype, count), y_alone(dtype, count),
              y_inplace(dtype, count), x_copy = x, residual_copy = residual;
          GuardedArray mean(DType::kF32, rows), rstd(DType::kF32, rows);
          NormArgs args = {x.data(),   residual.data(), floats(weight), floats(bias),
                           sum.data(), y.data(),        floats(mean),   floats(rstd),
                           rows,       channels,        kEps,           dtype};
          table->norm(args);
          args.mean = args.rstd = nullptr;
          args.x = args.sum = x_copy.data();
          args.y = y_inplace.data();
          table->norm(args);
          args.x = x.data();
          args.residual = args.sum = residual_copy.data();
          table->norm(args);
          args.residual = args.sum = nullptr;
          args.y = y_alone.data();
          table->norm(args);
          return std::vector<GuardedArray>{y,       sum,    mean,          rstd,
                                           y_alone, x_copy, residual_copy, y_inplace};
        });
        std::vector<double> sum;
        for (int64_t i = 0; i < count; ++i) sum.push_back(x.get(i) + residual.get(i));
        CHECK_WITHIN(got[1].values(), sum, Bound::ulps(0.5).then_round(dtype));
        // From here on s is what was stored.
        const std::vector<double> s = got[1].values(), w = weight.values(), b = bias.values();
        const reference::LayerNorm n = reference::layer_norm(s, w, b, kEps);
        const reference::LayerNorm alone = reference::layer_norm(x.values(), w, b, kEps);
        CHECK_WITHIN(got[0].values(), n.y, Bound{norm_error(s, w, b, n)}.then_round(dtype));
        CHECK_WITHIN(got[4].values(), alone.y,
                     Bound{norm_error(x.values(), w, b, alone)}.then_round(dtype));
        // As derived above, with |s| < 4.
        const double f = reference::sum_share(channels) + 8 * u32();
        CHECK_WITHIN(got[2].values(), n.mean, Bound::fixed(4 * f));
        std::vector<double> rstd_error;
        for (double rstd : n.rstd) rstd_error.push_back(rstd * (f + 16 * f * f * rstd * rstd));
        CHECK_WITHIN(got[3].values(), n.rstd, Bound{rstd_error});
        CHECK((got[5].bytes() == got[1].bytes() &&
               got[6].bytes() == got[1].bytes()));  // sum in place of x or residual
        CHECK(got[7].bytes() == got[0].bytes());
      }
    }
  }
}

TEST_CASE("layer_norm of constant rows is the bias, of a row with NaN is NaN", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    const int64_t rows = 3, channels = 48;
    std::vector<float> values(rows * channels, 0.75f);
    values[channels + 20] = NAN;
    const GuardedArray x(DType::kF32, values), weight(DType::kF32, random_values(channels, 3)),
        bias(DType::kF32, random_values(channels, 4));
    GuardedArray y(DType::kF32, rows * channels);
    table->norm({.x = x.data(),
                 .weight = floats(weight),
                 .bias = floats(bias),
                 .y = y.data(),
                 .rows = rows,
                 .channels = channels,
                 .eps = kEps});
    int64_t wrong = 0;
    for (int64_t i = 0; i < rows * channels; ++i) {
      const bool right =
          i / channels == 1 ? std::isnan(y.get(i)) : y.get(i) == bias.get(i % channels);
      wrong += right ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("layer_norm_grad matches the double reference", "[kernels]") {
  const int64_t rows = 131;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (int64_t channels : kChannels) {
        CAPTURE(target.name, name_of(dtype), channels);
        const int64_t count = rows * channels;
        const GuardedArray s(dtype, random_values(count, 1, -2, 3)),
            dy(dtype, random_values(count, 2)), dsum(dtype, random_values(count, 5));
        const GuardedArray weight(DType::kF32, random_values(channels, 3)),
            mean(DType::kF32, random_values(rows, 6)),
            rstd(DType::kF32, random_values(rows, 7, 0.5f, 2)),
            before(DType::kF32, random_values(2 * channels, 8));
        const auto got = run_on_threads([&] {
          GuardedArray ds(dtype, count), ds_alone(dtype, count), dy_copy = dy, dsum_copy = dsum,
                                                                 sums = before;
          NormGradArgs args = {s.data(),     floats(weight), floats(mean),
                               floats(rstd), dy.data(),      dsum.data(),
                               ds.data(),    floats(sums),   floats(sums) + channels,
                               rows,         channels,       dtype};
          table->norm_grad(args);
          args.dweight = args.dbias = nullptr;
          args.ds = dsum_copy.data();
          args.dsum = dsum_copy.data();
          table->norm_grad(args);
          args.dsum = dsum.data();
          args.dy = args.ds = dy_copy.data();
          table->norm_grad(args);
          args.dy = dy.data();
          args.dsum = nullptr;
          args.ds = ds_alone.data();
          table->norm_grad(args);
          return std::vector<GuardedArray>{ds, ds_alone, sums, dy_copy, dsum_copy};
        });
        const auto want = reference::layer_norm_grad(s.values(), weight.values(), mean.values(),
                                                     rstd.values(), dy.values());
        std::vector<double> ds, error, error_alone, sums = before.values(),
                                                    sizes = magnitudes(sums);
        const double f = reference::sum_share(channels) + 8 * u32();
        for (int64_t r = 0; r < rows; ++r) {
          double size_g = 0, size_gn = 0;
          const auto n = [&](int64_t c) {
            return std::fabs((s.get(r * channels + c) - mean.get(r)) * rstd.get(r));
          };
          const auto g = [&](int64_t c) {
            return std::fabs(dy.get(r * channels + c) * weight.get(c));
          };
          for (int64_t c = 0; c < channels; ++c) {
            size_g += g(c) / static_cast<double>(channels);
            size_gn += g(c) * n(c) / static_cast<double>(channels);
            sizes[static_cast<size_t>(c)] += std::fabs(dy.get(r * channels + c)) * n(c);
            sizes[static_cast<size_t>(channels + c)] += std::fabs(dy.get(r * channels + c));
          }
          // Three terms, each a product with few roundings of a sum of C terms, times rstd.
          for (int64_t c = 0; c < channels; ++c) {
            const auto i = static_cast<size_t>(r * channels + c);
            error_alone.push_back(rstd.get(r) * f * (g(c) + size_g + n(c) * size_gn));
            ds.push_back(want.ds[i] + dsum.get(r * channels + c));
            error.push_back(error_alone.back() +
                            u32() * (std::fabs(ds.back()) + std::fabs(want.ds[i])));
          }
        }
        for (int64_t c = 0; c < channels; ++c) {
          sums[static_cast<size_t>(c)] += want.dweight[static_cast<size_t>(c)];
          sums[static_cast<size_t>(channels + c)] += want.dbias[static_cast<size_t>(c)];
        }
        CHECK_WITHIN(got[0].values(), ds, Bound{error}.then_round(dtype));
        CHECK_WITHIN(got[1].values(), want.ds, Bound{error_alone}.then_round(dtype));
        CHECK_WITHIN(got[2].values(), sums, Bound::sum(rows + 4, sizes));
        CHECK((got[3].bytes() == got[0].bytes() &&
               got[4].bytes() == got[0].bytes()));  // ds in place of dy or dsum
      }
    }
  }
}

TEST_CASE("rms_norm matches the double reference", "[kernels]") {
  const int64_t rows = 35;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (int64_t channels : kChannels) {
        CAPTURE(target.name, name_of(dtype), channels);
        const int64_t count = rows * channels;
        const GuardedArray x(dtype, random_values(count, 1, -2, 3)),
            residual(dtype, random_values(count, 2));
        const GuardedArray weight(DType::kF32, random_values(channels, 3));
        const auto got = run_on_threads([&] {
          GuardedArray y(dtype, count), sum(dtype, count), y_alone(dtype, count),
              y_inplace(dtype, count), x_copy = x, residual_copy = residual;
          GuardedArray rstd(DType::kF32, rows);
          NormArgs args = {.x = x.data(),
                           .residual = residual.data(),
                           .weight = floats(weight),
                           .sum = sum.data(),
                           .y = y.data(),
                           .rstd = floats(rstd),
                           .rows = rows,
                           .channels = channels,
                           .eps = kEps,
                           .dtype = dtype,
                           .centred = false};
          table->norm(args);
          args.rstd = nullptr;
          args.x = args.sum = x_copy.data();
          args.y = y_inplace.data();
          table->norm(args);
          args.x = x.data();
          args.residual = args.sum = residual_copy.data();
          table->norm(args);
          args.residual = args.sum = nullptr;
          args.y = y_alone.data();
          table->norm(args);
          return std::vector<GuardedArray>{y, sum, rstd, y_alone, x_copy, residual_copy, y_inplace};
        });
        std::vector<double> sum;
        for (int64_t i = 0; i < count; ++i) sum.push_back(x.get(i) + residual.get(i));
        CHECK_WITHIN(got[1].values(), sum, Bound::ulps(0.5).then_round(dtype));
        // From here on s is what was stored. The mean of C squares is off by a share f of itself
        // and 3 u for quotient and eps; rstd by half of that and 3 u for root and quotient; y has
        // two products more.
        const reference::RmsNorm n = reference::rms_norm(got[1].values(), weight.values(), kEps);
        const reference::RmsNorm alone = reference::rms_norm(x.values(), weight.values(), kEps);
        const double share = reference::sum_share(channels) / 2 + 5 * u32();
        CHECK_WITHIN(got[2].values(), n.rstd, Bound::share(share, n.rstd));
        const Bound bound = Bound::share(share + 2 * u32(), magnitudes(n.y));
        CHECK_WITHIN(got[0].values(), n.y, bound.then_round(dtype));
        const Bound bound_alone = Bound::share(share + 2 * u32(), magnitudes(alone.y));
        CHECK_WITHIN(got[3].values(), alone.y, bound_alone.then_round(dtype));
        CHECK((got[4].bytes() == got[1].bytes() &&
               got[5].bytes() == got[1].bytes()));  // sum in place of x or residual
        CHECK(got[6].bytes() == got[0].bytes());
      }
    }
  }
}

TEST_CASE("rms_norm_grad matches the double reference", "[kernels]") {
  const int64_t rows = 131;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (int64_t channels : kChannels) {
        CAPTURE(target.name, name_of(dtype), channels);
        const int64_t count = rows * channels;
        const GuardedArray s(dtype, random_values(count, 1, -2, 3)),
            dy(dtype, random_values(count, 2)), dsum(dtype, random_values(count, 5));
        const GuardedArray weight(DType::kF32, random_values(channels, 3)),
            rstd(DType::kF32, random_values(rows, 7, 0.5f, 2)),
            before(DType::kF32, random_values(channels, 8));
        const auto got = run_on_threads([&] {
          GuardedArray ds(dtype, count), ds_alone(dtype, count), dy_copy = dy, dsum_copy = dsum,
                                                                 sums = before;
          NormGradArgs args = {.s = s.data(),
                               .weight = floats(weight),
                               .rstd = floats(rstd),
                               .dy = dy.data(),
                               .dsum = dsum.data(),
                               .ds = ds.data(),
                               .dweight = floats(sums),
                               .rows = rows,
                               .channels = channels,
                               .dtype = dtype,
                               .centred = false};
          table->norm_grad(args);
          args.dweight = nullptr;
          args.dsum = args.ds = dsum_copy.data();
          table->norm_grad(args);
          args.dsum = dsum.data();
          args.dy = args.ds = dy_copy.data();
          table->norm_grad(args);
          args.dy = dy.data();
          args.dsum = nullptr;
          args.ds = ds_alone.data();
          table->norm_grad(args);
          return std::vector<GuardedArray>{ds, ds_alone, sums, dy_copy, dsum_copy};
        });
        const auto want =
            reference::rms_norm_grad(s.values(), weight.values(), rstd.values(), dy.values());
        std::vector<double> ds, error, error_alone, sums = before.values(),
                                                    sizes = magnitudes(sums);
        const double f = reference::sum_share(channels) + 8 * u32();
        for (int64_t r = 0; r < rows; ++r) {
          double size_gn = 0;
          const auto n = [&](int64_t c) {
            return std::fabs(s.get(r * channels + c) * rstd.get(r));
          };
          const auto g = [&](int64_t c) {
            return std::fabs(dy.get(r * channels + c) * weight.get(c));
          };
          for (int64_t c = 0; c < channels; ++c) {
            size_gn += g(c) * n(c) / static_cast<double>(channels);
            sizes[static_cast<size_t>(c)] += std::fabs(dy.get(r * channels + c)) * n(c);
          }
          // Two terms, each a product with few roundings of a sum of C terms, times rstd.
          for (int64_t c = 0; c < channels; ++c) {
            const auto i = static_cast<size_t>(r * channels + c);
            error_alone.push_back(rstd.get(r) * f * (g(c) + n(c) * size_gn));
            ds.push_back(want.ds[i] + dsum.get(r * channels + c));
            error.push_back(error_alone.back() +
                            u32() * (std::fabs(ds.back()) + std::fabs(want.ds[i])));
          }
        }
        for (int64_t c = 0; c < channels; ++c)
          sums[static_cast<size_t>(c)] += want.dweight[static_cast<size_t>(c)];
        CHECK_WITHIN(got[0].values(), ds, Bound{error}.then_round(dtype));
        CHECK_WITHIN(got[1].values(), want.ds, Bound{error_alone}.then_round(dtype));
        CHECK_WITHIN(got[2].values(), sums, Bound::sum(rows + 4, sizes));
        CHECK((got[3].bytes() == got[0].bytes() &&
               got[4].bytes() == got[0].bytes()));  // ds in place of dy or dsum
      }
    }
  }
}

}  // namespace tenon::test
