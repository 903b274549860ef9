// SPDX-License-Identifier: Apache-2.0
#include "tests/models/gpt2_reference.h"

#include <cmath>
#include <map>

#include "tests/support/reference.h"

namespace tenon::test {
namespace {

using Values = std::vector<double>;

Values doubles(const Tensor& tensor) {
  Values out;
  for (int64_t i = 0; i < tensor.numel(); ++i)
    out.push_back(load_element(tensor.dtype(), tensor.raw(), i));
  return out;
}

struct Weights {
  std::map<std::string, Values> all;
  std::map<std::string, double> adapter_scales;  // by the path of the linear
  const Values& at(const std::string& name) const { return all.at(name); }
};

Weights weights_of(Model& model) {
  Weights weights;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    weights.all[path] = doubles(parameter.value);
  });
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (linear.lora) weights.adapter_scales[path] = static_cast<double>(linear.lora->scale);
  });
  return weights;
}

// x (rows, in) times w (in, out).
Values product(const Values& x, const Values& w, size_t in, size_t out) {
  Values y(x.size() / in * out, 0);
  for (size_t r = 0; r < x.size() / in; ++r) {
    for (size_t i = 0; i < in; ++i) {
      for (size_t o = 0; o < out; ++o) y[r * out + o] += x[r * in + i] * w[i * out + o];
    }
  }
  return y;
}

Values transposed(const Values& w, size_t rows, size_t columns) {
  Values t(w.size());
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) t[c * rows + r] = w[r * columns + c];
  }
  return t;
}

// x W + b + scale (x A^T) B^T.
Values linear(const Values& x, const Weights& weights, const std::string& path) {
  const Values &w = weights.at(path + ".weight"), &bias = weights.at(path + ".bias");
  const size_t out = bias.size(), in = w.size() / out;
  Values y = product(x, w, in, out);
  for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i % out];
  const auto scale = weights.adapter_scales.find(path);
  if (scale == weights.adapter_scales.end()) return y;
  const Values &a = weights.at(path + ".lora_A.weight"), &b = weights.at(path + ".lora_B.weight");
  const size_t rank = a.size() / in;
  const Values low = product(x, transposed(a, rank, in), in, rank);
  const Values through = product(low, transposed(b, out, rank), rank, out);
  for (size_t i = 0; i < y.size(); ++i) y[i] += scale->second * through[i];
  return y;
}

Values add(const Values& a, const Values& b) {
  Values sum(a);
  for (size_t i = 0; i < b.size(); ++i) sum[i] += b[i];
  return sum;
}

// Columns [begin, end) of rows of `width`.
Values columns(const Values& x, size_t width, size_t begin, size_t end) {
  Values part;
  for (size_t r = 0; r < x.size() / width; ++r) {
    part.insert(part.end(), x.begin() + static_cast<long>(r * width + begin),
                x.begin() + static_cast<long>(r * width + end));
  }
  return part;
}

Activation activation_named(const std::string& name) {
  if (name == "gelu") return Activation::kGeluErf;
  if (name == "quick_gelu") return Activation::kQuickGelu;
  if (name == "relu") return Activation::kRelu;
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "tanh") return Activation::kTanh;
  return Activation::kGeluTanh;  // gelu_new and its other names
}

std::vector<int32_t> ints(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.data<int32_t>(), tensor.data<int32_t>() + tensor.numel()};
}

}  // namespace

Gpt2Logits gpt2_logits(Model& model, const nlohmann::json& config, const Context& context) {
  const Weights weights = weights_of(model);
  const auto channels = config["n_embd"].get<size_t>(), heads = config["n_head"].get<size_t>();
  const double eps = config.value("layer_norm_epsilon", 1e-5);
  const Activation kind = activation_named(config.value("activation_function", "gelu_new"));
  const std::vector<int32_t> ids = ints(context.ids), positions = ints(context.positions);

  Values x;  // (B T, C)
  for (size_t t = 0; t < ids.size(); ++t) {
    for (size_t c = 0; c < channels; ++c) {
      x.push_back(
          weights.at("transformer.wte.weight")[static_cast<size_t>(ids[t]) * channels + c] +
          weights.at("transformer.wpe.weight")[static_cast<size_t>(positions[t]) * channels + c]);
    }
  }
  const auto norm = [&](const std::string& path, const Values& in) {
    return reference::layer_norm(in, weights.at(path + ".weight"), weights.at(path + ".bias"), eps)
        .y;
  };
  reference::AttentionProblem problem;
  problem.batch = context.ids.dim(0);
  problem.queries = problem.keys = context.ids.dim(1);
  problem.heads = problem.kv_heads = static_cast<int64_t>(heads);
  problem.head_size = static_cast<int64_t>(channels / heads);
  problem.doc_start = ints(context.doc_start);
  for (size_t layer = 0; layer < config["n_layer"].get<size_t>(); ++layer) {
    const std::string path = "transformer.h." + std::to_string(layer);
    problem.scale = config.value("scale_attn_weights", true)
                        ? 1 / std::sqrt(static_cast<double>(channels / heads))
                        : 1.0;
    if (config.value("scale_attn_by_inverse_layer_idx", false))
      problem.scale /= static_cast<double>(layer + 1);
    const Values qkv = linear(norm(path + ".ln_1", x), weights, path + ".attn.c_attn");
    const size_t width = 3 * channels;
    const Values out = reference::attention(problem, columns(qkv, width, 0, channels),
                                            columns(qkv, width, channels, 2 * channels),
                                            columns(qkv, width, 2 * channels, width))
                           .out;
    x = add(x, linear(out, weights, path + ".attn.c_proj"));
    Values inner = linear(norm(path + ".ln_2", x), weights, path + ".mlp.c_fc");
    for (double& value : inner) value = reference::activation(kind, value);
    x = add(x, linear(inner, weights, path + ".mlp.c_proj"));
  }
  x = norm("transformer.ln_f", x);

  const bool tied = config.value("tie_word_embeddings", true);
  const Values& head = weights.at(tied ? "transformer.wte.weight" : "lm_head.weight");  // (V, C)
  const size_t vocabulary = head.size() / channels;
  Gpt2Logits result{.logits =
                        product(x, transposed(head, vocabulary, channels), channels, vocabulary)};
  // A logit is a sum of C products. Before it the value went through ten sums a block (norms,
  // products, softmax, residuals), none longer than the widest layer; each moves it by at most
  // Bound::sum's share of its magnitude, and the norms in between keep magnitudes at unit size.
  for (double& value : x) value = std::fabs(value);
  Values wide(head);
  for (double& value : wide) value = std::fabs(value);
  const auto longest =
      static_cast<int64_t>(std::max(channels, weights.at("transformer.h.0.mlp.c_fc.bias").size()));
  const double sums = 1 + 10 * static_cast<double>(config["n_layer"].get<int64_t>());
  result.bound =
      Bound::share(sums * reference::sum_share(longest),
                   product(x, transposed(wide, vocabulary, channels), channels, vocabulary));
  return result;
}

}  // namespace tenon::test
