// SPDX-License-Identifier: Apache-2.0
// Streaming a base: the same numbers, and pages that are let go.
#include <catch2/catch.hpp>

#include "core/memory.h"
#include "models/base_stream.h"
#include "models/open.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

// The sum of a model's frozen weights: every page of them has been touched.
double touch(Model& model) {
  double sum = 0;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    const float* x = parameter.value.data<float>();
    for (int64_t i = 0; i < parameter.value.numel(); i += 64) sum += static_cast<double>(x[i]);
  });
  return sum;
}

constexpr int64_t kWidth = 384;

// A model whose blocks have many pages.
void write_wide_model(const std::filesystem::path& folder) {
  Json config = tiny_config();
  config["n_embd"] = kWidth;
  config["n_head"] = 6;
  put_file(folder / "config.json", config.dump());
  const auto drawn = build_model(config, "a test");
  draw_weights(*drawn, 3);
  save_weights(*drawn, folder, DType::kF32);
}

}  // namespace

TEST_CASE("a streamed base's blocks are let go, and come back as they were", "[stream]") {
  const TempFolder folder;
  write_wide_model(folder.path());
  const OpenedModel opened = open_model({.model = folder.path(), .stream = true});
  Model& model = *opened.model;
  REQUIRE(model.stream != nullptr);
  const int64_t block = 12 * kWidth * kWidth * 4;
  CHECK(model.stream->largest_block() > block * 9 / 10);
  CHECK(model.stream->largest_block() <= block);
  const double sum = touch(model);
  const int64_t before = resident_bytes();
  for (int64_t i = 0; i < model.blocks(); ++i) model.stream->end(i);
  CHECK(resident_bytes() < before - model.blocks() * block * 8 / 10);
  for (int64_t i = 0; i < model.blocks(); ++i) model.stream->begin(i, i + 1);
  CHECK(touch(model) == sum);
}

TEST_CASE("gradients through a streamed base are those through a mapped one, bit by bit",
          "[stream]") {
  const TempFolder folder;
  write_wide_model(folder.path());
  const bool again = GENERATE(false, true);
  const auto gradients = [&](bool stream) {
    const OpenedModel opened = open_model({.model = folder.path(), .stream = stream});
    give_lora(*opened.model, {.rank = 2, .alpha = 4, .targets = {"c_attn", "c_proj"}});
    backward_of(*opened.model, tiny_batch(3, 12, 1), 0.5f, {.recompute_every = again});
    return gradients_of(*opened.model);
  };
  CHECK(gradients(true) == gradients(false));
}

TEST_CASE("weights that the run owns are not streamed", "[stream]") {
  const TempFolder folder;
  write_wide_model(folder.path());
  const OpenedModel halved =
      open_model({.model = folder.path(), .activations = DType::kBF16, .stream = true});
  CHECK(halved.model->stream->largest_block() == 0);
  const OpenedModel trained =
      open_model({.model = folder.path(), .train_base = true, .stream = true});
  CHECK(trained.model->stream->largest_block() == 0);
}

}  // namespace tenon::test
