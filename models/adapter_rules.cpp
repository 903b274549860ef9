// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_rules.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "models/adapter_config.h"

namespace tenon {
namespace {

constexpr size_t kPatternBytes = 2048;
constexpr int64_t kRepetitions = 16;  // of counted repetitions, multiplied
constexpr int64_t kEndPatterns = 64;  // that are no plain names
constexpr const char* kPatternLetters = "\\^$*+?()[]{}|";

// How many copies of its parts a pattern's counted repetitions ask for: {2,3} and {5} make 15.
int64_t repetitions(const std::string& pattern) {
  int64_t product = 1;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '{') continue;
    int64_t most = 1, number = 0;
    for (++i; i < pattern.size() && pattern[i] != '}'; ++i) {
      const bool digit = pattern[i] >= '0' && pattern[i] <= '9';
      number = digit ? std::min<int64_t>(1000, 10 * number + (pattern[i] - '0')) : 0;
      most = std::max(most, number);
    }
    product = std::min<int64_t>(1'000'000, product * most);
  }
  return product;
}

// The flag of a field of adapter_config.json.
const char* flag_of(const std::string& field) {
  static const std::pair<const char*, const char*> kFlags[] = {
      {"target_modules", "--targets"},          {"exclude_modules", "--exclude-modules"},
      {"rank_pattern", "--rank-pattern"},       {"alpha_pattern", "--alpha-pattern"},
      {"modules_to_save", "--modules-to-save"}, {"layers_pattern", "--layers-pattern"}};
  for (const auto& [name, flag] : kFlags) {
    if (field == name) return flag;
  }
  return "--layers";
}

bool any_names(const std::vector<std::string>& names, const std::string& path) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return names_module(path, name); });
}

std::vector<std::string> segments_of(const std::string& path) {
  std::vector<std::string> segments(1);
  for (const char c : path) {
    if (c == '.') {
      segments.emplace_back();
    } else {
      segments.back() += c;
    }
  }
  return segments;
}

// The number of a segment that is one, of at most six digits; or -1.
int64_t number_of(const std::string& segment) {
  const bool digits =
      !segment.empty() && segment.size() <= 6 &&
      std::all_of(segment.begin(), segment.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? std::stoll(segment) : -1;
}

std::string module_of(const std::string& parameter) {
  const size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? "" : parameter.substr(0, dot);
}

// The path of every module that holds a parameter, directly or below it, and of the head.
std::set<std::string> modules_of(Model& model) {
  std::set<std::string> modules = {kHeadModule};
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    for (std::string module = module_of(path); !module.empty(); module = module_of(module))
      modules.insert(module);
  });
  return modules;
}

}  // namespace

PathPattern::PathPattern(const std::string& pattern, const std::string& where) {
  if (pattern.size() > kPatternBytes)
    fail_input("{}: a pattern of {} bytes, at most {} are read", where, pattern.size(),
               kPatternBytes);
  if (repetitions(pattern) > kRepetitions)
    fail_input("{}: \"{}\" repeats its parts more than {} times", where, printable(pattern),
               kRepetitions);
  try {
    // Breadth first: a backtracking search could be made to run for years.
    regex_.assign(pattern, std::regex_constants::ECMAScript | std::regex_constants::__polynomial);
  } catch (const std::regex_error&) {
    fail_input("{}: \"{}\" is not a regular expression that is understood", where,
               printable(pattern));
  }
}

EndPattern::EndPattern(const std::string& key, const std::string& where) : name_(key) {
  if (key.find_first_of(kPatternLetters) != std::string::npos)
    pattern_.emplace("(.*\\.)?(" + key + ")", where);
}

bool EndPattern::matches(const std::string& path) const {
  if (pattern_) return pattern_->matches(path);
  if (path.size() < name_.size()) return false;
  const size_t begin = path.size() - name_.size();
  if (begin > 0 && path[begin - 1] != '.') return false;
  return std::equal(name_.begin(), name_.end(), path.begin() + static_cast<std::ptrdiff_t>(begin),
                    [](char want, char is) { return want == '.' || want == is; });
}

bool names_module(const std::string& path, const std::string& entry) {
  return path == entry || path.ends_with("." + entry);
}

std::vector<std::string> linear_names(Model& model) {
  std::vector<std::string> names;
  model.visit_linears([&](const std::string& path, Linear&) {
    const std::string name = path.substr(path.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  });
  return names;
}

bool has_tied_head(Model& model) {
  bool own = false;
  model.visit_parameters(
      [&](const std::string& path, Parameter&) { own = own || path == kHeadWeight; });
  return !own;
}

AdapterRules::AdapterRules(const LoraOptions& options, std::string where)
    : options_(options), where_(std::move(where)) {
  const auto all = std::find(options_.targets.begin(), options_.targets.end(), "all-linear");
  all_ = all != options_.targets.end();
  if (all_) options_.targets.erase(all);
  if (!options_.target_pattern.empty())
    target_.emplace_back(options_.target_pattern, name_of("target_modules"));
  if (!options_.exclude_pattern.empty())
    exclude_.emplace_back(options_.exclude_pattern, name_of("exclude_modules"));
  for (const auto& [key, rank] : options_.ranks)
    ranks_.emplace_back(EndPattern(key, name_of("rank_pattern")), rank);
  for (const auto& [key, alpha] : options_.alphas)
    alphas_.emplace_back(EndPattern(key, name_of("alpha_pattern")), alpha);
  const auto no_name = [](const auto& entry) { return !entry.first.is_plain(); };
  if (std::count_if(ranks_.begin(), ranks_.end(), no_name) > kEndPatterns ||
      std::count_if(alphas_.begin(), alphas_.end(), no_name) > kEndPatterns) {
    fail_input("{}: more than {} regular expressions", name_of("rank_pattern"), kEndPatterns);
  }
  for (const std::string& name : options_.layers_pattern) {
    if (name.find_first_of(kPatternLetters) == std::string::npos) continue;
    fail_input("{}: expected the plain name of a list of blocks, got \"{}\"",
               name_of("layers_pattern"), printable(name));
  }
}

std::string AdapterRules::name_of(const char* field) const {
  return where_.empty() ? flag_of(field) : fmt::format("{}: field \"{}\"", where_, field);
}

bool AdapterRules::adapts(const std::string& path) const {
  if (any_names(options_.exclude, path) || (!exclude_.empty() && exclude_[0].matches(path)))
    return false;
  // A module that is trained whole has no factors, nor has anything in it.
  const auto lies_in = [&](const std::string& name) {
    return ("." + path + ".").find("." + name + ".") != std::string::npos;
  };
  if (std::any_of(options_.modules_to_save.begin(), options_.modules_to_save.end(), lies_in))
    return false;
  if (!target_.empty()) return target_[0].matches(path);
  return (all_ || any_names(options_.targets, path)) && in_layers(path);
}

// The number of a path's block is its first number behind two names, or behind one of the patterns.
bool AdapterRules::in_layers(const std::string& path) const {
  if (options_.layers.empty()) return true;
  const auto wanted = [&](int64_t layer) {
    const std::vector<int64_t>& layers = options_.layers;
    return std::find(layers.begin(), layers.end(), layer) != layers.end();
  };
  const std::vector<std::string> segments = segments_of(path);
  std::string before;
  std::vector<std::pair<std::string, int64_t>> numbers;  // by what stands before them
  for (size_t i = 0; i + 1 < segments.size(); ++i) {
    const int64_t number = number_of(segments[i]);
    if (number >= 0) numbers.emplace_back(before, number);
    before += (before.empty() ? "" : ".") + segments[i];
  }
  if (options_.layers_pattern.empty()) {
    for (const auto& [name, number] : numbers) {
      if (name.find('.') != std::string::npos) return wanted(number);
    }
    return false;
  }
  for (const std::string& pattern : options_.layers_pattern) {
    for (const auto& [name, number] : numbers) {
      if (names_module(name, pattern)) return wanted(number);
    }
  }
  return false;
}

// PEFT asks only that a module's path ends so; a parameter's modules are all that hold it.
bool AdapterRules::saves(const std::string& path) const {
  for (std::string module = module_of(path); !module.empty(); module = module_of(module)) {
    for (const std::string& name : options_.modules_to_save) {
      if (module.ends_with(name)) return true;
    }
  }
  return false;
}

int64_t AdapterRules::rank(const std::string& path) const {
  for (const auto& [pattern, rank] : ranks_) {
    if (pattern.matches(path)) return rank;
  }
  return options_.rank;
}

double AdapterRules::alpha(const std::string& path) const {
  for (const auto& [pattern, alpha] : alphas_) {
    if (pattern.matches(path)) return alpha;
  }
  return options_.alpha;
}

double AdapterRules::scale(const std::string& path) const {
  return lora_scale(alpha(path), rank(path), options_.rslora);
}

void AdapterRules::check_names(Model& model) const {
  const auto matches_linear = [&](const auto& matches) {
    bool found = false;
    model.visit_linears([&](const std::string& path, Linear&) { found = found || matches(path); });
    return found;
  };
  const std::string known = fmt::format("{}", fmt::join(linear_names(model), ", "));
  const auto need = [&](const char* field, const std::string& entry, const auto& matches) {
    if (matches_linear(matches)) return;
    fail_input("{}: no linear layer is named \"{}\" (this model has {})", name_of(field),
               printable(entry), known);
  };
  for (const std::string& name : options_.targets)
    need("target_modules", name, [&](const std::string& p) { return names_module(p, name); });
  for (const std::string& name : options_.exclude)
    need("exclude_modules", name, [&](const std::string& p) { return names_module(p, name); });
  for (size_t i = 0; i < ranks_.size(); ++i)
    need("rank_pattern", options_.ranks[i].first,
         [&](const std::string& p) { return ranks_[i].first.matches(p); });
  for (size_t i = 0; i < alphas_.size(); ++i)
    need("alpha_pattern", options_.alphas[i].first,
         [&](const std::string& p) { return alphas_[i].first.matches(p); });
  if (!all_ && options_.targets.empty() && target_.empty())
    fail_input("{}: expected at least one of {}", name_of("target_modules"), known);
}

void AdapterRules::check(Model& model) const {
  if (where_.empty()) check_names(model);
  const std::set<std::string> modules = modules_of(model);
  for (const std::string& name : options_.modules_to_save) {
    if (std::none_of(modules.begin(), modules.end(),
                     [&](const std::string& path) { return path.ends_with(name); }))
      fail_input("{}: no module is named \"{}\"", name_of("modules_to_save"), printable(name));
  }
  std::vector<std::string> linears;
  model.visit_linears([&](const std::string& path, Linear&) { linears.push_back(path); });
  if (std::none_of(linears.begin(), linears.end(),
                   [&](const std::string& path) { return adapts(path); })) {
    fail_input("{}: matches no linear layer of this model (it has {})", name_of("target_modules"),
               fmt::join(linear_names(model), ", "));
  }
  // Embeddings and the head are matrices that are no linear of a block.
  const auto refuse = [&](const std::string& path) {
    if (!adapts(path) || (all_ && !any_names(options_.targets, path))) return;
    fail_input("{}: matches {}, but only linear layers of blocks can have an adapter",
               name_of("target_modules"), path);
  };
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    const std::string module = module_of(path);
    const bool linear = std::find(linears.begin(), linears.end(), module) != linears.end();
    if (!parameter.adapter && !parameter.vector && !linear && module != kHeadModule) refuse(module);
  });
  refuse(kHeadModule);
}

}  // namespace tenon
