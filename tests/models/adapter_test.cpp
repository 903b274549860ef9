// SPDX-License-Identifier: Apache-2.0
// LoRA adapters as files: what is written is read again bit for bit, PEFT's ways of naming are
// understood, and kinds of adapter that Tenon does not compute are refused by name.
#include <catch2/catch.hpp>
#include <cmath>

#include "core/json.h"
#include "core/safetensors.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

// Every adapter tensor by its path, and the scale of each module under its own.
std::map<std::string, std::vector<float>> adapter_of(Model& model) {
  std::map<std::string, std::vector<float>> all;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) all[path] = values(parameter.value);
  });
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (linear.lora) all[path] = {linear.lora->scale, linear.lora->dropout};
  });
  return all;
}

std::vector<std::string> targets_of(Model& model) {
  std::vector<std::string> paths;
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (linear.lora) paths.push_back(path);
  });
  return paths;
}

// The written adapter with its tensors renamed.
void rename_tensors(const std::filesystem::path& folder,
                    const std::function<std::string(std::string)>& renamed) {
  const std::filesystem::path path = folder / "adapter_model.safetensors";
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::vector<TensorToWrite> tensors;
  for (const TensorEntry& entry : file.entries()) {
    tensors.push_back({renamed(entry.name), *entry.dtype, entry.shape, entry.data});
  }
  write_safetensors(path, tensors);
}

Json config_in(const std::filesystem::path& folder) {
  return parse_json_file(folder / "adapter_config.json");
}

void change_config(const std::filesystem::path& folder, const Json& changes) {
  Json config = config_in(folder);
  config.update(changes);
  put_file(folder / "adapter_config.json", config.dump());
}

}  // namespace

TEST_CASE("an adapter that is read is the one that was written", "[adapter]") {
  const auto options = GENERATE(
      LoraOptions{.rank = 3, .alpha = 7, .dropout = 0.25, .targets = {"all-linear"}},
      LoraOptions{.rank = 5, .alpha = 2.5, .rslora = true, .targets = {"c_attn"}},
      LoraOptions{.rank = 1, .alpha = 1, .targets = {"mlp.c_proj", "transformer.h.1.attn.c_attn"}});
  const TempFolder folder;
  const auto model = tiny_model(), other = tiny_model();
  give_lora(*model, options);
  write_adapter(*model, folder / "a", options, "base/model");
  train_all(*other);  // until an adapter freezes the base
  const LoraOptions read = read_adapter(*other, folder / "a", true);
  CHECK(adapter_of(*other) == adapter_of(*model));
  CHECK(read.rank == options.rank);
  CHECK(read.alpha == options.alpha);
  CHECK(read.dropout == options.dropout);
  CHECK(read.rslora == options.rslora);
  write_adapter(*other, folder / "b", read, "base/model");
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
    CHECK(get_file(folder / "a" / name) == get_file(folder / "b" / name));
  }
  const Json config = config_in(folder / "a");
  CHECK(config["fan_in_fan_out"] == true);
  CHECK(config["base_model_name_or_path"] == "base/model");
  CHECK(config["lora_alpha"].is_number_integer() == (options.alpha != 2.5));

  int trainable = 0, frozen = 0;
  other->visit_parameters([&](const std::string&, Parameter& parameter) {
    CHECK(parameter.trainable == parameter.adapter);
    ++(parameter.trainable ? trainable : frozen);
  });
  CHECK(trainable == 2 * static_cast<int>(targets_of(*other).size()));
  CHECK(frozen == 28);
  read_adapter(*other, folder / "a", false);
  CHECK(count_parameters(*other, [](const Parameter& p) { return p.trainable; }) == 0);
}

TEST_CASE("a fresh adapter changes no bit of the logits", "[adapter]") {
  const auto model = tiny_model();
  const TinyBatch batch = tiny_batch(2, 13, 3);
  const std::vector<float> base = logits_of(*model, batch.context);
  const int64_t rank = GENERATE(1, 8, 33);
  attach_lora(*model, {.rank = rank, .alpha = 16, .targets = {"all-linear"}}, 9);
  CHECK(logits_of(*model, batch.context) == base);

  // A: uniform in +-1/sqrt(in), another one in each module; B: zero.
  std::vector<float> first;
  model->visit_linears([&](const std::string&, Linear& linear) {
    const std::vector<float> a = values(linear.lora->a.value);
    const float limit = 1 / std::sqrt(static_cast<float>(linear.in()));
    double squares = 0;
    for (const float v : a) {
      CHECK(std::fabs(v) <= limit);
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    // Variance of n uniform draws: limit^2 / 3, its standard error sqrt(4 / (45 n)) limit^2.
    const double n = static_cast<double>(a.size()), wide = static_cast<double>(limit * limit);
    CHECK(std::fabs(squares / n - wide / 3) <= 5 * std::sqrt(4 / (45 * n)) * wide);
    for (const float v : values(linear.lora->b.value)) CHECK(v == 0);
    CHECK(a != first);
    if (first.empty()) first = a;
  });
  const auto again = tiny_model(), other = tiny_model();
  attach_lora(*again, {.rank = rank, .alpha = 16, .targets = {"all-linear"}}, 9);
  attach_lora(*other, {.rank = rank, .alpha = 16, .targets = {"all-linear"}}, 10);
  CHECK(adapter_of(*again) == adapter_of(*model));
  CHECK(adapter_of(*other) != adapter_of(*model));
}

TEST_CASE("other tools' names of tensors are understood", "[adapter]") {
  const TempFolder folder;
  const auto model = tiny_model(), other = tiny_model();
  const LoraOptions options = give_lora(*model);
  write_adapter(*model, folder.path(), options, "");
  const auto without_prefix = [](const std::string& name) {
    return name.substr(std::string(kPeftPrefix).size());
  };
  const auto with_default = [](std::string name) {
    return name.insert(name.rfind(".weight"), ".default");
  };
  switch (GENERATE(0, 1, 2)) {
    case 0: rename_tensors(folder.path(), without_prefix); break;
    case 1: rename_tensors(folder.path(), with_default); break;
    default:
      rename_tensors(folder.path(),
                     [&](const std::string& name) { return with_default(without_prefix(name)); });
  }
  read_adapter(*other, folder.path(), false);
  CHECK(adapter_of(*other) == adapter_of(*model));
}

TEST_CASE("a magnitude may be named as PEFT's or as a weight", "[adapter]") {
  const std::string end = GENERATE(".weight", ".default.weight");
  const TempFolder folder;
  const auto model = tiny_model(), other = tiny_model();
  const LoraOptions options{.rank = 3, .alpha = 7, .targets = {"all-linear"}, .dora = true};
  attach_lora(*model, options, 5);
  write_adapter(*model, folder.path(), options, "");
  int renamed = 0;
  rename_tensors(folder.path(), [&](const std::string& name) {
    const bool magnitude = name.ends_with(".lora_magnitude_vector");
    renamed += magnitude ? 1 : 0;
    return magnitude ? name + end : name;
  });
  CHECK(renamed > 0);
  read_adapter(*other, folder.path(), false);
  CHECK(adapter_of(*other) == adapter_of(*model));
}

TEST_CASE("target modules may be a pattern, and modules may have their own rank and alpha",
          "[adapter]") {
  const TempFolder folder;
  const auto model = tiny_model(), other = tiny_model(), third = tiny_model();
  give_lora(*model, {.rank = 3, .alpha = 7, .targets = {"all-linear"}});
  write_adapter(*model, folder.path(), {.rank = 3, .alpha = 7, .targets = {"all-linear"}}, "");
  const auto pattern = GENERATE(Json("all-linear"), Json(R"(.*\.(c_attn|c_proj|c_fc))"));
  change_config(folder.path(), {{"target_modules", pattern}});
  read_adapter(*other, folder.path(), false);
  CHECK(adapter_of(*other) == adapter_of(*model));

  // One block's c_fc of rank 2 with alpha 5, and all of block 1's attention with alpha 9.
  Linear* fc = nullptr;
  model->visit_linears([&](const std::string& path, Linear& linear) {
    if (path.starts_with("transformer.h.1.attn.")) linear.lora->scale = 9.0f / 3;
    if (path == "transformer.h.0.mlp.c_fc") fc = &linear;
  });
  fc->lora->a = {.shape = {2, 24}, .value = filled({2, 24}, 1), .adapter = true};
  fc->lora->b = {.shape = {96, 2}, .value = filled({96, 2}, 2), .adapter = true};
  fc->lora->scale = 5.0f / 2;
  write_adapter(*model, folder.path(), {.rank = 3, .alpha = 7, .targets = {"all-linear"}}, "");
  const Json config = config_in(folder.path());
  CHECK(config["rank_pattern"] == Json{{"transformer.h.0.mlp.c_fc", 2}});
  CHECK(config["alpha_pattern"].size() == 3);
  read_adapter(*other, folder.path(), false);
  CHECK(adapter_of(*other) == adapter_of(*model));

  change_config(folder.path(), {{"alpha_pattern", {{"h.1.attn.c_(attn|proj)", 9}, {"c_fc", 5}}}});
  read_adapter(*third, folder.path(), false);
  third->visit_linears([&](const std::string& path, Linear& linear) {
    if (path == "transformer.h.1.mlp.c_fc") CHECK(linear.lora->scale == 5.0f / 3);
    if (path.starts_with("transformer.h.1.attn.")) CHECK(linear.lora->scale == 3);
  });
}

TEST_CASE("kinds of adapter that are not computed are refused by name", "[adapter]") {
  const TempFolder folder;
  const auto model = tiny_model();
  write_adapter(*model, folder.path(), give_lora(*model), "");
  const std::pair<Json, const char*> cases[] = {
      {{{"use_qalora", true}}, "field \"use_qalora\""},
      {{{"trainable_token_indices", {1, 2}}}, "field \"trainable_token_indices\""},
      {{{"modules_to_save", "lm_head"}}, "field \"modules_to_save\": expected a list of names"},
      {{{"modules_to_save", {"score"}}}, "field \"modules_to_save\": no module is named"},
      {{{"bias", "some"}}, "field \"bias\": expected"},
      {{{"use_dora", true}, {"lora_bias", true}}, "field \"lora_bias\": expected false"},
      {{{"peft_type", "IA3"}}, "field \"peft_type\": expected \"LORA\", got \"IA3\""},
      {{{"layers_to_transform", {5}}}, "field \"layers_to_transform\": there is no block 5"},
      {{{"layers_to_transform", {"0"}}}, "field \"layers_to_transform[0]\": expected an integer"},
      {{{"target_modules", {"c_attn", "wte"}}}, "matches transformer.wte, but only linear layers"},
      {{{"init_lora_weights", "pissa_niter_4"}}, "field \"init_lora_weights\""},
      {{{"r", 0}}, "field \"r\": expected an integer in 1..65536, got 0"},
      {{{"target_modules", {"q_proj"}}},
       "matches no linear layer of this model (it has c_attn, c_proj, c_fc)"},
      {{{"target_modules", "(c_attn"}}, "is not a regular expression"},
      {{{"alpha_pattern", {{"(c_fc)\\1", 2}}}},
       "has a backreference, which Tenon does not understand"},
      {{{"target_modules", nullptr}}, "field \"target_modules\": expected a list of names"},
      {{{"rank_pattern", {{"c_fc", "2"}}}}, "field \"rank_pattern.c_fc\": expected an integer"},
  };
  const std::string config = get_file(folder / "adapter_config.json");
  for (const auto& [change, text] : cases) {
    INFO(change.dump());
    change_config(folder.path(), change);
    const auto fresh = tiny_model();
    CHECK_THAT(
        error_of([&] { read_adapter(*fresh, folder.path(), false); }),
        Catch::StartsWith("2: " + shown(folder / "adapter_config.json")) && Catch::Contains(text));
    put_file(folder / "adapter_config.json", config);
  }
}

TEST_CASE("tensors of an adapter that do not fit are all named", "[adapter]") {
  const TempFolder folder;
  const auto model = tiny_model(), other = tiny_model();
  write_adapter(*model, folder.path(), give_lora(*model), "");
  change_config(folder.path(), {{"rank_pattern", {{"h.1.mlp.c_fc", 4}}}});
  rename_tensors(folder.path(), [](std::string name) {
    if (name.ends_with("h.0.attn.c_attn.lora_A.weight")) name += "s";
    return name;
  });
  const std::string error = error_of([&] { read_adapter(*other, folder.path(), false); });
  for (const char* text : {"transformer.h.0.attn.c_attn.lora_A.weight is missing",
                           "transformer.h.0.attn.c_attn.lora_A.weights is unexpected",
                           "transformer.h.1.mlp.c_fc.lora_A.weight is [3, 24], expected [4, 24]",
                           "transformer.h.1.mlp.c_fc.lora_B.weight is [96, 3], expected [96, 4]"}) {
    CHECK_THAT(error, Catch::Contains(text));
  }
  CHECK_THAT(error, Catch::StartsWith("2: " + shown(folder / "adapter_model.safetensors")));
}

TEST_CASE("a tensor that an adapter has twice is refused", "[adapter]") {
  const TempFolder folder;
  const auto model = tiny_model(), other = tiny_model();
  write_adapter(*model, folder.path(), give_lora(*model), "");
  const std::filesystem::path path = folder / "adapter_model.safetensors";
  {
    const SafetensorsFile file = SafetensorsFile::open(path);
    std::vector<TensorToWrite> tensors;
    for (const TensorEntry& entry : file.entries())
      tensors.push_back({entry.name, *entry.dtype, entry.shape, entry.data});
    tensors.push_back(tensors.front());
    tensors.back().name.erase(0, std::string(kPeftPrefix).size());
    write_safetensors(path, tensors);
  }
  CHECK_THAT(error_of([&] { read_adapter(*other, folder.path(), false); }),
             Catch::Contains(" is there twice"));
}

TEST_CASE("targets that do not exist list those that do", "[adapter]") {
  const auto model = tiny_model();
  const auto error = [&](std::vector<std::string> targets) {
    return error_of([&] { attach_lora(*model, {.targets = std::move(targets)}, 1); });
  };
  CHECK(error({"c_attn", "q_proj"}) ==
        "2: --targets: no linear layer is named \"q_proj\" (this model has c_attn, c_proj, c_fc)");
  CHECK(error({"attn"}).starts_with(
      "2: --targets: no linear layer is named \"attn\""));  // whole names only
  CHECK(
      error({"all-linear", "h.9.mlp.c_fc"}).starts_with("2: --targets: no linear layer is named"));
  CHECK(error({}) == "2: --targets: expected at least one of c_attn, c_proj, c_fc");
  CHECK(error({"h.1.mlp.c_fc"}) == "no error");
}

}  // namespace tenon::test
