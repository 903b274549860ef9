// SPDX-License-Identifier: Apache-2.0
// Sizes beyond the first block of what is done by blocks: rows of a merge and of DoRA's norms, rows
// of the rotary tables, logits of a draw. And what shows only where models are used as people use
// them: padding ids, dropout before DoRA, one adapter's draw beside other targets.
#include <catch2/catch.hpp>
#include <cmath>

#include "models/dora.h"
#include "models/generate.h"
#include "models/merge.h"
#include "models/rope.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

// More than two blocks of 64 rows in the MLP, and sizes that 64 does not divide.
Json wide_config() {
  return {{"model_type", "llama"},    {"vocab_size", 37},       {"hidden_size", 72},
          {"intermediate_size", 150}, {"num_hidden_layers", 1}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"head_dim", 18},         {"max_position_embeddings", 700},
          {"initializer_range", 0.2}, {"mlp_bias", true}};
}

std::unique_ptr<Model> drawn(const Json& config) {
  std::unique_ptr<Model> model = build_model(config, "config.json");
  draw_weights(*model, 5);
  return model;
}

// Every trained value away from where it began.
void stir(Model& model) {
  uint32_t stream = 40;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    if (!parameter.trainable) return;
    const std::vector<float> noise = random_values(parameter.value.numel(), ++stream, -0.2f, 0.2f);
    for (size_t i = 0; i < noise.size(); ++i) parameter.value.data<float>()[i] += noise[i];
  });
  update_norms(model);
}

// W + scale B A of a linear, (out, in), and the sizes of the sums.
struct Changed {
  std::vector<double> weight, size;
};

Changed changed_weight(const Linear& linear) {
  const auto in = static_cast<size_t>(linear.in()), out = static_cast<size_t>(linear.out());
  const auto rank = static_cast<size_t>(linear.lora->a.shape[0]);
  const bool out_in = linear.layout == WeightLayout::kOutIn;
  const float *w = linear.weight.value.data<float>(), *a = linear.lora->a.value.data<float>(),
              *b = linear.lora->b.value.data<float>();
  Changed changed;
  for (size_t o = 0; o < out; ++o) {
    for (size_t i = 0; i < in; ++i) {
      double sum = static_cast<double>(w[out_in ? o * in + i : i * out + o]), size = std::fabs(sum);
      for (size_t r = 0; r < rank; ++r) {
        const double term = static_cast<double>(linear.lora->scale) *
                            static_cast<double>(b[o * rank + r]) *
                            static_cast<double>(a[r * in + i]);
        sum += term;
        size += std::fabs(term);
      }
      changed.weight.push_back(sum);
      changed.size.push_back(size);
    }
  }
  return changed;
}

std::vector<double> row_lengths(const std::vector<double>& weight, size_t in) {
  std::vector<double> lengths;
  for (size_t begin = 0; begin < weight.size(); begin += in) {
    double squares = 0;
    for (size_t i = 0; i < in; ++i) squares += weight[begin + i] * weight[begin + i];
    lengths.push_back(std::sqrt(squares));
  }
  return lengths;
}

// Gradients of the embedding's rows when everything is trained on ids that hold `padding`.
std::vector<std::vector<float>> embedding_gradients(Json config, const std::string& table,
                                                    int32_t padding) {
  config["tie_word_embeddings"] = false;
  const auto model = drawn(config);
  train_all(*model);
  TinyBatch batch = tiny_batch(3, 8, 4, 37);
  for (int64_t row = 0; row < 3; ++row) batch.context.ids.data<int32_t>()[row * 8 + 7] = padding;
  backward_of(*model, batch);
  const std::vector<float> all = gradients_of(*model).at(table);
  const size_t width = all.size() / 37;
  std::vector<std::vector<float>> rows;
  for (size_t begin = 0; begin < all.size(); begin += width)
    rows.emplace_back(all.begin() + static_cast<long>(begin),
                      all.begin() + static_cast<long>(begin + width));
  return rows;
}

bool all_zero(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return v == 0; });
}

}  // namespace

TEST_CASE("a merge and DoRA's norms are right beyond their first 64 rows", "[blocks]") {
  const bool dora = GENERATE(false, true);
  const bool transposed = GENERATE(false, true);  // a Conv1D's rows are inputs
  Json config = wide_config();
  if (transposed) {
    config = tiny_config();
    config["n_embd"] = 72;
  }
  const TempFolder folder;
  fs::create_directories(folder / "base");
  fs::create_directories(folder / "merged");
  put_file(folder / "base" / "config.json", config.dump());
  save_weights(*drawn(config), folder / "base", DType::kF32);
  const auto model = build_model((folder / "base").string());
  load_weights(*model, folder / "base");
  LoraOptions options{.rank = 3, .alpha = 7, .targets = {"all-linear"}, .dora = dora};
  if (!dora) options.lora_bias = transposed;
  attach_lora(*model, options, 5);
  stir(*model);
  write_adapter(*model, folder / "a", options, "base");
  Merge(folder / "base", {{folder / "a", 1}}, std::nullopt)
      .write(folder / "merged", int64_t{1} << 30);
  const auto merged = build_model((folder / "merged").string());
  load_weights(*merged, folder / "merged");
  std::map<std::string, Linear*> results;
  merged->visit_linears([&](const std::string& path, Linear& linear) { results[path] = &linear; });

  model->visit_linears([&](const std::string& path, Linear& linear) {
    INFO(path);
    const auto in = static_cast<size_t>(linear.in()), out = static_cast<size_t>(linear.out());
    const Changed changed = changed_weight(linear);
    const std::vector<double> lengths = row_lengths(changed.weight, in);
    if (dora) {
      // Three sums of at most `in` products in fp32 under a root, added in double.
      CHECK_WITHIN(values(linear.lora->dora->norms), lengths,
                   Bound::sum(3 * linear.in(), row_lengths(changed.size, in)));
    }
    const std::vector<float> got = values(results.at(path)->weight.value);
    std::vector<float> by_rows;
    std::vector<double> want, size;
    for (size_t o = 0; o < out; ++o) {
      for (size_t i = 0; i < in; ++i) {
        const double factor =
            dora ? static_cast<double>(linear.lora->dora->magnitude.value.data<float>()[o]) /
                       static_cast<double>(linear.lora->dora->norms.data<float>()[o])
                 : 1;
        by_rows.push_back(got[transposed ? i * out + o : o * in + i]);
        want.push_back(changed.weight[o * in + i] * factor);
        size.push_back(changed.size[o * in + i] * std::fabs(factor) +
                       std::fabs(changed.weight[o * in + i]));
      }
    }
    CHECK_WITHIN(by_rows, want, Bound::sum(3 + 5, size));
  });
}

TEST_CASE("rotary tables are right beyond their first 256 rows", "[blocks]") {
  const Json config = {{"rope_theta", 500}};
  const Rope rope(JsonObject(config, "config.json"), 16, 700);
  rope.tables(10, Device::kCPU);  // made for short texts first
  for (const int64_t longest : {int64_t{256}, int64_t{257}, int64_t{600}, int64_t{700}}) {
    const RopeTables tables = rope.tables(longest, Device::kCPU);
    REQUIRE(tables.cosines.dim(0) >= longest);
    for (int64_t p = 0; p < longest; ++p) {
      for (int64_t i = 0; i < 8; ++i) {
        const auto frequency =
            static_cast<float>(std::pow(500.0, -2.0 * static_cast<double>(i) / 16));
        const auto angle = static_cast<double>(static_cast<float>(p) * frequency);
        // One rounding each.
        CHECK(std::fabs(static_cast<double>(tables.cosines.data<float>()[p * 8 + i]) -
                        std::cos(angle)) <= 0x1p-24);
        CHECK(std::fabs(static_cast<double>(tables.sines.data<float>()[p * 8 + i]) -
                        std::sin(angle)) <= 0x1p-24);
      }
    }
  }
}

TEST_CASE("a text longer than 256 tokens is what its end is with a cache", "[blocks]") {
  const auto model = drawn(wide_config());
  const TinyBatch batch = tiny_batch(1, 300, 3, 37);
  const std::vector<float> whole = logits_of(*model, batch.context);
  std::vector<int32_t> ids(batch.context.ids.data<int32_t>(),
                           batch.context.ids.data<int32_t>() + 300);
  const auto best = [&](size_t position) {
    const auto begin = whole.begin() + static_cast<long>(position * 37);
    return static_cast<int32_t>(std::max_element(begin, begin + 37) - begin);
  };
  for (const size_t length : {255u, 256u, 257u, 300u}) {
    std::vector<int32_t> prompt(ids.begin(), ids.begin() + static_cast<long>(length));
    generate(*model, prompt, 1, {}, {}, DType::kF32, 0);
    CHECK(prompt.back() == best(length - 1));
  }
}

TEST_CASE("a draw sees all of 9001 logits", "[blocks]") {
  constexpr size_t kLogits = 9001;
  Tensor scores = Tensor::empty({1, int64_t{kLogits}}, DType::kF32);
  std::fill_n(scores.data<float>(), kLogits, -40.0f);
  const std::map<size_t, double> shares = {{17, 0.2}, {4096, 0.1}, {5000, 0.4}, {9000, 0.3}};
  for (const auto& [token, p] : shares)
    scores.data<float>()[token] = static_cast<float>(std::log(p));
  CHECK(choose_token(scores, {.temperature = 0}, 0, 0) == 5000);
  constexpr int kDraws = 4000;
  std::map<size_t, int> counts, of_two;
  for (uint64_t i = 0; i < kDraws; ++i) {
    ++counts[static_cast<size_t>(choose_token(scores, {.temperature = 1, .seed = 3}, i % 7, i))];
    ++of_two[static_cast<size_t>(
        choose_token(scores, {.temperature = 1, .top_k = 2, .seed = 3}, i % 7, i))];
  }
  for (const auto& [token, p] : shares) {
    INFO("token " << token << " drawn " << counts[token] << " times");
    CHECK(std::fabs(counts[token] - kDraws * p) <= 4 * std::sqrt(kDraws * p * (1 - p)));
  }
  CHECK(of_two.size() == 2);
  CHECK(std::fabs(of_two[5000] - kDraws * 4.0 / 7) <= 4 * std::sqrt(kDraws * 12.0 / 49));
  CHECK(of_two[5000] + of_two[9000] == kDraws);
}

TEST_CASE("a padding id's embedding gets no gradient, whichever id that is", "[blocks]") {
  Json llama = wide_config();
  const std::string table = "model.embed_tokens.weight";
  CHECK_FALSE(all_zero(embedding_gradients(llama, table, 5)[5]));  // none is said
  llama["pad_token_id"] = 5;
  CHECK(all_zero(embedding_gradients(llama, table, 5)[5]));
  CHECK_FALSE(all_zero(embedding_gradients(llama, table, 6)[6]));
  llama["pad_token_id"] = -1;  // counts from the end, as in torch
  CHECK(all_zero(embedding_gradients(llama, table, 36)[36]));
  CHECK_FALSE(all_zero(embedding_gradients(llama, table, 35)[35]));
  Json opt = {{"model_type", "opt"},       {"vocab_size", 37},
              {"hidden_size", 24},         {"ffn_dim", 56},
              {"num_hidden_layers", 1},    {"num_attention_heads", 3},
              {"word_embed_proj_dim", 24}, {"max_position_embeddings", 64}};
  const std::string opt_table = "model.decoder.embed_tokens.weight";
  CHECK(all_zero(embedding_gradients(opt, opt_table, 1)[1]));  // OPT's own where none is said
  opt["pad_token_id"] = nullptr;
  CHECK_FALSE(all_zero(embedding_gradients(opt, opt_table, 1)[1]));
  opt["pad_token_id"] = 3;
  CHECK_FALSE(all_zero(embedding_gradients(opt, opt_table, 1)[1]));
  CHECK(all_zero(embedding_gradients(opt, opt_table, 3)[3]));
}

TEST_CASE("a fresh DoRA with dropout computes what the base does", "[blocks]") {
  const auto model = drawn(wide_config());
  TinyBatch batch = tiny_batch(2, 13, 3, 37);
  const std::vector<float> base = logits_of(*model, batch.context);
  attach_lora(*model, {.dropout = 0.5, .targets = {"all-linear"}, .dora = true}, 9);
  batch.context.training = true;
  batch.context.seed = 7;
  double largest = 0;
  for (const float v : base) largest = std::max(largest, std::fabs(static_cast<double>(v)));
  // The factors m / n are exactly 1, but sums are rounded in another order, and their terms, of inputs
  // that are dropped or doubled and of what that left out, are up to three times as large.
  CHECK_WITHIN(logits_of(*model, batch.context), base, Bound::fixed(3 * 16 * 0x1p-24 * largest));
  stir(*model);
  const std::vector<float> stirred = logits_of(*model, batch.context);
  batch.context.step = 1;
  CHECK(logits_of(*model, batch.context) != stirred);  // dropout there is
}

TEST_CASE("an adapter's A does not depend on what else is adapted", "[blocks]") {
  const auto factors = [](const std::vector<std::string>& targets) {
    const auto model = drawn(wide_config());
    attach_lora(*model, {.rank = 2, .targets = targets}, 9);
    std::map<std::string, std::vector<float>> all;
    model->visit_linears([&](const std::string& path, Linear& linear) {
      if (linear.lora) all[path] = values(linear.lora->a.value);
    });
    return all;
  };
  const auto all = factors({"all-linear"});
  REQUIRE(all.size() == 7);
  for (const std::vector<std::string>& some :
       {std::vector<std::string>{"down_proj"}, {"v_proj", "o_proj"}, {"gate_proj"}}) {
    for (const auto& [path, a] : factors(some)) CHECK(a == all.at(path));
  }
}

}  // namespace tenon::test
