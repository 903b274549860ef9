// SPDX-License-Identifier: Apache-2.0
#include "text/chat/template_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "core/json.h"
#include "text/chat/chat_builtins.h"
#include "text/jinja/template.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMain = "chat_template.jinja";

std::string text_of(const fs::path& file) { return read_text(file, jinja::Template::kMaxBytes); }

TemplateSource of_files(const std::vector<fs::path>& files) {
  const std::string where = shown(files.front());
  TemplateSource source{.where = where, .main = {"", where, text_of(files.front())}};
  for (size_t i = 1; i < files.size(); ++i)
    source.additional.push_back({files[i].stem().string(), shown(files[i]), text_of(files[i])});
  return source;
}

// `chat_template` of tokenizer_config.json: a string, or a list of {name, template}.
std::optional<TemplateSource> of_config(const fs::path& path) {
  const JsonObject config = JsonObject::read(path);
  const Json* value = config.find("chat_template");
  if (!value || value->is_null()) return std::nullopt;
  TemplateSource source{.where = config.where() + ": chat_template", .in_config = true};
  if (value->is_string()) {
    source.main = {"", source.where, value->get<std::string>()};
    return source;
  }
  if (!value->is_array()) config.reject("chat_template", "a string or a list of templates");
  bool found = false;
  for (const Json& entry : *value) {
    const JsonObject one(entry, source.where);
    const std::string name = one.text("name");
    TemplateText text{name, fmt::format("{} \"{}\"", source.where, printable(name)),
                      one.text("template")};
    if (name == "default") {
      text.name.clear();
      source.main = std::move(text);
      found = true;
    } else {
      source.additional.push_back(std::move(text));
    }
  }
  if (!found) config.reject("chat_template", "a template of the name \"default\"");
  return source;
}

}  // namespace

const TemplateText* TemplateSource::for_tools() const {
  const auto found = std::find_if(additional.begin(), additional.end(),
                                  [](const TemplateText& one) { return one.name == "tool_use"; });
  return found == additional.end() ? nullptr : &*found;
}

bool TemplateSource::asks_date() const {
  const auto asks = [](const TemplateText& one) {
    return one.text.find("strftime_now") != std::string::npos;
  };
  return asks(main) || std::any_of(additional.begin(), additional.end(), asks);
}

std::vector<fs::path> template_files(const fs::path& folder) {
  if (!files::exists(folder / kMain)) return {};
  std::vector<fs::path> files = {folder / kMain};
  if (!files::is_folder(folder / kAdditionalTemplates)) return files;
  for (const fs::path& path : files::list(folder / kAdditionalTemplates)) {
    if (path.extension() == ".jinja") files.push_back(path);
  }
  std::sort(files.begin() + 1, files.end());
  return files;
}

std::optional<TemplateSource> model_template(const fs::path& folder) {
  const std::vector<fs::path> files = template_files(folder);
  if (!files.empty()) return of_files(files);
  const fs::path config = folder / "tokenizer_config.json";
  if (!files::exists(config)) return std::nullopt;
  return of_config(config);
}

TemplateSource named_template(const std::string& name_or_file) {
  std::vector<std::string> known;
  for (const ChatBuiltin& one : chat_builtins()) {
    known.emplace_back(one.name);
    if (one.name != name_or_file) continue;
    return {.where = name_or_file, .main = {"", name_or_file, std::string(one.source)}};
  }
  if (!files::exists(name_or_file)) {
    const std::string_view meant = nearest(name_or_file, known);
    fail_input("chat template \"{}\": expected a file, or one of {}{}", printable(name_or_file),
               fmt::format("{}", fmt::join(known, ", ")),
               meant.empty() ? "" : fmt::format("; did you mean {}?", meant));
  }
  return of_files({name_or_file});
}

void write_template(const TemplateSource& source, const fs::path& folder) {
  write_text_atomic(folder / kMain, source.main.text);
  if (source.additional.empty()) return;
  files::make_folders(folder / kAdditionalTemplates);
  for (const TemplateText& one : source.additional) {
    if (fs::path(one.name).filename() != one.name)
      fail_input("{}: expected a name that a file can have", one.where);
    write_text_atomic(folder / kAdditionalTemplates / (one.name + ".jinja"), one.text);
  }
}

}  // namespace tenon
