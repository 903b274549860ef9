// SPDX-License-Identifier: Apache-2.0
// Cross-entropy, sum of squares, AdamW and SGD.
#include "tests/kernels/kernel_test.h"

namespace tenon::test {

TEST_CASE("cross_entropy matches the double reference", "[kernels]") {
  const int64_t rows = 5;
  const float scale = 0.37f;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (int64_t vocabulary : {1, 7, 8, 9, 15, 16, 17, 131, 1024, 1025, 5003}) {
      for (float spread : {0.0f, 3.0f, 1e4f}) {
        CAPTURE(target.name, vocabulary, spread);
        const int64_t stride = vocabulary + 3;
        const GuardedArray logits(DType::kF32, random_values(rows * stride, 1, -spread, spread));
        const std::vector<int32_t> chosen = {0, static_cast<int32_t>(vocabulary - 1),
                                             static_cast<int32_t>(vocabulary / 2),
                                             static_cast<int32_t>(vocabulary / 3), 0};
        const PlacedArray<int32_t> target_ids(chosen);
        const auto got = run_on_threads([&] {
          GuardedArray gradient = logits, kept = logits, loss(DType::kF32, rows), loss_alone = loss;
          CrossEntropyArgs args = {floats(gradient),
                                   target_ids.data(),
                                   floats(loss),
                                   rows,
                                   vocabulary,
                                   stride,
                                   scale,
                                   true};
          table->cross_entropy(args);
          args.logits = floats(kept);
          args.loss = floats(loss_alone);
          args.write_gradient = false;
          table->cross_entropy(args);
          return std::vector<GuardedArray>{gradient, kept, loss, loss_alone};
        });
        std::vector<double> x;
        for (int64_t i = 0; i < rows * stride; ++i) {
          if (i % stride < vocabulary) x.push_back(logits.get(i));
        }
        const reference::CrossEntropy want = reference::cross_entropy(x, chosen);
        // x - maximum is rounded, which makes exp off by that, and exp itself by 4 u; the sum adds
        // its share. In the logarithm relative errors become absolute ones.
        std::vector<double> loss_error, gradient, gradient_error;
        const double f =
            reference::sum_share(vocabulary) + (8 + static_cast<double>(vocabulary) / 1024) * u32();
        for (int64_t r = 0; r < rows; ++r) {
          const auto v = static_cast<size_t>(vocabulary), row = static_cast<size_t>(r),
                     first = row * v;
          const double maximum =
              *std::max_element(x.begin() + r * vocabulary, x.begin() + (r + 1) * vocabulary);
          const auto target_id = static_cast<size_t>(chosen[row]);
          double shift = 0;
          for (size_t i = 0; i < v; ++i) {
            const double share = want.gradient[first + i] + (i == target_id ? 1 : 0);
            shift += share * (maximum - x[first + i]) * u32();
          }
          const double log_sum = want.loss[row] - maximum + x[first + target_id];
          loss_error.push_back(f + shift +
                               u32() * (2 * std::fabs(log_sum) +
                                        std::fabs(maximum - x[first + target_id]) +
                                        std::fabs(want.loss[row])));
          for (size_t i = 0; i < v; ++i) {
            const double share = want.gradient[first + i] + (i == target_id ? 1 : 0);
            const double e = f + shift + u32() * (maximum - x[first + i]);
            gradient.push_back(want.gradient[first + i] * static_cast<double>(scale));
            gradient_error.push_back(static_cast<double>(scale) *
                                         (share * e + (i == target_id ? 2 * u32() : 0)) +
                                     0x1p-126);
          }
        }
        std::vector<double> got_gradient;
        bool gaps_kept = true;
        for (int64_t i = 0; i < rows * stride; ++i) {
          if (i % stride < vocabulary) {
            got_gradient.push_back(got[0].get(i));
          } else {
            gaps_kept = gaps_kept && got[0].get(i) == logits.get(i);
          }
        }
        CHECK_WITHIN(got[2].values(), want.loss, Bound{loss_error});
        CHECK_WITHIN(got_gradient, gradient, Bound{gradient_error});
        CHECK(gaps_kept);
        CHECK((got[1].bytes() == logits.bytes() && got[3].bytes() == got[2].bytes()));
      }
    }
  }
}

TEST_CASE("cross_entropy: logits of minus infinity have no share, NaN makes its row's loss NaN",
          "[kernels]") {
  const int64_t vocabulary = 3000;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    std::vector<float> values(2 * vocabulary,
                              -INFINITY);  // whole pieces of them, before and after the finite ones
    values[1500] = values[1501] = 1;
    values[vocabulary + 7] = NAN;
    values[vocabulary + 2999] = 2;
    GuardedArray logits(DType::kF32, values), loss(DType::kF32, 2);
    const PlacedArray<int32_t> target_ids({1501, 2999});
    table->cross_entropy(
        {floats(logits), target_ids.data(), floats(loss), 2, vocabulary, vocabulary, 1.0f, true});
    CHECK(std::fabs(loss.get(0) - std::log(2.0)) < 4 * u32());
    CHECK((logits.get(1500) == 0.5 && logits.get(1501) == -0.5 && logits.get(0) == 0 &&
           logits.get(2999) == 0));
    CHECK(std::isnan(loss.get(1)));
  }
}

namespace {

// Flat arrays of `count` elements as a list of four tensors, one of them empty.
struct List {
  PlacedArray<OptimizerTensor> tensors;
  int64_t count, pieces;
  OptimizerList get() const { return {tensors.data(), count, pieces}; }
};
List list_of(int64_t count, float* weight, const float* grad, float* m = nullptr,
             float* v = nullptr, float decay = 0) {
  std::vector<OptimizerTensor> list;
  int64_t pieces = 0;
  const int64_t cuts[] = {0, 0, count / 3, count / 3 + count / 2, count};
  for (int i = 0; i < 4; ++i) {
    const int64_t begin = cuts[i], size = cuts[i + 1] - begin;
    const auto from = [&](auto* array) { return array == nullptr ? nullptr : array + begin; };
    list.push_back({from(weight), from(grad), from(m), from(v), size, pieces, decay});
    pieces += (size + kOptimizerPiece - 1) / kOptimizerPiece;
  }
  return {PlacedArray<OptimizerTensor>(list), static_cast<int64_t>(list.size()), pieces};
}

}  // namespace

TEST_CASE("sum_squares sums in double", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (int64_t count : {0, 1, 15, 16, 17, 4095, 4096, 4097, 30011}) {
      CAPTURE(target.name, count);
      GuardedArray x(DType::kF32, random_values(count, 1, -1e18f, 1e18f));  // squares beyond fp32
      double first = 0;
      for (int threads : {1, 2, 3}) {
        set_thread_count(threads);
        PlacedArray<double> out({-1.0});
        table->sum_squares({list_of(count, nullptr, floats(x)).get(), out.data()});
        if (threads == 1) first = out[0];
        CHECK(out[0] == first);
      }
      long double want = 0;
      for (int64_t i = 0; i < count; ++i)
        want += static_cast<long double>(x.get(i)) * static_cast<long double>(x.get(i));
      // Squares are exact; each sum rounds by 2^-53.
      CHECK(std::fabs(first - static_cast<double>(want)) <=
            static_cast<double>(count) * 0x1p-53 * static_cast<double>(want));
      for (float broken : {NAN, INFINITY}) {
        if (count == 0) continue;
        x.set(count - 1, broken);
        PlacedArray<double> out({0.0});
        table->sum_squares({list_of(count, nullptr, floats(x)).get(), out.data()});
        CHECK(!std::isfinite(out[0]));
      }
    }
  }
}

TEST_CASE("adamw steps as its formula says", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (int64_t count : kCounts) {
      for (int step : {1, 2, 1000000}) {
        CAPTURE(target.name, count, step);
        const GuardedArray w(DType::kF32, random_values(count, 1)),
            g(DType::kF32, random_values(count, 2, -0.1f, 0.1f));
        const GuardedArray m(DType::kF32, step == 1 ? std::vector<float>(static_cast<size_t>(count))
                                                    : random_values(count, 3, -0.1f, 0.1f));
        const GuardedArray v(DType::kF32, step == 1 ? std::vector<float>(static_cast<size_t>(count))
                                                    : random_values(count, 4, 0, 0.01f));
        AdamWArgs a = {
            .scale = {.unscale = 0.5}, .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
        const float decay = 0.1f;
        a.correction1 = static_cast<float>(1 - std::pow(static_cast<double>(a.beta1), step));
        a.correction2 = static_cast<float>(1 - std::pow(static_cast<double>(a.beta2), step));
        const auto got = run_on_threads([&] {
          std::vector<GuardedArray> out = {w, m, v};
          AdamWArgs args = a;
          const List list =
              list_of(count, floats(out[0]), floats(g), floats(out[1]), floats(out[2]), decay);
          args.list = list.get();
          table->adamw(args);
          return out;
        });
        const double b1 = a.beta1, b2 = a.beta2, lr = a.lr;
        std::vector<double> new_w, new_m, new_v, w_error, m_error;
        for (int64_t i = 0; i < count; ++i) {
          const double grad = g.get(i) * a.scale.unscale;
          new_m.push_back(b1 * m.get(i) + (1 - b1) * grad);
          new_v.push_back(b2 * v.get(i) + (1 - b2) * grad * grad);
          // Two products and a sum, of terms that may cancel.
          m_error.push_back(4 * u32() * (std::fabs(b1 * m.get(i)) + std::fabs((1 - b1) * grad)));
          const double down =
              lr / a.correction1 /
              (std::sqrt(new_v.back() / a.correction2) + static_cast<double>(a.eps));
          const double decayed = w.get(i) * (1 - lr * static_cast<double>(decay));
          new_w.push_back(decayed - down * new_m.back());
          // The update: m as above, and a dozen roundings of factors; w: two sums.
          w_error.push_back(down * m_error.back() + std::fabs(down * new_m.back()) * 12 * u32() +
                            2 * u32() * (std::fabs(w.get(i)) + std::fabs(new_w.back())));
        }
        CHECK_WITHIN(got[0].values(), new_w, Bound{w_error});
        CHECK_WITHIN(got[1].values(), new_m, (Bound{.absolute = m_error, .smallest = 0x1p-149}));
        CHECK_WITHIN(got[2].values(), new_v, Bound::ulps(3));  // no cancellation: six roundings
      }
    }
  }
}

TEST_CASE("sgd steps as its formula says", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (int64_t count : kCounts) {
      for (bool momentum : {false, true}) {
        CAPTURE(target.name, count, momentum);
        const GuardedArray w(DType::kF32, random_values(count, 1)),
            g(DType::kF32, random_values(count, 2)), m(DType::kF32, random_values(count, 3));
        const float lr = 0.1f, factor = 0.9f, decay = 0.01f, grad_scale = 0.25f;
        const auto got = run_on_threads([&] {
          std::vector<GuardedArray> out = {w, m};
          const List list = list_of(count, floats(out[0]), floats(g),
                                    momentum ? floats(out[1]) : nullptr, nullptr, decay);
          table->sgd({.list = list.get(),
                      .scale = {.unscale = static_cast<double>(grad_scale)},
                      .lr = lr,
                      .momentum = momentum ? factor : 0});
          return out;
        });
        std::vector<double> new_w, new_m, w_error, m_error;
        for (int64_t i = 0; i < count; ++i) {
          const double grad = g.get(i) * static_cast<double>(grad_scale),
                       pull = w.get(i) * static_cast<double>(decay);
          const double kept = momentum ? m.get(i) * static_cast<double>(factor) : 0;
          new_m.push_back(momentum ? kept + grad + pull : m.get(i));
          m_error.push_back(
              momentum ? 5 * u32() * (std::fabs(kept) + std::fabs(grad) + std::fabs(pull)) : 0);
          const double down = static_cast<double>(lr) * (kept + grad + pull);
          new_w.push_back(w.get(i) - down);
          // The step's terms have up to 6 roundings, the weight one.
          w_error.push_back(6 * u32() * static_cast<double>(lr) *
                                (std::fabs(kept) + std::fabs(grad) + std::fabs(pull)) +
                            u32() * std::fabs(new_w.back()));
        }
        CHECK_WITHIN(got[0].values(), new_w, Bound{w_error});
        CHECK_WITHIN(got[1].values(), new_m, Bound{m_error});
      }
    }
  }
}

TEST_CASE("optimizers clip gradients, and write nothing where these are not finite", "[kernels]") {
  // 400 tensors of 0, 1, 2 or 3 elements, in more pieces than a CUDA block has threads.
  const int64_t tensors = 400, count = 600;
  const GuardedArray w(DType::kF32, random_values(count, 1)),
      g(DType::kF32, random_values(count, 2)), m(DType::kF32, random_values(count, 3)),
      v(DType::kF32, random_values(count, 4, 0, 1));
  double squares = 0;
  for (double value : g.values()) squares += value * value;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    const GuardedArray grad(DType::kF32, random_values(count, 2));
    // The weights and both moments after a step of either optimizer.
    const auto step = [&](bool adamw, const GradientScale& scale) {
      std::vector<GuardedArray> out;
      for (uint32_t seed : {1u, 3u, 4u})
        out.emplace_back(DType::kF32, random_values(count, seed, seed == 4 ? 0.0f : -1.0f, 1));
      std::vector<OptimizerTensor> list;
      int64_t begin = 0, pieces = 0;
      for (int64_t i = 0; i < tensors; ++i) {
        const int64_t size = i % 4;
        list.push_back({floats(out[0]) + begin, floats(grad) + begin, floats(out[1]) + begin,
                        floats(out[2]) + begin, size, pieces, 0.1f});
        begin += size;
        pieces += size > 0 ? 1 : 0;
      }
      const PlacedArray<OptimizerTensor> placed(list);
      const OptimizerList all = {placed.data(), tensors, pieces};
      PlacedArray<double> sum({-1.0});
      table->sum_squares({all, sum.data()});
      CHECK(std::fabs(sum[0] - squares) <= static_cast<double>(count) * 0x1p-53 * squares);
      if (adamw) {
        table->adamw({.list = all,
                      .scale = scale,
                      .lr = 0.1f,
                      .beta1 = 0.9f,
                      .beta2 = 0.99f,
                      .eps = 1e-8f,
                      .correction1 = 0.1f,
                      .correction2 = 0.01f});
      } else {
        table->sgd({.list = all, .scale = scale, .lr = 0.1f, .momentum = 0.9f});
      }
      return out;
    };
    const auto same = [](const std::vector<GuardedArray>& a, const std::vector<GuardedArray>& b) {
      return a[0].bytes() == b[0].bytes() && a[1].bytes() == b[1].bytes() &&
             a[2].bytes() == b[2].bytes();
    };
    const PlacedArray<double> sum({squares}), infinite({INFINITY}), nan({NAN});
    const double norm = 0.5 * std::sqrt(squares);
    const std::vector<GuardedArray> before = {w, m, v};
    for (bool adamw : {true, false}) {
      CAPTURE(adamw);
      const auto clipped = step(adamw, {sum.data(), 0.5, norm / 3});
      CHECK(same(clipped, step(adamw, {nullptr, 0.5 * (norm / 3) / (norm + 1e-6), 0})));
      const auto whole = step(adamw, {nullptr, 0.5, 0});
      CHECK(same(whole, step(adamw, {sum.data(), 0.5, 2 * norm})));
      CHECK(same(whole, step(adamw, {sum.data(), 0.5, 0})));
      CHECK((!same(whole, clipped) && !same(whole, before)));
      CHECK(same(before, step(adamw, {infinite.data(), 0.5, 0})));
      CHECK(same(before, step(adamw, {nan.data(), 0.5, 1})));
    }
  }
}

TEST_CASE("fill and copy_rows write what they name and nothing else", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (int64_t count : kCounts) {
        CAPTURE(target.name, name_of(dtype), count);
        GuardedArray y(dtype, std::vector<float>(static_cast<size_t>(count), 7));
        table->fill({.y = y.data(), .count = count, .value = -1.5f, .dtype = dtype});
        CHECK(y.values() == std::vector<double>(static_cast<size_t>(count), -1.5));
      }
      for (int64_t channels : {1, 5, 64}) {
        const int64_t rows = 19, x_stride = channels + 3, y_stride = channels + 1;
        const GuardedArray x(dtype, random_values(rows * x_stride, 1));
        GuardedArray y(dtype, std::vector<float>(static_cast<size_t>(rows * y_stride), 7));
        table->copy_rows({.x = x.data(),
                          .y = y.data(),
                          .rows = rows,
                          .channels = channels,
                          .x_stride = x_stride,
                          .y_stride = y_stride,
                          .dtype = dtype});
        for (int64_t i = 0; i < rows * y_stride; ++i) {
          const int64_t row = i / y_stride, channel = i % y_stride;
          CHECK(y.get(i) == (channel < channels ? x.get(row * x_stride + channel) : 7));
        }
      }
    }
  }
}

TEST_CASE("bits say which elements are positive, and choose elements", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (int64_t count : {int64_t{1}, int64_t{7}, int64_t{8}, int64_t{9}, int64_t{1001},
                            int64_t{32768}, int64_t{70001}}) {
        CAPTURE(target.name, name_of(dtype), count);
        std::vector<float> values = random_values(count, 3, -1, 1);
        const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, -NAN, 6e-8f, -6e-8f};
        for (size_t i = 0; i < std::size(special) && i < values.size(); ++i)
          values[values.size() - 1 - i] = special[i];
        const GuardedArray x(dtype, values);
        GuardedArray bytes(DType::kF32,
                           std::vector<float>(static_cast<size_t>((count + 31) / 32), 7));
        table->positive_bits({.x = x.data(),
                              .bits = static_cast<uint8_t*>(bytes.data()),
                              .count = count,
                              .dtype = dtype});
        GuardedArray y(dtype, std::vector<float>(static_cast<size_t>(count), 7));
        table->select_bits({.x = x.data(),
                            .bits = static_cast<const uint8_t*>(bytes.data()),
                            .y = y.data(),
                            .count = count,
                            .dtype = dtype});
        const unsigned char* bits = bytes.host();
        for (int64_t i = 0; i < count; ++i) {
          const bool positive = x.get(i) > 0;
          if ((bits[i / 8] >> (i % 8) & 1) != positive) FAIL("bit " << i << " of " << x.get(i));
          if (y.get(i) != (positive ? x.get(i) : 0)) FAIL("element " << i << " of " << x.get(i));
        }
        if (count % 8 != 0) CHECK((bits[count / 8] >> (count % 8)) == 0);
      }
    }
  }
}

TEST_CASE("kernels accept arrays of no elements", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    table->embedding({});
    table->embedding_grad({});
    table->norm({.channels = 4});
    table->norm_grad({.channels = 4});
    table->activation({});
    table->activation_grad({});
    table->attention({.heads = 1, .kv_heads = 1, .head_size = 4});
    table->attention_grad({.forward = {.heads = 1, .kv_heads = 1, .head_size = 4}});
    table->dropout({});
    table->cross_entropy({});
    table->gather_rows({});
    table->scatter_rows({});
    table->column_sum({});
    table->add({});
    table->scale({});
    table->cast({});
    table->fill({});
    table->copy_rows({});
    table->positive_bits({});
    table->select_bits({});
    table->adamw({});
    table->sgd({});
    SUCCEED(target.name);
  }
}

}  // namespace tenon::test
