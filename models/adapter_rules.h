// SPDX-License-Identifier: Apache-2.0
// Which modules of a model an adapter's options mean, by PEFT's rules
// (peft/tuners/tuners_utils.py, check_target_module_exists).
#pragma once

#include <optional>
#include <regex>

#include "models/adapter.h"

namespace tenon {

// A regular expression that a whole path must match, in time that is bounded by its length: one of
// many bytes or repetitions is refused. Throws Error(kInput), beginning with `where`.
class PathPattern {
 public:
  PathPattern(const std::string& pattern, const std::string& where);
  bool matches(const std::string& path) const { return std::regex_match(path, regex_); }

 private:
  std::regex regex_;
};

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

class AdapterRules {
 public:
  // `where` begins messages: the config's file, or "" where flags said it.
  AdapterRules(const LoraOptions& options, std::string where);

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
  void check_names(Model& model) const;

  LoraOptions options_;
  std::string where_;
  bool all_ = false;
  std::vector<PathPattern> target_, exclude_;  // one or none
  std::vector<std::pair<EndPattern, int64_t>> ranks_;
  std::vector<std::pair<EndPattern, double>> alphas_;
};

// PEFT's rule for an entry of a list: the whole path, or its end after a dot.
bool names_module(const std::string& path, const std::string& entry);

// The last parts of the linears' paths, each once: c_attn, c_proj, c_fc.
std::vector<std::string> linear_names(Model& model);

// Whether the head is the token embedding's matrix.
bool has_tied_head(Model& model);

inline constexpr const char* kHeadModule = "lm_head";
inline constexpr const char* kHeadWeight = "lm_head.weight";

}  // namespace tenon
