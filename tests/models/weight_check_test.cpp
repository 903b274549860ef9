// SPDX-License-Identifier: Apache-2.0
// Weights that are inf or NaN: found, named by file, tensor and element, and never written.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "core/finite.h"
#include "models/merge.h"
#include "models/weight_check.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
const std::string kProjection = "transformer.h.1.mlp.c_proj.weight";  // (96, 24)

Tensor& value_of(Model& model, const std::string& name) {
  Tensor* value = nullptr;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (path == name) value = &parameter.value;
  });
  REQUIRE(value != nullptr);
  return *value;
}

// A folder of the tiny model in bf16 whose c_proj[70, 3] is `value`.
void save_with(const fs::path& folder, float value) {
  const auto model = tiny_model();
  value_of(*model, kProjection).data<float>()[70 * 24 + 3] = value;
  fs::create_directories(folder);
  put_file(folder / "config.json", tiny_config().dump());
  std::vector<Tensor> kept;
  std::vector<TensorToWrite> tensors;
  model->visit_parameters([&](const std::string& path, Parameter& parameter) {
    kept.push_back(cast(parameter.value, DType::kBF16));
    std::vector<int64_t> dims;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) dims.push_back(parameter.shape[axis]);
    tensors.push_back({.name = path,
                       .dtype = DType::kBF16,
                       .shape = dims,
                       .data = kept.back().raw(),
                       .any_number = true});
  });
  write_safetensors(folder / "model.safetensors", tensors);
}

std::unique_ptr<Model> load(const fs::path& folder) {
  std::unique_ptr<Model> model = build_model(folder.string());
  load_weights(*model, folder);
  return model;
}

}  // namespace

TEST_CASE("the first number that is none is found, wherever it lies", "[weights]") {
  const DType dtype = GENERATE(DType::kF32, DType::kBF16, DType::kF16);
  const int64_t count = 2'500'001;  // several threads' shares, and an end that no block divides
  Tensor wide = Tensor::zeros({count}, DType::kF32);
  for (int64_t i = 0; i < count; ++i) wide.data<float>()[i] = static_cast<float>(i % 7) - 3;
  const auto first = [&](std::initializer_list<int64_t> places, float value) {
    Tensor changed = wide.clone();
    for (const int64_t place : places) changed.data<float>()[place] = value;
    const Tensor narrow = dtype == DType::kF32 ? changed : cast(changed, dtype);
    return first_not_finite(narrow.raw(), count, dtype);
  };
  CHECK(first({}, 0) == -1);
  CHECK(first({5}, static_cast<float>(largest_of(dtype))) == -1);
  CHECK(first({5}, -static_cast<float>(largest_of(dtype))) == -1);
  for (const int64_t place : {int64_t{0}, int64_t{4095}, int64_t{4096}, int64_t{1'048'575},
                              int64_t{1'048'576}, int64_t{2'097'153}, count - 1}) {
    INFO(place);
    for (const float value : {kNan, -kNan, kInf, -kInf})
      CHECK(first({place, count - 1}, value) == place);
  }
  std::vector<std::byte> shifted(9);  // no alignment is asked for
  const float inf = kInf;
  std::memcpy(shifted.data() + 5, &inf, 4);
  CHECK(first_not_finite(shifted.data() + 1, 2, DType::kF32) == 1);
  const std::vector<int32_t> integers = {-1, 0x7f800000};
  CHECK(first_not_finite(integers.data(), 2, DType::kI32) == -1);
}

TEST_CASE("half-width numbers are told as they are", "[weights]") {
  const auto f16 = [](uint16_t bits) { return element_of(&bits, 0, DType::kF16); };
  CHECK(f16(0x3c00) == 1);
  CHECK(f16(0xc101) == -2.501953125f);
  CHECK(f16(0x7bff) == 65504);
  CHECK(f16(0x0001) == 0x1p-24f);
  CHECK(f16(0x83ff) == -1023 * 0x1p-24f);
  CHECK(f16(0xfc00) == -kInf);
  CHECK(std::isnan(f16(0x7c01)));
  const uint16_t bf16 = 0x47c3;
  CHECK(element_of(&bf16, 0, DType::kBF16) == 99840);
  CHECK(number_text(99840) == "99840");
  CHECK(number_text(static_cast<double>(-kNan)) == "nan");
  CHECK(number_text(static_cast<double>(-kInf)) == "-inf");
  const std::vector<int64_t> shape = {2, 3, 5}, none;
  CHECK(place_text(shape, 29) == "[1, 2, 4]");
  CHECK(place_text(shape, 7) == "[0, 1, 2]");
  CHECK(place_text(none, 0) == "[]");
}

TEST_CASE("a weight that is not finite is named with its file", "[weights]") {
  const TempFolder folder;
  const auto fault = [&](Model& model, const fs::path& adapter = {}) {
    return error_of([&] { check_finite(model, folder / "m", adapter); });
  };
  const std::string in_file = shown(folder / "m" / "model.safetensors") + ": tensor \"" +
                              kProjection + "\": element [70, 3] is ";
  save_with(folder / "m", 1);
  CHECK(fault(*load(folder / "m")) == "no error");
  const float value = GENERATE(kNan, kInf);
  save_with(folder / "m", value);
  CHECK(fault(*load(folder / "m")) == "4: " + in_file + (std::isnan(value) ? "nan" : "inf"));
  save_with(folder / "m", 99840);
  const auto model = load(folder / "m");
  CHECK(fault(*model) == "no error");
  place(*model, Device::kCPU, DType::kF16);
  CHECK(fault(*model) == "no error");  // no narrower than it was
  Tensor& narrow = value_of(*model, kProjection);
  narrow = cast(cast(narrow, DType::kF32), DType::kF16);
  CHECK(fault(*model) == "4: " + in_file + "99840, more than fp16 holds (65504)");

  // A trained value of an adapter, in its file and since.
  const auto adapted = tiny_model();
  save_with(folder / "m", 1);
  write_adapter(*adapted, folder / "a", give_lora(*adapted), "");
  const std::string b = "transformer.h.0.attn.c_proj.lora_B.weight";
  value_of(*adapted, b).data<float>()[4] = value;
  CHECK(fault(*adapted, folder / "a") ==
        "4: " + b + ": a value is " + (std::isnan(value) ? "nan" : "inf"));
  CHECK(error_of([&] { write_adapter(*adapted, folder / "b", {.rank = 3}, ""); }) ==
        "4: tensor \"base_model.model." + b + "\": element [1, 1] would be written as " +
            (std::isnan(value) ? "nan" : "inf"));
}

TEST_CASE("an error of numbers names the weight that made it", "[weights]") {
  const TempFolder folder;
  save_with(folder / "m", kNan);
  const auto model = load(folder / "m");
  const auto failing = [&](Exit code) {
    return error_of(
        [&] { naming_weights(*model, folder / "m", {}, [&] { fail(code, "the loss is nan"); }); });
  };
  CHECK_THAT(failing(Exit::kNumeric),
             Catch::StartsWith("4: the loss is nan; " + shown(folder / "m")) &&
                 Catch::EndsWith("element [70, 3] is nan"));
  CHECK(failing(Exit::kIo) == "6: the loss is nan");
  CHECK(naming_weights(*model, folder / "m", {}, [] { return 7; }) == 7);
}

TEST_CASE("a cast that loses a value is an error, and nothing is written", "[weights]") {
  const TempFolder folder;
  const std::string tensor = "tensor \"" + kProjection + "\": element [70, 3] would be written as ";
  const auto adapter_of = [&] {
    const auto model = load(folder / "m");
    const LoraOptions options{.targets = {"c_proj"}};
    attach_lora(*model, options, 1);
    write_adapter(*model, folder / "a", options, "");
  };
  const auto merge = [&](std::optional<DType> dtype) {
    fs::create_directories(folder / "merged");
    const std::string error = error_of([&] {
      Merge(folder / "m", {{folder / "a", 1}}, dtype).write(folder / "merged", int64_t{1} << 30);
    });
    CHECK(fs::exists(folder / "merged" / "model.safetensors") == (error == "no error"));
    fs::remove_all(folder / "merged");
    return error;
  };
  save_with(folder / "m", 99840);
  adapter_of();
  CHECK(merge(DType::kF16) ==
        "4: " + tensor + "inf: it is 99840 merged, more than fp16 holds (65504)");
  CHECK(merge(std::nullopt) == "no error");
  const auto model = load(folder / "m");
  CHECK(error_of([&] { save_weights(*model, folder / "saved", DType::kF16); }) ==
        "4: " + tensor + "inf: it is 99840, more than fp16 holds (65504)");
  CHECK_FALSE(fs::exists(folder / "saved" / "model.safetensors"));

  save_with(folder / "m", -kInf);
  CHECK(merge(std::nullopt) ==
        "4: " + tensor + "-inf: it is -inf in " + shown(folder / "m" / "model.safetensors"));
}

}  // namespace tenon::test
