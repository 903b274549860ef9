// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/special_tokens.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

// What the classes of transformers 5.24 have by themselves; null: none.
struct ClassTokens {
  const char* name;
  const char* tokens[7];  // in the order of kNames
};
constexpr ClassTokens kClasses[] = {
    {"GPT2Tokenizer",
     {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>", nullptr, nullptr, nullptr, nullptr}},
    {"CodeGenTokenizer",
     {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>", nullptr, nullptr, nullptr, nullptr}},
    {"GPTNeoXTokenizer",
     {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>", nullptr, "<|padding|>", nullptr, nullptr}},
    {"Qwen2Tokenizer",
     {nullptr, "<|endoftext|>", "<|endoftext|>", nullptr, "<|endoftext|>", nullptr, nullptr}},
    {"LlamaTokenizer", {"<s>", "</s>", "<unk>", nullptr, nullptr, nullptr, nullptr}},
    {"CodeLlamaTokenizer", {"<s>", "</s>", "<unk>", nullptr, nullptr, nullptr, nullptr}},
    {"GemmaTokenizer", {"<bos>", "<eos>", "<unk>", nullptr, "<pad>", nullptr, "<mask>"}},
    {"CohereTokenizer",
     {"<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", "<SEP>", "<PAD>", "<CLS>", "<MASK_TOKEN>"}},
    {"RobertaTokenizer", {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}},
};

// The classes of model types where no file names one.
constexpr std::pair<const char*, const char*> kClassOfType[] = {
    {"gpt2", "GPT2Tokenizer"},        {"opt", "GPT2Tokenizer"},     {"gptj", "GPT2Tokenizer"},
    {"gpt_neo", "GPT2Tokenizer"},     {"phi", "GPT2Tokenizer"},     {"starcoder2", "GPT2Tokenizer"},
    {"gpt_neox", "GPTNeoXTokenizer"}, {"olmo", "GPTNeoXTokenizer"}, {"qwen2", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},      {"gemma", "GemmaTokenizer"},  {"gemma2", "GemmaTokenizer"},
    {"cohere", "CohereTokenizer"}};

std::optional<JsonObject> read_if_present(const fs::path& path) {
  if (!files::exists(path)) return std::nullopt;
  return JsonObject::read(path);
}

// An entry of a file: the token's text, or an object that holds it as "content". A special token is
// looked for in the raw text unless its entry says otherwise.
AddedToken token_of(const JsonObject& file, const std::string& key) {
  AddedToken token;
  token.special = true;
  const Json& value = *file.find(key);
  if (value.is_string()) {
    token.content = value.get<std::string>();
    return token;
  }
  if (!value.is_object()) file.reject(key, "a string or an object with \"content\"");
  const JsonObject entry = file.object(key);
  token.content = entry.text("content");
  token.lstrip = entry.boolean("lstrip", false);
  token.rstrip = entry.boolean("rstrip", false);
  token.single_word = entry.boolean("single_word", false);
  token.normalized = entry.boolean("normalized", false);
  return token;
}

// The file whose word on `key` counts: special_tokens_map.json's goes before tokenizer_config.json's.
const JsonObject* file_naming(const SideFiles& files, const std::string& key) {
  const bool map = files.special_tokens_map && !files.lists_tokens();
  if (map && files.special_tokens_map->find(key) != nullptr) return &*files.special_tokens_map;
  const bool config = files.tokenizer_config && files.tokenizer_config->find(key) != nullptr;
  return config ? &*files.tokenizer_config : nullptr;
}

// The class without the "Fast" of earlier releases; "" where nothing says.
std::string tokenizer_class(const SideFiles& files) {
  std::string name;
  for (const auto* file : {&files.tokenizer_config, &files.config}) {
    if (name.empty() && *file) name = (*file)->optional_text("tokenizer_class").value_or("");
  }
  if (name.empty() && files.config) {
    const std::string type = files.config->optional_text("model_type").value_or("");
    for (const auto& [model, tokenizer] : kClassOfType) {
      if (type == model) name = tokenizer;
    }
  }
  if (name.empty() && files.vocab_merges) name = "GPT2Tokenizer";
  return name.ends_with("Fast") ? name.substr(0, name.size() - 4) : name;
}

const ClassTokens* find_class(const std::string& name) {
  for (const ClassTokens& one : kClasses) {
    if (name == one.name) return &one;
  }
  return nullptr;
}

int32_t listed_id(const JsonObject& list, const std::string& key) {
  const bool number =
      !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
  if (!number) list.reject(key, "a token id as the key");
  return std::stoi(key);
}

}  // namespace

SideFiles SideFiles::read(const fs::path& folder) {
  SideFiles files;
  files.tokenizer_config = read_if_present(folder / "tokenizer_config.json");
  files.special_tokens_map = read_if_present(folder / "special_tokens_map.json");
  files.added_tokens = read_if_present(folder / "added_tokens.json");
  files.config = read_if_present(folder / "config.json");
  files.generation_config = read_if_present(folder / "generation_config.json");
  files.vocab_merges =
      !files::exists(folder / "tokenizer.json") && files::exists(folder / "vocab.json");
  return files;
}

bool SideFiles::lists_tokens() const {
  return tokenizer_config && tokenizer_config->has("added_tokens_decoder") &&
         !tokenizer_config->find("added_tokens_decoder")->is_null();
}

std::vector<NamedToken> named_tokens(const SideFiles& files) {
  const std::string kind = tokenizer_class(files);
  const ClassTokens* const defaults = find_class(kind);
  std::vector<NamedToken> tokens;
  for (size_t i = 0; i < std::size(kNames); ++i) {
    const std::string name = kNames[i];
    if (const JsonObject* const file = file_naming(files, name)) {
      NamedToken& one = tokens.emplace_back();
      one.name = name;
      one.place = file->where() + ": field \"" + name + "\"";
      if (!file->find(name)->is_null()) one.token = token_of(*file, name);
    } else if (defaults != nullptr) {
      NamedToken& one = tokens.emplace_back();
      one.name = name;
      if (defaults->tokens[i] != nullptr) one.token.content = defaults->tokens[i];
      one.token.special = true;
      one.place = "tokenizer class " + kind;
      one.of_class = true;
    }
  }
  return tokens;
}

std::vector<NamedToken> further_tokens(const SideFiles& files) {
  std::vector<NamedToken> tokens;
  for (const std::string key : {"additional_special_tokens", "extra_special_tokens"}) {
    const JsonObject* const file = file_naming(files, key);
    const Json* const list = file == nullptr ? nullptr : file->find(key);
    if (list == nullptr || list->is_null()) continue;
    if (!list->is_array() && !list->is_object()) file->reject(key, "a list or an object");
    for (const auto& [name, token] : list->items()) {
      const std::string field = key + "." + name;
      const JsonObject holder(Json::object({{field, token}}), file->where());
      tokens.push_back(
          {field, token_of(holder, field), file->where() + ": field \"" + printable(field) + "\""});
    }
  }
  return tokens;
}

std::vector<NamedToken> listed_tokens(const SideFiles& files) {
  std::vector<NamedToken> tokens;
  if (files.lists_tokens()) {
    const JsonObject& config = *files.tokenizer_config;
    const JsonObject list = config.object("added_tokens_decoder");
    for (const std::string& key : list.keys()) {
      NamedToken& one = tokens.emplace_back();
      one.name = key;
      one.token = token_of(list, key);
      one.place = config.where() + ": field \"added_tokens_decoder." + printable(key) + "\"";
      one.token.special = list.object(key).boolean("special", false);
      one.token.id = listed_id(list, key);
    }
  } else if (files.added_tokens) {
    const JsonObject& list = *files.added_tokens;
    for (const std::string& key : list.keys()) {
      NamedToken& one = tokens.emplace_back();
      one.name = key;
      one.place = list.where() + ": field \"" + printable(key) + "\"";
      one.token.content = key;
      one.token.normalized = true;  // what is special among them is named elsewhere
      one.token.id = static_cast<int32_t>(list.integer(key, 0, kMaxTokenId));
    }
  }
  std::stable_sort(tokens.begin(), tokens.end(), [](const NamedToken& a, const NamedToken& b) {
    return a.token.id < b.token.id;
  });
  return tokens;
}

std::vector<std::pair<std::string, std::string>> special_token_texts(const fs::path& folder) {
  std::vector<std::pair<std::string, std::string>> texts;
  for (const NamedToken& one : named_tokens(SideFiles::read(folder)))
    texts.emplace_back(one.name, one.token.content);
  const auto has = [&](std::string_view name) {
    return std::any_of(texts.begin(), texts.end(), [&](auto& one) { return one.first == name; });
  };
  const bool vocabulary =
      files::exists(folder / "tokenizer.json") || files::exists(folder / "tokenizer.model");
  if (vocabulary && !(has("bos_token") && has("eos_token"))) {
    const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(folder);
    const auto add = [&](const char* name, std::optional<int32_t> id) {
      if (!id || has(name)) return;
      if (const auto text = tokenizer->token(*id)) texts.emplace_back(name, *text);
    };
    add("bos_token", tokenizer->bos_id());
    add("eos_token", tokenizer->eos_id());
  }
  std::erase_if(texts, [](const auto& one) { return one.second.empty(); });
  return texts;
}

}  // namespace tenon
