// SPDX-License-Identifier: Apache-2.0
// Models whose linears are quantized, beside the same with the numbers that those stand for.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

#include "core/files.h"
#include "models/dora.h"
#include "models/open.h"
#include "models/quantized_files.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"
#include "tests/support/compare.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

Json llama_config() {
  return {{"model_type", "llama"},    {"vocab_size", 41},
          {"hidden_size", 24},        {"intermediate_size", 40},
          {"num_hidden_layers", 2},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"max_position_embeddings", 32},
          {"rms_norm_eps", 1e-5},     {"tie_word_embeddings", false}};
}

void save_base(const fs::path& folder, const Json& config) {
  const auto model = tiny_model(config);
  fs::create_directories(folder);
  put_file(folder / "config.json", config.dump());
  save_weights(*model, folder, DType::kF32);
}

// The model of `quantized` with dense weights: what its 4 bits stand for.
std::unique_ptr<Model> dense(const fs::path& folder, Model& quantized) {
  auto model = open_model({.model = folder}).model;
  std::map<std::string, Linear*> linears;
  model->visit_linears([&](const std::string& path, Linear& linear) { linears[path] = &linear; });
  quantized.visit_linears([&](const std::string& path, Linear& linear) {
    REQUIRE(linear.weight.quantized.defined());
    Linear& other = *linears.at(path);
    other.layout = WeightLayout::kOutIn;
    other.weight.shape = linear.weight.shape;
    other.weight.value = linear.weight.quantized.rows(0, linear.out()).clone(MemoryKind::kWeights);
  });
  return model;
}

double largest_of(const std::vector<float>& all) {
  double largest = 0;
  for (const float x : all) largest = std::max(largest, std::fabs(static_cast<double>(x)));
  return largest;
}

// |got - want| / |want|
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double error = 0, length = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = static_cast<double>(got[i]), w = static_cast<double>(want[i]);
    error += (g - w) * (g - w);
    length += w * w;
  }
  return std::sqrt(error / length);
}

// The weight of one linear of llama_config, quantized.
Weight quantized_weight(const TempFolder& folder, const std::string& name, Quantization to) {
  save_base(folder / "base", llama_config());
  const auto model = open_model({.model = folder / "base", .quantization = to}).model;
  Weight weight;
  model->visit_linears([&](const std::string& path, Linear& linear) {
    if (path + ".weight" == name) weight = linear.weight.quantized;
  });
  REQUIRE(weight.quantized());
  return weight;
}

// What is said of the model of quantized_weight() when the tensors of that weight are changed.
std::string error_with(const TempFolder& folder, const std::string& name, const Weight& weight,
                       const std::function<void(std::vector<TensorToWrite>&)>& change) {
  const WeightFiles files = WeightFiles::open(folder / "base");
  std::vector<TensorToWrite> parts = quantized_tensors(name, weight);
  change(parts);
  for (const TensorFile& file : files.files()) {
    for (const TensorEntry& entry : file.entries()) {
      if (entry.name != name) parts.push_back({entry.name, *entry.dtype, entry.shape, entry.data});
    }
  }
  fs::remove_all(folder / "small");
  fs::create_directories(folder / "small");
  put_file(folder / "small/config.json", llama_config().dump());
  write_sharded(folder / "small", parts);
  return error_of([&] { open_model({.model = folder / "small"}); });
}

}  // namespace

TEST_CASE("a model in 4 bits computes and trains as its numbers do", "[quant]") {
  const Json config = GENERATE(tiny_config(), llama_config());
  const bool doubled = GENERATE(false, true), dora = GENERATE(false, true);
  const TempFolder folder;
  save_base(folder.path(), config);
  Opening opening{.model = folder.path(),
                  .quantization = doubled ? Quantization::kDoubleNf4 : Quantization::kNf4};
  const OpenedModel opened = open_model(opening);
  CHECK(opened.weights.quantized > 0);
  const auto other = dense(folder.path(), *opened.model);
  const LoraOptions lora{.rank = 3, .alpha = 7, .targets = {"all-linear"}, .dora = dora};
  give_lora(*opened.model, lora);
  give_lora(*other, lora);
  update_norms(*opened.model);
  update_norms(*other);
  const TinyBatch batch = tiny_batch(2, 13, 3);
  const std::vector<float> got = logits_of(*opened.model, batch.context),
                           want = logits_of(*other, batch.context);
  CHECK_WITHIN(got, want, Bound::fixed(1e-5 * largest_of(want)));
  backward_of(*opened.model, batch);
  backward_of(*other, batch);
  const auto gradients = gradients_of(*opened.model), wanted = gradients_of(*other);
  REQUIRE(gradients.size() == wanted.size());
  for (const auto& [path, gradient] : gradients) {
    INFO(path);
    CHECK_WITHIN(gradient, wanted.at(path), Bound::fixed(1e-4 * largest_of(wanted.at(path))));
  }
}

TEST_CASE("a model in int8 computes and trains near its numbers", "[quant]") {
  const Json config = GENERATE(tiny_config(), llama_config());
  const TempFolder folder;
  save_base(folder.path(), config);
  const OpenedModel opened =
      open_model({.model = folder.path(), .quantization = Quantization::kInt8});
  CHECK(opened.weights.quantized > 0);
  const auto other = dense(folder.path(), *opened.model);
  give_lora(*opened.model);
  give_lora(*other);
  const TinyBatch batch = tiny_batch(2, 13, 3);
  const std::vector<float> got = logits_of(*opened.model, batch.context),
                           want = logits_of(*other, batch.context);
  // A row's elements are off by up to 1/254 of its largest, at random: 0.6 % of its length where the
  // largest is about 2.6 times their root mean square; eight linears follow one another.
  CHECK(distance(got, want) < 0.05);
  CHECK(got != want);
  backward_of(*opened.model, batch);
  backward_of(*other, batch);
  const auto gradients = gradients_of(*opened.model), wanted = gradients_of(*other);
  REQUIRE(gradients.size() == wanted.size());
  for (const auto& [path, gradient] : gradients) {
    INFO(path);
    CHECK(distance(gradient, wanted.at(path)) < 0.1);
  }
}

TEST_CASE("what is written quantized is read as it was", "[quant]") {
  const Json config = GENERATE(tiny_config(), llama_config());
  const Quantization to =
      GENERATE(Quantization::kNf4, Quantization::kDoubleNf4, Quantization::kInt8);
  const TempFolder folder;
  save_base(folder / "base", config);
  const auto quantized = open_model({.model = folder / "base", .quantization = to}).model;
  const WeightFiles files = WeightFiles::open(folder / "base");
  std::map<std::string, Linear*> linears;
  quantized->visit_linears(
      [&](const std::string& path, Linear& linear) { linears[path + ".weight"] = &linear; });
  std::vector<TensorToWrite> tensors;
  for (const TensorFile& file : files.files()) {
    for (const TensorEntry& entry : file.entries()) {
      if (linears.contains(entry.name)) {
        for (auto& each : quantized_tensors(entry.name, linears[entry.name]->weight.quantized))
          tensors.push_back(std::move(each));
      } else {
        tensors.push_back({entry.name, *entry.dtype, entry.shape, entry.data});
      }
    }
  }
  fs::create_directories(folder / "small");
  put_file(folder / "small/config.json", config.dump());
  write_sharded(folder / "small", tensors);
  const OpenedModel read = open_model({.model = folder / "small"});
  CHECK(read.weights.quantized == std::ssize(linears));
  const TinyBatch batch = tiny_batch(2, 13, 3);
  CHECK(logits_of(*read.model, batch.context) == logits_of(*quantized, batch.context));
}

TEST_CASE("of a quantization's fields those of its kind count", "[quant]") {
  const auto error_of_stated = [](const Json& stated) {
    Json config = llama_config();
    config["quantization_config"] = stated;
    config["quantization_config"]["quant_method"] = "bitsandbytes";
    return error_of([&] { build_model(config, "config.json"); });
  };
  CHECK(error_of_stated({{"load_in_8bit", true}}) == "no error");
  CHECK(error_of_stated({{"load_in_8bit", true}, {"llm_int8_threshold", 6.0}}) == "no error");
  CHECK_THAT(error_of_stated({{"load_in_8bit", true}, {"llm_int8_threshold", 5.0}}),
             Catch::Contains("llm_int8_threshold"));
  CHECK(error_of_stated({{"load_in_4bit", true}, {"llm_int8_threshold", 5.0}}) == "no error");
  CHECK_THAT(error_of_stated({{"load_in_4bit", false}}), Catch::Contains("load_in_4bit"));
}

TEST_CASE("a broken weight in 4 bits is refused with its tensor", "[quant]") {
  const TempFolder folder;
  const std::string broken = "model.layers.1.mlp.up_proj.weight";
  const Weight weight = quantized_weight(folder, broken, Quantization::kDoubleNf4);
  const auto error = [&](const std::function<void(std::vector<TensorToWrite>&)>& change) {
    return error_with(folder, broken, weight, change);
  };
  const auto named = [](std::vector<TensorToWrite>& parts, const std::string& end) {
    return std::find_if(parts.begin(), parts.end(),
                        [&](const TensorToWrite& part) { return part.name.ends_with(end); });
  };
  CHECK(error([](auto&) {}) == "no error");
  for (const char* part : {".absmax", ".nested_absmax", ".nested_quant_map", ".quant_map"}) {
    CHECK_THAT(error([&](auto& parts) { parts.erase(named(parts, broken + part)); }),
               Catch::Contains(broken + part));
  }
  const auto state_with = [&](const std::string& from, const std::string& to) {
    return error([&](auto& parts) {
      const auto state = std::find_if(parts.begin(), parts.end(), [](const TensorToWrite& part) {
        return part.name.find("quant_state") != std::string::npos;
      });
      const Tensor old = state->make();
      std::string text(static_cast<const char*>(old.raw()), static_cast<size_t>(old.bytes()));
      const size_t at = text.find(from);
      REQUIRE(at != std::string::npos);
      text.replace(at, from.size(), to);
      const Tensor bytes = Tensor::empty({std::ssize(text)}, DType::kU8);
      std::copy(text.begin(), text.end(), static_cast<char*>(bytes.raw()));
      state->shape = {std::ssize(text)};
      state->make = [bytes] { return bytes; };
    });
  };
  CHECK_THAT(state_with("[40, 24]", "[24, 40]"), Catch::Contains("\"shape\""));
  CHECK_THAT(state_with("\"blocksize\": 64", "\"blocksize\": 48"), Catch::Contains("blocksize"));
  CHECK_THAT(state_with("\"quant_type\": \"nf4\"", "\"quant_type\": \"fp4\""),
             Catch::Contains("quant_type"));
  CHECK_THAT(state_with("{", "["), Catch::Contains("quant_state"));
}

TEST_CASE("a broken weight in int8 is refused with its tensor", "[quant]") {
  const TempFolder folder;
  const std::string path = "model.layers.1.mlp.up_proj", broken = path + ".weight";
  const Weight weight = quantized_weight(folder, broken, Quantization::kInt8);
  const auto error = [&](const std::function<void(std::vector<TensorToWrite>&)>& change) {
    return error_with(folder, broken, weight, change);  // codes, SCB, format
  };
  static constexpr uint8_t kOther[] = {1};
  CHECK(error([](auto&) {}) == "no error");
  CHECK(error([](auto& parts) { parts.erase(parts.begin() + 2); }) == "no error");
  CHECK_THAT(error([](auto& parts) { parts.erase(parts.begin() + 1); }),
             Catch::Contains(broken + " has dtype I8"));
  CHECK_THAT(error([](auto& parts) {
               parts[0].shape = {24, 40};
             }),
             Catch::Contains(broken) && Catch::Contains("[40, 24]"));
  CHECK_THAT(error([](auto& parts) {
               parts[1].shape = {39};
               parts[1].make = [] { return Tensor::zeros({39}, DType::kF32); };
             }),
             Catch::Contains(path + ".SCB") && Catch::Contains("40 elements"));
  CHECK_THAT(error([](auto& parts) { parts[2].data = kOther; }),
             Catch::Contains("weight_format is 1"));
}

}  // namespace tenon::test
