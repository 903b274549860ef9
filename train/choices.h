// SPDX-License-Identifier: Apache-2.0
// Options with a few values by name: each name once, beside what it means.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "models/weights.h"
#include "text/data/documents.h"
#include "text/data/packing.h"
#include "train/options.h"
#include "train/schedule.h"
#include "train/update_rule.h"

namespace tenon {

template <class T>
struct Choice {
  const char* name;
  T value;
};

// What --precision stands for: the type of activations, and that of the matrices of a model that are
// trained. The first name of two that mean the same is the one that is written.
struct Precision {
  DType activations = DType::kF32, weights = DType::kF32;
  bool operator==(const Precision&) const = default;
};
inline constexpr Choice<Precision> kPrecisions[] = {{"fp32", {}},
                                                    {"bf16-mixed", {DType::kBF16, DType::kF32}},
                                                    {"fp16-mixed", {DType::kF16, DType::kF32}},
                                                    {"bf16", {DType::kBF16, DType::kBF16}},
                                                    {"fp16", {DType::kF16, DType::kF16}},
                                                    {"32-true", {}},
                                                    {"bf16-true", {DType::kBF16, DType::kBF16}},
                                                    {"16-true", {DType::kF16, DType::kF16}},
                                                    {"fp16-true", {DType::kF16, DType::kF16}},
                                                    {"16-mixed", {DType::kF16, DType::kF32}}};
inline constexpr Choice<Quantization> kQuantizations[] = {
    {"none", Quantization::kNone}, {"nf4", Quantization::kNf4}, {"int8", Quantization::kInt8}};
inline constexpr Choice<const UpdateRule*> kOptimizers[] = {
    {"adamw", &kAdamW}, {"adamw8bit", &kAdamW8bit}, {"adafactor", &kAdafactor}, {"sgd", &kSgd}};
// --weights: whether a frozen base is streamed from its files (models/base_stream.h).
inline constexpr Choice<bool> kBaseWeights[] = {{"map", false}, {"stream", true}};
inline constexpr Choice<bool> kUpdates[] = {{"after-backward", false}, {"in-backward", true}};
inline constexpr Choice<ScheduleKind> kSchedules[] = {{"cosine", ScheduleKind::kCosine},
                                                      {"linear", ScheduleKind::kLinear},
                                                      {"constant", ScheduleKind::kConstant}};
inline constexpr Choice<Packing> kPackings[] = {
    {"document", Packing::kDocument}, {"concat", Packing::kConcat}, {"none", Packing::kNone}};
inline constexpr Choice<Overlong> kOverlongs[] = {
    {"cut", Overlong::kCut}, {"drop", Overlong::kDrop}, {"error", Overlong::kError}};
inline constexpr Choice<TrainOn> kTrainOns[] = {
    {"all", TrainOn::kAll}, {"last", TrainOn::kLast}, {"everything", TrainOn::kEverything}};

template <class T, size_t N>
std::vector<std::string> names_of(const Choice<T> (&choices)[N]) {
  std::vector<std::string> names;
  for (const Choice<T>& choice : choices) names.emplace_back(choice.name);
  return names;
}

// What `name` means; nothing where it is not in the list.
template <class T, size_t N>
std::optional<T> named(const Choice<T> (&choices)[N], std::string_view name) {
  for (const Choice<T>& choice : choices) {
    if (choice.name == name) return choice.value;
  }
  return std::nullopt;
}

// What `name` means. Throws Error(kInput) naming `flag` for a name that is not in the list.
template <class T, size_t N>
T chosen(const Choice<T> (&choices)[N], std::string_view flag, std::string_view name) {
  if (const std::optional<T> value = named(choices, name)) return *value;
  fail_input("{}: no value is called \"{}\"", flag, printable(name));
}

// The first name of what `value` is. Requires: it is in the list.
template <class T, size_t N>
const char* name_in(const Choice<T> (&choices)[N], const T& value) {
  for (const Choice<T>& choice : choices) {
    if (choice.value == value) return choice.name;
  }
  TENON_CHECK(false, "[choices] a value without a name");
  return "";
}

// --checkpoint-activations as RunOptions::recompute_every. "true" and "false" are all and none, and
// "auto" is none where nobody has settled it. Throws Error(kInput).
inline int64_t recompute_every(const std::string& checkpoint) {
  if (checkpoint == "none" || checkpoint == "false" || checkpoint == "auto") return 0;
  if (checkpoint == "all" || checkpoint == "true") return 1;
  constexpr std::string_view kEvery = "every:";
  if (checkpoint.starts_with(kEvery)) {
    return parse_number<int64_t>("--checkpoint-activations every", checkpoint.substr(kEvery.size()),
                                 1, 1'000'000);
  }
  fail_input("--checkpoint-activations: expected none, all, every:K or auto, got \"{}\"",
             printable(checkpoint));
}

inline bool updates_in_backward(const TrainOptions& options) {
  return chosen(kUpdates, "--update", options.update);
}

inline Precision precision_of(const std::string& name) {
  return chosen(kPrecisions, "--precision", name);
}

// What --quantize and --double-quant ask for.
inline Quantization quantization_of(std::string_view quantize, bool doubled) {
  const Quantization stated = chosen(kQuantizations, "--quantize", quantize);
  if (doubled && stated != Quantization::kNf4 && stated != Quantization::kNone)
    fail_input("--double-quant: goes with nf4, got {}", quantize);
  return stated == Quantization::kNone || !doubled ? stated : Quantization::kDoubleNf4;
}

}  // namespace tenon
