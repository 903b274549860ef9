// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, the form in which Hugging Face's tokenizers write themselves.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "text/tokenizer_spec.h"

namespace tenon {
namespace {

[[noreturn]] void unsupported(const JsonObject& part, const std::string& what,
                              const std::string& name, const std::string& supported) {
  fail_input("{}: {} {} is not supported (supported: {})", part.where(), what, printable(name),
             supported);
}

// The steps of a field that holds one step, or a Sequence of steps under `list`, or null.
std::vector<JsonObject> steps_of(const JsonObject& parent, const std::string& field,
                                 const std::string& list) {
  const std::optional<JsonObject> step = parent.optional_object(field);
  if (!step) return {};
  if (step->text("type") != "Sequence") return {*step};
  std::vector<JsonObject> steps;
  const Json* items = step->find(list);
  if (items == nullptr || !items->is_array()) step->reject(list, "a list");
  for (size_t i = 0; i < items->size(); ++i) {
    // A list's items have no name of their own: each is read through an object that holds it alone.
    const std::string name = fmt::format("{}.{}[{}]", field, list, i);
    const JsonObject holder(Json::object({{name, (*items)[i]}}), parent.where());
    for (JsonObject& inner : steps_of(holder, name, list)) steps.push_back(std::move(inner));
  }
  return steps;
}

void read_normalizers(const JsonObject& root, TokenizerSpec& spec) {
  static const std::pair<const char*, NormalForm> kForms[] = {{"NFC", NormalForm::kNfc},
                                                              {"NFD", NormalForm::kNfd},
                                                              {"NFKC", NormalForm::kNfkc},
                                                              {"NFKD", NormalForm::kNfkd}};
  for (const JsonObject& step : steps_of(root, "normalizer", "normalizers")) {
    const std::string type = step.text("type");
    const auto* form = std::find_if(std::begin(kForms), std::end(kForms),
                                    [&](auto& f) { return type == f.first; });
    if (form == std::end(kForms)) unsupported(step, "normalizer", type, "NFC, NFD, NFKC, NFKD");
    spec.normalizers.push_back(form->second);
  }
}

SplitSpec read_split(const JsonObject& step) {
  static const std::pair<const char*, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  SplitSpec split;
  const JsonObject pattern = step.object("pattern");
  const std::optional<std::string> literal = pattern.optional_text("String");
  split.pattern = literal ? escape_pattern(*literal) : pattern.text("Regex");
  split.place = step.where() + ": field \"pattern\" of a Split";
  split.invert = step.boolean("invert", false);
  const std::string behavior = step.choice(
      "behavior", {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"});
  for (const auto& [name, value] : kBehaviors) {
    if (behavior == name) split.behavior = value;
  }
  return split;
}

void read_pre_tokenizers(const JsonObject& root, TokenizerSpec& spec) {
  const std::string supported = "ByteLevel, or a Sequence of Split that ends with ByteLevel";
  const std::vector<JsonObject> steps = steps_of(root, "pre_tokenizer", "pretokenizers");
  for (const JsonObject& step : steps) {
    const std::string type = step.text("type");
    const bool last = &step == &steps.back();
    if (type == "ByteLevel" && last) {
      spec.add_prefix_space = step.boolean("add_prefix_space", true);
      spec.gpt2_pattern = step.boolean("use_regex", true);
      return;
    }
    if (type != "Split" || last) unsupported(step, "pre_tokenizer", type, supported);
    spec.splits.push_back(read_split(step));
  }
  unsupported(root, "pre_tokenizer", "null", supported);
}

void read_decoder(const JsonObject& root) {
  const std::vector<JsonObject> steps = steps_of(root, "decoder", "decoders");
  if (steps.size() != 1 || steps[0].text("type") != "ByteLevel") {
    const std::string name = steps.empty()      ? "null"
                             : steps.size() > 1 ? "Sequence"
                                                : steps[0].text("type");
    unsupported(root, "decoder", name, "ByteLevel");
  }
}

// A post-processor may put tokens around the text. GPT-2's does not; a template that is the text
// alone is the same.
void read_post_processor(const JsonObject& root) {
  for (const JsonObject& step : steps_of(root, "post_processor", "processors")) {
    const std::string type = step.text("type");
    if (type == "ByteLevel") continue;
    const Json* const single = step.find("single");
    const bool text_alone = type == "TemplateProcessing" && single != nullptr &&
                            single->is_array() && single->size() == 1 && (*single)[0].is_object() &&
                            (*single)[0].contains("Sequence");
    if (!text_alone)
      unsupported(step, "post_processor", type,
                  "ByteLevel, or a TemplateProcessing that adds no token");
  }
}

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
  if (type != "BPE") unsupported(root, "model type", type, "BPE");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.optional_text(affix).value_or("").empty())
      unsupported(root, affix, model.text(affix), "none");
  }
  if (model.boolean("byte_fallback", false)) unsupported(root, "byte_fallback", "true", "false");
  const Json* const vocabulary = model.find("vocab");
  if (vocabulary == nullptr) model.reject("vocab", "an object");
  add_vocabulary(*vocabulary, spec.file, "model.vocab", spec);
  read_merges(model, spec);
  spec.fuse_unknown = model.boolean("fuse_unk", false);
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
  const JsonObject root = JsonObject::read(path);
  spec.file = root.where();
  read_model(root, spec);
  read_added_tokens(root, spec);
  read_normalizers(root, spec);
  read_pre_tokenizers(root, spec);
  read_decoder(root);
  read_post_processor(root);
}

}  // namespace tenon
