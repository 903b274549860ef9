// SPDX-License-Identifier: Apache-2.0
#include "models/adapter.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "models/weights.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";

// PEFT's rule for an entry of a list: the whole name, or its end after a dot.
bool names_module(const std::string& path, const std::string& entry) {
  return path == entry || path.ends_with("." + entry);
}

bool full_match(const std::string& path, const std::string& pattern, const std::string& where) {
  try {
    return std::regex_match(path, std::regex(pattern));
  } catch (const std::regex_error&) {
    fail_input("{}: \"{}\" is not a regular expression", where, printable(pattern));
  }
}

// The last parts of the linears' names, each once: c_attn, c_proj, c_fc.
std::vector<std::string> linear_names(Model& model) {
  std::vector<std::string> names;
  model.visit_linears([&](const std::string& path, Linear&) {
    const std::string name = path.substr(path.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  });
  return names;
}

std::string known_targets(Model& model) {
  return fmt::format("{}", fmt::join(linear_names(model), ", "));
}

double scale_of(double alpha, int64_t rank, bool rslora) {
  const auto r = static_cast<double>(rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

// PEFT declares lora_alpha an integer; other values are its users' habit.
Json alpha_json(double alpha) {
  const auto whole = static_cast<int64_t>(alpha);
  return static_cast<double>(whole) == alpha ? Json(whole) : Json(alpha);
}

void give_adapter(Linear& linear, int64_t rank, double scale, double dropout) {
  Lora lora;
  lora.a = {.shape = {rank, linear.in()}, .trainable = true, .adapter = true};
  lora.b = {.shape = {linear.out(), rank}, .trainable = true, .adapter = true};
  lora.scale = static_cast<float>(scale);
  lora.dropout = static_cast<float>(dropout);
  linear.lora = std::move(lora);
}

void freeze_base(Model& model) {
  model.visit_parameters(
      [](const std::string&, Parameter& parameter) { parameter.trainable = false; });
}

// What adapter_config.json says about one adapter.
struct AdapterConfig {
  LoraOptions options;
  std::string target_pattern;  // where target_modules is one regular expression
  std::vector<std::pair<std::string, int64_t>> ranks;
  std::vector<std::pair<std::string, double>> alphas;
  std::string where;

  bool targets(const std::string& path) const {
    if (!target_pattern.empty()) return full_match(path, target_pattern, where);
    const std::vector<std::string>& list = options.targets;
    return std::any_of(list.begin(), list.end(),
                       [&](const std::string& entry) { return names_module(path, entry); });
  }
  // The override whose key matches the path as PEFT's `(.*\.)?(KEY)$`, else the general value.
  template <class T>
  T value_for(const std::string& path, const std::vector<std::pair<std::string, T>>& overrides,
              T general) const {
    for (const auto& [key, value] : overrides) {
      if (full_match(path, "(.*\\.)?(" + key + ")", where)) return value;
    }
    return general;
  }
};

// Fields that change the arithmetic in ways Tenon does not compute: absent, null, false, "" or
// empty, or refused.
void refuse_unsupported(const JsonObject& config) {
  for (const char* key :
       {"use_dora", "use_qalora", "use_bdlora", "lora_bias", "layer_replication", "modules_to_save",
        "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "arrow_config",
        "megatron_config", "exclude_modules", "layers_to_transform", "kasa_config", "velora_config",
        "monteclora_config"}) {
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
  if (config.text("bias", "none") != "none") config.reject("bias", "\"none\"");
  if (config.text("peft_type", "LORA") != "LORA") config.reject("peft_type", "\"LORA\"");
}

AdapterConfig read_config(const fs::path& folder) {
  const JsonObject json = JsonObject::read(folder / kConfigName);
  refuse_unsupported(json);
  AdapterConfig config;
  config.where = json.where();
  config.options.rank = json.integer("r", 1, 65536);
  config.options.alpha = json.number("lora_alpha", 0, 1e9, 8);
  config.options.dropout = json.number("lora_dropout", 0, 0.999, 0);
  config.options.rslora = json.boolean("use_rslora", false);
  const Json* targets = json.find("target_modules");
  if (targets != nullptr && targets->is_string()) {
    config.target_pattern = *targets == "all-linear" ? ".*" : targets->get<std::string>();
  } else if (targets != nullptr && targets->is_array() && !targets->empty()) {
    for (const Json& entry : *targets) {
      if (!entry.is_string()) json.reject("target_modules", "a list of names");
      config.options.targets.push_back(entry.get<std::string>());
    }
  } else {
    json.reject("target_modules", "a list of names, a regular expression, or \"all-linear\"");
  }
  if (const auto ranks = json.optional_object("rank_pattern")) {
    for (const std::string& key : ranks->keys())
      config.ranks.emplace_back(key, ranks->integer(key, 1, 65536));
  }
  if (const auto alphas = json.optional_object("alpha_pattern")) {
    for (const std::string& key : alphas->keys())
      config.alphas.emplace_back(key, alphas->number(key, 0, 1e9));
  }
  return config;
}

// Other tools drop PEFT's prefix or keep the adapter's name ("default") before ".weight": both are
// accepted.
std::string plain_name(std::string name) {
  if (name.starts_with(kPeftPrefix)) name.erase(0, std::string(kPeftPrefix).size());
  constexpr const char* kDefault = ".default.weight";
  if (name.ends_with(kDefault))
    name.replace(name.size() - std::string(kDefault).size(), std::string::npos, ".weight");
  return name;
}

void load_adapter_weights(Model& model, const fs::path& path, bool trainable) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::string problems;
  const auto problem = [&](const std::string& text) {
    problems += (problems.empty() ? "" : "; ") + text;
  };
  std::map<std::string, const TensorEntry*> entries;
  for (const TensorEntry& entry : file.entries()) {
    const std::string name = plain_name(entry.name);
    if (!entries.emplace(name, &entry).second)
      problem(fmt::format("{} is there twice", printable(name)));
  }
  model.visit_parameters([&](const std::string& name, Parameter& parameter) {
    if (!parameter.adapter) return;
    const auto found = entries.find(name);
    if (found == entries.end()) return problem(fmt::format("{} is missing", name));
    const TensorEntry& entry = *found->second;
    entries.erase(found);
    if (!has_shape(entry, parameter.shape)) {
      return problem(
          fmt::format("{} is {}, expected {}", name, shape_text(entry), parameter.shape.text()));
    }
    if (!entry.dtype || !is_float(*entry.dtype)) {
      return problem(
          fmt::format("{} has dtype {}, expected F32, F16 or BF16", name, entry.dtype_name));
    }
    parameter.value = own_fp32(entry, parameter.shape);
    parameter.trainable = trainable;
    if (trainable) require_grad(parameter.value);
  });
  for (const auto& [name, entry] : entries)
    problem(fmt::format("{} is unexpected", printable(name)));
  if (!problems.empty())
    fail_input("{}: the adapter does not fit this model: {}", shown(path), problems);
}

}  // namespace

void attach_lora(Model& model, const LoraOptions& options, uint64_t seed) {
  freeze_base(model);
  std::set<std::string> unused(options.targets.begin(), options.targets.end());
  const bool all = unused.erase("all-linear") > 0;
  uint64_t index = 0;
  model.visit_linears([&](const std::string& path, Linear& linear) {
    bool wanted = all;
    for (const std::string& target : options.targets) {
      if (!names_module(path, target)) continue;
      wanted = true;
      unused.erase(target);
    }
    const uint64_t stream = index++;
    if (!wanted) return;
    give_adapter(linear, options.rank, scale_of(options.alpha, options.rank, options.rslora),
                 options.dropout);
    Parameter& a = linear.lora->a;
    a.value = Tensor::empty(a.shape, DType::kF32, MemoryKind::kWeights);
    const float bound = 1.0f / std::sqrt(static_cast<float>(linear.in()));
    const RandomStream random{.seed = seed,
                              .purpose = static_cast<uint32_t>(Purpose::kAdapterInit)};
    for (int64_t i = 0; i < a.value.numel(); ++i) {
      const uint32_t word = philox_word(random, (stream << 32) + static_cast<uint64_t>(i));
      a.value.data<float>()[i] = bound * (2 * uniform_from(word) - 1);
    }
    Parameter& b = linear.lora->b;
    b.value = Tensor::zeros(b.shape, DType::kF32, MemoryKind::kWeights);
    require_grad(a.value);
    require_grad(b.value);
  });
  if (!unused.empty()) {
    fail_input("--targets: no linear layer is named \"{}\" (this model has {})",
               printable(*unused.begin()), known_targets(model));
  }
  if (index == 0 || options.targets.empty())
    fail_input("--targets: expected at least one of {}", known_targets(model));
}

LoraOptions read_adapter(Model& model, const fs::path& folder, bool trainable) {
  AdapterConfig config = read_config(folder);
  freeze_base(model);
  std::vector<std::string> matched;
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (!config.targets(path)) return;
    const int64_t rank = config.value_for(path, config.ranks, config.options.rank);
    const double alpha = config.value_for(path, config.alphas, config.options.alpha);
    give_adapter(linear, rank, scale_of(alpha, rank, config.options.rslora),
                 config.options.dropout);
    matched.push_back(path);
  });
  if (matched.empty()) {
    fail_input("{}: field \"target_modules\": matches no linear layer of this model (it has {})",
               config.where, known_targets(model));
  }
  load_adapter_weights(model, folder / kWeightsName, trainable);
  if (!config.target_pattern.empty()) config.options.targets = matched;
  return config.options;
}

void write_adapter(Model& model, const fs::path& folder, const LoraOptions& options,
                   const std::string& base) {
  fs::create_directories(folder);
  std::vector<Tensor> values;  // keeps the bytes alive until they are written
  std::vector<TensorToWrite> tensors;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.adapter) return;
    values.push_back(parameter.value.to(Device::kCPU));
    tensors.push_back({kPeftPrefix + path,
                       DType::kF32,
                       {parameter.shape[0], parameter.shape[1]},
                       values.back().raw()});
  });
  write_safetensors(folder / kWeightsName, tensors);
  std::vector<std::string> targets = options.targets;
  if (std::find(targets.begin(), targets.end(), "all-linear") != targets.end())
    targets = linear_names(model);
  // Where a module's rank or scale is its own, the general ones do not say it.
  nlohmann::ordered_json ranks = nlohmann::ordered_json::object(),
                         alphas = nlohmann::ordered_json::object();
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (!linear.lora) return;
    const int64_t rank = linear.lora->a.shape[0];
    if (rank != options.rank) ranks[path] = rank;
    if (linear.lora->scale == static_cast<float>(scale_of(options.alpha, rank, options.rslora)))
      return;
    alphas[path] =
        alpha_json(static_cast<double>(linear.lora->scale) / scale_of(1, rank, options.rslora));
  });
  const nlohmann::ordered_json config = {{"peft_type", "LORA"},
                                         {"task_type", "CAUSAL_LM"},
                                         {"base_model_name_or_path", base},
                                         {"revision", nullptr},
                                         {"inference_mode", true},
                                         {"r", options.rank},
                                         {"lora_alpha", alpha_json(options.alpha)},
                                         {"lora_dropout", options.dropout},
                                         {"target_modules", targets},
                                         {"fan_in_fan_out", model.fan_in_fan_out()},
                                         {"bias", "none"},
                                         {"modules_to_save", nullptr},
                                         {"init_lora_weights", true},
                                         {"layers_to_transform", nullptr},
                                         {"layers_pattern", nullptr},
                                         {"rank_pattern", ranks},
                                         {"alpha_pattern", alphas},
                                         {"use_rslora", options.rslora},
                                         {"use_dora", false}};
  write_text_atomic(folder / kConfigName, config.dump(2) + "\n");
}

}  // namespace tenon
