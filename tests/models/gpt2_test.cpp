// SPDX-License-Identifier: Apache-2.0
// GPT-2 as a whole: its logits against double precision, its gradient against differences of its
// own loss, dropout, recomputation, documents in one row, and the fields of config.json.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "tests/core/temp_folder.h"
#include "tests/models/gpt2_reference.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

Json with(const Json& changes) {
  Json config = tiny_config();
  config.update(changes);
  return config;
}

// Turns on every dropout.
TinyBatch dropping(TinyBatch batch, uint32_t step) {
  batch.context.training = batch.context.model_dropout = true;
  batch.context.seed = 11;
  batch.context.step = step;
  return batch;
}

// Two documents of 5 and of T - 5 tokens in each row.
TinyBatch two_documents(int64_t rows, int64_t length, uint32_t seed) {
  TinyBatch batch = tiny_batch(rows, length, seed);
  std::vector<int32_t> starts, positions;
  for (int64_t i = 0; i < rows * length; ++i) {
    const auto t = static_cast<int32_t>(i % length);
    starts.push_back(t < 5 ? 0 : 5);
    positions.push_back(t < 5 ? t : t - 5);
  }
  batch.context.doc_start = integers({rows, length}, starts);
  batch.context.positions = integers({rows, length}, positions);
  return batch;
}

// A random direction in the space of the trainable parameters that `chosen` picks.
class Direction {
 public:
  Direction(Model& model, const std::function<bool(const std::string&)>& chosen) {
    uint32_t stream = 0;
    model.visit_parameters([&](const std::string& path, Parameter& parameter) {
      ++stream;
      if (!parameter.trainable || !chosen(path)) return;
      parts_.push_back(
          {&parameter, values(parameter.value), random_values(parameter.value.numel(), stream)});
    });
  }
  // The gradient's component along it, and the size of that sum's terms.
  std::pair<double, double> slope() const {
    double sum = 0, squares = 0;
    for (const Part& part : parts_) {
      for (size_t i = 0; i < part.step.size(); ++i) {
        const double gradient =
            static_cast<double>(part.parameter->value.slot()->grad.data<float>()[i]);
        const double term = gradient * static_cast<double>(part.step[i]);
        sum += term;
        squares += term * term;
      }
    }
    return {sum, std::sqrt(squares)};
  }
  // f() where the parameters are moved so far.
  double at(double distance, const std::function<double()>& f) const {
    for (const Part& part : parts_) {
      for (size_t i = 0; i < part.step.size(); ++i) {
        part.parameter->value.data<float>()[i] = static_cast<float>(
            static_cast<double>(part.start[i]) + distance * static_cast<double>(part.step[i]));
      }
    }
    const double value = f();
    for (const Part& part : parts_)
      std::copy(part.start.begin(), part.start.end(), part.parameter->value.data<float>());
    return value;
  }

 private:
  struct Part {
    Parameter* parameter;
    std::vector<float> start, step;
  };
  std::vector<Part> parts_;
};

}  // namespace

TEST_CASE("the logits are those of double precision, whatever config.json says", "[gpt2]") {
  const Json change =
      GENERATE(Json::object(), Json{{"n_inner", 37}}, Json{{"n_inner", nullptr}},
               Json{{"activation_function", "gelu"}}, Json{{"activation_function", "relu"}},
               Json{{"activation_function", "quick_gelu"}}, Json{{"activation_function", "silu"}},
               Json{{"activation_function", "tanh"}}, Json{{"layer_norm_epsilon", 0.2}},
               Json{{"scale_attn_weights", false}}, Json{{"scale_attn_by_inverse_layer_idx", true}},
               Json{{"tie_word_embeddings", false}}, Json{{"n_layer", 1}}, Json{{"n_head", 4}});
  INFO(change.dump());
  const Json config = with(change);
  const auto model = tiny_model(config), plain = tiny_model();
  const TinyBatch batch = two_documents(2, 13, 3);
  const std::vector<float> got = logits_of(*model, batch.context);
  const Gpt2Logits want = gpt2_logits(*model, config, batch.context);
  CHECK_WITHIN(got, want.logits, want.bound);
  const bool changes_nothing = change.empty() || change == Json{{"n_inner", nullptr}};
  CHECK(compare(logits_of(*plain, batch.context), want.logits, want.bound).within ==
        changes_nothing);
}

TEST_CASE("adapters add scale * x A^T B^T, on every linear", "[gpt2]") {
  const auto options =
      GENERATE(LoraOptions{.rank = 3, .alpha = 7, .targets = {"all-linear"}},
               LoraOptions{.rank = 5, .alpha = 4, .rslora = true, .targets = {"c_attn"}},
               LoraOptions{.rank = 1, .alpha = 1, .targets = {"mlp.c_proj", "c_fc"}});
  const auto model = tiny_model(), plain = tiny_model();
  give_lora(*model, options);
  model->visit_linears([&](const std::string& path, Linear& linear) {
    if (!linear.lora) return;
    const auto rank = static_cast<double>(options.rank);
    CHECK(static_cast<double>(linear.lora->scale) ==
          Approx(options.alpha / (options.rslora ? std::sqrt(rank) : rank)));
    CHECK((options.targets[0] != "c_attn" || path.ends_with("attn.c_attn")));
  });
  const TinyBatch batch = tiny_batch(2, 13, 3);
  const Gpt2Logits want = gpt2_logits(*model, tiny_config(), batch.context);
  CHECK_WITHIN(logits_of(*model, batch.context), want.logits, want.bound);
  CHECK(!compare(logits_of(*plain, batch.context), want.logits, want.bound).within);
}

TEST_CASE("documents of one row compute what they compute alone", "[gpt2]") {
  const auto model = tiny_model();
  const TinyBatch packed = two_documents(1, 13, 4);
  const std::vector<float> together = logits_of(*model, packed.context);
  const Gpt2Logits exact = gpt2_logits(*model, tiny_config(), packed.context);
  const auto vocabulary = static_cast<size_t>(model->vocabulary());
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 5}, {5, 13}}) {
    Context alone;
    const int32_t* ids = packed.context.ids.data<int32_t>();
    std::vector<int32_t> positions;
    for (int64_t t = begin; t < end; ++t) positions.push_back(static_cast<int32_t>(t - begin));
    alone.ids = integers({1, end - begin}, std::vector<int32_t>(ids + begin, ids + end));
    alone.positions = integers({1, end - begin}, positions);
    const std::vector<float> got = logits_of(*model, alone);
    const auto first = static_cast<long>(begin * model->vocabulary());
    const std::vector<float> want(together.begin() + first,
                                  together.begin() + first + static_cast<long>(got.size()));
    // Two fp32 results, each within the bound of the exact one.
    Bound bound = exact.bound;
    bound.absolute.erase(bound.absolute.begin(), bound.absolute.begin() + first);
    bound.absolute.resize(got.size());
    for (double& limit : bound.absolute) limit *= 2;
    CHECK_WITHIN(got, want, bound);
  }
  CHECK(together.size() == 13 * vocabulary);
}

// Bound: the loss is a mean over S rows, and a row's loss is as exact as its logits. The bound of
// gpt2_logits adds the errors of its 21 sums, as a single element may demand; in a mean they are
// independent, so E is the root mean square of those bounds / sqrt(21), and the mean errs by E /
// sqrt(S), the narrow difference below by sqrt(2) E / (sqrt(S) h). The truncation of central
// differences falls with h^2: from h and h / 2 one gets their extrapolation, which is free of it to
// h^4, and its size, of which a quarter is granted for what remains.
TEST_CASE("the gradient is the slope of the loss along random directions", "[gpt2]") {
  const bool lora = GENERATE(false, true);
  const bool drops = GENERATE(false, true);
  const Json config = with({{"tie_word_embeddings", drops}});
  const auto model = tiny_model(config);
  if (lora) {
    give_lora(*model,
              {.rank = 3, .alpha = 7, .dropout = drops ? 0.25 : 0, .targets = {"all-linear"}});
  } else {
    train_all(*model);
  }
  TinyBatch batch = two_documents(3, 13, 5);
  const Gpt2Logits exact = gpt2_logits(*model, config, batch.context);
  if (drops) batch = dropping(batch, 2);
  const auto scored = static_cast<double>(loss_of(*model, batch).scored);
  double squared_bounds = 0;
  for (const double limit : exact.bound.absolute) squared_bounds += limit * limit;
  const double error =
      std::sqrt(squared_bounds / static_cast<double>(exact.bound.absolute.size()) / 21);

  backward_of(*model, batch, static_cast<float>(1 / scored));
  // Fails unless the two slopes agree; gives back how many bounds the terms are wide.
  const auto check = [&](const Direction& direction, double h) {
    const auto loss = [&] { return loss_of(*model, batch).sum() / scored; };
    const double wide = (direction.at(h, loss) - direction.at(-h, loss)) / (2 * h);
    const double narrow = (direction.at(h / 2, loss) - direction.at(-h / 2, loss)) / h;
    const double numeric = (4 * narrow - wide) / 3;
    const double bound = std::sqrt(2 / scored) * error / h + std::fabs(wide - narrow) / 4;
    const auto [slope, terms] = direction.slope();
    INFO("gradient " << slope << ", differences " << numeric << ", bound " << bound << ", terms "
                     << terms);
    CHECK(std::fabs(slope - numeric) <= bound);
    return terms / bound;
  };
  // The bound must be narrow enough to see a mistake. The fewer the parameters, the wider a step
  // the loss bears.
  CHECK(check(Direction(*model, [](const std::string&) { return true; }), 0x1p-7) > 100);
  model->visit_parameters([&](const std::string& name, Parameter& parameter) {
    if (!parameter.trainable) return;
    INFO(name);
    const Direction direction(*model, [&](const std::string& path) { return path == name; });
    CHECK(check(direction, parameter.vector ? 0x1p-4 : 0x1p-6) > 30);
  });
}

TEST_CASE("dropout is a function of seed, step and place", "[gpt2]") {
  const auto model = tiny_model();
  give_lora(*model, {.rank = 3, .alpha = 7, .dropout = 0.25, .targets = {"all-linear"}});
  const TinyBatch batch = tiny_batch(3, 13, 6);
  const std::vector<float> first = logits_of(*model, dropping(batch, 4).context);
  CHECK(logits_of(*model, dropping(batch, 4).context) == first);
  CHECK(logits_of(*model, dropping(batch, 5).context) != first);
  TinyBatch other = dropping(batch, 4);
  other.context.seed = 12;
  CHECK(logits_of(*model, other.context) != first);
  other = dropping(batch, 4);
  other.context.model_dropout = false;  // the adapters' alone
  CHECK(logits_of(*model, other.context) != first);
  CHECK(logits_of(*model, other.context) != logits_of(*model, batch.context));
  other.context.training = false;
  CHECK(logits_of(*model, other.context) == logits_of(*model, batch.context));

  // A row that is a batch of its own has the masks that it has among the others.
  for (int64_t row = 0; row < 3; ++row) {
    TinyBatch alone = dropping(batch, 4);
    alone.context.ids = batch.context.ids.rows(row, row + 1);
    alone.context.positions = batch.context.positions.rows(row, row + 1);
    alone.context.sequence0 = static_cast<uint64_t>(row);
    const auto begin = first.begin() + static_cast<long>(row * 13 * model->vocabulary());
    const std::vector<float> want(begin, begin + static_cast<long>(13 * model->vocabulary()));
    const Gpt2Logits exact = gpt2_logits(*model, tiny_config(), alone.context);
    CHECK_WITHIN(
        logits_of(*model, alone.context), want,
        Bound::fixed(*std::max_element(exact.bound.absolute.begin(), exact.bound.absolute.end())));
  }
}

TEST_CASE("every dropout of the model drops its own share by itself", "[gpt2]") {
  // All weights 0: a block adds nothing but its two output biases, 1 and 2, where dropout lets them
  // through; the embedding is 1.
  const auto model = tiny_model(with({{"embd_pdrop", 0.5}, {"resid_pdrop", 0.5}}));
  model->visit_parameters([](const std::string& path, Parameter& parameter) {
    const float value = path.ends_with("attn.c_proj.bias") || path == "transformer.wte.weight" ? 1
                        : path.ends_with("mlp.c_proj.bias")                                    ? 2
                                                                                               : 0;
    std::fill_n(parameter.value.data<float>(), parameter.value.numel(), value);
  });
  const TinyBatch batch = dropping(tiny_batch(40, 16, 6), 4);
  const Tensor nothing = Tensor::zeros({40, 16, 24}, DType::kF32);
  std::vector<std::vector<float>> kept = {values(model->embed(batch.context))};  // 0 or 2
  for (int64_t block = 0; block < 2; ++block) {
    std::vector<float> attention, mlp;
    for (const float sum :
         values(model->block(block, nothing, batch.context))) {  // 0 or 2, plus 0 or 4
      mlp.push_back(sum >= 4 ? 2.0f : 0.0f);
      attention.push_back(sum - 2 * mlp.back());
    }
    kept.push_back(attention);
    kept.push_back(mlp);
  }
  const double n = static_cast<double>(kept[0].size());
  for (size_t a = 0; a < kept.size(); ++a) {
    // Elements are kept by half, and half of them are treated alike by another dropout: 5 standard
    // errors.
    CHECK(std::fabs(static_cast<double>(std::count(kept[a].begin(), kept[a].end(), 2.0f)) -
                    n / 2) <= 5 * std::sqrt(n / 4));
    CHECK(std::count(kept[a].begin(), kept[a].end(), 2.0f) +
              std::count(kept[a].begin(), kept[a].end(), 0.0f) ==
          static_cast<long>(n));
    for (size_t b = 0; b < a; ++b) {
      double alike = 0;
      for (size_t i = 0; i < kept[a].size(); ++i) alike += kept[a][i] == kept[b][i] ? 1 : 0;
      INFO("dropouts " << b << " and " << a);
      CHECK(std::fabs(alike - n / 2) <= 5 * std::sqrt(n / 4));
    }
  }
}

TEST_CASE("recomputed activations give the same loss and gradients", "[gpt2]") {
  const bool lora = GENERATE(false, true);
  const auto model = tiny_model();
  if (lora) {
    give_lora(*model, {.rank = 3, .alpha = 7, .dropout = 0.25, .targets = {"c_attn", "c_fc"}});
  } else {
    train_all(*model);
  }
  const TinyBatch batch = dropping(two_documents(2, 13, 7), 1);
  const double kept = backward_of(*model, batch);
  const auto gradients = gradients_of(*model);
  zero_gradients(*model);
  CHECK(backward_of(*model, batch, 1, {.recompute_every = true}) == kept);
  CHECK(gradients_of(*model) == gradients);
}

TEST_CASE("the hooks stand around each block", "[gpt2]") {
  const auto model = tiny_model();
  std::string order;
  const BlockHooks hooks{[&](int64_t i) { order += fmt::format("<{}", i); },
                         [&](int64_t i) { order += fmt::format(">{}", i); }};
  forward(*model, tiny_batch(1, 4, 8).context, {.hooks = &hooks});
  CHECK(order == "<0>0<1>1");
}

TEST_CASE("a config.json that is wrong names the field and what was expected", "[gpt2]") {
  const auto error = [](const Json& config) {
    return error_of([&] { build_model(config, "m/config.json"); });
  };
  const std::pair<Json, const char*> cases[] = {
      {{{"n_head", 5}}, "field \"n_embd\": expected a multiple of n_head = 5, got 24"},
      {{{"n_layer", 0}}, "field \"n_layer\": expected an integer in 1..65536, got 0"},
      {{{"n_embd", "24"}}, "field \"n_embd\": expected an integer"},
      {{{"activation_function", "gelu_knew"}},
       "field \"activation_function\": expected one of gelu_new, "},
      {{{"add_cross_attention", true}}, "field \"add_cross_attention\": expected false"},
      {{{"quantization_config", {{"bits", 4}}}},
       "field \"quantization_config.quant_method\": expected one of bitsandbytes, got nothing"},
      {{{"model_type", "gpt5"}},
       "field \"model_type\": expected one of gpt2, opt, llama, mistral, got \"gpt5\""},
      {{{"attn_pdrop", 1}}, "field \"attn_pdrop\""},
      {{{"layer_norm_epsilon", 0}}, "field \"layer_norm_epsilon\""},
  };
  for (const auto& [change, message] : cases) {
    INFO(change.dump());
    CHECK_THAT(error(with(change)),
               Catch::StartsWith("2: m/config.json: ") && Catch::Contains(message));
  }
  for (const char* field :
       {"vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "model_type"}) {
    Json config = tiny_config();
    config.erase(field);
    if (std::string(field) == "n_positions") field = "n_ctx";  // its older name
    CHECK_THAT(error(config), Catch::StartsWith("2: m/config.json: field \"" + std::string(field) +
                                                "\": expected"));
  }
  Json older = tiny_config();
  older.erase("model_type");
  older["architectures"] = {"GPT2LMHeadModel"};
  CHECK(std::string(build_model(older, "c")->family()) == "gpt2");
  CHECK_THAT(error(Json::array()), Catch::StartsWith("2: m/config.json: "));
}

}  // namespace tenon::test
