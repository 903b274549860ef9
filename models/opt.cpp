// SPDX-License-Identifier: Apache-2.0
// OPT (Zhang et al. 2022, arXiv:2205.01068), arithmetic and names as in transformers'
// OPTForCausalLM: learned positions two rows late, norms before each half of a block or (opt-350m)
// after it, and where word_embed_proj_dim differs from hidden_size a projection on the way in and
// out. The last norm is absent with norms behind or with _remove_final_layer_norm.
#include <cmath>
#include <vector>

#include "core/error.h"
#include "models/families.h"
#include "models/family_parts.h"

namespace tenon {
namespace {

// Where position 0 lies in the table of positions.
constexpr int64_t kFirstPosition = 2;

struct OptConfig {
  int64_t vocabulary, positions, channels, layers, heads, inner, embedded;
  Activation activation;
  bool norm_before, last_norm, biases, tied;
  float dropout, attention_dropout;
  double init_std;
  int32_t padding;
};

OptConfig read_config(const JsonObject& json) {
  constexpr int64_t kMost = int64_t{1} << 24;
  OptConfig c{};
  c.vocabulary = json.integer("vocab_size", 1, kMost, 50272);
  c.positions = json.integer("max_position_embeddings", 1, kMost, 2048);
  c.channels = json.integer("hidden_size", 1, int64_t{1} << 20, 768);
  c.layers = json.integer("num_hidden_layers", 1, 65536, 12);
  c.heads = json.integer("num_attention_heads", 1, 65536, 12);
  c.inner = json.integer("ffn_dim", 1, kMost, 3072);
  c.embedded =
      json.optional_integer("word_embed_proj_dim", 1, int64_t{1} << 20).value_or(c.channels);
  c.activation = activation_of(json, "activation_function", "relu");
  c.norm_before = json.boolean("do_layer_norm_before", true);
  c.last_norm = c.norm_before && !json.boolean("_remove_final_layer_norm", false);
  c.biases = json.boolean("enable_bias", true);
  c.tied = json.boolean("tie_word_embeddings", true);
  c.dropout = static_cast<float>(json.number("dropout", 0, 0.999, 0.1));
  c.attention_dropout = static_cast<float>(json.number("attention_dropout", 0, 0.999, 0));
  c.init_std = json.number("init_std", 0, 10, 0.02);
  c.padding = json.has("pad_token_id") ? padding_of(json, c.vocabulary) : 1;
  if (c.channels % c.heads != 0)
    json.reject("hidden_size", fmt::format("a multiple of num_attention_heads = {}", c.heads));
  if (!json.boolean("layer_norm_elementwise_affine", true))
    json.reject("layer_norm_elementwise_affine", "true");
  if (json.number("layerdrop", 0, 1, 0) != 0)
    json.reject("layerdrop", "0 (layers are not dropped at random)");
  return c;
}

// Dropout sites of a block; those of the adapters follow.
enum Site : uint32_t {
  kAttention,
  kAttentionOut,
  kMlpOut,
  kLoraQ,
  kLoraK,
  kLoraV,
  kLoraOut,
  kLoraFc1,
  kLoraFc2,
  kLoraProject  // of the projections, which count as the block after the last
};

struct Attention {
  Linear k_proj, v_proj, q_proj, out_proj;
  void visit(auto&& f) {
    f("k_proj", k_proj);
    f("v_proj", v_proj);
    f("q_proj", q_proj);
    f("out_proj", out_proj);
  }
};

struct Block {
  Attention self_attn;
  LayerNorm self_attn_layer_norm;
  Linear fc1, fc2;
  LayerNorm final_layer_norm;

  explicit Block(const OptConfig& c)
      : self_attn_layer_norm(c.channels, 1e-5f),
        fc1(c.channels, c.inner, WeightLayout::kOutIn, c.biases),
        fc2(c.inner, c.channels, WeightLayout::kOutIn, c.biases),
        final_layer_norm(c.channels, 1e-5f) {
    for (Linear* each :
         {&self_attn.k_proj, &self_attn.v_proj, &self_attn.q_proj, &self_attn.out_proj})
      *each = Linear(c.channels, c.channels, WeightLayout::kOutIn, c.biases);
  }
  void visit(auto&& f) {
    f("self_attn", self_attn);
    f("self_attn_layer_norm", self_attn_layer_norm);
    f("fc1", fc1);
    f("fc2", fc2);
    f("final_layer_norm", final_layer_norm);
  }
};

struct Decoder {
  Parameter embed_tokens, embed_positions;
  std::optional<Linear> project_out, project_in;
  std::optional<LayerNorm> final_layer_norm;
  std::vector<Block> layers;

  void visit(auto&& f) {
    f("embed_tokens.weight", embed_tokens);
    f("embed_positions.weight", embed_positions);
    if (project_out) f("project_out", *project_out);
    if (project_in) f("project_in", *project_in);
    if (final_layer_norm) f("final_layer_norm", *final_layer_norm);
    for (size_t i = 0; i < layers.size(); ++i) f("layers." + std::to_string(i), layers[i]);
  }
};

class Opt final : public Model {
 public:
  explicit Opt(const OptConfig& c) : config_(c) {
    decoder_.embed_tokens.shape = {c.vocabulary, c.embedded};
    decoder_.embed_positions.shape = {c.positions + kFirstPosition, c.channels};
    if (c.embedded != c.channels) {
      decoder_.project_out = Linear(c.channels, c.embedded, WeightLayout::kOutIn, false);
      decoder_.project_in = Linear(c.embedded, c.channels, WeightLayout::kOutIn, false);
    }
    if (c.last_norm) decoder_.final_layer_norm = LayerNorm(c.channels, 1e-5f);
    for (int64_t i = 0; i < c.layers; ++i) decoder_.layers.emplace_back(c);
    if (!c.tied) lm_head_ = Parameter{.shape = {c.vocabulary, c.embedded}};
  }

  const char* family() const override { return "opt"; }
  int64_t blocks() const override { return config_.layers; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override { return config_.positions; }
  int64_t cache_channels() const override { return config_.channels; }

  Tensor embed(const Context& context) const override {
    const Tensor &tokens = decoder_.embed_tokens.value, &places = decoder_.embed_positions.value;
    if (!decoder_.project_in) {
      return embedding(context.ids, context.positions, tokens, places, context.dtype,
                       {.first_position = kFirstPosition, .padding = config_.padding});
    }
    const Linear& project = *decoder_.project_in;
    const Tensor x =
        embedding(context.ids, {}, tokens, {}, context.dtype, {.padding = config_.padding});
    return residual_add(embedding(context.positions, {}, places, {}, context.dtype,
                                  {.first_token = kFirstPosition}),
                        project(x, adapter_dropout(context, config_.layers, kLoraProject, project)),
                        {});
  }

  Tensor block(int64_t i, const Tensor& x, const Context& context) const override {
    const Block& b = decoder_.layers[static_cast<size_t>(i)];
    return config_.norm_before ? norms_before(i, b, x, context) : norms_behind(i, b, x, context);
  }

  Tensor finish(const Tensor& x, const Context& context) const override {
    const Tensor normed = decoder_.final_layer_norm ? (*decoder_.final_layer_norm)(x) : x;
    if (!decoder_.project_out) return normed;
    const Linear& project = *decoder_.project_out;
    return project(normed, adapter_dropout(context, config_.layers, kLoraProject + 1, project));
  }
  const Parameter& head() const override { return lm_head_ ? *lm_head_ : decoder_.embed_tokens; }
  void untie_head() override {
    if (!lm_head_) lm_head_ = decoder_.embed_tokens;
  }

  void visit_parameters(const ParameterVisitor& f) override {
    for_each_parameter(decoder_, "model.decoder", f);
    if (lm_head_) f(kHeadWeight, *lm_head_);
  }
  void visit_linears(const LinearVisitor& f) override {
    for_each_linear(decoder_, "model.decoder", f);
  }

  double init_std(const std::string&) const override { return config_.init_std; }
  const char* optional_prefix() const override { return "model."; }
  std::vector<std::string> default_targets() const override { return {"q_proj", "v_proj"}; }
  bool fan_in_fan_out() const override { return false; }

 private:
  Tensor norms_before(int64_t i, const Block& b, const Tensor& x, const Context& context) const {
    const Tensor y = attended(i, b.self_attn, b.self_attn_layer_norm(x), context);
    const auto [middle, normed] = b.final_layer_norm.add(x, y);
    return residual_add(middle, mlp(i, b, normed, context), mlp_dropout(i, context));
  }

  Tensor norms_behind(int64_t i, const Block& b, const Tensor& x, const Context& context) const {
    const Tensor y = attended(i, b.self_attn, x, context);
    const Tensor middle = b.self_attn_layer_norm.add(x, y).second;
    const Tensor out = dropout(mlp(i, b, middle, context), mlp_dropout(i, context));
    return b.final_layer_norm.add(middle, out).second;
  }

  Tensor attended(int64_t i, const Attention& attn, const Tensor& x, const Context& context) const {
    const Tensor qkv = linears(
        x, {attn.q_proj.part(adapter_dropout(context, i, kLoraQ, attn.q_proj)),
            attn.k_proj.part(adapter_dropout(context, i, kLoraK, attn.k_proj)),
            attn.v_proj.part(adapter_dropout(context, i, kLoraV, attn.v_proj))});  // (B, T, 3C)
    const AttentionOptions options{
        .heads = config_.heads,
        .kv_heads = config_.heads,
        .scale = 1.0f / std::sqrt(static_cast<float>(config_.channels / config_.heads)),
        .dropout = model_dropout(context, i, kAttention, config_.attention_dropout, 0)};
    const Tensor y = attn.out_proj(attend(qkv, options, context, i),
                                   adapter_dropout(context, i, kLoraOut, attn.out_proj));
    return dropout(y, model_dropout(context, i, kAttentionOut, config_.dropout, config_.channels));
  }

  Tensor mlp(int64_t i, const Block& b, const Tensor& x, const Context& context) const {
    const Activated inner =
        b.fc1.activated(x, config_.activation, adapter_dropout(context, i, kLoraFc1, b.fc1));
    return b.fc2(inner, adapter_dropout(context, i, kLoraFc2, b.fc2));
  }
  Dropout mlp_dropout(int64_t i, const Context& context) const {
    return model_dropout(context, i, kMlpOut, config_.dropout, config_.channels);
  }

  OptConfig config_;
  Decoder decoder_;
  std::optional<Parameter> lm_head_;
};

}  // namespace

std::unique_ptr<Model> build_opt(const JsonObject& config) {
  return std::make_unique<Opt>(read_config(config));
}

}  // namespace tenon
