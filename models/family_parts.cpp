// SPDX-License-Identifier: Apache-2.0
#include "models/family_parts.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace tenon {

std::optional<JsonObject> stated_object(const JsonObject& config, const std::string& key) {
  std::optional<JsonObject> object = config.optional_object(key);
  if (object && object->json().empty()) return std::nullopt;
  return object;
}

Activation activation_of(const JsonObject& config, const std::string& key,
                         const std::string& fallback) {
  static const std::pair<const char*, Activation> kNames[] = {
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh},
      {"gelu", Activation::kGeluErf},
      {"quick_gelu", Activation::kQuickGelu},
      {"relu", Activation::kRelu},
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
      {"tanh", Activation::kTanh}};
  const std::string name = config.text(key, fallback);
  std::string known;
  for (const auto& [each, kind] : kNames) {
    if (name == each) return kind;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", each);
  }
  config.reject(key, "one of " + known);
}

int32_t padding_of(const JsonObject& config, int64_t vocabulary) {
  // Negative ids count from the end in torch; some files write -1 for "none", which they are not.
  const std::optional<int64_t> id =
      config.optional_integer("pad_token_id", -vocabulary, vocabulary - 1);
  if (!id) return -1;
  return static_cast<int32_t>(*id < 0 ? *id + vocabulary : *id);
}

Dropout dropout_at(const Context& context, int64_t block, uint32_t site, float p,
                   int64_t channels) {
  if (!context.training || p == 0) return {};
  const auto purpose =
      static_cast<uint32_t>(Purpose::kDropout) + 16 * static_cast<uint32_t>(block) + site;
  const int64_t sequence = channels == 0 ? 1 : context.ids.dim(1) * channels;
  return {.p = p,
          .random = {.seed = context.seed, .purpose = purpose, .step = context.step},
          .position0 = context.sequence0 * static_cast<uint64_t>(sequence)};
}

Tensor attend(const Tensor& qkv, AttentionOptions options, const Context& context, int64_t block) {
  options.doc_start = context.doc_start;
  if (context.cache == nullptr) return attention(qkv, options);
  return attention_cached(qkv, context.cache->block(block), options);
}

}  // namespace tenon
