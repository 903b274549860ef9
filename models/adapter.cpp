// SPDX-License-Identifier: Apache-2.0
#include "models/adapter.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/for_pieces.h"
#include "models/adapter_config.h"
#include "models/adapter_files.h"
#include "models/adapter_rules.h"
#include "models/dora.h"
#include "models/weights.h"

namespace tenon {
namespace {

void give_factors(Linear& linear, int64_t rank, double scale, const LoraOptions& options) {
  Lora lora;
  lora.a = {.shape = {rank, linear.in()}, .adapter = true};
  lora.b = {.shape = {linear.out(), rank}, .adapter = true};
  if (options.lora_bias)
    lora.bias = Parameter{.shape = {linear.out()}, .vector = true, .adapter = true};
  if (options.dora) {
    lora.dora.emplace();
    lora.dora->magnitude = {.shape = {linear.out()}, .vector = true, .adapter = true};
  }
  lora.scale = static_cast<float>(scale);
  lora.dropout = static_cast<float>(options.dropout);
  linear.lora = std::move(lora);
}

// PEFT looks for what its ensure_weight_tying keeps tied by these names alone: GPT-2's wte is none.
bool keeps_tied(const LoraOptions& options) {
  const auto is_known = [](const std::string& name) {
    return names_module(name, "embed_tokens") || names_module(name, kHeadModule);
  };
  const std::vector<std::string>& names = options.modules_to_save;
  return options.tie_saved && std::any_of(names.begin(), names.end(), is_known);
}

// The adapter's parameters without values, everything frozen, and the base parameters marked that
// are trained with it.
void shape_adapter(Model& model, const LoraOptions& options, const AdapterRules& rules) {
  rules.check(model);
  const std::string tied = tied_path(model);
  const bool saves_tied = !tied.empty() && (rules.saves(tied) || rules.saves(kHeadWeight));
  // PEFT trains a module that is tied to another apart from it, so that the two are no longer one.
  const bool keeps = keeps_tied(options);
  if (saves_tied && !keeps) model.untie_head();
  std::set<std::string> biases;
  model.visit_linears([&](const std::string& path, Linear& linear) {
    linear.lora.reset();
    if (!rules.adapts(path)) return;
    give_factors(linear, rules.rank(path), rules.scale(path), options);
    if (options.bias == "lora_only") biases.insert(path + ".bias");
  });
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    parameter.trainable = false;
    parameter.carried = {};
    if (parameter.adapter) return;
    const bool bias = options.bias == "all" && path.ends_with(".bias");
    const bool both = saves_tied && keeps && path == tied;
    parameter.saved = bias || biases.contains(path) || rules.saves(path) || both;
  });
}

// Own fp32 copies of what is marked: the base may lie in a mapped file.
void copy_saved(Model& model) {
  model.visit_parameters([](const std::string& path, Parameter& parameter) {
    if (!parameter.saved) return;
    if (parameter.quantized.defined())
      fail_input("modules_to_save: {} is in {}, and cannot be trained as a whole", path,
                 parameter.quantized.kind());
    const Tensor& value = parameter.value;
    parameter.value = value.dtype() == DType::kF32 ? value.clone(MemoryKind::kWeights)
                                                   : cast(value, DType::kF32, MemoryKind::kWeights);
  });
}

void draw_factors(Lora& lora, uint64_t seed, uint64_t stream) {
  lora.a.value = Tensor::empty(lora.a.shape, DType::kF32, MemoryKind::kWeights);
  const float bound = 1.0f / std::sqrt(static_cast<float>(lora.a.shape[1]));
  const RandomStream random{.seed = seed, .purpose = static_cast<uint32_t>(Purpose::kAdapterInit)};
  float* const a = lora.a.value.data<float>();
  for_pieces(lora.a.value.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t word = philox_word(random, (stream << 32) + static_cast<uint64_t>(i));
      a[i] = bound * (2 * uniform_from(word) - 1);
    }
  });
  lora.b.value = Tensor::zeros(lora.b.shape, DType::kF32, MemoryKind::kWeights);
  if (lora.bias)
    lora.bias->value = Tensor::zeros(lora.bias->shape, DType::kF32, MemoryKind::kWeights);
}

void train_adapter(Model& model) {
  model.visit_parameters([](const std::string&, Parameter& parameter) {
    if (!parameter.adapter && !parameter.saved) return;
    parameter.trainable = true;
    require_grad(parameter.value);
  });
}

}  // namespace

void attach_lora(Model& model, const LoraOptions& options, uint64_t seed) {
  shape_adapter(model, options, AdapterRules(options));
  copy_saved(model);
  uint64_t index = 0;  // of every linear: a module's A does not depend on the other targets
  model.visit_linears([&](const std::string&, Linear& linear) {
    const uint64_t stream = index++;
    if (!linear.lora) return;
    draw_factors(*linear.lora, seed, stream);
    if (!linear.lora->dora) return;
    update_norms(linear);
    Dora& dora = *linear.lora->dora;
    dora.magnitude.value = dora.norms.clone(MemoryKind::kWeights);
  });
  train_adapter(model);
}

LoraOptions read_adapter(Model& model, const std::filesystem::path& folder, bool trainable) {
  const AdapterConfig config = read_adapter_config(folder);
  AdapterFile file = AdapterFile::open(folder);
  const std::string tied = tied_path(model);
  shape_adapter(model, config.options, AdapterRules(config.options, config.where, file.ranks()));
  file.settle_tied(model, tied);
  file.load(model);
  if (trainable) train_adapter(model);
  update_norms(model);
  return config.options;
}

void write_adapter(Model& model, const std::filesystem::path& folder, const LoraOptions& options,
                   const std::string& base) {
  files::make_folders(folder);
  write_adapter_weights(model, folder);
  write_adapter_config(model, folder, options, base);
}

}  // namespace tenon
