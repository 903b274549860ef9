// SPDX-License-Identifier: Apache-2.0
#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/error.h"
#include "models/family_parts.h"

namespace tenon {
namespace {

constexpr double kMostFactor = 1e6;

// The object with the scaling's fields, whichever of its two names it has; nothing where neither says
// anything.
std::optional<JsonObject> rope_object(const JsonObject& config) {
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    std::optional<JsonObject> object = stated_object(config, name);
    if (!object) continue;
    for (const std::string& key : object->keys()) {
      if (object->find(key)->is_object())
        config.reject(name, "one set of parameters for all layers");
    }
    return object;
  }
  return std::nullopt;
}

// YaRN's temperature (Peng et al. 2023, arXiv:2309.00071, eq. 22).
double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

}  // namespace

Rope::Rope(const JsonObject& config, int64_t head_size, int64_t positions)
    : head_size_(head_size), positions_(positions) {
  if (head_size % 2 != 0) config.reject("head_dim", "an even number (heads are rotated in pairs)");
  theta_ = config.number("rope_theta", 1e-6, 1e15, 10000);
  const std::optional<JsonObject> rope = rope_object(config);
  const JsonObject& any = rope ? *rope : config;
  if (any.number("partial_rotary_factor", 0, 1, 1) != 1)
    any.reject("partial_rotary_factor", "1 (all of a head is rotated)");
  if (!rope) return;
  theta_ = rope->optional_number("rope_theta", 1e-6, 1e15).value_or(theta_);
  const char* const key = rope->has("rope_type") ? "rope_type" : "type";
  const std::string type =
      rope->choice(key, {"default", "linear", "dynamic", "llama3", "yarn"}, "default");
  if (type == "default") return;
  original_ = static_cast<double>(positions);
  if (type == "linear" || type == "dynamic") {
    type_ = type == "linear" ? Type::kLinear : Type::kDynamic;
    factor_ = rope->number("factor", 1e-3, kMostFactor);
    if (type_ == Type::kDynamic && head_size < 4)
      config.reject("head_dim", "at least 4 for rope type \"dynamic\"");
    return;
  }
  // A field of the model itself comes first, as in transformers.
  for (const JsonObject* object : {&*rope, &config}) {
    original_ = static_cast<double>(
        object->optional_integer("original_max_position_embeddings", 1, int64_t{1} << 40)
            .value_or(static_cast<int64_t>(original_)));
  }
  if (type == "llama3") {
    type_ = Type::kLlama3;
    factor_ = rope->number("factor", 1e-3, kMostFactor);
    low_ = rope->number("low_freq_factor", 1e-3, kMostFactor);
    high_ = rope->number("high_freq_factor", 1e-3, kMostFactor);
    if (high_ <= low_) rope->reject("high_freq_factor", "more than low_freq_factor");
    return;
  }
  type_ = Type::kYarn;
  factor_ = rope->optional_number("factor", 1e-3, kMostFactor)
                .value_or(static_cast<double>(positions) / original_);
  const auto or_default = [&](const char* name, double fallback) {
    const double value = rope->optional_number(name, 0, kMostFactor).value_or(fallback);
    return value == 0 ? fallback : value;
  };
  beta_fast_ = or_default("beta_fast", 32);
  beta_slow_ = or_default("beta_slow", 1);
  truncate_ = rope->boolean("truncate", true);
  const double mscale = rope->optional_number("mscale", 0, kMostFactor).value_or(0);
  const double all = rope->optional_number("mscale_all_dim", 0, kMostFactor).value_or(0);
  const double inferred = mscale != 0 && all != 0
                              ? yarn_scale(factor_, mscale) / yarn_scale(factor_, all)
                              : yarn_scale(factor_, 1);
  attention_factor_ = rope->optional_number("attention_factor", 0, kMostFactor).value_or(inferred);
}

int64_t Rope::max_positions() const {
  const bool stretches = (type_ == Type::kLinear || type_ == Type::kDynamic) && factor_ > 1;
  const double most = static_cast<double>(positions_) * (stretches ? factor_ : 1);
  return static_cast<int64_t>(std::min(most, 0x1p31 - 1));
}

std::vector<double> Rope::inverse_frequencies(int64_t longest) const {
  const auto size = static_cast<double>(head_size_);
  double theta = theta_;
  if (type_ == Type::kDynamic) {
    const double length = static_cast<double>(std::max(longest, positions_));
    const double stretch = factor_ * length / static_cast<double>(positions_) - (factor_ - 1);
    theta *= std::pow(stretch, size / (size - 2));
  }
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_size_ / 2; ++i)
    frequencies.push_back(std::pow(theta, -static_cast<double>(2 * i) / size));

  if (type_ == Type::kLinear) {
    for (double& f : frequencies) f /= factor_;
  } else if (type_ == Type::kLlama3) {
    for (double& f : frequencies) {
      const double wavelength = 2 * std::numbers::pi / f;
      const double smooth = (original_ / wavelength - low_) / (high_ - low_);
      const double kept = std::clamp(smooth, 0.0, 1.0);
      f = (1 - kept) * f / factor_ + kept * f;
    }
  } else if (type_ == Type::kYarn) {
    const auto dimension_of = [&](double rotations) {
      return size * std::log(original_ / (rotations * 2 * std::numbers::pi)) /
             (2 * std::log(theta_));
    };
    double low = dimension_of(beta_fast_), high = dimension_of(beta_slow_);
    if (truncate_) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0);
    high = std::min(high, size - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      frequencies[i] *= ramp / factor_ + (1 - ramp);
    }
  }
  return frequencies;
}

RopeTables Rope::make(int64_t longest, int64_t rows) const {
  const std::vector<double> frequencies = inverse_frequencies(longest);
  const auto pairs = static_cast<int64_t>(frequencies.size());
  const Shape shape{rows, pairs};
  RopeTables tables = {Tensor::empty(shape, DType::kF32, MemoryKind::kWeights),
                       Tensor::empty(shape, DType::kF32, MemoryKind::kWeights)};
  float *cosines = tables.cosines.data<float>(), *sines = tables.sines.data<float>();
  for (int64_t p = 0; p < rows; ++p) {
    for (int64_t i = 0; i < pairs; ++i) {
      // The angle is rounded to fp32, as models are trained with: at position 100,000 that is 0.004.
      const float angle =
          static_cast<float>(p) * static_cast<float>(frequencies[static_cast<size_t>(i)]);
      cosines[p * pairs + i] = static_cast<float>(attention_factor_ * std::cos(double{angle}));
      sines[p * pairs + i] = static_cast<float>(attention_factor_ * std::sin(double{angle}));
    }
  }
  return tables;
}

RopeTables Rope::tables(int64_t longest, Device device) const {
  const int64_t made_for = type_ == Type::kDynamic && longest > positions_ ? longest : 0;
  const std::lock_guard lock(cache_->mutex);
  RopeTables& kept = cache_->tables;
  if (!kept.cosines.defined() || kept.cosines.dim(0) < longest || kept.cosines.device() != device ||
      cache_->made_for != made_for) {
    int64_t rows = 256;
    while (rows < longest) rows *= 2;
    const RopeTables host = make(longest, std::max(longest, std::min(rows, max_positions())));
    kept = {host.cosines.to(device, MemoryKind::kWeights),
            host.sines.to(device, MemoryKind::kWeights)};
    cache_->made_for = made_for;
  }
  return kept;
}

}  // namespace tenon
