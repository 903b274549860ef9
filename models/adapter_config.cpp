// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "models/adapter_rules.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "adapter_config.json";
constexpr int64_t kConfigBytes = int64_t{16} << 20;
constexpr size_t kEntries = 65536;
constexpr int64_t kMostRank = 65536;

// PEFT declares lora_alpha an integer; other values are its users' habit.
Json alpha_json(double alpha) {
  const bool whole = std::fabs(alpha) < 1e15 && std::trunc(alpha) == alpha;
  return whole ? Json(static_cast<int64_t>(alpha)) : Json(alpha);
}

// Fields that change the arithmetic in ways Tenon does not compute: absent, null, false, "" or
// empty, or refused.
void refuse_unsupported(const JsonObject& config) {
  for (const char* key :
       {"use_qalora", "use_bdlora", "layer_replication", "trainable_token_indices",
        "target_parameters", "alora_invocation_tokens", "arrow_config", "megatron_config",
        "kasa_config", "velora_config", "monteclora_config"}) {
    const Json* value = config.find(key);
    const bool off = value == nullptr || value->is_null() || *value == false ||
                     (value->is_structured() && value->empty());
    if (!off) config.reject(key, "it to be off (Tenon does not compute this kind of adapter)");
  }
  // PiSSA, CorDA, OLoRA, LoftQ and their like subtract something from the base weights when the
  // adapter is attached.
  if (const Json* init = config.find("init_lora_weights"); init != nullptr && init->is_string()) {
    if (*init != "gaussian" && *init != "eva" && *init != "orthogonal") {
      config.reject(
          "init_lora_weights",
          "true, false, \"gaussian\", \"eva\" or \"orthogonal\" (others change the base model)");
    }
  }
  if (config.text("peft_type", "LORA") != "LORA") config.reject("peft_type", "\"LORA\"");
}

// mlx-lm calls its files and fields otherwise, and stores the factors transposed.
void refuse_mlx(const JsonObject& config, const fs::path& folder) {
  const bool mlx = !config.has("peft_type") && !config.has("r") &&
                   (config.has("lora_parameters") || config.has("fine_tune_type"));
  if (!mlx) return;
  fail_input(
      "{}: an adapter of mlx-lm (adapters.safetensors, lora_a and lora_b), which is not read: "
      "write "
      "it in PEFT's layout first (lora_A is lora_a transposed, lora_alpha is scale times rank)",
      shown(folder));
}

// A list of strings; absent or null is an empty one.
std::vector<std::string> names(const JsonObject& config, const char* key) {
  std::vector<std::string> list;
  const Json* value = config.find(key);
  if (value == nullptr || value->is_null()) return list;
  if (!value->is_array() || value->size() > kEntries) config.reject(key, "a list of names");
  for (const Json& entry : *value) {
    if (!entry.is_string() || entry.get_ref<const std::string&>().empty())
      config.reject(key, "a list of names");
    list.push_back(entry.get<std::string>());
  }
  return list;
}

bool is_text(const JsonObject& config, const char* key) {
  const Json* value = config.find(key);
  return value != nullptr && value->is_string();
}

void read_modules(const JsonObject& config, LoraOptions& options) {
  if (!is_text(config, "target_modules")) {
    options.targets = names(config, "target_modules");
  } else if (std::string text = config.text("target_modules"); text == "all-linear") {
    options.targets = {text};
  } else {
    options.target_pattern = std::move(text);
  }
  if (options.targets.empty() && options.target_pattern.empty())
    config.reject("target_modules", "a list of names, a regular expression, or \"all-linear\"");
  if (is_text(config, "exclude_modules")) {
    options.exclude_pattern = config.text("exclude_modules");
  } else {
    options.exclude = names(config, "exclude_modules");
  }
  options.layers = config.integers("layers_to_transform", 0, 1'000'000);
  if (is_text(config, "layers_pattern")) {
    const std::string pattern = config.text("layers_pattern");
    if (!pattern.empty()) options.layers_pattern = {pattern};
  } else {
    options.layers_pattern = names(config, "layers_pattern");
  }
  if (!options.layers.empty() && !options.target_pattern.empty())
    config.reject("layers_to_transform", "null where target_modules is a regular expression");
  options.modules_to_save = names(config, "modules_to_save");
}

void read_patterns(const JsonObject& config, LoraOptions& options) {
  const auto entries = [&](const char* key) {
    const std::optional<JsonObject> object = config.optional_object(key);
    if (object && object->json().size() > kEntries)
      config.reject(key, fmt::format("at most {} modules", kEntries));
    return object;
  };
  if (const auto ranks = entries("rank_pattern")) {
    for (const std::string& key : ranks->keys())
      options.ranks.emplace_back(key, ranks->integer(key, 1, kMostRank));
  }
  if (const auto alphas = entries("alpha_pattern")) {
    for (const std::string& key : alphas->keys())
      options.alphas.emplace_back(key, alphas->number(key, 0, 1e9));
  }
}

// null for an empty list.
Json list_json(const std::vector<std::string>& list) {
  return list.empty() ? Json(nullptr) : Json(list);
}

Json names_json(const std::vector<std::string>& list, const std::string& pattern) {
  return pattern.empty() ? list_json(list) : Json(pattern);
}

}  // namespace

double lora_scale(double alpha, int64_t rank, bool rslora) {
  const auto r = static_cast<double>(rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

AdapterConfig read_adapter_config(const fs::path& folder) {
  const JsonObject json = JsonObject::read(folder / kConfigName, kConfigBytes);
  refuse_mlx(json, folder);
  refuse_unsupported(json);
  AdapterConfig config;
  config.where = json.where();
  config.base = json.optional_text("base_model_name_or_path").value_or("");
  LoraOptions& options = config.options;
  options.tie_saved = json.boolean("ensure_weight_tying", false);
  options.rank = json.integer("r", 1, kMostRank);
  options.alpha = json.number("lora_alpha", 0, 1e9, 8);
  options.dropout = json.number("lora_dropout", 0, 0.999, 0);
  options.rslora = json.boolean("use_rslora", false);
  options.dora = json.boolean("use_dora", false);
  options.lora_bias = json.boolean("lora_bias", false);
  options.bias = json.choice("bias", {"none", "all", "lora_only"}, "none");
  if (options.dora && options.lora_bias)
    json.reject("lora_bias", "false where use_dora is true (PEFT does not combine them)");
  read_modules(json, options);
  read_patterns(json, options);
  return config;
}

void write_adapter_config(Model& model, const fs::path& folder, const LoraOptions& options,
                          const std::string& base) {
  const ByModule<double> own_alphas(options.alphas, "alpha_pattern");
  std::vector<std::string> targets = options.targets;
  if (std::find(targets.begin(), targets.end(), "all-linear") != targets.end())
    targets = linear_names(model);
  // Where a module's rank or scale is its own, the general ones do not say it.
  nlohmann::ordered_json ranks = nlohmann::ordered_json::object(),
                         alphas = nlohmann::ordered_json::object();
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (!linear.lora) return;
    const int64_t rank = linear.lora->a.shape[0];
    const float scale = linear.lora->scale;
    const auto gives_scale = [&](double alpha) {
      return static_cast<float>(lora_scale(alpha, rank, options.rslora)) == scale;
    };
    if (rank != options.rank) ranks[path] = rank;
    if (gives_scale(options.alpha)) return;
    const double alpha = own_alphas.find(path).value_or(options.alpha);
    alphas[path] = alpha_json(gives_scale(alpha) ? alpha
                                                 : static_cast<double>(scale) /
                                                       lora_scale(1, rank, options.rslora));
  });
  nlohmann::ordered_json config = {
      {"peft_type", "LORA"},
      {"task_type", "CAUSAL_LM"},
      {"base_model_name_or_path", base},
      {"revision", nullptr},
      {"inference_mode", true},
      {"r", options.rank},
      {"lora_alpha", alpha_json(options.alpha)},
      {"lora_dropout", options.dropout},
      {"target_modules", names_json(targets, options.target_pattern)},
      {"fan_in_fan_out", model.fan_in_fan_out()},
      {"bias", options.bias},
      {"modules_to_save", list_json(options.modules_to_save)},
      {"init_lora_weights", true},
      {"layers_to_transform", options.layers.empty() ? Json(nullptr) : Json(options.layers)},
      {"layers_pattern", list_json(options.layers_pattern)},
      {"rank_pattern", ranks},
      {"alpha_pattern", alphas}};
  if (const Json exclude = names_json(options.exclude, options.exclude_pattern); !exclude.is_null())
    config["exclude_modules"] = exclude;
  for (const auto& [name, set] : {std::pair{"use_rslora", options.rslora},
                                  {"use_dora", options.dora},
                                  {"lora_bias", options.lora_bias},
                                  {"ensure_weight_tying", options.tie_saved}}) {
    if (set) config[name] = true;
  }
  write_text_atomic(folder / kConfigName, config.dump(2) + "\n");
}

}  // namespace tenon
