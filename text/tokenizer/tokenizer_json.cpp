// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, the form in which Hugging Face's tokenizers write themselves.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "text/tokenizer/tokenizer_json_steps.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {
namespace {

void read_merges(const JsonObject& model, TokenizerSpec& spec) {
  const Json* const merges = model.find("merges");
  if (merges == nullptr || !merges->is_array()) model.reject("merges", "a list");
  for (size_t i = 0; i < merges->size(); ++i) {
    const Json& merge = (*merges)[i];
    std::string left, right;
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space != text.npos && text.find(' ', space + 1) == text.npos) {
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    }
    if (left.empty() || right.empty()) {
      fail_input(
          "{}: field \"model.merges[{}]\": expected two tokens, as \"a b\" or [\"a\", \"b\"], got "
          "{}",
          spec.file, i, brief(merge));
    }
    if (const auto missing = add_merge(left, right, spec)) {
      fail_input(
          "{}: field \"model.merges[{}]\": expected tokens of the vocabulary, got {} where \"{}\" "
          "is not in it",
          spec.file, i, brief(merge), printable(*missing));
    }
  }
}

void read_model(const JsonObject& root, TokenizerSpec& spec) {
  const JsonObject model = root.object("model");
  // Files of before 2020 name no type; theirs is the one that has merges.
  const std::string type = model.text("type", model.has("merges") ? "BPE" : "without a type");
  if (type != "BPE") refuse_by_name(root.where(), "model type", type, "BPE");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.optional_text(affix).value_or("").empty())
      refuse_by_name(root.where(), affix, model.text(affix), "none");
  }
  const Json* const vocabulary = model.find("vocab");
  if (vocabulary == nullptr) model.reject("vocab", "an object");
  add_vocabulary(*vocabulary, spec.file, "model.vocab", spec);
  read_merges(model, spec);
  spec.fuse_unknown = model.boolean("fuse_unk", false);
  spec.byte_fallback = model.boolean("byte_fallback", false);
  spec.ignore_merges = model.boolean("ignore_merges", false);
  if (const std::optional<std::string> unknown = model.optional_text("unk_token")) {
    const auto found = spec.vocabulary.find(*unknown);
    if (found == spec.vocabulary.end()) model.reject("unk_token", "a token of the vocabulary");
    spec.unknown = found->second;
  }
}

void read_added_tokens(const JsonObject& root, TokenizerSpec& spec) {
  const Json* const list = root.find("added_tokens");
  if (list == nullptr || list->is_null()) return;
  if (!list->is_array()) root.reject("added_tokens", "a list");
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string where = fmt::format("{}: added_tokens[{}]", root.where(), i);
    const JsonObject entry((*list)[i], where);
    AddedToken token;
    token.content = entry.text("content");
    token.id = static_cast<int32_t>(entry.integer("id", 0, kMaxTokenId));
    token.special = entry.boolean("special", false);
    token.normalized = entry.boolean("normalized", !token.special);
    token.lstrip = entry.boolean("lstrip", false);
    token.rstrip = entry.boolean("rstrip", false);
    token.single_word = entry.boolean("single_word", false);
    add_token(token, where, spec);
  }
}

}  // namespace

void read_tokenizer_json(const std::filesystem::path& path, TokenizerSpec& spec) {
  const JsonObject root = JsonObject::read(path, kLargeJsonFileBytes);
  spec.file = root.where();
  read_model(root, spec);
  read_added_tokens(root, spec);
  read_steps(root, spec);
}

}  // namespace tenon
