// SPDX-License-Identifier: Apache-2.0
// Writes what tests/reference/check_peft.py reads: an adapter on the model in MODEL, and the logits
// that Tenon computes with it.
//
//   write_peft_case MODEL OUT plain|rslora|dora|parts
#include <cstdio>
#include <numeric>
#include <string_view>

#include "core/error.h"
#include "core/safetensors.h"
#include "models/dora.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

LoraOptions options_of(std::string_view kind) {
  if (kind == "rslora")
    return {.rank = 5, .alpha = 2.5, .rslora = true, .targets = {"c_attn", "mlp.c_proj"}};
  if (kind == "dora")
    return {.rank = 3, .alpha = 7, .targets = {"all-linear"}, .dora = true, .bias = "lora_only"};
  if (kind == "parts") {
    return {.rank = 3,
            .alpha = 7,
            .target_pattern = ".*\\.(c_attn|c_fc)",
            .exclude = {"h.1.mlp.c_fc"},
            .ranks = {{"h.0.mlp.c_fc", 5}},
            .alphas = {{"c_attn", 3}},
            .lora_bias = true,
            .bias = "all",
            .modules_to_save = {"lm_head", "wte", "ln_f"}};
  }
  return {.rank = 3, .alpha = 7, .dropout = 0.1, .targets = {"all-linear"}};
}

// Moves every trained value away from where it began.
void stir(Model& model) {
  uint32_t stream = 77;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    if (!parameter.trainable) return;
    const std::vector<float> noise = random_values(parameter.value.numel(), ++stream, -0.3f, 0.3f);
    for (size_t i = 0; i < noise.size(); ++i) parameter.value.data<float>()[i] += noise[i];
  });
  update_norms(model);
}

void write_case(const std::filesystem::path& base, const std::filesystem::path& out,
                std::string_view kind) {
  const std::unique_ptr<Model> model = build_model(base.string());
  load_weights(*model, base);
  const LoraOptions options = options_of(kind);
  attach_lora(*model, options, 5);
  stir(*model);
  write_adapter(*model, out / "adapter", options, base.string());

  const int64_t rows = 2, length = 19, vocabulary = model->vocabulary();
  const TinyBatch batch = tiny_batch(rows, length, 8, vocabulary);
  const std::vector<float> scores = logits_of(*model, batch.context);
  const std::vector<TensorToWrite> tensors = {
      {"input_ids", DType::kI32, {rows, length}, batch.context.ids.raw()},
      {"logits", DType::kF32, {rows, length, vocabulary}, scores.data()}};
  write_safetensors(out / "logits.safetensors", tensors);
}

}  // namespace
}  // namespace tenon::test

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: write_peft_case MODEL OUT plain|rslora|dora|parts\n", stderr);
    return 2;
  }
  try {
    tenon::test::write_case(argv[1], argv[2], argv[3]);
  } catch (const tenon::Error& error) {
    std::fprintf(stderr, "write_peft_case: %s\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
