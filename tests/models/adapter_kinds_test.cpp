// SPDX-License-Identifier: Apache-2.0
// What an adapter can hold beside low-rank factors: DoRA, biases, modules trained whole, modules
// with a rank or alpha of their own; and merging, which must compute what the adapter computes.
#include <catch2/catch.hpp>
#include <cmath>

#include "core/json.h"
#include "models/adapter_config.h"
#include "models/adapter_rules.h"
#include "models/dora.h"
#include "models/merge.h"
#include "tests/core/temp_folder.h"
#include "tests/models/gpt2_reference.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

const LoraOptions kDora{.rank = 3, .alpha = 7, .targets = {"all-linear"}, .dora = true};
const LoraOptions kBiases{.rank = 2,
                          .alpha = 5,
                          .target_pattern = R"(.*\.(c_attn|c_fc))",
                          .exclude = {"h.1.mlp.c_fc"},
                          .ranks = {{"h.0.mlp.c_fc", 4}},
                          .alphas = {{"c_attn", 3}},
                          .lora_bias = true,
                          .bias = "all"};
const LoraOptions kModules{.rank = 3,
                           .alpha = 4,
                           .rslora = true,
                           .targets = {"c_attn", "c_fc"},
                           .layers = {1},
                           .layers_pattern = {"h"},
                           .bias = "lora_only",
                           .modules_to_save = {"lm_head", "wte", "ln_f"}};

// Moves every trained value away from where it began.
void stir(Model& model) {
  uint32_t stream = 40;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    if (!parameter.trainable) return;
    const std::vector<float> noise = random_values(parameter.value.numel(), ++stream, -0.2f, 0.2f);
    for (size_t i = 0; i < noise.size(); ++i) parameter.value.data<float>()[i] += noise[i];
  });
  update_norms(model);
}

std::map<std::string, std::vector<float>> trained_values(Model& model) {
  std::map<std::string, std::vector<float>> all;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter || parameter.saved) all[path] = values(parameter.value);
  });
  return all;
}

// A folder with the tiny model, stored as `dtype`.
void save_base(const fs::path& folder, DType dtype = DType::kF32) {
  const auto model = tiny_model();
  fs::create_directories(folder);
  put_file(folder / "config.json", tiny_config().dump());
  save_weights(*model, folder, dtype);
}

std::unique_ptr<Model> load(const fs::path& folder) {
  std::unique_ptr<Model> model = build_model(folder.string());
  load_weights(*model, folder);
  return model;
}

}  // namespace

TEST_CASE("every kind of adapter is read as it was written", "[adapter]") {
  const LoraOptions options = GENERATE(kDora, kBiases, kModules);
  const TempFolder folder;
  const auto model = tiny_model(), other = tiny_model();
  attach_lora(*model, options, 5);
  stir(*model);
  write_adapter(*model, folder / "a", options, "base");
  const LoraOptions read = read_adapter(*other, folder / "a", true);
  CHECK(read.exclude == options.exclude);
  CHECK(read.layers == options.layers);
  CHECK(read.layers_pattern == options.layers_pattern);
  CHECK(read.modules_to_save == options.modules_to_save);
  CHECK(trained_values(*other) == trained_values(*model));
  const TinyBatch batch = tiny_batch(2, 13, 3);
  CHECK(logits_of(*other, batch.context) == logits_of(*model, batch.context));
  write_adapter(*other, folder / "b", read, "base");
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
    CHECK(get_file(folder / "a" / name) == get_file(folder / "b" / name));
  CHECK(count_parameters(*other, [](const Parameter& p) { return p.trainable; }) ==
        count_parameters(*other, [](const Parameter& p) { return p.adapter || p.saved; }));
}

TEST_CASE("a fresh adapter of any kind computes what the base does", "[adapter]") {
  const LoraOptions options = GENERATE(kDora, kBiases, kModules);
  const auto model = tiny_model();
  const TinyBatch batch = tiny_batch(2, 13, 3);
  const std::vector<float> base = logits_of(*model, batch.context);
  attach_lora(*model, options, 9);
  // The factors m / n are exactly 1: sums are the same, but may be rounded in another order.
  CHECK_WITHIN(logits_of(*model, batch.context), base,
               Bound::fixed(16 * 0x1p-24 *
                            static_cast<double>(*std::max_element(base.begin(), base.end()))));
  model->visit_linears([](const std::string&, Linear& linear) {
    if (linear.lora && linear.lora->dora)
      CHECK(values(linear.lora->dora->magnitude.value) == values(linear.lora->dora->norms));
  });
}

TEST_CASE("DoRA's norms are the lengths of the rows of W + scale B A", "[adapter]") {
  const auto model = tiny_model();
  attach_lora(*model, kDora, 5);
  stir(*model);
  model->visit_linears([](const std::string& path, Linear& linear) {
    INFO(path);
    const int64_t in = linear.in(), out = linear.out(), rank = linear.lora->a.shape[0];
    const float *w = linear.weight.value.data<float>(), *a = linear.lora->a.value.data<float>(),
                *b = linear.lora->b.value.data<float>();
    std::vector<double> want, size;
    for (int64_t o = 0; o < out; ++o) {
      double squares = 0;
      for (int64_t i = 0; i < in; ++i) {
        double v = static_cast<double>(w[i * out + o]);  // Conv1D: (in, out)
        for (int64_t r = 0; r < rank; ++r)
          v += static_cast<double>(linear.lora->scale) * static_cast<double>(b[o * rank + r]) *
               static_cast<double>(a[r * in + i]);
        squares += v * v;
      }
      want.push_back(std::sqrt(squares));
      size.push_back(want.back());
    }
    // Three sums of at most `in` products in fp32 under a root, added in double.
    CHECK_WITHIN(values(linear.lora->dora->norms), want, Bound::sum(3 * in, size));
  });
}

TEST_CASE("a merged model computes what base and adapter do", "[merge]") {
  const LoraOptions options = GENERATE(kDora, kBiases, kModules);
  const TempFolder folder;
  save_base(folder / "base");
  const auto model = load(folder / "base");
  attach_lora(*model, options, 5);
  stir(*model);
  write_adapter(*model, folder / "a", options, "base");

  const Merge merge(folder / "base", {{folder / "a", 1}}, std::nullopt);
  fs::create_directories(folder / "merged");
  merge.write(folder / "merged", 20'000);
  CHECK(fs::exists(folder / "merged" / "model.safetensors.index.json"));
  const Json config = parse_json_file(folder / "merged" / "config.json");
  CHECK(merge.unties_head() == !options.modules_to_save.empty());
  CHECK(config.value("tie_word_embeddings", true) == options.modules_to_save.empty());

  const auto merged = load(folder / "merged");
  const TinyBatch batch = tiny_batch(2, 13, 3);
  // The bound of one fp32 computation covers the merged weights' own rounding by its sums of K
  // products; the adapter's computation has another such bound.
  Gpt2Logits want = gpt2_logits(*merged, config, batch.context);
  CHECK_WITHIN(logits_of(*merged, batch.context), want.logits, want.bound);
  for (double& bound : want.bound.absolute) bound *= 2;
  want.bound.relative *= 2;
  CHECK_WITHIN(logits_of(*model, batch.context), want.logits, want.bound);
  const auto base = load(folder / "base");
  CHECK(!compare(logits_of(*base, batch.context), want.logits, want.bound).within);
}

TEST_CASE("adapters add up by their weights, and a merged weight is rounded once", "[merge]") {
  const DType dtype = GENERATE(DType::kF32, DType::kBF16, DType::kF16);
  const TempFolder folder;
  save_base(folder / "base", dtype);
  const LoraOptions options{.rank = 3, .alpha = 7, .targets = {"c_attn", "mlp.c_proj"}};
  for (const uint64_t seed : {1, 2}) {
    const auto model = load(folder / "base");
    attach_lora(*model, options, seed);
    stir(*model);
    write_adapter(*model, folder / std::to_string(seed), options, "");
  }
  fs::create_directories(folder / "merged");
  Merge(folder / "base", {{folder / "1", 0.5}, {folder / "2", -1.25}}, std::nullopt)
      .write(folder / "merged", int64_t{1} << 30);
  const auto base = load(folder / "base"), merged = load(folder / "merged"),
             one = load(folder / "base"), two = load(folder / "base");
  read_adapter(*one, folder / "1", false);
  read_adapter(*two, folder / "2", false);
  std::map<std::string, Linear*> b, first, second;
  base->visit_linears([&](const std::string& path, Linear& linear) { b[path] = &linear; });
  one->visit_linears([&](const std::string& path, Linear& linear) { first[path] = &linear; });
  two->visit_linears([&](const std::string& path, Linear& linear) { second[path] = &linear; });
  merged->visit_linears([&](const std::string& path, Linear& linear) {
    INFO(path);
    CHECK(linear.weight.value.dtype() == dtype);
    const std::vector<float> was = values(cast(b[path]->weight.value, DType::kF32)),
                             got = values(cast(linear.weight.value, DType::kF32));
    if (!first[path]->lora) {
      CHECK(got == was);
      return;
    }
    std::vector<double> want, size;
    for (size_t k = 0; k < was.size(); ++k) {
      const auto out = static_cast<size_t>(linear.out()), i = k / out, o = k % out;
      double sum = static_cast<double>(was[k]), wide = std::fabs(sum);
      for (const auto& [side, weight] : {std::pair{first[path], 0.5}, {second[path], -1.25}}) {
        for (size_t r = 0; r < 3; ++r) {
          const double term =
              weight * static_cast<double>(side->lora->scale) *
              static_cast<double>(side->lora->b.value.data<float>()[o * 3 + r]) *
              static_cast<double>(
                  side->lora->a.value.data<float>()[r * static_cast<size_t>(linear.in()) + i]);
          sum += term;
          wide += std::fabs(term);
        }
      }
      want.push_back(sum);
      size.push_back(wide);
    }
    CHECK_WITHIN(got, want, Bound::sum(2 * (3 + 2), size).then_round(dtype));
  });
}

TEST_CASE("a merged model's config states the dtype that was asked for", "[merge]") {
  const TempFolder folder;
  save_base(folder / "base");
  const auto model = load(folder / "base");
  const LoraOptions options{.rank = 2, .targets = {"c_attn"}};
  attach_lora(*model, options, 5);
  write_adapter(*model, folder / "a", options, "base");
  Merge(folder / "base", {{folder / "a", 1}}, DType::kBF16).write(folder / "merged", 20'000);
  const Json config = parse_json_file(folder / "merged" / "config.json");
  CHECK(config.value("torch_dtype", "") == "bfloat16");
  load(folder / "merged")->visit_linears([](const std::string& path, Linear& linear) {
    INFO(path);
    CHECK(linear.weight.value.dtype() == DType::kBF16);
  });
}

TEST_CASE("a bias that the base has no place for cannot be merged", "[merge]") {
  const TempFolder folder;
  fs::create_directories(folder / "base");
  const Json config = {{"model_type", "llama"},    {"vocab_size", 31},
                       {"hidden_size", 16},        {"num_hidden_layers", 1},
                       {"num_attention_heads", 2}, {"intermediate_size", 24}};
  put_file(folder / "base" / "config.json", config.dump());
  const auto model = build_model(config, "config.json");
  draw_weights(*model, 1);
  save_weights(*model, folder / "base", DType::kF32);
  const LoraOptions options{.targets = {"q_proj"}, .lora_bias = true};
  attach_lora(*model, options, 1);
  write_adapter(*model, folder / "a", options, "");
  CHECK_THAT(error_of([&] {
               Merge(folder / "base", {{folder / "a", 1}}, std::nullopt);
             }),
             Catch::Contains("model.layers.0.self_attn.q_proj has a bias (lora_bias)"));
}

TEST_CASE("which modules are meant, by PEFT's rules", "[adapter]") {
  const std::string path = "model.layers.11.self_attn.q_proj";
  const auto adapts = [&](LoraOptions options) {
    if (options.targets.empty() && options.target_pattern.empty()) options.targets = {"q_proj"};
    return AdapterRules(options).adapts(path);
  };
  CHECK(adapts({}));
  CHECK(adapts({.targets = {"self_attn.q_proj"}}));
  CHECK(!adapts({.targets = {"proj"}}));
  CHECK(adapts({.target_pattern = R"(.*\.\d+\..*q_proj)"}));
  CHECK(!adapts({.target_pattern = "q_proj"}));  // a pattern matches the whole path
  CHECK(!adapts({.exclude = {"q_proj"}}));
  CHECK(!adapts({.exclude_pattern = ".*11.*"}));
  CHECK(adapts({.layers = {3, 11}}));
  CHECK(!adapts({.layers = {1}}));
  CHECK(adapts({.layers = {11}, .layers_pattern = {"h", "layers"}}));
  CHECK(!adapts({.layers = {11}, .layers_pattern = {"h"}}));
  CHECK(!adapts({.modules_to_save = {"self_attn"}}));
  CHECK(adapts({.modules_to_save = {"attn"}}));
  const AdapterRules rules({.rank = 8,
                            .alpha = 16,
                            .targets = {"q_proj"},
                            .ranks = {{"layers.1.self_attn.q_proj", 2}, {R"(1\d\..*q_proj)", 4}},
                            .alphas = {{"q_proj", 3}, {".*", 5}}});
  CHECK(rules.rank(path) == 4);
  CHECK(rules.alpha(path) == 3);
  CHECK(AdapterRules({.modules_to_save = {"head"}}).saves("lm_head.weight"));
  CHECK(!AdapterRules({.modules_to_save = {"lm"}}).saves("lm_head.weight"));
}

TEST_CASE("options that mean nothing in a model are told", "[adapter]") {
  const auto model = tiny_model();
  const auto error = [&](LoraOptions options) {
    if (options.targets.empty() && options.target_pattern.empty()) options.targets = {"c_attn"};
    return error_of([&] { attach_lora(*model, options, 1); });
  };
  CHECK(error({.exclude = {"q_proj"}}).starts_with("2: --exclude-modules: no linear layer"));
  CHECK(error({.ranks = {{"q_proj", 2}}}).starts_with("2: --rank-pattern: no linear layer"));
  CHECK(error({.alphas = {{"q_proj", 2}}}).starts_with("2: --alpha-pattern: no linear layer"));
  CHECK(error({.layers = {7}}) ==
        "2: --layers: there is no block 7 in this model, which has 2 (the first is 0)");
  CHECK(error({.layers = {0, 2}}).starts_with("2: --layers: there is no block 2"));
  CHECK(error({.layers = {1}, .layers_pattern = {"layers"}}) ==
        "2: --layers-pattern: no list of blocks in this model is named so: layers");
  CHECK(error({.target_pattern = ".*c_attn", .exclude_pattern = ".*"})
            .starts_with("2: --targets: matches no linear layer"));
  CHECK(error({.layers = {1}, .layers_pattern = {"h*"}}).starts_with("2: --layers-pattern: "));
  CHECK(error({.modules_to_save = {"score"}}) ==
        "2: --modules-to-save: no module is named \"score\"");
  CHECK(error({.target_pattern = ".*(c_attn|wte)"}) ==
        "2: --targets: matches transformer.wte, but only linear layers of blocks can have an "
        "adapter");
  CHECK(error({.target_pattern = "lm_head|.*c_attn"}).find("matches lm_head") != std::string::npos);
}

TEST_CASE("a broken adapter is an error or an adapter, never a crash", "[adapter]") {
  const TempFolder folder;
  const auto model = tiny_model();
  attach_lora(*model, kModules, 5);
  write_adapter(*model, folder.path(), kModules, "base");
  const auto try_each = [&](const fs::path& path, size_t step) {
    const std::string good = get_file(path);
    const auto attempt = [&](const std::string& bytes) {
      put_file(path, bytes);
      const auto fresh = tiny_model();
      const std::string error = error_of([&] { read_adapter(*fresh, folder.path(), false); });
      CHECK((error == "no error" || error.starts_with("2: ")));
      return error;
    };
    for (size_t size = 0; size < good.size(); size += step) {
      INFO("first " << size << " bytes");
      const bool ends = good.find_first_not_of(" \n}", size) == std::string::npos;
      CHECK((attempt(good.substr(0, size)) != "no error" || ends));
    }
    for (size_t bit = 0; bit < 8 * std::min<size_t>(good.size(), 2000); bit += 13) {
      std::string flipped = good;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
      INFO("bit " << bit);
      attempt(flipped);
    }
    put_file(path, good);
  };
  try_each(folder / "adapter_config.json", 1);
  try_each(folder / "adapter_model.safetensors", 37);
}

}  // namespace tenon::test
