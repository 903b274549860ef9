// SPDX-License-Identifier: Apache-2.0
#include "train/identity.h"

#include <algorithm>
#include <set>
#include <span>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "train/data.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

std::string hash_text(const std::string& text) {
  return hex(hash_bytes(std::as_bytes(std::span(text))));
}

std::string value_of(const OptionRow& row, const TrainOptions& options) {
  std::string value;
  for (const std::string& word : row.get(options)) value += (value.empty() ? "" : ",") + word;
  return value;
}

bool names_input(const std::string& name) {
  return name == "model" || name == "data" || name == "val" || name == "chat-template" ||
         name == "adapter";
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

Facts parse(const std::string& identity) {
  Facts facts;
  size_t begin = 0;
  for (size_t end; (end = identity.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = identity.substr(begin, end - begin);
    const size_t equals = std::min(line.find('='), line.size() - 1);
    if (!line.empty()) facts.emplace_back(line.substr(0, equals), line.substr(equals + 1));
  }
  return facts;
}

std::string find(const Facts& facts, const std::string& name) {
  for (const auto& [each, value] : facts) {
    if (each == name) return value;
  }
  return "(nothing)";
}

}  // namespace

Facts flags_of(const TrainOptions& options) {
  Facts facts;
  for (const OptionRow& row : option_rows()) {
    const std::string name = row.name;
    if (names_input(name) || name == "threads" || name == "quiet" || name == "log-every") continue;
    facts.emplace_back("--" + name, value_of(row, options));
  }
  return facts;
}

Facts contents_of(const TrainOptions& options, uint64_t tokenizer) {
  return {{"model content", model_content(options.model)},
          {"adapter content", model_content(options.adapter)},
          {"tokenizer", hex(tokenizer)},
          {"chat template", hex(template_fingerprint(options, options.model))},
          {"data content", files_content(options.data)},
          {"validation content", files_content(options.val)}};
}

std::string identity_text(const TrainOptions& resolved, const Facts& contents) {
  std::string text;
  for (const auto& [name, value] : contents) text += fmt::format("{}={}\n", name, value);
  for (const OptionRow& row : option_rows()) {
    if (row.machine || names_input(row.name)) continue;
    text += fmt::format("--{}={}\n", row.name, value_of(row, resolved));
  }
  return text;
}

void check_identity(const std::string& mine, const std::string& theirs,
                    const fs::path& checkpoint) {
  if (mine == theirs) return;
  const Facts now = parse(mine), then = parse(theirs);
  std::set<std::string> names;
  for (const Facts* facts : {&now, &then}) {
    for (const auto& [name, value] : *facts) names.insert(name);
  }
  std::string differences;
  for (const std::string& name : names) {
    if (find(now, name) == find(then, name)) continue;
    differences += fmt::format("{}{}: now {}, then {}", differences.empty() ? "" : "; ", name,
                               find(now, name), find(then, name));
  }
  fail(Exit::kEnvironment, "--resume {}: it belongs to another run: {}", shown(checkpoint),
       printable(differences, 400));
}

}  // namespace tenon
