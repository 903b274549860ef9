// SPDX-License-Identifier: Apache-2.0
// A model's weights as files: the names that checkpoints of this family use, dtypes, addresses that
// are aligned to nothing, and everything that does not fit named in one message. Random weights.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "core/json.h"
#include "models/stored_weights.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

using Tensors = std::map<std::string, std::vector<float>>;

// The base parameters, whatever dtype they are held in, as fp32.
Tensors weights_of(Model& model) {
  Tensors all;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.adapter) all[path] = values(cast(parameter.value, DType::kF32));
  });
  return all;
}

// A file of the tensors of `model`: each may be renamed ("" leaves it out), and more be added.
class Checkpoint {
 public:
  explicit Checkpoint(Model& model, DType dtype = DType::kF32) {
    model.visit_parameters([&](const std::string& path, Parameter& parameter) {
      std::vector<int64_t> dims;
      for (int axis = 0; axis < parameter.shape.rank(); ++axis)
        dims.push_back(parameter.shape[axis]);
      add(path, cast(parameter.value, dtype), dims);
    });
  }
  void add(const std::string& name, const Tensor& value, const std::vector<int64_t>& dims) {
    kept_.push_back(value);
    tensors_.push_back({name, value.dtype(), dims, value.raw()});
  }
  void rename(const std::function<std::string(const std::string&)>& renamed) {
    for (TensorToWrite& tensor : tensors_) tensor.name = renamed(tensor.name);
    std::erase_if(tensors_, [](const TensorToWrite& tensor) { return tensor.name.empty(); });
  }
  void write(const TempFolder& folder) const {
    std::filesystem::remove(folder / "model.safetensors");
    write_safetensors(folder / "model.safetensors", tensors_);
  }

 private:
  std::vector<Tensor> kept_;
  std::vector<TensorToWrite> tensors_;
};

void check_rounded(const Tensors& got, const Tensors& exact, DType dtype) {
  for (const auto& [name, weights] : exact) {
    INFO(name);
    std::vector<double> rounded;
    for (const float v : weights) rounded.push_back(round_to(dtype, static_cast<double>(v)));
    CHECK_WITHIN(got.at(name), rounded, Bound::fixed(0));
  }
}

std::unique_ptr<Model> unread(const Json& config = tiny_config()) {
  return build_model(config, "config.json");
}

std::string load_error(const TempFolder& folder) {
  const auto model = unread();
  return error_of([&] { load_weights(*model, folder.path()); });
}

std::string without_prefix(const std::string& name) {
  return name.starts_with("transformer.") ? name.substr(12) : name;
}

}  // namespace

TEST_CASE("weights are read with and without the prefix, and masks are passed over", "[weights]") {
  const bool prefix = GENERATE(true, false);
  const TempFolder folder;
  const auto model = tiny_model(), read = unread();
  Checkpoint file(*model);
  file.add("transformer.h.0.attn.bias", filled({4, 4}, 1), {1, 1, 4, 4});
  file.add("transformer.h.1.attn.masked_bias", filled({1}, 1), {});
  if (!prefix) file.rename(without_prefix);
  file.write(folder);
  const LoadedWeights loaded = load_weights(*read, folder.path());
  CHECK(weights_of(*read) == weights_of(*model));
  CHECK(loaded.dtype == DType::kF32);
  CHECK(loaded.file == shown(folder / "model.safetensors"));
  const TinyBatch batch = tiny_batch(2, 9, 3);
  CHECK(logits_of(*read, batch.context) == logits_of(*model, batch.context));
}

TEST_CASE("names are read with what training wrappers put in front", "[weights]") {
  const char* const wrapper = GENERATE("module.", "_orig_mod.", "module._orig_mod.",
                                       "_orig_mod.module.", "_fsdp_wrapped_module.");
  const bool prefix = GENERATE(true, false), tied = GENERATE(true, false);
  Json config = tiny_config();
  config["tie_word_embeddings"] = tied;
  const TempFolder folder;
  const auto model = tiny_model(config), read = unread(config);
  Checkpoint file(*model);
  file.add("transformer.h.0.attn.bias", filled({4, 4}, 1), {1, 1, 4, 4});
  file.rename(
      [&](const std::string& name) { return wrapper + (prefix ? name : without_prefix(name)); });
  file.write(folder);
  load_weights(*read, folder.path());
  CHECK(weights_of(*read) == weights_of(*model));
  // FSDP wraps modules on the way down as well.
  file.rename([](std::string name) {
    const size_t at = name.find("h.1.");
    return at == std::string::npos ? name : name.insert(at + 4, "_checkpoint_wrapped_module.");
  });
  file.write(folder);
  load_weights(*read, folder.path());
  CHECK(weights_of(*read) == weights_of(*model));
}

TEST_CASE("buffers of old versions are no weights", "[weights]") {
  for (const char* name : {"model.layers.0.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq",
                           "module.h.3.attn.masked_bias", "h.0.attn.bias",
                           "model.rotary_emb.cos_cached", "decoder.version"}) {
    INFO(name);
    CHECK(is_buffer(name));
  }
  for (const char* name : {"h.0.attn.c_attn.bias", "h.0.xattn.bias", "inv_freq",
                           "h.0.attn.bias.weight", "model.layers.0.self_attn.q_proj.bias"}) {
    INFO(name);
    CHECK_FALSE(is_buffer(name));
  }
}

TEST_CASE("a tied head may be stored instead of the embedding, or in another dtype", "[weights]") {
  const TempFolder folder;
  const auto model = tiny_model(), read = unread();
  Checkpoint alone(*model);
  const char* const name = GENERATE("lm_head.weight", "module.lm_head.weight");
  alone.rename(
      [&](const std::string& old) { return old == "transformer.wte.weight" ? name : old; });
  alone.write(folder);
  CHECK(load_weights(*read, folder.path()).dtype == DType::kF32);
  CHECK(weights_of(*read) == weights_of(*model));

  const Tensor embedding = model->head().value;
  const DType dtype = GENERATE(DType::kBF16, DType::kF16);
  Checkpoint narrow_head(*model);
  narrow_head.add(name, cast(embedding, dtype), {41, 24});
  narrow_head.write(folder);
  CHECK(load_weights(*read, folder.path()).dtype == DType::kF32);
  CHECK(weights_of(*read) == weights_of(*model));
  Checkpoint wide_head(*model, dtype);
  wide_head.add(name, cast(cast(embedding, dtype), DType::kF32), {41, 24});
  wide_head.write(folder);
  CHECK(load_weights(*read, folder.path()).dtype == dtype);
  Checkpoint other(*model, dtype);
  Tensor changed = embedding.clone();
  changed.data<float>()[7] += 1;
  other.add(name, changed, {41, 24});
  other.write(folder);
  CHECK_THAT(load_error(folder),
             Catch::Contains("lm_head.weight differs from the token embedding"));
}

TEST_CASE("a tied head may be stored again, but not be another", "[weights]") {
  const TempFolder folder;
  const auto model = tiny_model();
  const Tensor embedding = model->head().value;
  Checkpoint file(*model);
  file.add("lm_head.weight", embedding, {41, 24});
  file.write(folder);
  CHECK(load_error(folder) == "no error");
  Checkpoint other(*model);
  Tensor changed = embedding.clone();
  changed.data<float>()[7] += 1;
  other.add("lm_head.weight", changed, {41, 24});
  other.write(folder);
  CHECK_THAT(
      load_error(folder),
      Catch::Contains(
          "lm_head.weight differs from the token embedding, though tie_word_embeddings is true"));
}

TEST_CASE("a head of its own is read, and missed where it is not there", "[weights]") {
  Json config = tiny_config();
  config["tie_word_embeddings"] = false;
  const TempFolder folder;
  const auto model = tiny_model(config), read = unread(config);
  CHECK(values(model->head().value) != weights_of(*model).at("transformer.wte.weight"));
  Checkpoint file(*model);
  if (GENERATE(true, false)) file.rename(without_prefix);
  file.write(folder);
  load_weights(*read, folder.path());
  CHECK(weights_of(*read) == weights_of(*model));
  file.rename([](const std::string& name) { return name == "lm_head.weight" ? "" : name; });
  file.write(folder);
  CHECK_THAT(error_of([&] { load_weights(*unread(config), folder.path()); }),
             Catch::EndsWith("lm_head.weight is missing"));
}

TEST_CASE("half-width weights are held as they lie, norms and what is trained as fp32",
          "[weights]") {
  const DType dtype = GENERATE(DType::kBF16, DType::kF16);
  const bool trainable = GENERATE(false, true);
  const TempFolder folder;
  const auto model = tiny_model(), read = unread();
  Checkpoint(*model, dtype).write(folder);
  read->visit_parameters(
      [&](const std::string&, Parameter& parameter) { parameter.trainable = trainable; });
  CHECK(load_weights(*read, folder.path()).dtype == dtype);
  read->visit_parameters([&](const std::string& path, Parameter& parameter) {
    INFO(path);
    CHECK(parameter.value.dtype() == (trainable || parameter.vector ? DType::kF32 : dtype));
    CHECK((parameter.value.slot() != nullptr) == trainable);
  });
  check_rounded(weights_of(*read), weights_of(*model), dtype);
}

TEST_CASE("data that is aligned to nothing is read all the same", "[weights]") {
  const DType dtype = GENERATE(DType::kF32, DType::kF16);
  const TempFolder folder;
  const auto model = tiny_model(), straight = unread(), shifted = unread();
  Checkpoint(*model, dtype).write(folder);
  load_weights(*straight, folder.path());
  std::string bytes = get_file(folder / "model.safetensors");
  uint64_t header;
  std::memcpy(&header, bytes.data(), 8);
  bytes.insert(bytes.begin() + static_cast<long>(8 + header),
               ' ');  // a header one byte longer: JSON may end with spaces
  ++header;
  std::memcpy(bytes.data(), &header, 8);
  const TempFolder other;
  put_file(other / "model.safetensors", bytes);
  load_weights(*shifted, other.path());
  CHECK(weights_of(*shifted) == weights_of(*straight));
  shifted->visit_parameters([](const std::string&, Parameter& parameter) {
    CHECK(reinterpret_cast<uintptr_t>(parameter.value.raw()) %
              static_cast<uintptr_t>(size_of(parameter.value.dtype())) ==
          0);
  });
}

TEST_CASE("all tensors that do not fit are named at once", "[weights]") {
  const TempFolder folder;
  const auto model = tiny_model();
  Checkpoint file(*model);
  file.rename([](const std::string& name) -> std::string {
    if (name == "transformer.ln_f.bias") return "";
    if (name == "transformer.wpe.weight") return "";
    return name;
  });
  file.add("transformer.wpe.weight", filled({15, 24}, 1), {15, 24});
  file.add("transformer.h.2.ln_1.weight", filled({24}, 1), {24});
  file.add("classifier\x1b.weight", filled({24}, 1), {24});
  file.rename([](const std::string& name) -> std::string {
    return name == "transformer.h.0.ln_1.weight" ? "" : name;
  });
  file.add("transformer.h.0.ln_1.weight", integers({24}, std::vector<int32_t>(24)), {24});
  file.write(folder);
  const std::string error = load_error(folder);
  CHECK_THAT(error, Catch::StartsWith("2: " + shown(folder / "model.safetensors") +
                                      ": the weights do not fit config.json: "));
  for (const char* text :
       {"transformer.ln_f.bias is missing", "transformer.wpe.weight is [15, 24], expected [16, 24]",
        "transformer.h.2.ln_1.weight is unexpected", "classifier\\x1b.weight is unexpected",
        "transformer.h.0.ln_1.weight has dtype I32, expected F32, F16 or BF16"}) {
    CHECK_THAT(error, Catch::Contains(text));
  }
  file.rename([](const std::string& name) { return fmt::format("x.{}", name); });
  file.write(folder);
  CHECK_THAT(load_error(folder), Catch::Contains(" is missing (and 23 more)"));
}

TEST_CASE("a tensor under both of its names is refused", "[weights]") {
  const TempFolder folder;
  const auto model = tiny_model();
  Checkpoint file(*model);
  file.add("wpe.weight", filled({16, 24}, 1), {16, 24});
  file.write(folder);
  CHECK_THAT(
      load_error(folder),
      Catch::Contains("transformer.wpe.weight is there twice, as transformer.wpe.weight and as "
                      "wpe.weight"));
}

TEST_CASE("weights that are saved are read again", "[weights]") {
  const DType dtype = GENERATE(DType::kF32, DType::kBF16, DType::kF16);
  const TempFolder folder, second;
  const auto model = tiny_model(), read = unread();
  give_lora(*model);
  save_weights(*model, folder / "saved", dtype);
  CHECK(load_weights(*read, folder / "saved").dtype == dtype);
  check_rounded(weights_of(*read), weights_of(*model), dtype);
  save_weights(*read, second / "saved", dtype);  // rounding twice is rounding once
  CHECK(get_file(folder / "saved" / "model.safetensors") ==
        get_file(second / "saved" / "model.safetensors"));
}

TEST_CASE("random weights have the family's distribution, fixed by the seed", "[weights]") {
  const Json config = {
      {"model_type", "gpt2"}, {"vocab_size", 1000}, {"n_positions", 64},        {"n_embd", 96},
      {"n_layer", 3},         {"n_head", 4},        {"initializer_range", 0.05}};
  const auto model = unread(config);
  draw_weights(*model, 7);
  const Tensors first = weights_of(*model);
  for (const auto& [name, drawn] : first) {
    INFO(name);
    const bool vector = name.find(".ln_") != std::string::npos || name.ends_with(".bias");
    if (vector) {
      CHECK(drawn == std::vector<float>(drawn.size(), name.ends_with(".weight") ? 1.0f : 0.0f));
      continue;
    }
    // c_proj ends a residual branch: narrower by sqrt(2 layers).
    const double std = name.ends_with(".c_proj.weight") ? 0.05 / std::sqrt(6.0) : 0.05;
    const auto n = static_cast<double>(drawn.size());
    double sum = 0, squares = 0, fourth = 0, neighbours = 0, before = 0;
    for (const float v : drawn) {
      const double z = static_cast<double>(v) / std;
      sum += z;
      squares += z * z;
      fourth += z * z * z * z;
      neighbours += z * before;
      before = z;
    }
    // Standard errors of a normal's moments 1, 2 and 4, and of the product of neighbours.
    CHECK(std::fabs(sum / n) <= 5 / std::sqrt(n));
    CHECK(std::fabs(squares / n - 1) <= 5 * std::sqrt(2 / n));
    CHECK(std::fabs(fourth / n - 3) <= 5 * std::sqrt(96 / n));
    CHECK(std::fabs(neighbours / n) <= 5 / std::sqrt(n));
  }
  const auto again = unread(config), other = unread(config);
  draw_weights(*again, 7);
  draw_weights(*other, 8);
  CHECK(weights_of(*again) == first);
  const Tensors second = weights_of(*other);
  CHECK(first.at("transformer.wpe.weight") != second.at("transformer.wpe.weight"));
  CHECK(first.at("transformer.h.0.mlp.c_fc.weight") != first.at("transformer.h.1.mlp.c_fc.weight"));
}

}  // namespace tenon::test
