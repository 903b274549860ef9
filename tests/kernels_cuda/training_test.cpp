// SPDX-License-Identifier: Apache-2.0
// The trainer on a CUDA device: the same losses as on the CPU, checkpoints that either can go on
// from, and generation. The program runs with the kernels of the device that it finds; the harness
// plays one of each architecture.
#include <catch2/catch.hpp>

#include "models/generate.h"
#include "tests/kernels_cuda/cards.h"
#include "tests/train/tiny_run.h"

namespace tenon::test {
namespace {

bool computes_in(const std::string& precision) {
  try {
    require_dtype(Device::kCUDA, activation_dtype(precision));
    return true;
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Catch::Contains("use --precision fp16"));
    return false;
  }
}

// Both devices round each activation to the precision, in sums of different order: losses of some
// units of its rounding, which three steps of Adam carry on.
double loss_bound(const std::string& precision) {
  return precision == "fp32" ? 2e-5 : precision == "fp16" ? 4e-3 : 2e-2;
}

struct Runs {
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<float>> state;
};

Runs train(TrainOptions o, const std::string& device, const TokenFile& data,
           const std::filesystem::path& folder) {
  o.device = device;
  o.out = (folder / device).string();
  std::filesystem::remove_all(o.out);
  const std::vector<TinyResult> result = run_tiny(o, 1, data);
  return {metric(o.out, "loss"), metric(o.out, "grad_norm"), result[0].state};
}

}  // namespace

TEST_CASE("three steps on a card follow the CPU's", "[cuda]") {
  if (!card_is_there()) return;
  const std::string precision = GENERATE("fp32", "fp16", "bf16"), method = GENERATE("lora", "full");
  if (!computes_in(precision)) return;
  const TempFolder folder;
  const TokenFile data = tiny_tokens(folder.path() / "data.tokens", 24, 3);
  TrainOptions o = tiny_options(folder.path() / "run");
  o.method = method;
  o.precision = precision;
  o.steps = 3;
  o.checkpoint_activations = method == "full" ? "all" : "none";
  const Runs card = train(o, "cuda", data, folder.path()),
             cpu = train(o, "cpu", data, folder.path());
  REQUIRE(card.losses.size() == 3);
  const double bound = loss_bound(precision);
  for (size_t step = 0; step < 3; ++step) {
    CAPTURE(precision, method, step, card.losses[step], cpu.losses[step]);
    CHECK(std::fabs(card.losses[step] - cpu.losses[step]) <= bound);
    CHECK(std::fabs(card.norms[step] - cpu.norms[step]) <= 10 * bound * cpu.norms[step]);
  }
  CHECK(card.losses != std::vector<double>(3, card.losses[0]));
  if (precision != "fp32") return;  // a step of Adam is lr long however small the gradient
  for (const auto& [name, values] : cpu.state) {
    // A key's bias moves all scores of a row alike: its gradient is rounding, and nothing else.
    const bool keys = name.find("c_attn.bias") != std::string::npos;
    double squares = 0, differences = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      if (keys && i >= values.size() / 3 && i < 2 * values.size() / 3) continue;
      const double difference =
          static_cast<double>(card.state.at(name)[i]) - static_cast<double>(values[i]);
      squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      differences += difference * difference;
    }
    CAPTURE(method, name, differences, squares);
    CHECK(differences <= 1e-6 * squares);
  }
}

TEST_CASE("two ranks on a card train like one", "[cuda]") {
  if (!card_is_there()) return;
  const TempFolder folder;
  const TokenFile data = tiny_tokens(folder.path() / "data.tokens", 24, 3);
  TrainOptions o = tiny_options(folder.path() / "run");
  o.steps = 2;
  const Runs one = train(o, "cpu", data, folder.path());
  o.device = "cuda";
  const std::vector<TinyResult> two = run_tiny(o, 2, data);
  const std::vector<double> losses = metric(o.out, "loss");
  REQUIRE(losses.size() == 2);
  for (size_t step = 0; step < 2; ++step)
    CHECK(std::fabs(losses[step] - one.losses[step]) <= loss_bound("fp32"));
  CHECK(two[0].state == two[1].state);
}

TEST_CASE("either device goes on from a checkpoint of the other", "[cuda]") {
  if (!card_is_there()) return;
  const TempFolder folder;
  const TokenFile data = tiny_tokens(folder.path() / "data.tokens", 24, 3);
  TrainOptions o = tiny_options(folder.path() / "run");
  o.steps = 2;
  const Runs whole = train(o, "cpu", data, folder.path());
  o.save_every = 1;
  const bool from_card = GENERATE(true, false);
  o.device = from_card ? "cuda" : "cpu";
  o.out = (folder.path() / "first").string();
  run_tiny(o, 1, data);
  TrainOptions rest = o;
  rest.device = from_card ? "cpu" : "cuda";
  rest.out = (folder.path() / "rest").string();
  run_tiny(rest, 1, data, nullptr, folder.path() / "first" / "checkpoints" / "step-1");
  const std::vector<double> losses = metric(rest.out, "loss");
  REQUIRE(losses.size() == 1);
  CHECK(std::fabs(losses[0] - whole.losses[1]) <= loss_bound("fp32"));
}

TEST_CASE("a card generates the CPU's tokens", "[cuda]") {
  if (!card_is_there()) return;
  const SamplingOptions options =
      GENERATE(SamplingOptions{}, SamplingOptions{.temperature = 0.8, .top_k = 20, .top_p = 0.9});
  const auto tokens = [&](Device device) {
    const auto model = tiny_model();
    give_lora(*model);
    place(*model, device, DType::kF32);
    std::vector<int32_t> ids = {3, 1, 40, 0, 7};
    generate(*model, ids, 11, {}, options, DType::kF32, 2);
    return ids;
  };
  CHECK(tokens(Device::kCUDA) == tokens(Device::kCPU));
}

TEST_CASE("a card's memory is accounted for and refused when there is none", "[cuda]") {
  if (!card_is_there()) return;
  MemoryAccount& account = memory(Device::kCUDA);
  const int64_t before = account.now(MemoryKind::kWeights);
  {
    const Tensor held = Tensor::zeros({1000}, DType::kF32, Device::kCUDA, MemoryKind::kWeights);
    CHECK(account.now(MemoryKind::kWeights) - before >= 4000);
    CHECK(values(held.to(Device::kCPU)) == std::vector<float>(1000, 0));
  }
  CHECK(account.now(MemoryKind::kWeights) == before);
  try {
    Tensor::empty({int64_t{1} << 40}, DType::kF32, Device::kCUDA);
    FAIL("4 TiB were given");
  } catch (const Error& error) {
    CHECK(error.code() == Exit::kMemory);
    CHECK_THAT(error.what(), Catch::Contains("out of memory on cuda:0") &&
                                 Catch::Contains("asked for activations; held: weights"));
  }
  CHECK(values(Tensor::zeros({3}, DType::kF32, Device::kCUDA).to(Device::kCPU)).size() == 3);
}

}  // namespace tenon::test
