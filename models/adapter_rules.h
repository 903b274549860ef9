// SPDX-License-Identifier: Apache-2.0
// Which modules of a model an adapter's options mean, by PEFT's rules
// (peft/tuners/tuners_utils.py, check_target_module_exists).
#pragma once

#include <map>
#include <optional>

#include "models/adapter.h"
#include "models/path_pattern.h"

namespace tenon {

// A key of rank_pattern or alpha_pattern, which matches the end of a path after a dot. Nearly all are
// plain names: those cost no regular expression.
class EndPattern {
 public:
  EndPattern(const std::string& key, const std::string& where);
  bool matches(const std::string& path) const;
  bool is_plain() const { return !pattern_; }

 private:
  std::string name_;  // where it is plain; its dots match any character
  std::optional<PathPattern> pattern_;
};

// A number of single modules: rank_pattern's or alpha_pattern's.
template <class Number>
class ByModule {
 public:
  ByModule() = default;
  // `where` begins messages.
  ByModule(const std::vector<std::pair<std::string, Number>>& entries, const std::string& where);
  std::optional<Number> find(const std::string& path) const;  // the first that matches

 private:
  std::vector<std::pair<EndPattern, Number>> entries_;
};

class AdapterRules {
 public:
  // The rules of options that flags gave.
  explicit AdapterRules(const LoraOptions& options);
  // Those of the adapter whose config is the file `where`. `ranks` are those of the modules that its
  // tensors belong to: they decide where a pattern is one that Tenon does not understand.
  AdapterRules(const LoraOptions& options, std::string where, std::map<std::string, int64_t> ranks);

  // Whether the module at `path` gets low-rank factors, if it is a linear.
  bool adapts(const std::string& path) const;
  // Whether the base parameter at `path` ("lm_head.weight") lies in a module that is trained whole.
  bool saves(const std::string& path) const;
  int64_t rank(const std::string& path) const;
  double alpha(const std::string& path) const;
  double scale(const std::string& path) const;

  // Throws Error(kInput) for an option that means nothing in this model, or modules that get no
  // adapter; where flags gave the options, for every single name that does.
  void check(Model& model) const;

  // How messages call an option: `<where>: field "target_modules"` or "--targets".
  std::string name_of(const char* field) const;

 private:
  bool in_layers(const std::string& path) const;
  bool adapts_in_any_block(const std::string& path) const;
  void understand();
  void check_names(Model& model) const;
  void check_layers(Model& model) const;

  LoraOptions options_;
  std::string where_;
  bool all_ = false;
  std::optional<std::map<std::string, int64_t>> stored_;  // ranks by module; none for flags
  bool modules_as_stored_ = false, ranks_as_stored_ = false;
  std::optional<PathPattern> target_, exclude_;
  ByModule<int64_t> ranks_;
  ByModule<double> alphas_;
};

// PEFT's rule for an entry of a list: the whole path, or its end after a dot.
bool names_module(const std::string& path, const std::string& entry);

// The last parts of the linears' paths, each once: c_attn, c_proj, c_fc.
std::vector<std::string> linear_names(Model& model);

}  // namespace tenon
