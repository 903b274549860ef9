// SPDX-License-Identifier: Apache-2.0
// What the files of the model families have in common: fields of config.json that they share, where
// dropouts draw from, and attention with or without a cache.
#pragma once

#include "core/json.h"
#include "models/model.h"

namespace tenon {

// The object in field `key` where it says something: an empty one is as good as none.
std::optional<JsonObject> stated_object(const JsonObject& config, const std::string& key);

// The activation that field `key` names as transformers does. Throws Error(kInput) for others.
Activation activation_of(const JsonObject& config, const std::string& key,
                         const std::string& fallback);

// The id of the padding token whose embedding row gets no gradient (torch's padding_idx); -1: none.
int32_t padding_of(const JsonObject& config, int64_t vocabulary);

// Where a dropout of block i draws from: a stream of its own for each site (below 16), from the
// first element of the batch's first sequence on. channels is the width of what is dropped; 0 for
// attention, whose elements are counted by sequence.
Dropout dropout_at(const Context& context, int64_t block, uint32_t site, float p, int64_t channels);

// The checkpoint's own dropouts, and those of adapters.
inline Dropout model_dropout(const Context& context, int64_t block, uint32_t site, float p,
                             int64_t channels) {
  return dropout_at(context, block, site, context.model_dropout ? p : 0, channels);
}
inline Dropout adapter_dropout(const Context& context, int64_t block, uint32_t site,
                               const Linear& linear) {
  return dropout_at(context, block, site, linear.lora ? linear.lora->dropout : 0, linear.in());
}

// The attention of block i: of qkv (B, T, (H + 2G) D) alone, or over the context's cache as well.
// What the context says of documents goes into `options`.
Tensor attend(const Tensor& qkv, AttentionOptions options, const Context& context, int64_t block);

}  // namespace tenon
