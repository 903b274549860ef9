// SPDX-License-Identifier: Apache-2.0
// Adapters folded into the weights of their base, as PEFT's merge_and_unload does: W + scale B A, or
// what DoRA makes of it, biases, and modules that were trained whole. Several adapters add up: each
// changes a weight by what it alone would, times its own weight.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/stored_weights.h"

namespace tenon {

struct WeightedAdapter {
  std::filesystem::path folder;
  double weight = 1;
};

class Merge {
 public:
  // Reads the base (mapped) and the adapters. Each tensor keeps the dtype that it has in the base's
  // files, or has `dtype`. Throws Error(kInput) for adapters that do not fit, or whose biases have
  // no place in the base.
  Merge(const std::filesystem::path& base, const std::vector<WeightedAdapter>& adapters,
        std::optional<DType> dtype);

  // Writes config.json and the weights, in shards of at most `max_shard_bytes`. A weight is computed
  // in fp32 and rounded once. Throws Error(kNumeric) for one that is not finite.
  void write(const std::filesystem::path& folder, int64_t max_shard_bytes) const;

  int64_t parameters() const;
  bool unties_head() const { return unties_head_; }  // config.json says so

 private:
  // One adapter on a model of its own, whose base weights are mapped as well.
  struct Part {
    std::unique_ptr<Model> model;
    double weight = 1;
    std::filesystem::path folder;
  };
  // A tensor of the result, and where its values come from: one Parameter and Linear (or none) of
  // the base and of each part.
  struct Source {
    std::string path;
    DType dtype = DType::kF32;
    Parameter* base = nullptr;
    const TensorEntry* stored = nullptr;  // the base's, or null where the adapters made it
    std::vector<const Parameter*> own;    // by part; null where it leaves the base's value
    std::vector<const Linear*> adapted;   // by part; null where this is no weight or bias it adapts
    bool is_bias = false;
  };
  void find_sources(std::optional<DType> dtype);
  Tensor value_of(const Source& source, DType dtype) const;
  std::string origin_of(const Source& source, int64_t index) const;
  void write_config(const std::filesystem::path& folder) const;

  std::filesystem::path folder_;
  std::optional<DType> dtype_;
  std::unique_ptr<Model> base_;
  WeightFiles files_;  // of the base
  std::vector<Part> parts_;
  std::vector<Source> sources_;
  bool unties_head_ = false;
};

}  // namespace tenon
