// SPDX-License-Identifier: Apache-2.0
// The gradient of every op against central differences of the op itself, along random directions.
// Kernels are compared with double-precision references elsewhere; here it is the wiring that can
// be wrong: what is saved, which gradient goes to which input, what is summed.
//
// Bound: f is a weighted sum of about a thousand fp32 outputs, added in double. With a step of h
// along a direction of unit-sized entries, f(x + hv) - f(x - hv) carries rounding of about 2
// sqrt(n) u max|y|, divided by 2h, and a truncation of h^2 |f'''| / 6. With h = 2^-6 both stay
// below 1 % of the derivatives here (checked by the seeds used).
#include <catch2/catch.hpp>
#include <functional>

#include "core/backend.h"
#include "core/ops.h"
#include "tests/support/tensors.h"

namespace tenon::test {
namespace {

struct Input {
  Tensor value;
  bool parameter;  // gradient in an fp32 sink, else handed through the tape
};

using Op = std::function<Tensor(const std::vector<Tensor>&)>;

// sum(y * w) in double, with fixed weights w.
double weighted(const Tensor& y) {
  const std::vector<float> w = random_values(y.numel(), 99);
  double sum = 0;
  for (int64_t i = 0; i < y.numel(); ++i)
    sum += static_cast<double>(y.data<float>()[i]) * static_cast<double>(w[static_cast<size_t>(i)]);
  return sum;
}

void check_gradients(const Op& op, std::vector<Input> inputs) {
  std::vector<Tensor> tensors;
  for (Input& input : inputs) {
    if (input.parameter) require_grad(input.value);
    tensors.push_back(input.parameter ? input.value : leaf(input.value));
  }
  Tape tape;
  Tensor y;
  {
    const Recording scope(tape);
    y = op(tensors);
  }
  Tensor seed = filled(y.shape(), 99);
  tape.backward(y, seed);
  for (size_t i = 0; i < inputs.size(); ++i) {
    INFO("input " << i);
    const Tensor grad = tensors[i].slot()->grad;
    REQUIRE(grad.defined());
    const std::vector<float> direction =
        random_values(grad.numel(), 1000 + static_cast<uint32_t>(i));
    double analytic = 0, magnitude = 0;
    for (int64_t k = 0; k < grad.numel(); ++k) {
      const double term = static_cast<double>(grad.data<float>()[k]) *
                          static_cast<double>(direction[static_cast<size_t>(k)]);
      analytic += term;
      magnitude += std::fabs(term);
    }
    const double h = 0x1p-6;
    const auto shifted = [&](double sign) {
      std::vector<Tensor> moved;
      for (size_t j = 0; j < inputs.size(); ++j) moved.push_back(inputs[j].value.detach());
      moved[i] = inputs[i].value.clone();
      for (int64_t k = 0; k < grad.numel(); ++k) {
        moved[i].data<float>()[k] +=
            static_cast<float>(sign * h * static_cast<double>(direction[static_cast<size_t>(k)]));
      }
      return weighted(op(moved));
    };
    const double numeric = (shifted(1) - shifted(-1)) / (2 * h);
    // Relative to the sum of absolute terms, as cancellation in the direction's sum is not the op's
    // doing.
    INFO("analytic " << analytic << " numeric " << numeric << " magnitude " << magnitude);
    CHECK(std::fabs(analytic - numeric) <= 2e-3 * magnitude + 1e-5);
    CHECK(magnitude > 0);
  }
}

LoraFactors dropped_lora(const Tensor& a, const Tensor& b, float p) {
  return {.a = a,
          .b = b,
          .scale = 1.7f,
          .dropout = {.p = p, .random = {.seed = 5, .purpose = 1, .step = 2}, .position0 = 6}};
}

}  // namespace

TEST_CASE("gradients of linear, both layouts", "[ops]") {
  const auto layout = GENERATE(WeightLayout::kOutIn, WeightLayout::kInOut);
  const Shape shape = layout == WeightLayout::kOutIn ? Shape{19, 33} : Shape{33, 19};
  check_gradients(
      [&](const std::vector<Tensor>& in) { return linear(in[0], in[1], layout, in[2], nullptr); },
      {{filled({2, 7, 33}, 1), false}, {filled(shape, 2), true}, {filled({19}, 3), true}});
}

TEST_CASE("gradients of the LoRA linear, with and without dropout", "[ops]") {
  const float p = GENERATE(0.0f, 0.25f);
  const auto layout = GENERATE(WeightLayout::kOutIn, WeightLayout::kInOut);
  const Tensor weight = filled(layout == WeightLayout::kOutIn ? Shape{19, 33} : Shape{33, 19}, 2);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const LoraFactors lora = dropped_lora(in[1], in[2], p);
        return linear(in[0], weight, layout, {}, &lora);
      },
      {{filled({14, 33}, 1), false}, {filled({3, 33}, 4), true}, {filled({19, 3}, 5), true}});
}

TEST_CASE("gradients of the LoRA linear of an x that needs none", "[ops]") {
  const float p = GENERATE(0.0f, 0.25f);
  const Tensor weight = filled({19, 33}, 2), x = filled({14, 33}, 1);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const LoraFactors lora = dropped_lora(in[0], in[1], p);
        return linear(x, weight, WeightLayout::kOutIn, {}, &lora);
      },
      {{filled({3, 33}, 4), true}, {filled({19, 3}, 5), true}});
}

TEST_CASE("gradients of the LoRA linear of an activation", "[ops]") {
  const float p = GENERATE(0.0f, 0.25f);
  const Tensor first = filled({33, 9}, 2), second = filled({19, 33}, 3);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const LoraFactors lora = dropped_lora(in[1], in[2], p);
        const Activated h = linear_activation(in[0], first, WeightLayout::kOutIn, {}, nullptr,
                                              Activation::kGeluTanh);
        return linear(h, second, WeightLayout::kOutIn, {}, &lora);
      },
      {{filled({14, 9}, 1), false}, {filled({3, 33}, 4), true}, {filled({19, 3}, 5), true}});
}

TEST_CASE("gradients of linears side by side", "[ops]") {
  const float p = GENERATE(0.0f, 0.25f);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const LoraFactors lora = dropped_lora(in[5], in[6], p);
        return linears(in[0], {{in[1], WeightLayout::kOutIn, in[2], {}},
                               {in[3], WeightLayout::kInOut, in[4], {}},
                               {filled({11, 33}, 9), WeightLayout::kOutIn, {}, lora}});
      },
      {{filled({2, 7, 33}, 1), false},
       {filled({19, 33}, 2), true},
       {filled({19}, 3), true},
       {filled({33, 5}, 4), true},
       {filled({5}, 5), true},
       {filled({3, 33}, 6), true},
       {filled({11, 3}, 7), true}});
}

TEST_CASE("linears side by side are what they are alone", "[ops]") {
  const Tensor x = filled({6, 33}, 1), v = filled({19, 33}, 2), w = filled({5, 33}, 3);
  const Tensor both = linears(x, {{v}, {w}}),
               first = linear(x, v, WeightLayout::kOutIn, {}, nullptr),
               second = linear(x, w, WeightLayout::kOutIn, {}, nullptr);
  for (int64_t r = 0; r < 6; ++r) {
    for (int64_t c = 0; c < 24; ++c) {
      const float alone =
          c < 19 ? first.data<float>()[r * 19 + c] : second.data<float>()[r * 5 + c - 19];
      CHECK(both.data<float>()[r * 24 + c] == alone);
    }
  }
}

TEST_CASE("the LoRA linear is the sum of its parts", "[ops]") {
  const Tensor x = filled({9, 33}, 1), weight = filled({19, 33}, 2), a = filled({3, 33}, 3),
               b = filled({19, 3}, 4), bias = filled({19}, 5);
  const LoraFactors lora{.a = a, .b = b, .scale = 0.5f};
  const Tensor y = linear(x, weight, WeightLayout::kOutIn, bias, &lora);
  std::vector<double> want, magnitude;
  for (int64_t r = 0; r < 9; ++r) {
    for (int64_t o = 0; o < 19; ++o) {
      double sum = bias.data<float>()[o], size = std::fabs(sum);
      for (int64_t i = 0; i < 33; ++i) {
        double w = weight.data<float>()[o * 33 + i], wide = std::fabs(w);
        for (int64_t k = 0; k < 3; ++k) {
          const double term = 0.5 * static_cast<double>(b.data<float>()[o * 3 + k]) *
                              static_cast<double>(a.data<float>()[k * 33 + i]);
          w += term;
          wide += std::fabs(term);
        }
        sum += w * static_cast<double>(x.data<float>()[r * 33 + i]);
        size += wide * std::fabs(static_cast<double>(x.data<float>()[r * 33 + i]));
      }
      want.push_back(sum);
      magnitude.push_back(size);
    }
  }
  CHECK_WITHIN(values(y), want,
               Bound::sum(33 + 33 + 3 + 1, magnitude));  // x A^T is a sum of 33, then 33 + 3 terms
}

TEST_CASE("gradients of an adapter's bias, beside the linear's own", "[ops]") {
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const LoraFactors lora{.a = in[1], .b = in[2], .scale = 1.7f, .bias = in[4]};
        return linear(in[0], filled({19, 33}, 2), WeightLayout::kOutIn, in[3], &lora);
      },
      {{filled({14, 33}, 1), false},
       {filled({3, 33}, 4), true},
       {filled({19, 3}, 5), true},
       {filled({19}, 6), true},
       {filled({19}, 7), true}});
}

TEST_CASE("gradients of DoRA: the norms are constants, columns without length stay 0", "[ops]") {
  const float p = GENERATE(0.0f, 0.25f);
  const auto layout = GENERATE(WeightLayout::kOutIn, WeightLayout::kInOut);
  const Tensor weight = filled(layout == WeightLayout::kOutIn ? Shape{79, 33} : Shape{33, 79}, 2);
  Tensor norms = filled({79}, 8, 0.5f, 2);
  norms.data<float>()[5] = 0;
  const auto factors = [&](const std::vector<Tensor>& in) {
    return LoraFactors{
        .a = in[1],
        .b = in[2],
        .scale = 1.7f,
        .dropout = {.p = p, .random = {.seed = 5, .purpose = 1, .step = 2}, .position0 = 6},
        .magnitude = in[3],
        .norms = norms};
  };
  const std::vector<Input> inputs = {{filled({14, 33}, 1), false},
                                     {filled({3, 33}, 4), true},
                                     {filled({79, 3}, 5), true},
                                     {filled({79}, 6, 0.5f, 2), true},
                                     {filled({79}, 7), true}};
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const LoraFactors lora = factors(in);
        return linear(in[0], weight, layout, in[4], &lora);
      },
      inputs);
  // Beside a linear that has no adapter, and behind an activation.
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return linears(in[0], {{weight, layout, in[4], factors(in)},
                               {filled({11, 33}, 3), WeightLayout::kOutIn, {}, {}}});
      },
      inputs);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const LoraFactors lora = factors(in);
        const Activated y =
            linear_activation(in[0], weight, layout, in[4], &lora, Activation::kSilu);
        const Tensor second = filled({33, 79}, 10, -0.2f, 0.2f);
        const Activated z = linear_activation(linear(y, second, WeightLayout::kOutIn, {}, nullptr),
                                              filled({33, 33}, 11), WeightLayout::kOutIn, {},
                                              nullptr, Activation::kGeluTanh);
        return linear(z, weight, layout, {}, &lora);
      },
      inputs);
}

TEST_CASE("gradients of the norms", "[ops]") {
  check_gradients(
      [](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], in[2], 1e-5f); },
      {{filled({6, 37}, 1), false}, {filled({37}, 2), true}, {filled({37}, 3), true}});
  // Both results of add_layer_norm are used: y + 2 s through one more sum.
  check_gradients(
      [](const std::vector<Tensor>& in) {
        const auto [s, y] = add_layer_norm(in[0], in[1], in[2], in[3], 1e-5f);
        return residual_add(residual_add(y, s, {}), s, {});
      },
      {{filled({6, 37}, 1), false},
       {filled({6, 37}, 4), false},
       {filled({37}, 2), true},
       {filled({37}, 3), true}});
  // Only the sum is used.
  const Tensor weight = filled({37}, 2), bias = filled({37}, 3);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return add_layer_norm(in[0], in[1], weight, bias, 1e-5f).first;
      },
      {{filled({6, 37}, 1), false}, {filled({6, 37}, 4), false}});
}

TEST_CASE("gradients of the norms without a mean", "[ops]") {
  check_gradients([](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 1e-5f); },
                  {{filled({6, 37}, 1), false}, {filled({37}, 2), true}});
  // Both results of add_rms_norm are used: y + 2 s through one more sum.
  check_gradients(
      [](const std::vector<Tensor>& in) {
        const auto [s, y] = add_rms_norm(in[0], in[1], in[2], 1e-5f);
        return residual_add(residual_add(y, s, {}), s, {});
      },
      {{filled({6, 37}, 1), false}, {filled({6, 37}, 4), false}, {filled({37}, 2), true}});
  // Only the sum is used.
  const Tensor weight = filled({37}, 2);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return add_rms_norm(in[0], in[1], weight, 1e-5f).first;
      },
      {{filled({6, 37}, 1), false}, {filled({6, 37}, 4), false}});
}

TEST_CASE("gradients of gated activations, packed or not", "[ops]") {
  const auto kind = GENERATE(Activation::kSilu, Activation::kGeluTanh);
  check_gradients(
      [&](const std::vector<Tensor>& in) { return gated_activation(in[0], in[1], kind); },
      {{filled({5, 41}, 1, -3, 3), false}, {filled({5, 41}, 2), false}});
  check_gradients([&](const std::vector<Tensor>& in) { return gated_activation(in[0], kind); },
                  {{filled({2, 3, 82}, 1, -3, 3), false}});
  const Tensor both = Tensor::empty({1, 5, 82}, DType::kF32), gate = filled({1, 5, 41}, 1),
               up = filled({1, 5, 41}, 2);
  for (int64_t r = 0; r < 5; ++r) {
    std::copy_n(gate.data<float>() + r * 41, 41, both.data<float>() + r * 82);
    std::copy_n(up.data<float>() + r * 41, 41, both.data<float>() + r * 82 + 41);
  }
  CHECK(values(gated_activation(both, kind)) == values(gated_activation(gate, up, kind)));
}

TEST_CASE("gradients of rotary; it keeps an x that somebody else holds", "[ops]") {
  const bool named = GENERATE(false, true);
  Rotary options{.cosines = filled({9, 3}, 2),
                 .sines = filled({9, 3}, 3),
                 .positions = named ? integers({2, 5}, {0, 8, 3, 3, 1, 2, 4, 4, 0, 7}) : Tensor{},
                 .heads = 3,
                 .head_size = 8};
  check_gradients([&](const std::vector<Tensor>& in) { return rotary(in[0], options); },
                  {{filled({2, 5, 40}, 1), false}});
  Tensor x = filled({2, 5, 40}, 1);
  const void* bytes = x.raw();
  const Tensor copy = rotary(x, options);
  CHECK(values(x) == values(filled({2, 5, 40}, 1)));
  const Tensor same = rotary(std::move(x), options);
  CHECK(same.raw() == bytes);
  CHECK(values(same) == values(copy));
}

TEST_CASE("gradients of elementwise ops", "[ops]") {
  const auto kind = GENERATE(Activation::kGeluTanh, Activation::kGeluErf, Activation::kQuickGelu,
                             Activation::kSilu, Activation::kTanh);
  check_gradients([&](const std::vector<Tensor>& in) { return activation(in[0], kind); },
                  {{filled({5, 41}, 1, -3, 3), false}});
  const Dropout drop{.p = 0.4f, .random = {.seed = 1, .purpose = 2, .step = 3}, .position0 = 5};
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return residual_add(in[0], dropout(in[1], drop), drop);
      },
      {{filled({5, 41}, 1), false}, {filled({5, 41}, 2), false}});
}

TEST_CASE("gradients of attention, with documents, groups and dropout", "[ops]") {
  const int64_t kv_heads = GENERATE(4, 2, 1);
  const float p = GENERATE(0.0f, 0.2f);
  const int64_t heads = 4, size = 8, tokens = 11;
  std::vector<int32_t> starts(2 * tokens, 0);
  for (int64_t t = 4; t < tokens; ++t) starts[static_cast<size_t>(t)] = 4;
  const Tensor doc_start = integers({2, tokens}, starts);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return attention(
            in[0],
            {.heads = heads,
             .kv_heads = kv_heads,
             .scale = 0.35f,
             .doc_start = doc_start,
             .dropout = {.p = p, .random = {.seed = 7, .purpose = 3, .step = 1}, .position0 = 2}});
      },
      {{filled({2, tokens, (heads + 2 * kv_heads) * size}, 1), false}});
}

TEST_CASE("gradients of the embedding", "[ops]") {
  const Tensor ids = integers({2, 5}, {3, 1, 3, 3, 0, 6, 1, 2, 2, 6}),
               positions = integers({2, 5}, {0, 1, 2, 3, 4, 0, 1, 0, 1, 2});
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return embedding(ids, positions, in[0], in[1], DType::kF32);
      },
      {{filled({7, 13}, 1), true}, {filled({5, 13}, 2), true}});
}

TEST_CASE("gradients of an embedding that begins at other rows and has a padding id", "[ops]") {
  const Tensor ids = integers({2, 5}, {3, 1, 3, 3, 0, 4, 1, 2, 2, 4}),
               positions = integers({2, 5}, {0, 1, 2, 0, 1, 2, 1, 0, 1, 2});
  const EmbeddingRows rows{.first_token = 2, .first_position = 3};
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return embedding(ids, positions, in[0], in[1], DType::kF32, rows);
      },
      {{filled({7, 13}, 1), true}, {filled({6, 13}, 2), true}});
  // A padding id is one of tokens: the position of that number has its gradient.
  const Tensor table = filled({7, 13}, 1);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return embedding(ids, positions, table, in[0], DType::kF32, {.padding = 1});
      },
      {{filled({6, 13}, 2), true}});
  Tensor tokens = filled({7, 13}, 1);
  require_grad(tokens);
  Tape tape;
  Tensor y;
  {
    const Recording scope(tape);
    y = embedding(ids, {}, tokens, {}, DType::kF32, {.padding = 3});
  }
  tape.backward(y);
  for (int64_t i = 0; i < tokens.numel(); ++i) {
    const bool used = i / 13 <= 4 && i / 13 != 3;
    CHECK((tokens.slot()->grad.data<float>()[i] != 0) == used);
  }
}

TEST_CASE("an embedding of tables of two dtypes is that of one dtype", "[ops]") {
  const Tensor ids = integers({2, 5}, {3, 1, 3, 3, 0, 4, 1, 2, 2, 4}),
               positions = integers({2, 5}, {0, 1, 2, 0, 1, 2, 1, 0, 1, 2});
  const EmbeddingRows rows{.first_token = 2, .first_position = 3};
  const Tensor tokens = cast(filled({7, 13}, 1), DType::kBF16),
               places = cast(filled({6, 13}, 2), DType::kBF16);
  const Tensor wide_tokens = cast(tokens, DType::kF32), wide_places = cast(places, DType::kF32);
  const auto sums = [&](const Tensor& token_table, const Tensor& position_table) {
    return values(embedding(ids, positions, token_table, position_table, DType::kF32, rows));
  };
  const std::vector<float> want = sums(wide_tokens, wide_places);
  CHECK(sums(wide_tokens, places) == want);
  CHECK(sums(tokens, wide_places) == want);
}

TEST_CASE("linear_cross_entropy: loss, gradients, and rows that are not scored", "[ops]") {
  // 200 rows are scored: in one chunk, in chunks of 112, or in chunks of 64 and a rest.
  const int64_t chunk_bytes = GENERATE(as<int64_t>{}, kLogitsBytes, 128 * 31 * 4, 1);
  const int64_t rows = 300, channels = 12, vocabulary = 31;
  const Tensor x = leaf(filled({rows, channels}, 1));
  Tensor weight = filled({vocabulary, channels}, 2);
  require_grad(weight);
  std::vector<int32_t> targets(static_cast<size_t>(rows));
  for (size_t i = 0; i < targets.size(); ++i)
    targets[i] =
        i % 3 == 1 ? -100 : static_cast<int32_t>((i * 7) % static_cast<size_t>(vocabulary));
  const float scale = 0.01f;
  Tape tape;
  LossSum loss;
  {
    const Recording scope(tape);
    loss = linear_cross_entropy(x, weight, integers({rows}, targets), scale, chunk_bytes);
  }
  tape.backward(loss.losses);

  std::vector<double> dx(static_cast<size_t>(rows * channels), 0),
      dw(static_cast<size_t>(vocabulary * channels), 0);
  double sum = 0;
  int64_t scored = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int32_t target = targets[static_cast<size_t>(r)];
    if (target == -100) continue;
    ++scored;
    std::vector<double> z(static_cast<size_t>(vocabulary), 0);
    double total = 0;
    for (int64_t v = 0; v < vocabulary; ++v) {
      for (int64_t c = 0; c < channels; ++c) {
        z[static_cast<size_t>(v)] += static_cast<double>(x.data<float>()[r * channels + c]) *
                                     static_cast<double>(weight.data<float>()[v * channels + c]);
      }
      total += std::exp(z[static_cast<size_t>(v)]);
    }
    sum += std::log(total) - z[static_cast<size_t>(target)];
    for (int64_t v = 0; v < vocabulary; ++v) {
      const double g = (std::exp(z[static_cast<size_t>(v)]) / total - (v == target)) *
                       static_cast<double>(scale);
      for (int64_t c = 0; c < channels; ++c) {
        dx[static_cast<size_t>(r * channels + c)] +=
            g * static_cast<double>(weight.data<float>()[v * channels + c]);
        dw[static_cast<size_t>(v * channels + c)] +=
            g * static_cast<double>(x.data<float>()[r * channels + c]);
      }
    }
  }
  CHECK(loss.scored == scored);
  CHECK(loss.sum() == Approx(sum).epsilon(1e-6));
  // Terms are at most scale; sums of at most `rows` of them in fp32 after an exp of a few ulp: 64 u
  // of their sum.
  const double u = 0x1p-24;
  CHECK_WITHIN(values(x.slot()->grad), dx, Bound::fixed(64 * u * static_cast<double>(scale) * 2));
  CHECK_WITHIN(values(weight.slot()->grad), dw,
               Bound::fixed(64 * u * static_cast<double>(scale) * static_cast<double>(rows)));
}

TEST_CASE("a batch without a scored token has loss 0 and no gradient", "[ops]") {
  const Tensor x = leaf(filled({3, 4}, 1));
  Tensor weight = filled({5, 4}, 2);
  require_grad(weight);
  Tape tape;
  LossSum loss;
  {
    const Recording scope(tape);
    loss = linear_cross_entropy(x, weight, integers({3}, {-100, -100, -100}), 1);
  }
  tape.backward(loss.losses);
  CHECK(loss.sum() == 0);
  CHECK(loss.scored == 0);
  CHECK(values(x.slot()->grad) == std::vector<float>(12, 0));
}

namespace {

// The pages of some sequences, and where a pass over more of their tokens finds them.
struct Pages {
  std::vector<Tensor> pages;
  std::vector<int64_t> list;
  std::vector<int32_t> past;

  Pages(int64_t sequences, int64_t each, int64_t channels) : past(static_cast<size_t>(sequences)) {
    for (int64_t i = 0; i < sequences * each; ++i) {
      pages.push_back(Tensor::empty({2, kPageTokens, channels}, DType::kF32));
      list.push_back(reinterpret_cast<int64_t>(pages.back().raw()));
    }
  }
  CachedKeys keys() const {
    const auto sequences = static_cast<int64_t>(past.size());
    const Tensor addresses =
        Tensor::empty({sequences, static_cast<int64_t>(list.size()) / sequences}, DType::kI64);
    std::copy(list.begin(), list.end(), addresses.data<int64_t>());
    return {.pages = addresses,
            .past = integers({sequences}, past),
            .key_offset = 0,
            .value_offset = pages[0].numel() / 2,
            .host_pages = list,
            .host_past = past};
  }
};

// Tokens [begin, end) of qkv (1, T, width), for each sequence of a batch.
Tensor tokens_of(const Tensor& qkv, int64_t begin, int64_t end, int64_t sequences) {
  const int64_t width = qkv.dim(2);
  Tensor part = Tensor::empty({sequences, end - begin, width}, DType::kF32);
  for (int64_t b = 0; b < sequences; ++b) {
    std::copy_n(qkv.data<float>() + begin * width, (end - begin) * width,
                part.data<float>() + b * (end - begin) * width);
  }
  return part;
}

}  // namespace

TEST_CASE("the cache path of attention gives what the whole sequence gives", "[ops]") {
  struct Heads {
    int64_t heads, kv_heads, size;
  };
  const Heads h = GENERATE(Heads{3, 3, 8}, Heads{4, 1, 24}, Heads{6, 2, 5});
  const int64_t tokens = 150, width = (h.heads + 2 * h.kv_heads) * h.size;
  const Tensor qkv = filled({1, tokens, width}, 1);
  const AttentionOptions options{.heads = h.heads, .kv_heads = h.kv_heads, .scale = 0.3f};
  const std::vector<float> whole = values(attention(qkv, options));
  // One at a time, few and many, from an empty cache and after some, up to and over a page's end.
  const std::vector<std::vector<int64_t>> ends = {{4, 5, 9, 63, 64, 65, 70, 128, 129, 150},
                                                  {70, 71, 79, 127, 135, 150},
                                                  {64, 128, 136, 150},
                                                  {150}};
  for (const std::vector<int64_t>& cuts : ends) {
    Pages pages(2, 3, h.kv_heads * h.size);
    std::vector<double> got;
    int64_t begin = 0;
    for (const int64_t end : cuts) {
      const std::vector<float> both =
          values(attention_cached(tokens_of(qkv, begin, end, 2), pages.keys(), options));
      const auto half = both.begin() + static_cast<long>(both.size() / 2);
      CHECK(std::equal(both.begin(), half, half));
      got.insert(got.end(), both.begin(), half);
      begin = end;
      for (int32_t& past : pages.past) past = static_cast<int32_t>(end);
    }
    // Another blocking of the same sums of at most 150 probabilities times values below 1.
    CHECK_WITHIN(whole, got, Bound::fixed(150 * 0x1p-24));
  }
}

TEST_CASE("a sequence's attention does not depend on those beside it", "[ops]") {
  const int64_t heads = 4, kv_heads = 2, size = 24, width = (heads + 2 * kv_heads) * size;
  const AttentionOptions options{.heads = heads, .kv_heads = kv_heads, .scale = 0.2f};
  const std::vector<int32_t> lengths = {0, 1, 62, 63, 64, 127, 128, 130};
  const int64_t fresh = GENERATE(1, 3, 8, 9);
  Pages together(static_cast<int64_t>(lengths.size()), 3, kv_heads * size);
  std::vector<float> alone;
  Tensor newest = Tensor::empty({static_cast<int64_t>(lengths.size()), fresh, width}, DType::kF32);
  for (size_t i = 0; i < lengths.size(); ++i) {
    const Tensor text = filled({1, lengths[i] + fresh, width}, static_cast<uint32_t>(i));
    Pages own(1, 3, kv_heads * size);
    if (lengths[i] > 0) attention_cached(tokens_of(text, 0, lengths[i], 1), own.keys(), options);
    for (size_t page = 0; page < 3; ++page) together.pages[3 * i + page].assign(own.pages[page]);
    own.past[0] = together.past[i] = lengths[i];
    const Tensor last = tokens_of(text, lengths[i], lengths[i] + fresh, 1);
    newest.rows(static_cast<int64_t>(i), static_cast<int64_t>(i) + 1).assign(last);
    const std::vector<float> out = values(attention_cached(last, own.keys(), options));
    alone.insert(alone.end(), out.begin(), out.end());
  }
  CHECK(values(attention_cached(newest, together.keys(), options)) == alone);
}

TEST_CASE("mismatched tensors are refused by name", "[ops]") {
  CHECK_THROWS_WITH(linear(filled({2, 3}, 1), filled({4, 5}, 2), WeightLayout::kOutIn, {}, nullptr),
                    Catch::Contains("[linear]"));
  CHECK_THROWS_WITH(residual_add(filled({2, 3}, 1), filled({3, 2}, 2), {}),
                    Catch::Contains("[residual_add]"));
  CHECK_THROWS_WITH(layer_norm(filled({2, 3}, 1), filled({2}, 2), filled({3}, 2), 1e-5f),
                    Catch::Contains("[layer_norm]"));
  CHECK_THROWS_WITH(rms_norm(filled({2, 3}, 1), filled({2}, 2), 1e-5f),
                    Catch::Contains("[rms_norm]"));
  CHECK_THROWS_WITH(gated_activation(filled({2, 3, 5}, 1), Activation::kSilu),
                    Catch::Contains("[gated_activation]"));
  CHECK_THROWS_WITH(
      rotary(
          filled({1, 3, 8}, 1),
          {.cosines = filled({2, 2}, 1), .sines = filled({2, 2}, 2), .heads = 2, .head_size = 4}),
      Catch::Contains("[rotary]"));
}

}  // namespace tenon::test
