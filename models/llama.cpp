// SPDX-License-Identifier: Apache-2.0
// Llama (Touvron et al. 2023, arXiv:2302.13971) and what is built like it (TinyLlama, OpenLLaMA,
// SmolLM2, Mistral), arithmetic and names as in transformers' LlamaForCausalLM: RMS norms before
// each half of a block, rotary positions, grouped queries, a gated MLP, the head tied or its own.
#include <cmath>
#include <vector>

#include "core/error.h"
#include "models/families.h"
#include "models/family_parts.h"
#include "models/rope.h"

namespace tenon {
namespace {

struct LlamaConfig {
  const char* family;
  int64_t vocabulary, positions, channels, layers, heads, kv_heads, head_size, inner;
  Activation activation;
  float eps;
  bool attention_bias, mlp_bias, tied;
  float attention_dropout;
  double init_std;
  int32_t padding;
};

// Where the two members of the family differ in what an absent field means.
struct Defaults {
  const char* family;
  int64_t inner, positions;
  int64_t kv_heads;  // 0: as many as heads
};

LlamaConfig read_config(const JsonObject& json, const Defaults& defaults) {
  constexpr int64_t kMost = int64_t{1} << 24;
  LlamaConfig c{};
  c.family = defaults.family;
  c.vocabulary = json.integer("vocab_size", 1, kMost, 32000);
  c.positions = json.integer("max_position_embeddings", 1, int64_t{1} << 31, defaults.positions);
  c.channels = json.integer("hidden_size", 1, int64_t{1} << 20, 4096);
  c.layers = json.integer("num_hidden_layers", 1, 65536, 32);
  c.heads = json.integer("num_attention_heads", 1, 65536, 32);
  const int64_t kv_heads =
      !json.has("num_key_value_heads") && defaults.kv_heads > 0 ? defaults.kv_heads : c.heads;
  c.kv_heads = json.optional_integer("num_key_value_heads", 1, 65536).value_or(kv_heads);
  const std::optional<int64_t> head_size = json.optional_integer("head_dim", 1, 65536);
  c.head_size = head_size.value_or(c.channels / c.heads);
  c.inner = json.integer("intermediate_size", 1, kMost, defaults.inner);
  c.activation = activation_of(json, "hidden_act", "silu");
  c.eps = static_cast<float>(json.number("rms_norm_eps", 1e-30, 1, 1e-6));
  c.tied = json.boolean("tie_word_embeddings", false);
  c.attention_dropout = static_cast<float>(json.number("attention_dropout", 0, 0.999, 0));
  c.init_std = json.number("initializer_range", 0, 10, 0.02);
  c.padding = padding_of(json, c.vocabulary);
  if (!head_size && c.channels % c.heads != 0)
    json.reject("hidden_size", fmt::format("a multiple of num_attention_heads = {}", c.heads));
  if (c.heads % c.kv_heads != 0)
    json.reject("num_key_value_heads", fmt::format("a divisor of {} heads", c.heads));
  return c;
}

// Dropout sites of a block.
enum Site : uint32_t { kAttention, kLoraQ, kLoraK, kLoraV, kLoraO, kLoraGate, kLoraUp, kLoraDown };

struct Attention {
  Linear q_proj, k_proj, v_proj, o_proj;
  void visit(auto&& f) {
    f("q_proj", q_proj);
    f("k_proj", k_proj);
    f("v_proj", v_proj);
    f("o_proj", o_proj);
  }
};

struct Mlp {
  Linear gate_proj, up_proj, down_proj;
  void visit(auto&& f) {
    f("gate_proj", gate_proj);
    f("up_proj", up_proj);
    f("down_proj", down_proj);
  }
};

struct Block {
  Attention self_attn;
  Mlp mlp;
  RmsNorm input_layernorm, post_attention_layernorm;

  explicit Block(const LlamaConfig& c)
      : input_layernorm(c.channels, c.eps), post_attention_layernorm(c.channels, c.eps) {
    const int64_t q = c.heads * c.head_size, kv = c.kv_heads * c.head_size;
    const auto linear = [](int64_t in, int64_t out, bool bias) {
      return Linear(in, out, WeightLayout::kOutIn, bias);
    };
    self_attn = {linear(c.channels, q, c.attention_bias), linear(c.channels, kv, c.attention_bias),
                 linear(c.channels, kv, c.attention_bias), linear(q, c.channels, c.attention_bias)};
    mlp = {linear(c.channels, c.inner, c.mlp_bias), linear(c.channels, c.inner, c.mlp_bias),
           linear(c.inner, c.channels, c.mlp_bias)};
  }
  void visit(auto&& f) {
    f("self_attn", self_attn);
    f("mlp", mlp);
    f("input_layernorm", input_layernorm);
    f("post_attention_layernorm", post_attention_layernorm);
  }
};

struct Decoder {
  Parameter embed_tokens;
  std::vector<Block> layers;
  RmsNorm norm;

  void visit(auto&& f) {
    f("embed_tokens.weight", embed_tokens);
    for (size_t i = 0; i < layers.size(); ++i) f("layers." + std::to_string(i), layers[i]);
    f("norm", norm);
  }
};

class Llama final : public Model {
 public:
  Llama(const LlamaConfig& c, Rope rope, int64_t window)
      : config_(c), rope_(std::move(rope)), window_(window) {
    decoder_.embed_tokens.shape = {c.vocabulary, c.channels};
    for (int64_t i = 0; i < c.layers; ++i) decoder_.layers.emplace_back(c);
    decoder_.norm = RmsNorm(c.channels, c.eps);
    if (!c.tied) lm_head_ = Parameter{.shape = {c.vocabulary, c.channels}};
  }

  const char* family() const override { return config_.family; }
  int64_t blocks() const override { return config_.layers; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override { return std::min(rope_.max_positions(), window_); }
  std::string positions_text() const override {
    if (window_ >= rope_.max_positions()) return Model::positions_text();
    return fmt::format(
        "{0} positions (config.json: \"sliding_window\" is {0}, and longer texts are not computed)",
        window_);
  }
  int64_t cache_channels() const override { return config_.kv_heads * config_.head_size; }

  Tensor embed(const Context& context) const override {
    return embedding(context.ids, {}, decoder_.embed_tokens.value, {}, context.dtype,
                     {.padding = config_.padding});
  }

  Tensor block(int64_t i, const Tensor& x, const Context& context) const override {
    const Block& b = decoder_.layers[static_cast<size_t>(i)];
    const Tensor y = attended(i, b.self_attn, b.input_layernorm(x), context);
    const auto [middle, normed] = b.post_attention_layernorm.add(x, y);
    return residual_add(middle, gated(i, b.mlp, normed, context), {});
  }

  Tensor finish(const Tensor& x, const Context&) const override { return decoder_.norm(x); }
  const Parameter& head() const override { return lm_head_ ? *lm_head_ : decoder_.embed_tokens; }
  void untie_head() override {
    if (!lm_head_) lm_head_ = decoder_.embed_tokens;
  }

  void visit_parameters(const ParameterVisitor& f) override {
    for_each_parameter(decoder_, "model", f);
    if (lm_head_) f(kHeadWeight, *lm_head_);
  }
  void visit_linears(const LinearVisitor& f) override { for_each_linear(decoder_, "model", f); }

  double init_std(const std::string&) const override { return config_.init_std; }
  const char* optional_prefix() const override { return "model."; }
  std::vector<std::string> default_targets() const override { return {"q_proj", "v_proj"}; }
  bool fan_in_fan_out() const override { return false; }

 private:
  Tensor attended(int64_t i, const Attention& attn, const Tensor& x, const Context& context) const {
    Tensor qkv = linears(x, {attn.q_proj.part(adapter_dropout(context, i, kLoraQ, attn.q_proj)),
                             attn.k_proj.part(adapter_dropout(context, i, kLoraK, attn.k_proj)),
                             attn.v_proj.part(adapter_dropout(context, i, kLoraV, attn.v_proj))});
    const RopeTables tables = rope_.tables(longest(context), x.device());
    qkv = rotary(std::move(qkv), {.cosines = tables.cosines,
                                  .sines = tables.sines,
                                  .positions = context.positions,
                                  .heads = config_.heads + config_.kv_heads,
                                  .head_size = config_.head_size});  // (B, T, (H + 2G) D)
    const AttentionOptions options{
        .heads = config_.heads,
        .kv_heads = config_.kv_heads,
        .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_size)),
        .dropout = model_dropout(context, i, kAttention, config_.attention_dropout, 0)};
    return attn.o_proj(attend(qkv, options, context, i),
                       adapter_dropout(context, i, kLoraO, attn.o_proj));
  }

  Tensor gated(int64_t i, const Mlp& mlp, const Tensor& x, const Context& context) const {
    const Tensor gate_up =
        linears(x, {mlp.gate_proj.part(adapter_dropout(context, i, kLoraGate, mlp.gate_proj)),
                    mlp.up_proj.part(adapter_dropout(context, i, kLoraUp, mlp.up_proj))});
    return mlp.down_proj(gated_activation(gate_up, config_.activation),
                         adapter_dropout(context, i, kLoraDown, mlp.down_proj));
  }

  LlamaConfig config_;
  Rope rope_;
  int64_t window_;  // how far back a position may look
  Decoder decoder_;
  std::optional<Parameter> lm_head_;
};

std::unique_ptr<Model> build(const JsonObject& json, const LlamaConfig& config, int64_t window) {
  Rope rope(json, config.head_size, config.positions);
  return std::make_unique<Llama>(config, std::move(rope), window);
}

}  // namespace

std::unique_ptr<Model> build_llama(const JsonObject& json) {
  LlamaConfig config =
      read_config(json, {.family = "llama", .inner = 11008, .positions = 2048, .kv_heads = 0});
  config.attention_bias = json.boolean("attention_bias", false);
  config.mlp_bias = json.boolean("mlp_bias", false);
  return build(json, config, INT64_MAX);
}

// Up to the length of its sliding window a Mistral computes what a Llama does: longer sequences are
// refused.
std::unique_ptr<Model> build_mistral(const JsonObject& json) {
  const LlamaConfig config =
      read_config(json, {.family = "mistral", .inner = 14336, .positions = 131072, .kv_heads = 8});
  constexpr int64_t kWindowOfOldFiles = 4096;  // where the field is absent; null is no window
  const int64_t window =
      json.has("sliding_window")
          ? json.optional_integer("sliding_window", 1, INT64_MAX).value_or(INT64_MAX)
          : kWindowOfOldFiles;
  return build(json, config, window);
}

}  // namespace tenon
