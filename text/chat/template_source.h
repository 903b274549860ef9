// SPDX-License-Identifier: Apache-2.0
// Where a chat template comes from, as text: what conversations are written by, what the tokens of a
// run depend on, and what is written beside a model so that others write prompts as it was trained.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tenon {

// The folder of a model's further templates.
inline constexpr const char* kAdditionalTemplates = "additional_chat_templates";

struct TemplateText {
  std::string name;   // "tool_use"; "" of the one that all else is written by
  std::string where;  // file, or file and field, or a built-in's name: for messages
  std::string text;
};

struct TemplateSource {
  std::string where;  // as a log names it: a file, perhaps with a field, or a built-in's name
  TemplateText main;
  std::vector<TemplateText> additional;  // by name
  bool in_config = false;                // it stands in tokenizer_config.json

  // The one for conversations with tools, where there is one beside the main one; else null.
  const TemplateText* for_tools() const;
  // Whether some template asks what day it is: the text that it writes is then another tomorrow.
  bool asks_date() const;
};

// The files of a model folder that hold its template: chat_template.jinja and
// additional_chat_templates/*.jinja, as far as they are there. tokenizer_config.json, which may hold
// one too, is a tokenizer's file (tokenizer_files.h).
std::vector<std::filesystem::path> template_files(const std::filesystem::path& folder);

// The template of a model folder: chat_template.jinja with those of additional_chat_templates, or
// else `chat_template` of tokenizer_config.json, one text or several by name. Nothing where it has
// none. Throws Error(kInput) with file and field.
std::optional<TemplateSource> model_template(const std::filesystem::path& folder);

// A built-in template, or that of a file. Throws Error(kInput) listing the built-ins' names.
TemplateSource named_template(const std::string& name_or_file);

// Writes it into a folder in the files where model_template() and transformers look for it.
void write_template(const TemplateSource& source, const std::filesystem::path& folder);

}  // namespace tenon
