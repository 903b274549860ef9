// SPDX-License-Identifier: Apache-2.0
// Values of the base that an adapter's file has beside what is trained: PEFT's save_embedding_layers,
// base_layer and original_module. They are read and written on, and are not trained. Where a head and
// an embedding share their matrix, PEFT's answers are the ones expected here (its 0.21).
#include <catch2/catch.hpp>
#include <set>

#include "core/json.h"
#include "core/safetensors.h"
#include "models/merge.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

const std::string kEmbedding = "transformer.wte.weight", kHead = "lm_head.weight";

Json config_of(bool tied) {
  Json config = tiny_config();
  config["tie_word_embeddings"] = tied;
  return config;
}

// Puts one more tensor, all of `value`, into an adapter's file.
void add_tensor(const fs::path& folder, const std::string& name, const Shape& shape, float value,
                DType dtype = DType::kF32) {
  const fs::path path = folder / "adapter_model.safetensors";
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::vector<TensorToWrite> tensors;
  for (const TensorEntry& entry : file.entries()) {
    if (entry.name != kPeftPrefix + name)
      tensors.push_back({entry.name, *entry.dtype, entry.shape, entry.data});
  }
  std::vector<int64_t> dims;
  for (int axis = 0; axis < shape.rank(); ++axis) dims.push_back(shape[axis]);
  Tensor values = Tensor::empty(shape, DType::kF32);
  std::fill_n(values.data<float>(), values.numel(), value);
  const Tensor stored = cast(values, dtype);
  tensors.push_back({kPeftPrefix + name, dtype, dims, stored.raw()});
  write_safetensors(path, tensors);
}

// An adapter of c_attn, with modules trained whole where asked.
void write_plain(const fs::path& folder, bool tied, const std::vector<std::string>& whole = {},
                 bool tie_saved = false) {
  const auto model = tiny_model(config_of(tied));
  LoraOptions options{
      .rank = 2, .targets = {"c_attn"}, .modules_to_save = whole, .tie_saved = tie_saved};
  write_adapter(*model, folder, give_lora(*model, options), "base");
}

std::map<std::string, Parameter*> parameters_of(Model& model) {
  std::map<std::string, Parameter*> all;
  model.visit_parameters([&](const std::string& path, Parameter& p) { all[path] = &p; });
  return all;
}

float first_of(const Parameter& parameter) {
  return values(cast(parameter.value, DType::kF32)).front();
}

// Base parameters that are trained.
std::set<std::string> trained_of(Model& model) {
  std::set<std::string> names;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.trainable && !parameter.adapter) names.insert(path);
  });
  return names;
}

std::map<std::string, std::string> tensors_in(const fs::path& folder) {
  std::map<std::string, std::string> all;
  const SafetensorsFile file = SafetensorsFile::open(folder / "adapter_model.safetensors");
  for (const TensorEntry& entry : file.entries()) {
    all[entry.name] = entry.dtype_name + std::string(reinterpret_cast<const char*>(entry.data),
                                                     static_cast<size_t>(entry.bytes));
  }
  return all;
}

const Shape kTable{41, 24};

}  // namespace

TEST_CASE("embeddings that an adapter carries are values, frozen, and carried on", "[adapter]") {
  const bool tied = GENERATE(true, false);
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const TempFolder folder;
  write_plain(folder / "a", tied);
  add_tensor(folder / "a", kEmbedding, kTable, 1, dtype);
  add_tensor(folder / "a", kHead, kTable, 2, dtype);
  const auto model = tiny_model(config_of(tied));
  const LoraOptions options = read_adapter(*model, folder / "a", true);
  CHECK(trained_of(*model).empty());
  CHECK(has_tied_head(*model) == tied);
  // Of two values for one matrix the head's stays, as it is filled last.
  CHECK(first_of(*parameters_of(*model)[kEmbedding]) == (tied ? 2 : 1));
  CHECK(values(cast(model->head().value, DType::kF32)) == std::vector<float>(41 * 24, 2));

  place(*model, Device::kCPU, DType::kBF16);  // narrows what is computed with, not what is written
  write_adapter(*model, folder / "b", options, "base");
  const auto before = tensors_in(folder / "a"), after = tensors_in(folder / "b");
  if (!tied) CHECK(after == before);
  CHECK(after.at(kPeftPrefix + kHead) == before.at(kPeftPrefix + kHead));
  CHECK(after.at(kPeftPrefix + kEmbedding) == before.at(kPeftPrefix + (tied ? kHead : kEmbedding)));
  CHECK(after.size() == before.size());
}

TEST_CASE("what is trained of a tied pair is what modules_to_save names", "[adapter]") {
  struct Case {
    std::vector<std::string> whole;
    bool tie_saved;
    std::map<std::string, float> file;
    bool apart;
    float embedding, head;  // -1: the base's
    std::set<std::string> trained;
  };
  const std::string original = "transformer.wte.original_module.weight",
                    head_original = "lm_head.original_module.weight";
  const Case cases[] = {
      {{}, false, {{kEmbedding, 1}}, false, 1, 1, {}},
      {{}, false, {{kHead, 2}}, false, 2, 2, {}},
      {{"wte"}, false, {{kEmbedding, 1}}, true, 1, -1, {kEmbedding}},
      {{"wte"}, false, {{kEmbedding, 1}, {kHead, 2}, {original, 4}}, true, 1, 2, {kEmbedding}},
      {{"wte"}, false, {{kEmbedding, 1}, {original, 4}}, true, 1, 4, {kEmbedding}},
      {{"lm_head"}, false, {{kHead, 2}}, true, -1, 2, {kHead}},
      {{"lm_head"}, false, {{kHead, 2}, {kEmbedding, 1}}, true, 1, 2, {kHead}},
      {{"lm_head"}, false, {{kHead, 2}, {kEmbedding, 1}, {head_original, 4}}, true, 4, 2, {kHead}},
      {{"wte", "lm_head"},
       false,
       {{kEmbedding, 1}, {kHead, 2}, {original, 4}, {head_original, 8}},
       true,
       1,
       2,
       {kEmbedding, kHead}},
      {{"wte"}, true, {{kEmbedding, 1}, {kHead, 2}}, true, 1, 2, {kEmbedding}},
      {{"lm_head"}, true, {{kEmbedding, 1}, {kHead, 2}}, false, 2, 2, {kEmbedding}},
  };
  for (const Case& c : cases) {
    const TempFolder folder;
    write_plain(folder / "a", true, c.whole, c.tie_saved);
    for (const auto& [name, value] : c.file) {
      INFO(name);
      add_tensor(folder / "a", name, kTable, value);
    }
    const auto model = tiny_model(), base = tiny_model();
    const LoraOptions options = read_adapter(*model, folder / "a", true);
    CHECK(has_tied_head(*model) == !c.apart);
    CHECK(trained_of(*model) == c.trained);
    const float was = first_of(*parameters_of(*base)[kEmbedding]);
    CHECK(first_of(*parameters_of(*model)[kEmbedding]) == (c.embedding < 0 ? was : c.embedding));
    CHECK(first_of(model->head()) == (c.head < 0 ? was : c.head));
    // What is written computes the same, and trains the same.
    write_adapter(*model, folder / "b", options, "base");
    const auto again = tiny_model();
    read_adapter(*again, folder / "b", true);
    CHECK(trained_of(*again) == c.trained);
    const TinyBatch batch = tiny_batch(1, 9, 3);
    CHECK(logits_of(*again, batch.context) == logits_of(*model, batch.context));
  }
}

TEST_CASE("values of the layers that an adapter wraps are read under base_layer", "[adapter]") {
  const TempFolder folder;
  write_plain(folder / "a", true);
  const std::string module = "transformer.h.1.attn.c_attn.";
  add_tensor(folder / "a", module + "base_layer.weight", {24, 72}, 3);
  add_tensor(folder / "a", module + "base_layer.bias", {72}, 5);
  add_tensor(folder / "a", "transformer.ln_f.bias", {24}, 7);
  const auto model = tiny_model();
  const LoraOptions options = read_adapter(*model, folder / "a", true);
  CHECK(trained_of(*model).empty());
  auto parameters = parameters_of(*model);
  CHECK(first_of(*parameters[module + "weight"]) == 3);
  CHECK(first_of(*parameters[module + "bias"]) == 5);
  CHECK(first_of(*parameters["transformer.ln_f.bias"]) == 7);
  write_adapter(*model, folder / "b", options, "base");
  CHECK(tensors_in(folder / "b") == tensors_in(folder / "a"));
}

TEST_CASE("a merged model has what its adapter carried", "[merge]") {
  const TempFolder folder;
  fs::create_directories(folder / "base");
  put_file(folder / "base" / "config.json", tiny_config().dump());
  save_weights(*tiny_model(), folder / "base", DType::kF32);
  write_plain(folder / "a", true);
  add_tensor(folder / "a", kEmbedding, kTable, 0.5f);
  add_tensor(folder / "a", kHead, kTable, 0.5f);
  fs::create_directories(folder / "merged");
  const Merge merge(folder / "base", {{folder / "a", 1}}, std::nullopt);
  CHECK_FALSE(merge.unties_head());
  merge.write(folder / "merged", int64_t{1} << 30);
  const auto merged = build_model((folder / "merged").string());
  load_weights(*merged, folder / "merged");
  CHECK(values(merged->head().value) == std::vector<float>(41 * 24, 0.5f));
}

TEST_CASE("embeddings of another vocabulary are told as that", "[adapter]") {
  const TempFolder folder;
  write_plain(folder / "a", true);
  add_tensor(folder / "a", kEmbedding, {43, 24}, 1);
  const auto model = tiny_model();
  const std::string error = error_of([&] { read_adapter(*model, folder / "a", false); });
  CHECK_THAT(error, Catch::Contains("transformer.wte.weight is [43, 24], expected [41, 24] (the "
                                    "adapter was made with a vocabulary resized to 43 entries"));
}

TEST_CASE("tensors decide where a pattern is not understood", "[adapter]") {
  const TempFolder folder;
  const auto model = tiny_model();
  write_adapter(
      *model, folder.path(),
      give_lora(*model,
                {.rank = 3, .alpha = 7, .targets = {"c_attn"}, .ranks = {{"h.1.attn.c_attn", 5}}}),
      "base");
  Json config = parse_json_file(folder / "adapter_config.json");
  config["target_modules"] = R"(.*\.(c_attn)(?:|\1))";
  config["rank_pattern"] = {{R"(h\.1\.(attn)(?:|\1)\.c_attn)", 5}};
  config["exclude_modules"] = "(?>none)";
  put_file(folder / "adapter_config.json", config.dump());
  const auto other = tiny_model();
  const LoraOptions options = read_adapter(*other, folder.path(), true);
  const TinyBatch batch = tiny_batch(1, 9, 3);
  CHECK(logits_of(*other, batch.context) == logits_of(*model, batch.context));
  write_adapter(*other, folder / "again", options, "base");
  const Json again = parse_json_file(folder / "again" / "adapter_config.json");
  CHECK(again["target_modules"] == config["target_modules"]);
  CHECK(again["exclude_modules"] == "(?>none)");
  CHECK(again["rank_pattern"] == Json{{"transformer.h.1.attn.c_attn", 5}});
}

TEST_CASE("a plain adapter's config has no field that PEFT 0.6 does not know", "[adapter]") {
  const std::set<std::string> known = {"peft_type",
                                       "auto_mapping",
                                       "base_model_name_or_path",
                                       "revision",
                                       "task_type",
                                       "inference_mode",
                                       "r",
                                       "target_modules",
                                       "lora_alpha",
                                       "lora_dropout",
                                       "fan_in_fan_out",
                                       "bias",
                                       "modules_to_save",
                                       "init_lora_weights",
                                       "layers_to_transform",
                                       "layers_pattern",
                                       "rank_pattern",
                                       "alpha_pattern"};
  const auto beyond = [&](const LoraOptions& options) {
    const TempFolder folder;
    const auto model = tiny_model();
    attach_lora(*model, options, 1);
    write_adapter(*model, folder.path(), options, "base");
    std::set<std::string> more;
    const Json config = parse_json_file(folder / "adapter_config.json");
    for (const auto& [key, value] : config.items())
      if (!known.contains(key)) more.insert(key);
    return more;
  };
  using Names = std::set<std::string>;
  CHECK(beyond({.targets = {"c_attn"}}) == Names{});
  CHECK(beyond({.rslora = true, .targets = {"c_attn"}}) == Names{"use_rslora"});
  CHECK(beyond({.targets = {"c_attn"}, .dora = true}) == Names{"use_dora"});
  CHECK(beyond({.targets = {"c_attn"}, .lora_bias = true}) == Names{"lora_bias"});
  CHECK(beyond({.targets = {"all-linear"}, .exclude = {"c_fc"}}) == Names{"exclude_modules"});
  CHECK(beyond({.targets = {"c_attn"}, .modules_to_save = {"wte"}, .tie_saved = true}) ==
        Names{"ensure_weight_tying"});
}

TEST_CASE("an adapter of mlx-lm is told as that", "[adapter]") {
  const TempFolder folder;
  put_file(folder / "adapter_config.json",
           R"({"fine_tune_type": "lora", "lora_parameters": {"rank": 8, "scale": 20.0}})");
  const auto model = tiny_model();
  CHECK_THAT(error_of([&] { read_adapter(*model, folder.path(), false); }),
             Catch::StartsWith("2: " + shown(folder.path()) + ": an adapter of mlx-lm"));
}

}  // namespace tenon::test
