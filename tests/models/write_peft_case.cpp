// SPDX-License-Identifier: Apache-2.0
// Writes what tests/reference/check_peft.py reads: an adapter on the model in MODEL, and the logits
// that Tenon computes with it.
//
//   write_peft_case MODEL OUT plain|rslora
#include <cstdio>
#include <numeric>
#include <string_view>

#include "core/error.h"
#include "core/safetensors.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

void write_case(const std::filesystem::path& base, const std::filesystem::path& out, bool rslora) {
  const std::unique_ptr<Model> model = build_model(base.string());
  load_weights(*model, base);
  const LoraOptions options =
      rslora ? LoraOptions{.rank = 5,
                           .alpha = 2.5,
                           .rslora = true,
                           .targets = {"c_attn", "mlp.c_proj"}}
             : LoraOptions{.rank = 3, .alpha = 7, .dropout = 0.1, .targets = {"all-linear"}};
  give_lora(*model, options);
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
    std::fputs("usage: write_peft_case MODEL OUT plain|rslora\n", stderr);
    return 2;
  }
  try {
    tenon::test::write_case(argv[1], argv[2], std::string_view(argv[3]) == "rslora");
  } catch (const tenon::Error& error) {
    std::fprintf(stderr, "write_peft_case: %s\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
