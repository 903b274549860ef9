// SPDX-License-Identifier: Apache-2.0
// Modules are plain structs that name each child once, in `visit`. The names are Hugging Face's, so
// a walk yields "transformer.h.0.attn.c_attn.weight", and load, save, count, freeze, LoRA,
// optimizer groups and checksums are folds over that one walk.
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "core/ops.h"

namespace tenon {

// One weight. Its shape is known before its bytes: `value` is undefined until the weights are read.
struct Parameter {
  Shape shape;
  Tensor value;
  Weight quantized;  // of linears, never trained: in the place of `value` where it is defined
  bool trainable = false;
  bool vector = false;   // norms and biases: small, always fp32 in memory, no weight decay
  bool adapter = false;  // belongs to a LoRA adapter, not to the base model
  bool saved = false;    // of the base model, and trained as part of the adapter
  // Of the base model and frozen: the value that the adapter's file carries for it, as it lies there
  // (PEFT's save_embedding_layers). It is `value`, and belongs into the adapter that is written.
  Tensor carried;

  Weight weight() const { return quantized.defined() ? quantized : Weight(value); }
};

struct LayerNorm {
  Parameter weight, bias;
  float eps = 1e-5f;

  LayerNorm() = default;
  LayerNorm(int64_t channels, float epsilon);
  void visit(auto&& f) {
    f("weight", weight);
    f("bias", bias);
  }
  Tensor operator()(const Tensor& x) const { return layer_norm(x, weight.value, bias.value, eps); }
  // {residual + x, norm of it}
  std::pair<Tensor, Tensor> add(const Tensor& residual, const Tensor& x) const {
    return add_layer_norm(residual, x, weight.value, bias.value, eps);
  }
};

struct RmsNorm {
  Parameter weight;
  float eps = 1e-6f;

  RmsNorm() = default;
  RmsNorm(int64_t channels, float epsilon);
  void visit(auto&& f) { f("weight", weight); }
  Tensor operator()(const Tensor& x) const { return rms_norm(x, weight.value, eps); }
  // {residual + x, norm of it}
  std::pair<Tensor, Tensor> add(const Tensor& residual, const Tensor& x) const {
    return add_rms_norm(residual, x, weight.value, eps);
  }
};

// What makes a LoRA a DoRA (Liu et al. 2024, arXiv:2402.09353): every row of W + scale B A gets a
// trained length. update_norms (models/dora.h) keeps `norms` true to the weights.
struct Dora {
  Parameter magnitude;          // (out)
  Tensor norms;                 // (out), fp32: lengths of the rows of W + scale B A
  std::vector<double> squares;  // (out): squared lengths of the rows of W, which is frozen
};

// A low-rank adapter of one Linear; PEFT's names.
struct Lora {
  Parameter a;                    // (R, in)
  Parameter b;                    // (out, R)
  std::optional<Parameter> bias;  // (out): added to B's result before it is scaled
  std::optional<Dora> dora;
  float scale = 1;
  float dropout = 0;

  void visit(auto&& f) {
    f("lora_A.weight", a);
    f("lora_B.weight", b);
    if (bias) f("lora_B.bias", *bias);
    if (dora) f("lora_magnitude_vector", dora->magnitude);
  }
};

// y = x W^T + bias, or with a Conv1D weight x W + bias; plus the adapter where there is one.
struct Linear {
  Parameter weight;  // (out, in) or (in, out), by layout
  std::optional<Parameter> bias;
  std::optional<Lora> lora;
  WeightLayout layout = WeightLayout::kOutIn;

  Linear() = default;
  Linear(int64_t in, int64_t out, WeightLayout weight_layout, bool with_bias);

  int64_t in() const { return weight.shape[layout == WeightLayout::kOutIn ? 1 : 0]; }
  int64_t out() const { return weight.shape[layout == WeightLayout::kOutIn ? 0 : 1]; }
  void visit(auto&& f) {
    f("weight", weight);
    if (bias) f("bias", *bias);
    if (lora) lora->visit(f);
  }
  // `dropout` says where the adapter's dropout draws from; its p is the adapter's own, and 0 when
  // not training.
  Tensor operator()(const Tensor& x, Dropout dropout = {}) const;
  Tensor operator()(const Activated& x, Dropout dropout = {}) const;
  // An activation of y, for the next Linear.
  Activated activated(const Tensor& x, Activation kind, Dropout dropout = {}) const;
  // Itself as one of several linears of one x: see linears() in core/ops.h.
  LinearPart part(Dropout dropout = {}) const;

 private:
  LoraFactors factors(Dropout dropout) const;
  template <class Op>
  auto with_factors(Dropout dropout, Op op) const;
};

// Calls f(path, Parameter&) for every parameter below `module`, in the order of its visit().
template <class Module, class F>
void for_each_parameter(Module& module, const std::string& prefix, F&& f) {
  module.visit([&](const std::string& name, auto& child) {
    const std::string path = prefix.empty() ? name : prefix + "." + name;
    if constexpr (std::is_same_v<std::decay_t<decltype(child)>, Parameter>) {
      f(path, child);
    } else {
      for_each_parameter(child, path, f);
    }
  });
}

// Calls f(path, Linear&) for every Linear below `module`.
template <class Module, class F>
void for_each_linear(Module& module, const std::string& prefix, F&& f) {
  module.visit([&](const std::string& name, auto& child) {
    using Child = std::decay_t<decltype(child)>;
    const std::string path = prefix.empty() ? name : prefix + "." + name;
    if constexpr (std::is_same_v<Child, Linear>) {
      f(path, child);
    } else if constexpr (!std::is_same_v<Child, Parameter>) {
      for_each_linear(child, path, f);
    }
  });
}

}  // namespace tenon
