// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer_json_steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "text/tokenizer/spelled_space.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace tenon {
namespace {

constexpr int64_t kMostStripped = 1 << 20;
constexpr size_t kMostSteps = 1024;  // of a list; real ones have below 100

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
    if (steps.size() > kMostSteps) step->reject(list, fmt::format("at most {} steps", kMostSteps));
  }
  return steps;
}

// {"String": "..."} or {"Regex": "..."}.
struct Pattern {
  bool literal;
  std::string text;
  std::string regex() const { return literal ? escape_pattern(text) : text; }
};

Pattern read_pattern(const JsonObject& step) {
  const JsonObject pattern = step.object("pattern");
  const std::optional<std::string> literal = pattern.optional_text("String");
  return literal ? Pattern{true, *literal} : Pattern{false, pattern.text("Regex")};
}

std::string place_of(const JsonObject& step, const std::string& field) {
  return fmt::format("{}: field \"{}\" of a {}", step.where(), field, step.text("type"));
}

// A text that is one character, as Rust's char is written.
std::string read_character(const JsonObject& step, const std::string& field,
                           const std::string& fallback) {
  const std::string text = step.text(field, fallback);
  if (text.empty() || first_utf8(text).length != text.size()) step.reject(field, "one character");
  return text;
}

// ------------------------------------------------------------------------------ normalizer

NormalizerStep read_normalizer(const JsonObject& step) {
  static const std::pair<const char*, NormalForm> kForms[] = {{"NFC", NormalForm::kNfc},
                                                              {"NFD", NormalForm::kNfd},
                                                              {"NFKC", NormalForm::kNfkc},
                                                              {"NFKD", NormalForm::kNfkd}};
  const std::string type = step.text("type");
  NormalizerStep read;
  read.place = step.where() + ": normalizer " + printable(type);
  for (const auto& [name, form] : kForms) {
    if (type != name) continue;
    read.form = form;
    return read;
  }
  if (type == "Lowercase") {
    read.kind = NormalizerStep::kLowercase;
  } else if (type == "Strip") {
    read.kind = NormalizerStep::kStrip;
    read.left = step.boolean("strip_left");
    read.right = step.boolean("strip_right");
  } else if (type == "StripAccents") {
    read.kind = NormalizerStep::kReplaceRegex;
    read.pattern = std::string("[") + kAccents + "]";
  } else if (type == "Prepend") {
    read.kind = NormalizerStep::kPrepend;
    read.content = step.text("prepend");
  } else if (type == "Replace") {
    const Pattern pattern = read_pattern(step);
    const bool plain = pattern.literal && !pattern.text.empty();
    read.kind = plain ? NormalizerStep::kReplace : NormalizerStep::kReplaceRegex;
    read.place = place_of(step, "pattern");
    read.pattern = plain ? pattern.text : pattern.regex();
    read.content = step.text("content");
  } else {
    refuse_by_name(step.where(), "normalizer", type,
                   "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, and a "
                   "Sequence of them");
  }
  return read;
}

// --------------------------------------------------------------------------- pre_tokenizer

SplitBehavior read_behavior(const JsonObject& step, const std::string& fallback) {
  static const std::pair<const char*, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  const auto choices = {std::string_view("Removed"), std::string_view("Isolated"),
                        std::string_view("MergedWithPrevious"), std::string_view("MergedWithNext"),
                        std::string_view("Contiguous")};
  const std::string behavior = fallback.empty() ? step.choice("behavior", choices)
                                                : step.choice("behavior", choices, fallback);
  return std::find_if(std::begin(kBehaviors), std::end(kBehaviors),
                      [&](const auto& b) { return behavior == b.first; })
      ->second;
}

// `prepend_scheme`, or in older files `add_prefix_space`.
PreTokenizerStep::Prepend read_prepend(const JsonObject& step) {
  const bool older = !step.has("prepend_scheme") && !step.boolean("add_prefix_space", true);
  const std::string scheme =
      step.choice("prepend_scheme", {"always", "first", "never"}, older ? "never" : "always");
  return scheme == "always"  ? PreTokenizerStep::kAlways
         : scheme == "first" ? PreTokenizerStep::kFirst
                             : PreTokenizerStep::kNever;
}

PreTokenizerStep read_pre_tokenizer(const JsonObject& step) {
  const std::string type = step.text("type");
  PreTokenizerStep read;
  SplitSpec& split = read.split;
  split.place = step.where() + ": pre_tokenizer " + printable(type);
  if (type == "ByteLevel") {
    read.kind = PreTokenizerStep::kByteLevel;
    read.add_prefix_space = step.boolean("add_prefix_space", true);
    read.gpt2_pattern = step.boolean("use_regex", true);
  } else if (type == "Split") {
    split.place = place_of(step, "pattern");
    split.pattern = read_pattern(step).regex();
    split.behavior = read_behavior(step, "");
    split.invert = step.boolean("invert", false);
  } else if (type == "Digits") {
    split.pattern = std::string("[\\p{N}") + kDigitsBeyondNumbers + "]";
    if (!step.boolean("individual_digits", false)) split.behavior = SplitBehavior::kContiguous;
  } else if (type == "Punctuation") {
    split.pattern = std::string("[") + kPunctuation + "]";
    split.behavior = read_behavior(step, "Isolated");
  } else if (type == "WhitespaceSplit") {
    split.pattern = "\\s";
    split.behavior = SplitBehavior::kRemoved;
  } else if (type == "CharDelimiterSplit") {
    split.pattern = escape_pattern(read_character(step, "delimiter", ""));
    split.behavior = SplitBehavior::kRemoved;
  } else if (type == "Whitespace") {
    read.kind = PreTokenizerStep::kWords;
  } else if (type == "Metaspace") {
    read.kind = PreTokenizerStep::kMetaspace;
    read.replacement = read_character(step, "replacement", std::string(kSpelledSpace));
    read.prepend = read_prepend(step);
    read.cut = step.boolean("split", true);
  } else {
    refuse_by_name(step.where(), "pre_tokenizer", type,
                   "ByteLevel, Split, Metaspace, Digits, Punctuation, Whitespace, "
                   "WhitespaceSplit, CharDelimiterSplit, and a Sequence of them");
  }
  return read;
}

// --------------------------------------------------------------------------------- decoder

DecoderStep read_decoder(const JsonObject& step) {
  const std::string type = step.text("type");
  DecoderStep read;
  if (type == "ByteLevel") {
    read.kind = DecoderStep::kByteLevel;
  } else if (type == "ByteFallback") {
    read.kind = DecoderStep::kByteFallback;
  } else if (type == "Fuse") {
    read.kind = DecoderStep::kFuse;
  } else if (type == "Replace") {
    const Pattern pattern = read_pattern(step);
    const bool plain = pattern.literal && !pattern.text.empty();
    read.kind = plain ? DecoderStep::kReplace : DecoderStep::kReplaceRegex;
    read.place = place_of(step, "pattern");
    read.pattern = plain ? pattern.text : pattern.regex();
    read.content = step.text("content");
  } else if (type == "Strip") {
    read.kind = DecoderStep::kStrip;
    read.content = read_character(step, "content", "");
    read.left = static_cast<size_t>(step.integer("start", 0, kMostStripped));
    read.right = static_cast<size_t>(step.integer("stop", 0, kMostStripped));
  } else if (type == "Metaspace") {
    read.kind = DecoderStep::kMetaspace;
    read.pattern = read_character(step, "replacement", std::string(kSpelledSpace));
    read.drop_first = read_prepend(step) != PreTokenizerStep::kNever;
  } else {
    refuse_by_name(step.where(), "decoder", type,
                   "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, and a Sequence of "
                   "them");
  }
  return read;
}

// -------------------------------------------------------------------------- post_processor

// The ids of a template's special token.
std::vector<int32_t> template_ids(const JsonObject& step, const std::string& name,
                                  const TokenizerSpec& spec) {
  const JsonObject tokens = step.object("special_tokens");
  const JsonObject entry = tokens.object(name);
  std::vector<int32_t> ids;
  for (const int64_t id : entry.integers("ids", 0, kMaxTokenId)) {
    if (!spec.has_id(id)) entry.reject("ids", "ids of the vocabulary");
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

struct Around {
  std::vector<int32_t> prefix, suffix;
};

// "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, ...]
Around read_template(const JsonObject& step, const TokenizerSpec& spec) {
  const Json* const single = step.find("single");
  const std::string expected = "a list of SpecialToken and one Sequence A";
  if (single == nullptr || !single->is_array()) step.reject("single", expected);
  Around around;
  int texts = 0;
  for (const Json& item : *single) {
    const JsonObject piece(item, step.where() + ": an entry of \"single\"");
    if (piece.has("Sequence")) {
      if (piece.object("Sequence").text("id", "A") != "A") step.reject("single", expected);
      ++texts;
      continue;
    }
    const auto ids = template_ids(step, piece.object("SpecialToken").text("id"), spec);
    std::vector<int32_t>& side = texts > 0 ? around.suffix : around.prefix;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (texts != 1) step.reject("single", expected);
  return around;
}

// ["</s>", 2]
std::vector<int32_t> read_named_id(const JsonObject& step, const std::string& field,
                                   const TokenizerSpec& spec) {
  const Json* const pair = step.find(field);
  const bool good = pair != nullptr && pair->is_array() && pair->size() == 2 &&
                    (*pair)[1].is_number_integer() && (*pair)[1] >= 0 &&
                    (*pair)[1] <= kMaxTokenId && spec.has_id((*pair)[1].get<int64_t>());
  if (!good) step.reject(field, "a token of the vocabulary and its id");
  return {(*pair)[1].get<int32_t>()};
}

void read_post_processor(const JsonObject& step, TokenizerSpec& spec) {
  const std::string type = step.text("type");
  Around around;
  if (type == "TemplateProcessing") {
    around = read_template(step, spec);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    around = {read_named_id(step, "cls", spec), read_named_id(step, "sep", spec)};
  } else if (type != "ByteLevel") {  // which moves offsets only
    refuse_by_name(step.where(), "post_processor", type,
                   "ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing, and a "
                   "Sequence of them");
  }
  // A later one of a Sequence puts its tokens around those of the earlier ones.
  spec.prefix.insert(spec.prefix.begin(), around.prefix.begin(), around.prefix.end());
  spec.suffix.insert(spec.suffix.end(), around.suffix.begin(), around.suffix.end());
}

}  // namespace

void refuse_by_name(const std::string& where, const std::string& what, const std::string& name,
                    const std::string& supported) {
  fail_input("{}: {} {} is not supported (supported: {})", where, what, printable(name), supported);
}

void read_steps(const JsonObject& root, TokenizerSpec& spec) {
  for (const JsonObject& step : steps_of(root, "normalizer", "normalizers"))
    spec.normalizer.push_back(read_normalizer(step));
  for (const JsonObject& step : steps_of(root, "pre_tokenizer", "pretokenizers"))
    spec.pre_tokenizer.push_back(read_pre_tokenizer(step));
  for (const JsonObject& step : steps_of(root, "post_processor", "processors"))
    read_post_processor(step, spec);
  for (const JsonObject& step : steps_of(root, "decoder", "decoders"))
    spec.decoder.push_back(read_decoder(step));
  // A decoder that is an empty Sequence joins the tokens as they are.
  if (spec.decoder.empty())
    spec.decoder.push_back(
        {.kind = root.optional_object("decoder") ? DecoderStep::kFuse : DecoderStep::kJoin});
}

}  // namespace tenon
