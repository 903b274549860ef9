// SPDX-License-Identifier: Apache-2.0
// GPT-2 and DistilGPT-2 (Radford et al. 2019), arithmetic and names as in transformers'
// GPT2LMHeadModel: pre-norm blocks, learned positions, Conv1D weights (in, out), the head tied to
// the token embedding unless the config says otherwise.
#include <cmath>
#include <vector>

#include "core/error.h"
#include "models/families.h"
#include "models/family_parts.h"

namespace tenon {
namespace {

struct Gpt2Config {
  int64_t vocabulary, positions, channels, layers, heads, inner;
  Activation activation;
  float eps;
  bool scale_attention, scale_by_layer, tied;
  float residual_dropout, embedding_dropout, attention_dropout;
  double init_std;
};

Gpt2Config read_config(const JsonObject& json) {
  constexpr int64_t kMost = int64_t{1} << 24;
  Gpt2Config c{};
  c.vocabulary = json.integer("vocab_size", 1, kMost);
  c.positions = json.integer(json.has("n_positions") ? "n_positions" : "n_ctx", 1, kMost);
  c.channels = json.integer("n_embd", 1, int64_t{1} << 20);
  c.layers = json.integer("n_layer", 1, 65536);
  c.heads = json.integer("n_head", 1, 65536);
  c.inner = json.optional_integer("n_inner", 1, kMost).value_or(4 * c.channels);
  c.activation = activation_of(json, "activation_function", "gelu_new");
  c.eps = static_cast<float>(json.number("layer_norm_epsilon", 1e-30, 1, 1e-5));
  c.scale_attention = json.boolean("scale_attn_weights", true);
  c.scale_by_layer = json.boolean("scale_attn_by_inverse_layer_idx", false);
  c.tied = json.boolean("tie_word_embeddings", true);
  c.residual_dropout = static_cast<float>(json.number("resid_pdrop", 0, 0.999, 0.1));
  c.embedding_dropout = static_cast<float>(json.number("embd_pdrop", 0, 0.999, 0.1));
  c.attention_dropout = static_cast<float>(json.number("attn_pdrop", 0, 0.999, 0.1));
  c.init_std = json.number("initializer_range", 0, 10, 0.02);
  if (c.channels % c.heads != 0)
    json.reject("n_embd", fmt::format("a multiple of n_head = {}", c.heads));
  if (json.boolean("add_cross_attention", false))
    json.reject("add_cross_attention", "false (a decoder alone)");
  return c;
}

// Dropout sites of a block; those of the adapters follow.
enum Site : uint32_t {
  kEmbedding,
  kAttention,
  kAttentionOut,
  kMlpOut,
  kLoraAttn,
  kLoraAttnProj,
  kLoraFc,
  kLoraMlpProj
};

struct Attention {
  Linear c_attn, c_proj;
  void visit(auto&& f) {
    f("c_attn", c_attn);
    f("c_proj", c_proj);
  }
};

struct Mlp {
  Linear c_fc, c_proj;
  void visit(auto&& f) {
    f("c_fc", c_fc);
    f("c_proj", c_proj);
  }
};

struct Block {
  LayerNorm ln_1;
  Attention attn;
  LayerNorm ln_2;
  Mlp mlp;

  explicit Block(const Gpt2Config& c)
      : ln_1(c.channels, c.eps),
        attn{Linear(c.channels, 3 * c.channels, WeightLayout::kInOut, true),
             Linear(c.channels, c.channels, WeightLayout::kInOut, true)},
        ln_2(c.channels, c.eps),
        mlp{Linear(c.channels, c.inner, WeightLayout::kInOut, true),
            Linear(c.inner, c.channels, WeightLayout::kInOut, true)} {}
  void visit(auto&& f) {
    f("ln_1", ln_1);
    f("attn", attn);
    f("ln_2", ln_2);
    f("mlp", mlp);
  }
};

struct Transformer {
  Parameter wte, wpe;
  std::vector<Block> h;
  LayerNorm ln_f;

  void visit(auto&& f) {
    f("wte.weight", wte);
    f("wpe.weight", wpe);
    for (size_t i = 0; i < h.size(); ++i) f("h." + std::to_string(i), h[i]);
    f("ln_f", ln_f);
  }
};

class Gpt2 final : public Model {
 public:
  explicit Gpt2(const Gpt2Config& config) : config_(config) {
    transformer_.wte.shape = {config.vocabulary, config.channels};
    transformer_.wpe.shape = {config.positions, config.channels};
    transformer_.ln_f = LayerNorm(config.channels, config.eps);
    for (int64_t i = 0; i < config.layers; ++i) transformer_.h.emplace_back(config);
    if (!config.tied) lm_head_ = Parameter{.shape = {config.vocabulary, config.channels}};
  }

  const char* family() const override { return "gpt2"; }
  int64_t blocks() const override { return config_.layers; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override { return config_.positions; }
  int64_t cache_channels() const override { return config_.channels; }

  Tensor embed(const Context& context) const override {
    const Tensor x = embedding(context.ids, context.positions, transformer_.wte.value,
                               transformer_.wpe.value, context.dtype);
    return dropout(
        x, model_dropout(context, 0, kEmbedding, config_.embedding_dropout, config_.channels));
  }

  Tensor block(int64_t i, const Tensor& x, const Context& context) const override {
    const Block& b = transformer_.h[static_cast<size_t>(i)];
    const int64_t channels = config_.channels;
    const Tensor y = attended(i, b.attn, b.ln_1(x), context);
    const Dropout after_attention =
        model_dropout(context, i, kAttentionOut, config_.residual_dropout, channels);
    const auto [middle, normed] = b.ln_2.add(x, dropout(y, after_attention));
    const Activated inner = b.mlp.c_fc.activated(normed, config_.activation,
                                                 adapter_dropout(context, i, kLoraFc, b.mlp.c_fc));
    const Tensor out = b.mlp.c_proj(inner, adapter_dropout(context, i, kLoraMlpProj, b.mlp.c_proj));
    return residual_add(middle, out,
                        model_dropout(context, i, kMlpOut, config_.residual_dropout, channels));
  }

  Tensor finish(const Tensor& x, const Context&) const override { return transformer_.ln_f(x); }
  const Parameter& head() const override { return lm_head_ ? *lm_head_ : transformer_.wte; }
  void untie_head() override {
    if (!lm_head_) lm_head_ = transformer_.wte;
  }

  void visit_parameters(const ParameterVisitor& f) override {
    for_each_parameter(transformer_, "transformer", f);
    if (lm_head_) f(kHeadWeight, *lm_head_);
  }
  void visit_linears(const LinearVisitor& f) override {
    for_each_linear(transformer_, "transformer", f);
  }

  // transformers draws every matrix from N(0, initializer_range), and c_proj narrower by sqrt(2
  // layers).
  double init_std(const std::string& path) const override {
    const bool residual = path.ends_with(".c_proj.weight");
    return residual ? config_.init_std / std::sqrt(2.0 * static_cast<double>(config_.layers))
                    : config_.init_std;
  }
  const char* optional_prefix() const override { return "transformer."; }
  std::vector<std::string> default_targets() const override { return {"c_attn"}; }
  bool fan_in_fan_out() const override { return true; }

 private:
  Tensor attended(int64_t i, const Attention& attn, const Tensor& x, const Context& context) const {
    const Tensor qkv = attn.c_attn(x, adapter_dropout(context, i, kLoraAttn, attn.c_attn));
    AttentionOptions options{.heads = config_.heads, .kv_heads = config_.heads};
    if (config_.scale_attention) {
      options.scale = 1.0f / std::sqrt(static_cast<float>(config_.channels / config_.heads));
    }
    if (config_.scale_by_layer) options.scale /= static_cast<float>(i + 1);
    options.dropout = model_dropout(context, i, kAttention, config_.attention_dropout, 0);
    return attn.c_proj(attend(qkv, options, context, i),
                       adapter_dropout(context, i, kLoraAttnProj, attn.c_proj));
  }

  Gpt2Config config_;
  Transformer transformer_;
  std::optional<Parameter> lm_head_;
};

}  // namespace

std::unique_ptr<Model> build_gpt2(const JsonObject& config) {
  return std::make_unique<Gpt2>(read_config(config));
}

}  // namespace tenon
