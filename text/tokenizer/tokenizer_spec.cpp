// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer_spec.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "core/json.h"
#include "text/tokenizer/sentencepiece_model.h"

namespace tenon {
namespace {

constexpr size_t kLongestAddedToken = 4096;  // bytes; finding them is quadratic in this at worst
constexpr const char* kSpecialNames[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                         "sep_token", "cls_token", "mask_token"};
constexpr const char* kGpt2EndOfText = "<|endoftext|>";

// The files beside the vocabulary that speak of special tokens, as far as they are there.
struct Companions {
  std::optional<JsonObject> tokenizer_config, special_tokens_map, generation_config, config;
};

std::optional<JsonObject> read_if_present(const std::filesystem::path& path) {
  if (!files::exists(path)) return std::nullopt;
  return JsonObject::read(path);
}

// An entry of tokenizer_config.json: the token's text, or an object that holds it as "content". A
// special token is looked for in the raw text unless its entry says otherwise.
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

// The file that names the special token `key`: tokenizer_config.json before
// special_tokens_map.json.
const JsonObject* file_naming(const Companions& files, const std::string& key) {
  for (const auto* file : {&files.tokenizer_config, &files.special_tokens_map}) {
    if (!file->has_value()) continue;
    const Json* value = (*file)->find(key);
    if (value != nullptr && !value->is_null()) return &**file;
  }
  return nullptr;
}

// "added_tokens_decoder": {"50256": {"content": "<|endoftext|>", ...}, ...}
void add_listed_tokens(const JsonObject& config, TokenizerSpec& spec) {
  const std::optional<JsonObject> listed = config.optional_object("added_tokens_decoder");
  if (!listed) return;
  for (const std::string& key : listed->keys()) {
    AddedToken token = token_of(*listed, key);
    token.special = listed->object(key).boolean("special", false);
    const bool number =
        !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!number) listed->reject(key, "a token id as the key");
    token.id = std::stoi(key);
    add_token(token, config.where() + ": field \"added_tokens_decoder." + key + "\"", spec);
  }
}

// A special token that the vocabulary lacks gets the next id, as in Hugging Face's tokenizers: such
// as a "[PAD]" that somebody added for training.
void add_named_token(AddedToken token, const std::string& place, TokenizerSpec& spec) {
  int32_t next = static_cast<int32_t>(spec.vocabulary.size());
  for (const AddedToken& added : spec.added) next = std::max(next, added.id + 1);
  while (spec.has_id(next)) ++next;
  token.id = spec.id_of(token.content).value_or(next);
  add_token(token, place, spec);
}

// Registers the special tokens that the companions name, so that their text becomes one id.
void add_special_tokens(const Companions& files, TokenizerSpec& spec) {
  if (files.tokenizer_config) add_listed_tokens(*files.tokenizer_config, spec);
  for (const std::string key : kSpecialNames) {
    if (const JsonObject* const file = file_naming(files, key))
      add_named_token(token_of(*file, key), file->where() + ": field \"" + key + "\"", spec);
  }
  for (const std::string key : {"additional_special_tokens", "extra_special_tokens"}) {
    const JsonObject* const file = file_naming(files, key);
    const Json* const tokens = file == nullptr ? nullptr : file->find(key);
    if (tokens == nullptr) continue;
    if (!tokens->is_array() && !tokens->is_object()) file->reject(key, "a list or an object");
    for (const auto& [name, token] : tokens->items()) {
      const std::string field = key + "." + name;
      const JsonObject holder(Json::object({{field, token}}), file->where());
      add_named_token(token_of(holder, field),
                      file->where() + ": field \"" + printable(field) + "\"", spec);
    }
  }
}

// The id under `key` ("eos_token_id"; a list stands for its first), unless the vocabulary has no
// such id: configs keep GPT-2's 50256 beside vocabularies that are much smaller.
std::optional<int32_t> configured_id(const std::optional<JsonObject>& file, const std::string& key,
                                     const TokenizerSpec& spec) {
  if (!file) return std::nullopt;
  const std::vector<int64_t> ids = file->integers(key, INT64_MIN, INT64_MAX);
  if (ids.empty()) return std::nullopt;
  return spec.has_id(ids[0]) ? std::optional(static_cast<int32_t>(ids[0])) : std::nullopt;
}

// The token's own name comes first, then the model's ids, then what the tokenizer's class assumes:
// the piece of a sentencepiece model that has this part, or GPT-2's end of text.
std::optional<int32_t> boundary_id(const Companions& files, const std::string& name,
                                   const std::string& piece, const TokenizerSpec& spec) {
  if (const JsonObject* file = file_naming(files, name))
    return spec.id_of(token_of(*file, name).content);
  for (const auto* file : {&files.config, &files.generation_config}) {
    if (const auto id = configured_id(*file, name + "_id", spec)) return id;
  }
  return spec.id_of(spec.sentencepiece ? piece : kGpt2EndOfText);
}

// GPT-2's tokenizer class sets this from its config, whatever tokenizer.json says; no other class
// does.
void apply_prefix_space(const Companions& files, TokenizerSpec& spec) {
  if (!files.tokenizer_config || !files.tokenizer_config->has("add_prefix_space")) return;
  const std::string kind = files.tokenizer_config->optional_text("tokenizer_class").value_or("");
  if (kind != "GPT2Tokenizer" && kind != "GPT2TokenizerFast") return;
  for (PreTokenizerStep& step : spec.pre_tokenizer)
    step.add_prefix_space = files.tokenizer_config->boolean("add_prefix_space");
}

// What is put around a text: what tokenizer_config.json says of BOS and EOS goes before a
// tokenizer.json's post_processor. Llama's tokenizer class has a BOS unless it is told otherwise.
void apply_boundaries(const Companions& files, TokenizerSpec& spec) {
  const auto apply = [&](const std::string& key, bool assumed, const std::optional<int32_t>& id,
                         std::vector<int32_t>& side) {
    const bool said = files.tokenizer_config && files.tokenizer_config->has(key) &&
                      !files.tokenizer_config->find(key)->is_null();
    const bool wanted = said ? files.tokenizer_config->boolean(key) : assumed;
    if (!said && !assumed) return;
    side.clear();
    if (wanted && id) side.push_back(*id);
  };
  apply("add_bos_token", spec.sentencepiece != nullptr, spec.bos, spec.prefix);
  apply("add_eos_token", false, spec.eos, spec.suffix);
}

// Whether the steps amount to GPT-2's kind of tokenizer; its fields are filled then.
void find_byte_level(TokenizerSpec& spec) {
  if (spec.byte_fallback || spec.pre_tokenizer.empty() || spec.decoder.size() != 1 ||
      spec.decoder[0].kind != DecoderStep::kByteLevel) {
    return;
  }
  for (const NormalizerStep& step : spec.normalizer) {
    if (step.kind != NormalizerStep::kForm) return;
  }
  const PreTokenizerStep& last = spec.pre_tokenizer.back();
  for (const PreTokenizerStep& step : spec.pre_tokenizer) {
    const auto wanted = &step == &last ? PreTokenizerStep::kByteLevel : PreTokenizerStep::kSplit;
    if (step.kind != wanted) return;
  }
  spec.byte_level = true;
  for (const NormalizerStep& step : spec.normalizer) spec.normalizers.push_back(step.form);
  for (const PreTokenizerStep& step : spec.pre_tokenizer) {
    if (step.kind == PreTokenizerStep::kSplit) spec.splits.push_back(step.split);
  }
  spec.add_prefix_space = last.add_prefix_space;
  spec.gpt2_pattern = last.gpt2_pattern;
}

}  // namespace

std::optional<int32_t> TokenizerSpec::id_of(const std::string& token) const {
  if (const auto found = vocabulary.find(token); found != vocabulary.end()) return found->second;
  if (const auto found = added_by_content.find(token); found != added_by_content.end())
    return added[found->second].id;
  return std::nullopt;
}

bool TokenizerSpec::has_id(int64_t id) const {
  if (id < 0 || id > kMaxTokenId) return false;
  const bool in_vocabulary = id < static_cast<int64_t>(by_id.size()) && by_id[id] != nullptr;
  return in_vocabulary || added_by_id.contains(static_cast<int32_t>(id));
}

void add_vocabulary(const Json& object, const std::string& where, const std::string& prefix,
                    TokenizerSpec& spec) {
  if (!object.is_object() || object.empty()) {
    fail_input("{}: {}expected an object of tokens and their ids, got {}", where,
               prefix.empty() ? "" : "field \"" + prefix + "\": ",
               object.is_object() ? "an empty one" : brief(object));
  }
  spec.vocabulary.reserve(object.size());
  for (const auto& [token, id] : object.items()) {
    const auto field = [&, &name = token] {
      return printable(prefix.empty() ? name : prefix + "." + name);
    };
    if (!id.is_number_integer() || id < 0 || id > kMaxTokenId) {
      fail_input("{}: field \"{}\": expected an id in 0..{}, got {}", where, field(), kMaxTokenId,
                 brief(id));
    }
    const auto index = id.get<size_t>();
    if (index >= spec.by_id.size()) spec.by_id.resize(index + 1);
    if (spec.by_id[index] != nullptr) {
      fail_input("{}: field \"{}\": expected an id of its own, got {}, which \"{}\" has", where,
                 field(), index, printable(*spec.by_id[index]));
    }
    spec.by_id[index] = &spec.vocabulary.emplace(token, static_cast<int32_t>(index)).first->first;
  }
}

std::optional<std::string> add_merge(const std::string& left, const std::string& right,
                                     TokenizerSpec& spec) {
  const std::string merged = left + right;
  int32_t ids[3];
  int count = 0;
  for (const std::string* token : {&left, &right, &merged}) {
    const auto found = spec.vocabulary.find(*token);
    if (found == spec.vocabulary.end()) return *token;
    ids[count++] = found->second;
  }
  spec.merges.push_back({ids[0], ids[1], ids[2]});
  return std::nullopt;
}

void add_token(const AddedToken& token, const std::string& place, TokenizerSpec& spec) {
  if (token.content.empty() || token.content.size() > kLongestAddedToken) {
    fail_input("{}: expected a token of 1..{} bytes, got {}", place, kLongestAddedToken,
               token.content.size());
  }
  if (token.id < 0 || token.id > kMaxTokenId) {
    fail_input("{}: expected an id in 0..{}, got {}", place, kMaxTokenId, token.id);
  }
  const std::optional<int32_t> known = spec.id_of(token.content);
  if (known == token.id && spec.added_by_content.contains(token.content)) return;
  if (known && *known != token.id) {
    fail_input("{}: expected \"{}\" to have the id {}, as before, got {}", place,
               printable(token.content), *known, token.id);
  }
  if (!known && spec.has_id(token.id)) {
    fail_input("{}: expected an id of its own for \"{}\", got {}, which another token has", place,
               printable(token.content), token.id);
  }
  spec.added_by_content.emplace(token.content, spec.added.size());
  spec.added_by_id.emplace(token.id, spec.added.size());
  spec.added.push_back(token);
}

TokenizerSpec read_tokenizer_spec(const std::filesystem::path& directory) {
  const auto json = directory / "tokenizer.json", vocabulary = directory / "vocab.json",
             merges = directory / "merges.txt", model = directory / "tokenizer.model";
  Companions files;
  files.tokenizer_config = read_if_present(directory / "tokenizer_config.json");
  files.special_tokens_map = read_if_present(directory / "special_tokens_map.json");
  files.config = read_if_present(directory / "config.json");
  files.generation_config = read_if_present(directory / "generation_config.json");

  TokenizerSpec spec;
  std::vector<uint64_t> hashes;
  if (files::exists(json)) {
    read_tokenizer_json(json, spec);
    hashes = {hash_file(json)};
  } else if (files::exists(vocabulary)) {
    read_vocabulary_and_merges(vocabulary, merges, spec);
    hashes = {hash_file(vocabulary), hash_file(merges)};
  } else if (files::exists(model)) {
    read_sentencepiece(model, spec);
    spec.legacy = files.tokenizer_config && files.tokenizer_config->find("legacy") != nullptr &&
                  !files.tokenizer_config->find("legacy")->is_null() &&
                  files.tokenizer_config->boolean("legacy");
    hashes = {hash_file(model), spec.legacy};
  } else {
    fail_input(
        "{}: expected a tokenizer (tokenizer.json, or vocab.json and merges.txt, or "
        "tokenizer.model), got none",
        shown(directory));
  }
  apply_prefix_space(files, spec);
  find_byte_level(spec);
  if (const std::string end = kGpt2EndOfText; spec.added.empty() && spec.id_of(end)) {
    add_token({.content = end, .id = *spec.id_of(end), .special = true}, spec.file, spec);
  }
  add_special_tokens(files, spec);
  const SentencePieceModel* const pieces = spec.sentencepiece.get();
  spec.eos = boundary_id(files, "eos_token", pieces ? pieces->eos : "", spec);
  spec.bos = boundary_id(files, "bos_token", pieces ? pieces->bos : "", spec);
  apply_boundaries(files, spec);

  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto path = directory / name;
    hashes.push_back(files::exists(path) ? hash_file(path) : 0);
  }
  hashes.push_back(static_cast<uint64_t>(spec.eos.value_or(-1)));
  hashes.push_back(static_cast<uint64_t>(spec.bos.value_or(-1)));
  spec.fingerprint = XXH3_64bits(hashes.data(), hashes.size() * sizeof(uint64_t));
  return spec;
}

}  // namespace tenon
