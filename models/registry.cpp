// SPDX-License-Identifier: Apache-2.0
// The families by config.json's model_type: a new family is one row.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "models/families.h"
#include "models/family_parts.h"

namespace tenon {
namespace {

struct Family {
  const char* model_type;
  const char* architecture;  // accepted where model_type is absent
  std::unique_ptr<Model> (*build)(const JsonObject&);
};

constexpr Family kFamilies[] = {
    {"gpt2", "GPT2LMHeadModel", build_gpt2},
    {"opt", "OPTForCausalLM", build_opt},
    {"llama", "LlamaForCausalLM", build_llama},
    {"mistral", "MistralForCausalLM", build_mistral},
};

std::string supported() {
  std::string names;
  for (const Family& family : kFamilies)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", family.model_type);
  return names;
}

std::string type_of(const JsonObject& config) {
  if (config.has("model_type")) return config.text("model_type");
  if (const Json* list = config.find("architectures");
      list != nullptr && list->is_array() && !list->empty()) {
    for (const Family& family : kFamilies) {
      if (list->front() == family.architecture) return family.model_type;
    }
  }
  config.reject("model_type", "one of " + supported());
}

// What is stored how is read off the weights' own tensors (quantized_files.h).
void check_quantization(const JsonObject& config) {
  if (!stated_object(config, "quantization_config")) return;
  const JsonObject stated = config.object("quantization_config");
  stated.choice("quant_method", {"bitsandbytes"});
  const bool int8 = stated.boolean("load_in_8bit", false);
  if (!stated.boolean("load_in_4bit", false) && !int8) {
    stated.reject("load_in_4bit", "true, or load_in_8bit (those quantized checkpoints are read)");
  }
  if (int8 && stated.number("llm_int8_threshold", 0, 1e9, kOutlier) != kOutlier)
    stated.reject("llm_int8_threshold", "6.0, which activations are computed by here");
}

}  // namespace

std::unique_ptr<Model> build_model(const Json& config, const std::string& where) {
  const JsonObject object(config, where);
  const std::string type = type_of(object);
  check_quantization(object);
  for (const Family& family : kFamilies) {
    if (type == family.model_type) return family.build(object);
  }
  object.reject("model_type", "one of " + supported());
}

std::unique_ptr<Model> build_model(const std::string& folder) {
  const std::filesystem::path path = std::filesystem::path(folder) / "config.json";
  return build_model(parse_json_file(path), shown(path));
}

}  // namespace tenon
