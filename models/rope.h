// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) as transformers' configurations
// describe it, the half-split form: element i of a head turns with element i + D/2 by the angle
// position * frequency(i).
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/tensor.h"

namespace tenon {

// Cosines and sines of the angles: row p is that of position p.
struct RopeTables {
  Tensor cosines, sines;  // (rows, D / 2), fp32
};

class Rope {
 public:
  // Reads `rope_parameters` (transformers 5), or `rope_scaling` and `rope_theta`, for heads of
  // `head_size` elements and a model trained on `positions`. Types: default, linear, dynamic (NTK),
  // llama3, yarn; others are refused by name. Throws Error(kInput).
  Rope(const JsonObject& config, int64_t head_size, int64_t positions);

  // Tables of at least `longest` rows, for sequences whose largest position is below that. They
  // depend on `longest` for the dynamic type only, and only past the trained positions. Made when
  // first asked for; safe to call from several threads.
  RopeTables tables(int64_t longest, Device device) const;

  // Positions that the model can be used with: the trained ones, times the factor where scaling is
  // meant to go past them (linear, dynamic).
  int64_t max_positions() const;

 private:
  std::vector<double> inverse_frequencies(int64_t longest) const;
  RopeTables make(int64_t longest, int64_t rows) const;

  enum class Type { kDefault, kLinear, kDynamic, kLlama3, kYarn };
  Type type_ = Type::kDefault;
  int64_t head_size_, positions_;
  double theta_ = 10000, factor_ = 1, original_ = 0, attention_factor_ = 1;
  double low_ = 1, high_ = 4;              // llama3: low_freq_factor, high_freq_factor
  double beta_fast_ = 32, beta_slow_ = 1;  // yarn
  bool truncate_ = true;                   // yarn

  struct Cache {
    std::mutex mutex;
    RopeTables tables;
    int64_t made_for = 0;  // a `longest` past the trained positions of the dynamic type; else 0
  };
  std::unique_ptr<Cache> cache_ = std::make_unique<Cache>();
};

}  // namespace tenon
