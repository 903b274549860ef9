// SPDX-License-Identifier: Apache-2.0
// A case of `tenon verify` as it lies in its folder (tests/reference/README.md says what stands in
// it): read as far as it goes, and checked, so that a broken case is bad input and not a crash.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/safetensors.h"
#include "models/weights.h"

namespace tenon {

struct Case {
  std::filesystem::path folder, model;
  std::optional<SafetensorsFile> inputs, steps, expected;  // where they are there
  JsonObject facts;                                        // expected.json, or nothing
  DType precision;
  Quantization quantization = Quantization::kNone;
  Device device = Device::kCPU;
  bool has_kink = false;  // the activation's derivative jumps (ReLU)
};

// `model`: a model folder instead of the case's own, or "". Throws Error(kInput).
Case open_case(const std::filesystem::path& folder, const std::string& model, DType precision);

// The batch as the model sees it: labels shifted to targets (position t is scored against label t +
// 1).
struct CaseBatch {
  Context context;
  Tensor targets;
  int64_t scored = 0;
};
CaseBatch make_batch(const Case& c, const Model& model, const Tensor& ids, const Tensor& labels);

// A tensor of token ids or labels, (B, T) I32 or I64, as I32.
Tensor int_tensor(const SafetensorsFile& file, const std::string& name);

// The expected fp32 values of that name, or nothing where the case has none.
std::optional<std::vector<float>> expected_values(const Case& c, const std::string& name,
                                                  int64_t elements);

// A list of numbers in expected.json; empty where it is absent.
std::vector<double> numbers(const JsonObject& facts, const std::string& key);

}  // namespace tenon
