// SPDX-License-Identifier: Apache-2.0
// Which tokens of a whole text hold a stretch of it, and names of special tokens that are plain text.
#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/data/document_tokens.h"
#include "text/tokenizer/tokenizer.h"

using namespace tenon;
using namespace tenon::test;

namespace {

using Ids = std::vector<int32_t>;

// A byte-level tokenizer with merges, so that tokens reach over places of interest, and two special
// tokens and one that is not.
void put_byte_level(const TempFolder& folder, const std::string& normalizer = "null") {
  Json vocabulary = Json::object();
  for (const char* token : {"a", "b", "c", "\u0120", "\u010A", "<", ">", "|", "x", "\u00C3",
                            "\u00A9", "e", "\u00CC", "\u0123", "\u0120a", "ab", "\u0120ab"})
    vocabulary[token] = vocabulary.size();
  vocabulary["\u00C3\u00A9"] = vocabulary.size();
  const Json merges = {"a b", "\u0120 ab", "\u00C3 \u00A9", "\u0120 a"};
  const auto added = [](int id, const std::string& text, bool special) {
    return Json{{"id", id}, {"content", text}, {"special", special}, {"normalized", false}};
  };
  const Json file = {
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}},
      {"added_tokens", {added(30, "<x>", true), added(31, "<xx>", true), added(32, "xx", false)}},
      {"normalizer", Json::parse(normalizer)},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"decoder", {{"type", "ByteLevel"}}}};
  put_file(folder / "tokenizer.json", file.dump());
}

// A document of the text between the marks: what is scored in brackets, what people wrote in braces,
// "^" before what stands apart.
Document whole_of(const std::string& text) {
  Document document;
  document.whole = true;
  document.framed = false;
  document.pieces.push_back({"", false});
  for (const char c : text) {
    if (std::string_view("[]{}^").find(c) == std::string_view::npos) {
      document.pieces.back().text += c;
      continue;
    }
    if (!document.pieces.back().text.empty()) {
      document.pieces.push_back(document.pieces.back());
      document.pieces.back().text.clear();
      document.pieces.back().apart = false;
    }
    DocumentPiece& piece = document.pieces.back();
    if (c == '[' || c == ']') piece.scored = c == '[';
    if (c == '{' || c == '}') piece.people = c == '{';
    piece.apart |= c == '^';
  }
  return document;
}

// The tokens' texts with "*" before those that are scored.
std::string shown_tokens(const Tokenizer& tokenizer, const std::string& text, bool plain = false) {
  DocumentTokens tokens;
  tokenize_document(whole_of(text), tokenizer, Framing::kDocument, tokens, plain);
  std::string shown;
  size_t at = 0;
  for (const TokenRun& run : tokens.runs) {
    for (int64_t i = 0; i < run.count; ++i, ++at) {
      shown += at == 0 ? "" : " ";
      shown += (run.scored ? "*" : "") + std::string(*tokenizer.token(tokens.ids[at]));
    }
  }
  CHECK(at == tokens.ids.size());
  return shown;
}

}  // namespace

TEST_CASE("a whole text has its own ids, and a token is scored where one of its bytes is",
          "[token_spans]") {
  TempFolder folder;
  put_byte_level(folder);
  const auto t = Tokenizer::load(folder.path());
  CHECK(shown_tokens(*t, "c ab c") == "c \u0120ab \u0120 c");
  CHECK(shown_tokens(*t, "c[ ab] c") == "c *\u0120ab \u0120 c");
  // Over both borders of the answer a token reaches.
  CHECK(shown_tokens(*t, "c [a]b c") == "c *\u0120ab \u0120 c");
  CHECK(shown_tokens(*t, "c a[b c") == "c *\u0120ab *\u0120 *c");
  CHECK(shown_tokens(*t, "c a[b]\n<x>c") == "c *\u0120ab \u010A <x> c");
  // An answer of one character, twice; and one that ends with the text.
  CHECK(shown_tokens(*t, "a[a]c[c]") == "a *a c *c");
  CHECK(shown_tokens(*t, "<x>[c<x>]\n") == "<x> *c *<x> \u010A");
  CHECK(shown_tokens(*t, "[]<x>[]").find('*') == std::string::npos);
  CHECK(shown_tokens(*t, "[<x>]") == "*<x>");
}

TEST_CASE("no token reaches over into a piece that stands apart", "[token_spans]") {
  TempFolder folder;
  put_byte_level(folder);
  const auto t = Tokenizer::load(folder.path());
  CHECK(shown_tokens(*t, "c [ab c") == "c *\u0120ab *\u0120 *c");
  CHECK(shown_tokens(*t, "c ^[ab c") == "c \u0120 *ab *\u0120 *c");
  CHECK(shown_tokens(*t, "c ^ab<x> c ^[a<x>]c") == "c \u0120 ab <x> \u0120 c \u0120 *a *<x> c");
  CHECK(shown_tokens(*t, "c [{^ab}<x>] c {a} [{^a<x>}<x>]", true) ==
        "c \u0120 *ab *<x> \u0120 c \u0120a \u0120 *a *< *x *> *<x>");
  // Where nothing reaches over, the whole has those ids anyway.
  CHECK(shown_tokens(*t, "c ^[c ab") == "c \u0120 *c *\u0120ab");
}

TEST_CASE("a character of several tokens is scored with all of them", "[token_spans]") {
  TempFolder folder;
  put_byte_level(folder);
  const auto t = Tokenizer::load(folder.path());
  // U+0309 is 0xCC 0x81, two tokens here.
  CHECK(shown_tokens(*t, "a[\u0301]c") == "a *\u00CC *\u0123 c");
  CHECK(shown_tokens(*t, "\u0301[a\u0301]\u0301") ==
        "\u00CC \u0123 *a *\u00CC *\u0123 \u00CC \u0123");
}

TEST_CASE("names of special tokens are plain where people wrote a byte of them", "[token_spans]") {
  TempFolder folder;
  put_byte_level(folder);
  const auto t = Tokenizer::load(folder.path());
  const std::string plain = "< x >";
  CHECK(shown_tokens(*t, "<x>{<x>}<x>", true) == "<x> " + plain + " <x>");
  CHECK(shown_tokens(*t, "<x>{<x>}<x>", false) == "<x> <x> <x>");
  CHECK(shown_tokens(*t, "<x{>}c", true) == plain + " c");
  CHECK(shown_tokens(*t, "{<}x>c", true) == plain + " c");
  // What is no longer the longer token does not swallow the template's own.
  CHECK(shown_tokens(*t, "{<}<x>", true) == "< <x>");
  CHECK(shown_tokens(*t, "{<x}<x>{x>}<x>", true) == "< x <x> x > <x>");
  // Tokens that are not special are what they are, whoever wrote them.
  CHECK(shown_tokens(*t, "{axx}", true) == "a xx");
  CHECK(shown_tokens(*t, "{}<x>{}", true) == "<x>");
}

TEST_CASE("spans are found through what a normalizer makes of the text", "[token_spans]") {
  TempFolder folder;
  put_byte_level(folder, R"({"type": "NFC"})");
  const auto t = Tokenizer::load(folder.path());
  // "e" and U+0301 become one character, in whichever part they stand.
  const std::string acute = "\u00C3\u00A9";
  CHECK(shown_tokens(*t, "a[e\u0301]c") == "a *" + acute + " c");
  CHECK(shown_tokens(*t, "e\u0301[c]e\u0301") == acute + " *c " + acute);
  CHECK(shown_tokens(*t, "ae[\u0301c") == "a *" + acute + " *c");
  CHECK(shown_tokens(*t, "a[e]\u0301c") == "a *" + acute + " c");
}

TEST_CASE("spans in tokenizers of the other kinds are those that decode to them", "[token_spans]") {
  const std::string name = GENERATE("llama", "metaspace", "words", "runs", "spelled", "spm_bpe",
                                    "spm_unigram", "gpt2", "features");
  const auto t = reference_tokenizer(name);
  const std::string words[] = {"the", " lamp", "\n",     "s",   " \u00E9t\u00E9", "12",
                               " ",   "keeps", "\u3042", ", a", "\U0001F642"};
  for (size_t seed = 0; seed < 60; ++seed) {
    std::string text;
    std::vector<TextRange> spans;
    for (size_t i = 0; i < 12; ++i) {
      const std::string& word = words[(seed * 7 + i * i + i * seed) % std::size(words)];
      if (i % 3 == 1) spans.push_back({text.size(), text.size() + word.size()});
      text += word;
    }
    CAPTURE(name, text);
    const std::vector<TextRange> bytes = spans;
    Ids ids, all = t->encode(text);
    t->encode_spans(text, false, {}, spans, ids);
    CHECK(ids == all);
    // The spans are in order, and each character of a word lies in a token that shows it.
    size_t last = 0;
    for (size_t i = 0; i < spans.size(); ++i) {
      CHECK(spans[i].begin <= spans[i].end);
      CHECK(spans[i].end <= ids.size());
      CHECK(spans[i].begin + 1 >= last);
      last = spans[i].end;
      std::string word = text.substr(bytes[i].begin, bytes[i].end - bytes[i].begin);
      word.erase(0, word.find_first_not_of(" \n"));
      const std::string decoded =
          t->decode(std::span(ids).subspan(spans[i].begin, spans[i].end - spans[i].begin));
      const bool kept = t->decode(t->encode(word)).find(word) != std::string::npos;
      if (kept) CHECK(decoded.find(word) != std::string::npos);
    }
  }
}
