// SPDX-License-Identifier: Apache-2.0
// The --config file and the run folder's config.yaml, made from the table of options.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "train/options.h"

namespace tenon {
namespace {

using Words = std::vector<std::string>;

std::string normalized(std::string key) {
  std::replace(key.begin(), key.end(), '_', '-');
  return key;
}

Words words_of(const YAML::Node& node, bool list, const std::string& where) {
  if (node.IsNull()) return {};
  if (node.IsScalar()) return {node.Scalar()};
  Words words;
  if (node.IsMap() && list) {  // rank_pattern: {q_proj: 16}
    for (const auto& pair : node) {
      if (!pair.first.IsScalar() || !pair.second.IsScalar())
        fail_input("{}: expected names with plain values", where);
      words.push_back(pair.first.Scalar() + "=" + pair.second.Scalar());
    }
    return words;
  }
  if (!node.IsSequence()) fail_input("{}: expected a value or a list", where);
  for (const YAML::Node& item : node) {
    if (!item.IsScalar()) fail_input("{}: expected a list of plain values", where);
    words.push_back(item.Scalar());
  }
  return words;
}

// A path that begins as shells write a home folder, which no shell sees here.
bool begins_with_home(const std::string& path) {
  return path.starts_with('~') && path.find('/') != path.npos;
}

// "~/data" as HOME has it.
std::string expanded(const std::string& path) {
  if (!begins_with_home(path)) return path;
  if (!path.starts_with("~/"))
    fail_input("only \"~/\" stands for a home folder here, got \"{}\"", printable(path));
  const char* const home = std::getenv("HOME");
  if (home == nullptr || *home == '\0')
    fail_input("\"{}\": HOME is not set, so \"~/\" leads nowhere", printable(path));
  return home + path.substr(1);
}

// What expanded() gives back as it was.
std::string unexpanded(const std::string& path) {
  return begins_with_home(path) ? "./" + path : path;
}

template <class Change>
Words changed(Words words, Change change) {
  std::transform(words.begin(), words.end(), words.begin(), change);
  return words;
}

}  // namespace

void read_config_file(const std::filesystem::path& path, TrainOptions& options) {
  options.config = path.string();
  const std::string text = read_text(path, int64_t{1} << 20);
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    fail_input("{}:{}:{}: invalid YAML: {}", shown(path), e.mark.line + 1, e.mark.column + 1,
               printable(e.msg));
  }
  if (!root.IsMap()) fail_input("{}: expected lines of \"name: value\"", shown(path));
  Words known;
  for (const OptionRow& row : option_rows()) known.push_back(row.name);
  std::set<std::string> seen;
  for (const auto& pair : root) {
    const std::string key = normalized(pair.first.Scalar());
    const std::string where = fmt::format("{}:{}", shown(path), pair.first.Mark().line + 1);
    const auto row = std::find_if(option_rows().begin(), option_rows().end(),
                                  [&](const OptionRow& r) { return key == r.name; });
    if (row == option_rows().end()) {
      const std::string_view meant = nearest(key, known);
      fail_input("{}: unknown name \"{}\"{}", where, printable(key),
                 meant.empty() ? "" : fmt::format(" (did you mean {}?)", meant));
    }
    if (!seen.insert(key).second) fail_input("{}: \"{}\" is given twice", where, printable(key));
    const Words words = words_of(pair.second, row->kind == OptionRow::kList, where);
    if (words.empty() && row->kind != OptionRow::kList)
      continue;  // "name:" alone keeps the default
    try {
      row->set(options, row->path ? changed(words, expanded) : words);
    } catch (const Error& e) {
      fail_input("{}: {}", where, e.what());
    }
  }
}

std::string config_text(const TrainOptions& options) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const OptionRow& row : option_rows()) {
    const Words words = row.path ? changed(row.get(options), unexpanded) : row.get(options);
    out << YAML::Key << row.name << YAML::Value;
    if (row.kind == OptionRow::kList) {
      out << YAML::Flow << words;
    } else if (words.front().empty()) {
      out << YAML::Null;
    } else {
      out << words.front();
    }
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace tenon
