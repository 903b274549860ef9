// SPDX-License-Identifier: Apache-2.0
#include "text/chat/chat_template.h"

#include <algorithm>
#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "core/json.h"
#include "text/chat/chat_builtins.h"
#include "text/chat/chat_spans.h"
#include "text/chat/template_source.h"
#include "text/jinja/template.h"
#include "text/tokenizer/special_tokens.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;
using jinja::Template;
using nlohmann::ordered_json;
using Tokens = std::vector<std::pair<std::string, ordered_json>>;  // name, text

Tokens tokens_of(const fs::path& folder) {
  Tokens tokens;
  for (const auto& [name, text] : special_token_texts(folder)) tokens.emplace_back(name, text);
  return tokens;
}

bool has(const Tokens& tokens, std::string_view name) {
  return std::any_of(tokens.begin(), tokens.end(), [&](auto& one) { return one.first == name; });
}

// Of the first folder that has one of the name.
Tokens tokens_of(const std::vector<fs::path>& folders) {
  Tokens tokens;
  for (const fs::path& folder : folders) {
    for (const auto& [name, text] : special_token_texts(folder)) {
      if (!has(tokens, name)) tokens.emplace_back(name, text);
    }
  }
  return tokens;
}

// "YYYY-MM-DD" or "YYYY-MM-DDTHH:MM:SS"; "" is nothing.
std::optional<std::tm> parse_date(const std::string& date) {
  if (date.empty()) return std::nullopt;
  std::tm time{};
  int used = 0;
  const int fields =
      std::sscanf(date.c_str(), "%4d-%2d-%2d%nT%2d:%2d:%2d%n", &time.tm_year, &time.tm_mon,
                  &time.tm_mday, &used, &time.tm_hour, &time.tm_min, &time.tm_sec, &used);
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  std::tm exact = time;
  // Days that do not exist would come back as others; UTC knows no hours that do not exist.
  const bool real = timegm(&exact) != -1 && exact.tm_mday == time.tm_mday &&
                    exact.tm_mon == time.tm_mon && exact.tm_hour == time.tm_hour &&
                    exact.tm_min == time.tm_min && exact.tm_sec == time.tm_sec;
  if ((fields != 3 && fields != 6) || used != static_cast<int>(date.size()) || !real ||
      time.tm_year < 0) {
    fail_input("date: expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, got \"{}\"", printable(date));
  }
  exact.tm_isdst = -1;
  return exact;
}

std::tm local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm time{};
  localtime_r(&now, &time);
  return time;
}

// transformers gives what a message calls its reasoning the names that templates read.
ordered_json with_reasoning_names(const ordered_json& message) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const auto found = message.find(name);
    if (found == message.end() || found->is_null()) continue;
    ordered_json named = ordered_json::object();
    named["thinking"] = *found;
    for (const auto& [key, value] : message.items()) named[key] = value;
    named["reasoning_content"] = *found;
    return named;
  }
  return message;
}

bool has_reasoning(const ordered_json& message) {
  return message.contains("reasoning_content") || message.contains("thinking") ||
         message.contains("reasoning");
}

// A template, and what it writes for the assistant to go on from.
class PromptedTemplate {
 public:
  PromptedTemplate(Template chosen, Tokens tokens)
      : template_(std::move(chosen)), tokens_(std::move(tokens)) {}

  jinja::Written write(const ordered_json& messages, bool add_generation_prompt,
                       const ordered_json& extra, const std::tm& now) const;
  // Of a conversation as small as it can be, written once; empty where the template writes none.
  const GenerationPrompt& prompt(const std::tm& now) const {
    std::call_once(once_, [&] { prompt_ = find_prompt(now); });
    return prompt_;
  }

 private:
  GenerationPrompt find_prompt(const std::tm& now) const;

  const Template template_;
  const Tokens tokens_;
  mutable std::once_flag once_;
  mutable GenerationPrompt prompt_;
};

jinja::Written PromptedTemplate::write(const ordered_json& messages, bool add_generation_prompt,
                                       const ordered_json& extra, const std::tm& now) const {
  using Source = jinja::Variable::Source;
  static const ordered_json kNull = nullptr, kTrue = true, kFalse = false;
  Template::Variables variables;
  for (const auto& [name, text] : tokens_) variables.push_back({name, &text});
  variables.push_back({"tools", &kNull});
  variables.push_back({"documents", &kNull});
  if (!extra.is_null()) {
    for (const auto& [name, value] : extra.items()) {
      variables.push_back({name, &value, Source::kOther});
    }
  }
  variables.push_back({"messages", &messages, Source::kMessages});
  variables.push_back({"add_generation_prompt", add_generation_prompt ? &kTrue : &kFalse});
  return template_.write(variables, now);
}

GenerationPrompt PromptedTemplate::find_prompt(const std::tm& now) const {
  const ordered_json asked = {{"role", "user"}, {"content", "?"}},
                     told = {{"role", "system"}, {"content", "!"}};
  for (const ordered_json& messages :
       {ordered_json::array({asked}), ordered_json::array({told, asked})}) {
    try {
      return generation_prompt(write(messages, false, nullptr, now),
                               write(messages, true, nullptr, now));
    } catch (const Error&) {
      // A template may refuse such a conversation.
    }
  }
  return {};
}

class JinjaChat : public ChatTemplate {
 public:
  JinjaChat(std::string source, Template main, std::optional<Template> with_tools, Tokens tokens,
            std::optional<std::tm> date)
      : source_(std::move(source)), main_(std::move(main), tokens), date_(date) {
    if (with_tools) with_tools_.emplace(std::move(*with_tools), tokens);
    for (const auto& [name, text] : tokens) {
      if (name == "eos_token") eos_ = text.get<std::string>();
    }
  }

  std::string write(const ordered_json& messages, bool add_generation_prompt,
                    const ordered_json& extra) const override {
    ordered_json named;
    return chosen(extra)
        .write(checked(messages, extra, named), add_generation_prompt, extra, now())
        .text;
  }
  using ChatTemplate::write_with_spans;
  WrittenChat write_with_spans(const ordered_json& messages, const ordered_json& extra,
                               bool add_generation_prompt) const override;
  const std::string& source() const override { return source_; }

 private:
  std::tm now() const { return date_ ? *date_ : local_now(); }
  const PromptedTemplate& chosen(const ordered_json& extra) const {
    const auto tools = extra.find("tools");
    const bool has_tools = tools != extra.end() && !tools->is_null();
    return has_tools && with_tools_ ? *with_tools_ : main_;
  }
  // The messages as templates are given them; kept in `named` where some have reasoning.
  const ordered_json& checked(const ordered_json& messages, const ordered_json& extra,
                              ordered_json& named) const;

  std::string source_;
  PromptedTemplate main_;
  std::optional<PromptedTemplate> with_tools_;
  std::string eos_;
  std::optional<std::tm> date_;
};

const ordered_json& JinjaChat::checked(const ordered_json& messages, const ordered_json& extra,
                                       ordered_json& named) const {
  if (!messages.is_array()) fail_input("{}: expected a list of messages", source_);
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) fail_input("{}: message {}: expected an object", source_, i + 1);
  }
  if (!extra.is_null() && !extra.is_object()) {
    fail_input("{}: expected an object of further variables", source_);
  }
  if (std::none_of(messages.begin(), messages.end(), has_reasoning)) return messages;
  named = ordered_json::array();
  for (const ordered_json& message : messages) named.push_back(with_reasoning_names(message));
  return named;
}

WrittenChat JinjaChat::write_with_spans(const ordered_json& messages, const ordered_json& extra,
                                        bool add_generation_prompt) const {
  ordered_json named;
  const ordered_json& all = checked(messages, extra, named);
  const PromptedTemplate& used = chosen(extra);
  const std::tm time = now();
  return read_spans(used.write(all, add_generation_prompt, extra, time),
                    {all, used.prompt(time), eos_, add_generation_prompt});
}

std::shared_ptr<const ChatTemplate> make(const TemplateSource& source, Tokens tokens,
                                         const std::string& date) {
  const auto parsed = [](const TemplateText& one) { return Template::parse(one.text, one.where); };
  std::optional<Template> with_tools;
  if (const TemplateText* text = source.for_tools()) with_tools = parsed(*text);
  return std::make_shared<JinjaChat>(source.where, parsed(source.main), std::move(with_tools),
                                     std::move(tokens), parse_date(date));
}

}  // namespace

std::shared_ptr<const ChatTemplate> ChatTemplate::of_model(const fs::path& folder,
                                                           const std::string& date) {
  const std::optional<TemplateSource> source = model_template(folder);
  return source ? of(*source, {folder}, date) : nullptr;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::of(const TemplateSource& source,
                                                     const std::vector<fs::path>& folders,
                                                     const std::string& date) {
  return make(source, tokens_of(folders), date);
}

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> names;
  for (const ChatBuiltin& one : chat_builtins()) names.emplace_back(one.name);
  return names;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::named(const std::string& name_or_file,
                                                        const fs::path& folder,
                                                        const std::string& date) {
  return make(named_template(name_or_file), tokens_of({folder}), date);
}

}  // namespace tenon
