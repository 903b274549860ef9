// SPDX-License-Identifier: Apache-2.0
// A GPT-2 whose step takes a millisecond, with sizes that divide nothing, and batches for it.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/adapter.h"
#include "models/model.h"
#include "models/weights.h"
#include "tests/support/tensors.h"

namespace tenon::test {

inline Json tiny_config() {
  return {{"model_type", "gpt2"}, {"vocab_size", 41},  {"n_positions", 16},
          {"n_embd", 24},         {"n_layer", 2},      {"n_head", 3},
          {"embd_pdrop", 0.1},    {"attn_pdrop", 0.2}, {"resid_pdrop", 0.15}};
}

// Weights wide enough that every nonlinearity is in use; norms and biases are random too.
inline std::unique_ptr<Model> tiny_model(Json config = tiny_config(), uint64_t seed = 1) {
  config["initializer_range"] = 0.25;
  std::unique_ptr<Model> model = build_model(config, "config.json");
  draw_weights(*model, seed);
  uint32_t stream = static_cast<uint32_t>(seed) * 1000;
  model->visit_parameters([&](const std::string&, Parameter& parameter) {
    if (!parameter.vector) return;
    const std::vector<float> noise = random_values(parameter.value.numel(), ++stream, -0.3f, 0.3f);
    for (size_t i = 0; i < noise.size(); ++i) parameter.value.data<float>()[i] += noise[i];
  });
  return model;
}

// Makes every base parameter trainable.
inline void train_all(Model& model) {
  model.visit_parameters([](const std::string&, Parameter& parameter) {
    parameter.trainable = true;
    require_grad(parameter.value);
  });
}

// An adapter on every linear whose B is not zero, so that it does something.
inline LoraOptions give_lora(Model& model, LoraOptions options = {
                                               .rank = 3, .alpha = 7, .targets = {"all-linear"}}) {
  attach_lora(model, options, 5);
  uint32_t stream = 77;
  model.visit_linears([&](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    Tensor& b = linear.lora->b.value;
    const std::vector<float> noise = random_values(b.numel(), ++stream, -0.3f, 0.3f);
    std::copy(noise.begin(), noise.end(), b.data<float>());
  });
  return options;
}

struct TinyBatch {
  Context context;
  Tensor targets;  // (B, T)
};

// Random tokens, one document a row; every fourth target is not scored.
inline TinyBatch tiny_batch(int64_t rows, int64_t length, uint32_t seed, int64_t vocabulary = 41) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids, positions, targets;
  for (int64_t i = 0; i < rows * length; ++i) {
    ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary)));
    positions.push_back(static_cast<int32_t>(i % length));
    const auto target = static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary));
    targets.push_back(random() % 4 == 0 ? -100 : target);
  }
  TinyBatch batch;
  batch.context.ids = integers({rows, length}, ids);
  batch.context.positions = integers({rows, length}, positions);
  batch.targets = integers({rows, length}, targets);
  return batch;
}

inline std::vector<float> logits_of(const Model& model, const Context& context) {
  return values(logits(forward(model, context), model.head().value));
}

inline LossSum loss_of(const Model& model, const TinyBatch& batch, float scale = 1,
                       const RunOptions& options = {}) {
  const Tensor hidden = forward(model, batch.context, options);
  return linear_cross_entropy(hidden, model.head().value, batch.targets, scale);
}

// The sum of the losses; gradients of `scale` times it are added to.
inline double backward_of(const Model& model, const TinyBatch& batch, float scale = 1,
                          const RunOptions& options = {}) {
  Tape tape;
  LossSum loss;
  {
    const Recording scope(tape);
    loss = loss_of(model, batch, scale, options);
  }
  tape.backward(loss.losses);
  return loss.sum();
}

// A copy of the gradient of each trainable parameter.
inline std::map<std::string, std::vector<float>> gradients_of(Model& model) {
  std::map<std::string, std::vector<float>> gradients;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.trainable) gradients[path] = values(parameter.value.slot()->grad);
  });
  return gradients;
}

inline void zero_gradients(Model& model) {
  model.visit_parameters([](const std::string&, Parameter& parameter) {
    if (!parameter.trainable) return;
    const Tensor& grad = parameter.value.slot()->grad;
    std::fill_n(grad.data<float>(), grad.numel(), 0.0f);
  });
}

}  // namespace tenon::test
