// SPDX-License-Identifier: Apache-2.0
#include "train/identity.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <span>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "train/data.h"
#include "train/schedule.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

std::string hash_text(const std::string& text) {
  return hex(hash_bytes(std::as_bytes(std::span(text))));
}

// The configuration and the weights of a model or an adapter; whatever the order in which the system
// lists them.
std::string model_content(const std::string& folder) {
  if (folder.empty()) return "none";
  std::set<std::string> parts;
  for (const fs::path& path : files::list(folder)) {
    const std::string name = path.filename().string();
    const fs::path extension = path.extension();
    if (name == "config.json" || name == "adapter_config.json" || extension == ".safetensors" ||
        extension == ".bin") {
      parts.insert(fmt::format("{} {}\n", name, hex(fingerprint_file(path))));
    }
  }
  std::string all;
  for (const std::string& part : parts) all += part;
  return hash_text(all);
}

std::string files_content(const std::vector<std::string>& files) {
  std::string all;
  for (const std::string& file : files) {
    all += fs::path(file).extension().string() + " " + hex(fingerprint_file(file)) + "\n";
  }
  return files.empty() ? "none" : hash_text(all);
}

// An identity's lines, by name; what explains has its "?" in front.
std::map<std::string, std::string> parse(const std::string& identity) {
  std::map<std::string, std::string> facts;
  size_t begin = 0;
  for (size_t end; (end = identity.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = identity.substr(begin, end - begin);
    const size_t equals = std::min(line.find('='), line.size());
    facts.emplace(line.substr(0, equals), line.substr(std::min(equals + 1, line.size())));
  }
  return facts;
}

constexpr const char* kSteps = "steps";
constexpr const char* kWarmup = "warm-up steps";
constexpr const char* kGivenWarmup = "--warmup";

// The differences of two identities, for a message.
class Differences {
 public:
  Differences(const std::string& mine, const std::string& theirs)
      : now_(parse(mine)), then_(parse(theirs)) {
    for (const auto* facts : {&now_, &then_}) {
      for (const auto& [name, value] : *facts) names_.insert(name);
    }
  }

  std::string now(const std::string& name) const { return find(now_, name); }
  bool differ(const std::string& name) const { return find(now_, name) != find(then_, name); }
  int64_t number(const std::string& name) const { return std::atoll(now(name).c_str()); }

  // Names a fact where it differs.
  void compare(const std::string& name, const std::string& why = "") {
    if (!differ(name)) return;
    text_ += fmt::format("{}{}: now {}, then {}{}", text_.empty() ? "" : "; ",
                         name.substr(name.starts_with('?') ? 1 : 0), find(now_, name),
                         find(then_, name), why);
  }
  // The same of all that decide, but for those of the run's length; then of what explains it.
  void compare_rest() {
    for (const std::string& name : names_) {
      if (!name.starts_with('?') && name != kSteps && name != kWarmup && name != kGivenWarmup)
        compare(name);
    }
    if (text_.empty()) return;
    for (const std::string& name : names_) {
      if (name.starts_with('?')) compare(name);
    }
  }
  const std::string& text() const { return text_; }

 private:
  static std::string find(const std::map<std::string, std::string>& facts,
                          const std::string& name) {
    const auto found = facts.find(name);
    return found == facts.end() ? "(nothing)" : found->second;
  }

  std::map<std::string, std::string> now_, then_;
  std::set<std::string> names_;
  std::string text_;
};

void replace_line(std::string& identity, const std::string& name, const std::string& value) {
  const size_t at = identity.find("\n" + name + "=") + 1, end = identity.find('\n', at);
  identity.replace(at, end - at, name + "=" + value);
}

}  // namespace

Facts Contents::all() const {
  Facts all = sources;
  all.insert(all.end(), facts.begin(), facts.end());
  return all;
}

Facts flags_of(const TrainOptions& options) {
  Facts facts;
  for (const OptionRow& row : option_rows()) {
    if (row.counts == Counts::kContent || row.counts == Counts::kRank) continue;
    facts.emplace_back(std::string("--") + row.name, value_text(row, options));
  }
  return facts;
}

Contents contents_of(const TrainOptions& options, const TokenDigests& tokens) {
  return {{{"model content", model_content(options.model)},
           {"adapter content", model_content(options.adapter)},
           {"tokens", tokens.train},
           {"validation tokens", tokens.validation}},
          {{"tokenizer", hex(tokens.tokenizer)},
           {"chat template", hex(template_fingerprint(options, options.model, options.adapter))},
           {"data content", files_content(options.data)},
           {"validation content", files_content(options.val)}}};
}

std::string identity_text(const TrainOptions& resolved, const Contents& contents, int64_t steps) {
  std::string text;
  const auto line = [&](const std::string& name, std::string value) {
    std::replace(value.begin(), value.end(), '\n', ' ');  // a line is a fact
    text += fmt::format("{}={}\n", name, value);
  };
  for (const auto& [name, value] : contents.facts) line(name, value);
  for (const OptionRow& row : option_rows()) {
    const std::string name = std::string("--") + row.name;
    if (row.counts == Counts::kResult) line(name, value_text(row, resolved));
    if (row.counts == Counts::kTokens) line("?" + name, value_text(row, resolved));
  }
  line(kSteps, std::to_string(steps));
  line(kWarmup, std::to_string(warmup_steps(resolved.warmup, steps)));
  line(kGivenWarmup, fmt::format("{}", resolved.warmup));
  for (const auto& [name, value] : contents.sources) line("?" + name, value);
  return text;
}

std::string resumed_identity(const std::string& mine, const std::string& theirs,
                             const fs::path& checkpoint, int64_t step) {
  Differences differences(mine, theirs);
  differences.compare_rest();
  const std::string schedule = differences.now("--schedule");
  std::string identity = mine;
  if (differences.differ(kSteps) && schedule != "constant") {
    differences.compare(
        kSteps, fmt::format(" (with --schedule {} the learning rates follow from the number "
                            "of steps: only a constant one is made longer)",
                            schedule));
  } else if (differences.number(kSteps) < step) {
    differences.compare(kSteps, fmt::format(" (the checkpoint stands at step {})", step));
  } else if (differences.differ(kSteps) && !differences.differ(kGivenWarmup)) {
    replace_line(identity, kWarmup, std::to_string(stated_warmup(theirs)));
  } else {
    differences.compare(kWarmup);
  }
  if (differences.text().empty()) return identity;
  fail(Exit::kEnvironment, "--resume {}: it belongs to another run: {}", shown(checkpoint),
       printable(differences.text(), 600));
}

int64_t stated_warmup(const std::string& identity) {
  const auto facts = parse(identity);
  const auto found = facts.find(kWarmup);
  return found == facts.end() ? 0 : std::atoll(found->second.c_str());
}

}  // namespace tenon
