// SPDX-License-Identifier: Apache-2.0
#include "train/model_card.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostBytes = int64_t{1} << 20;

// A JSON string is a YAML one, whatever is in it.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The last name of a path, also of one that ends in a slash.
std::string last_name(const std::string& path) {
  const fs::path plain = fs::path(path).lexically_normal();
  return printable((plain.has_filename() ? plain : plain.parent_path()).filename().string());
}

std::string table(const std::string& title, const ModelCard::Rows& rows) {
  if (rows.empty()) return "";
  std::string text = fmt::format("\n## {}\n| | |\n|---|---|\n", title);
  for (const auto& [name, value] : rows) text += fmt::format("| {} | {} |\n", name, value);
  return text;
}

std::string header(const ModelCard& card, const std::string& license) {
  std::string text = fmt::format("---\nbase_model: {}\nlibrary_name: {}\n", quoted(card.base),
                                 card.adapter ? "peft" : "transformers");
  if (!license.empty()) text += fmt::format("license: {}\n", quoted(license));
  text += "pipeline_tag: text-generation\ntags:\n";
  for (const std::string& tag : card.tags) text += fmt::format("- {}\n", tag);
  return text + "---\n";
}

std::string usage(const ModelCard& card) {
  const std::string base = quoted(card.base);
  const std::string chat = card.chat ? " --chat" : "";
  std::string text = "\n## Use\nWith Tenon:\n\n```sh\n";
  text += card.adapter
              ? fmt::format("tenon generate --model {} --adapter THIS_FOLDER{} --prompt \"...\"\n",
                            base, chat)
              : fmt::format("tenon generate --model THIS_FOLDER{} --prompt \"...\"\n", chat);
  text +=
      fmt::format("```\n\nWith transformers{}:\n\n```python\n", card.adapter ? " and PEFT" : "");
  text += "from transformers import AutoModelForCausalLM, AutoTokenizer\n";
  if (card.adapter) {
    text += fmt::format(
        "from peft import PeftModel\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(\"THIS_FOLDER\")\n"
        "model = AutoModelForCausalLM.from_pretrained({})\n"
        "model = PeftModel.from_pretrained(model, \"THIS_FOLDER\")\n",
        base);
  } else {
    text +=
        "\ntokenizer = AutoTokenizer.from_pretrained(\"THIS_FOLDER\")\n"
        "model = AutoModelForCausalLM.from_pretrained(\"THIS_FOLDER\")\n";
  }
  text +=
      card.chat
          ? "ids = tokenizer.apply_chat_template([{\"role\": \"user\", \"content\": \"...\"}],\n"
            "                                    add_generation_prompt=True, "
            "return_tensors=\"pt\", return_dict=True)\n"
          : "ids = tokenizer(\"...\", return_tensors=\"pt\")\n";
  return text + "print(tokenizer.decode(model.generate(**ids, max_new_tokens=128)[0]))\n```\n";
}

}  // namespace

std::string stated_license(const fs::path& folder) {
  const fs::path path = folder / kModelCard;
  if (!files::is_file(path) || files::size(path) > kMostBytes) return "";
  const std::string text = read_text(path, kMostBytes);
  const std::string key = "\nlicense:";
  if (!text.starts_with("---\n")) return "";
  const size_t end = text.find("\n---", 3), at = text.find(key);
  if (at == text.npos || end == text.npos || at >= end) return "";
  std::string value = text.substr(at + key.size(), text.find('\n', at + 1) - at - key.size());
  std::erase_if(value, [](char c) { return c == '"' || c == '\'' || c == ' ' || c == '\r'; });
  return value;
}

void write_model_card(const ModelCard& card, const fs::path& folder) {
  const std::string name = last_name(card.base);
  std::string text = header(card, stated_license(card.base));
  text += fmt::format("\n# {}\n{}\n",
                      card.adapter ? "Adapter of " + name : name + ", " + card.tags.front(),
                      card.summary);
  text += table("Data", card.data) + table("Method", card.method) + table("Figures", card.figures);
  write_text_atomic(folder / kModelCard, text + usage(card));
}

}  // namespace tenon
