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

constexpr int64_t kEndPatterns = 64;  // that are no plain names
constexpr const char* kPatternLetters = "\\^$*+?()[]{}|";

bool is_plain_name(const std::string& name) {
  return name.find_first_of(kPatternLetters) == std::string::npos;
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

EndPattern::EndPattern(const std::string& key, const std::string& where) : name_(key) {
  if (!is_plain_name(key)) pattern_.emplace("(.*\\.)?(" + key + ")", where);
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

template <class Number>
ByModule<Number>::ByModule(const std::vector<std::pair<std::string, Number>>& entries,
                           const std::string& where) {
  for (const auto& [key, number] : entries) entries_.emplace_back(EndPattern(key, where), number);
  if (std::count_if(entries_.begin(), entries_.end(),
                    [](const auto& entry) { return !entry.first.is_plain(); }) > kEndPatterns)
    fail_input("{}: more than {} regular expressions", where, kEndPatterns);
}

template <class Number>
std::optional<Number> ByModule<Number>::find(const std::string& path) const {
  for (const auto& [pattern, number] : entries_) {
    if (pattern.matches(path)) return number;
  }
  return std::nullopt;
}
template class ByModule<int64_t>;
template class ByModule<double>;

AdapterRules::AdapterRules(const LoraOptions& options) : options_(options) { understand(); }

AdapterRules::AdapterRules(const LoraOptions& options, std::string where,
                           std::map<std::string, int64_t> ranks)
    : options_(options), where_(std::move(where)), stored_(std::move(ranks)) {
  understand();
}

void AdapterRules::understand() {
  const auto all = std::find(options_.targets.begin(), options_.targets.end(), "all-linear");
  all_ = all != options_.targets.end();
  if (all_) options_.targets.erase(all);
  // What is not understood is left to the tensors where there are some.
  const auto unless_stored = [&](bool& as_stored, const auto& compile) {
    try {
      compile();
    } catch (const UnsupportedPattern&) {
      if (!stored_) throw;
      as_stored = true;
    }
  };
  unless_stored(modules_as_stored_, [&] {
    if (!options_.target_pattern.empty())
      target_.emplace(options_.target_pattern, name_of("target_modules"));
    if (!options_.exclude_pattern.empty())
      exclude_.emplace(options_.exclude_pattern, name_of("exclude_modules"));
    for (const std::string& name : options_.layers_pattern) {
      if (is_plain_name(name)) continue;
      throw UnsupportedPattern(
          Exit::kInput, fmt::format("{}: expected the plain name of a list of blocks, got \"{}\"",
                                    name_of("layers_pattern"), printable(name)));
    }
  });
  unless_stored(ranks_as_stored_,
                [&] { ranks_ = ByModule<int64_t>(options_.ranks, name_of("rank_pattern")); });
  alphas_ = ByModule<double>(options_.alphas, name_of("alpha_pattern"));
}

std::string AdapterRules::name_of(const char* field) const {
  return where_.empty() ? flag_of(field) : fmt::format("{}: field \"{}\"", where_, field);
}

bool AdapterRules::adapts(const std::string& path) const {
  if (modules_as_stored_) return stored_->contains(path);
  return adapts_in_any_block(path) && (target_ || in_layers(path));
}

bool AdapterRules::adapts_in_any_block(const std::string& path) const {
  if (any_names(options_.exclude, path) || (exclude_ && exclude_->matches(path))) return false;
  // A module that is trained whole has no factors, nor has anything in it.
  const auto lies_in = [&](const std::string& name) {
    return ("." + path + ".").find("." + name + ".") != std::string::npos;
  };
  if (std::any_of(options_.modules_to_save.begin(), options_.modules_to_save.end(), lies_in))
    return false;
  return target_ ? target_->matches(path) : all_ || any_names(options_.targets, path);
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
  if (ranks_as_stored_) {
    const auto stored = stored_->find(path);
    if (stored != stored_->end()) return stored->second;
  }
  return ranks_.find(path).value_or(options_.rank);
}

double AdapterRules::alpha(const std::string& path) const {
  return alphas_.find(path).value_or(options_.alpha);
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
  const auto need_pattern = [&](const char* field, const std::string& key) {
    const EndPattern pattern(key, name_of(field));
    need(field, key, [&](const std::string& p) { return pattern.matches(p); });
  };
  for (const auto& [key, rank] : options_.ranks) need_pattern("rank_pattern", key);
  for (const auto& [key, alpha] : options_.alphas) need_pattern("alpha_pattern", key);
  for (const int64_t layer : options_.layers) {
    if (layer < model.blocks()) continue;
    fail_input("{}: there is no block {} in this model, which has {} (the first is 0)",
               name_of("layers_to_transform"), layer, model.blocks());
  }
  if (!all_ && options_.targets.empty() && !target_)
    fail_input("{}: expected at least one of {}", name_of("target_modules"), known);
}

// Where linears would get an adapter but for the numbers of their blocks: says so.
void AdapterRules::check_layers(Model& model) const {
  if (options_.layers.empty() || target_ || modules_as_stored_) return;
  bool meant = false;
  model.visit_linears(
      [&](const std::string& path, Linear&) { meant = meant || adapts_in_any_block(path); });
  if (!meant) return;
  const std::vector<int64_t>& layers = options_.layers;
  if (std::any_of(layers.begin(), layers.end(),
                  [&](int64_t layer) { return layer < model.blocks(); })) {
    if (options_.layers_pattern.empty()) return;
    fail_input("{}: no list of blocks in this model is named so: {}", name_of("layers_pattern"),
               printable(fmt::format("{}", fmt::join(options_.layers_pattern, ", "))));
  }
  fail_input("{}: there is no block {} in this model, which has {} (the first is 0)",
             name_of("layers_to_transform"), fmt::join(layers, ", "), model.blocks());
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
    check_layers(model);
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
