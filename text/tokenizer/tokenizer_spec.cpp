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
#include "text/tokenizer/special_tokens.h"

namespace tenon {
namespace {

constexpr size_t kLongestAddedToken = 4096;  // bytes; finding them is quadratic in this at worst
constexpr const char* kGpt2EndOfText = "<|endoftext|>";

// Registers the tokens that the files list with their ids. What tokenizer.json says of how a token is
// looked for goes before added_tokens.json, and after tokenizer_config.json. In added_tokens.json
// those are special that the files name so.
void add_listed_tokens(const SideFiles& files, const std::vector<NamedToken>& named,
                       TokenizerSpec& spec) {
  for (NamedToken& one : listed_tokens(files)) {
    AddedToken& token = one.token;
    if (!files.lists_tokens()) {
      const auto found = spec.added_by_content.find(token.content);
      if (found != spec.added_by_content.end()) {
        const int32_t id = token.id;
        token = spec.added[found->second];
        token.id = id;
      } else {
        token.special = std::any_of(named.begin(), named.end(), [&](const NamedToken& name) {
          return !name.of_class && name.token.content == token.content;
        });
        token.normalized = !token.special;
      }
    }
    add_token(token, one.place, spec);
  }
}

// Registers the special tokens that files or class name, so that their text becomes one id. None
// gets an id that no file gives it: the first of those without one is noted.
void add_named_tokens(const std::vector<NamedToken>& named, TokenizerSpec& spec) {
  int64_t unknown = 0;
  for (const NamedToken& one : named) {
    AddedToken token = one.token;
    if (token.content.empty()) continue;
    if (const auto there = spec.added_by_content.find(token.content);
        there != spec.added_by_content.end()) {
      spec.added[there->second].special = true;
    } else if (const std::optional<int32_t> id = spec.id_of(token.content)) {
      token.id = *id;
      add_token(token, one.place, spec);
    } else if (!one.of_class && unknown++ == 0) {
      spec.note = fmt::format("{}: \"{}\" is no token: no file gives it an id", one.place,
                              printable(token.content));
    }
  }
  if (unknown > 1) spec.note += fmt::format(" (nor {} others)", unknown - 1);
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

// The token that the files name comes first, then the model's ids, then the class's own, then what
// the vocabulary's form assumes: the piece of a sentencepiece model that has this part, or GPT-2's
// end of text where it is a special token.
std::optional<int32_t> boundary_id(const SideFiles& files, const std::vector<NamedToken>& named,
                                   const std::string& name, const std::string& piece,
                                   const TokenizerSpec& spec) {
  const auto found = std::find_if(named.begin(), named.end(),
                                  [&](const NamedToken& one) { return one.name == name; });
  const bool has = found != named.end() && !found->token.content.empty();
  if (has && !found->of_class) return spec.id_of(found->token.content);
  for (const auto* file : {&files.config, &files.generation_config}) {
    if (const auto id = configured_id(*file, name + "_id", spec)) return id;
  }
  if (has) {
    if (const auto id = spec.id_of(found->token.content)) return id;
  }
  if (spec.sentencepiece) return spec.id_of(piece);
  const auto end = spec.added_by_content.find(kGpt2EndOfText);
  const bool special = end != spec.added_by_content.end() && spec.added[end->second].special;
  return special ? std::optional(spec.added[end->second].id) : std::nullopt;
}

// GPT-2's tokenizer class sets this from its config, whatever tokenizer.json says; no other class
// does.
void apply_prefix_space(const SideFiles& files, TokenizerSpec& spec) {
  if (!files.tokenizer_config || !files.tokenizer_config->has("add_prefix_space")) return;
  const std::string kind = files.tokenizer_config->optional_text("tokenizer_class").value_or("");
  if (kind != "GPT2Tokenizer" && kind != "GPT2TokenizerFast") return;
  for (PreTokenizerStep& step : spec.pre_tokenizer)
    step.add_prefix_space = files.tokenizer_config->boolean("add_prefix_space");
}

// What is put around a text: what tokenizer_config.json says of BOS and EOS goes before a
// tokenizer.json's post_processor. Llama's tokenizer class has a BOS unless it is told otherwise.
void apply_boundaries(const SideFiles& files, TokenizerSpec& spec) {
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
  if (known && *known != token.id) {
    fail_input("{}: expected \"{}\" to have the id {}, as before, got {}", place,
               printable(token.content), *known, token.id);
  }
  if (!known && spec.has_id(token.id)) {
    fail_input("{}: expected an id of its own for \"{}\", got {}, which another token has", place,
               printable(token.content), token.id);
  }
  if (const auto there = spec.added_by_content.find(token.content);
      there != spec.added_by_content.end()) {
    AddedToken& added = spec.added[there->second];
    const bool special = added.special || token.special;
    added = token;
    added.special = special;
    return;
  }
  spec.added_by_content.emplace(token.content, spec.added.size());
  spec.added_by_id.emplace(token.id, spec.added.size());
  spec.added.push_back(token);
}

TokenizerSpec read_tokenizer_spec(const std::filesystem::path& directory) {
  const auto json = directory / "tokenizer.json", vocabulary = directory / "vocab.json",
             merges = directory / "merges.txt", model = directory / "tokenizer.model";
  const SideFiles files = SideFiles::read(directory);
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
  const std::vector<NamedToken> named = named_tokens(files);
  std::vector<NamedToken> all = named;
  for (NamedToken& one : further_tokens(files)) all.push_back(std::move(one));
  add_listed_tokens(files, all, spec);
  add_named_tokens(all, spec);
  const SentencePieceModel* const pieces = spec.sentencepiece.get();
  spec.eos = boundary_id(files, named, "eos_token", pieces ? pieces->eos : "", spec);
  spec.bos = boundary_id(files, named, "bos_token", pieces ? pieces->bos : "", spec);
  apply_boundaries(files, spec);

  for (const char* name :
       {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    const auto path = directory / name;
    hashes.push_back(files::exists(path) ? hash_file(path) : 0);
  }
  hashes.push_back(static_cast<uint64_t>(spec.eos.value_or(-1)));
  hashes.push_back(static_cast<uint64_t>(spec.bos.value_or(-1)));
  spec.fingerprint = XXH3_64bits(hashes.data(), hashes.size() * sizeof(uint64_t));
  return spec;
}

}  // namespace tenon
