// SPDX-License-Identifier: Apache-2.0
#include "text/data/sources.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "core/files.h"

namespace tenon {
namespace {

// Raised when the same files become other tokens than those of earlier builds.
constexpr int kReader = 1;

// A token file that stands among the sources: by itself it is what is asked for.
std::optional<TokenFile> given_tokens(std::span<const std::filesystem::path> sources,
                                      const Tokenizer& tokenizer) {
  for (const std::filesystem::path& source : sources) {
    if (!is_token_file(source)) continue;
    if (sources.size() > 1) {
      fail_input("{}: a token file is data by itself, got {} files", shown(source), sources.size());
    }
    TokenFile file = TokenFile::open(source);
    if (file.key().tokenizer != tokenizer.fingerprint()) {
      fail_input("{}: expected tokens of this model's tokenizer ({}), got those of another",
                 shown(source), tokenizer.file());
    }
    return file;
  }
  return std::nullopt;
}

// All of the options that the tokens depend on.
uint64_t fingerprint(const TokenizeOptions& options) {
  const DocumentOptions& o = options.documents;
  std::string text =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{:016x}", kReader, options.append_eos,
                  options.lines, options.plain_people, o.format, fmt::join(o.columns, "\n"),
                  o.columns.size(), o.chat_template != nullptr, static_cast<int>(o.train_on),
                  o.skip_bad, options.template_fingerprint);
  text += "\n" + o.system;
  return hash_bytes(std::as_bytes(std::span(text)));
}

// The documents of a .txt.
int64_t count_documents(const std::filesystem::path& source, const Tokenizer& tokenizer,
                        const TokenizeOptions& options) {
  int64_t documents = 0;
  bool any = false;
  Joiner joiner(tokenizer, training_framing(options),
                {.append = [&](auto ids, bool) { any = any || !ids.empty(); },
                 .end_document = [&](bool) { documents += std::exchange(any, false); }});
  encode_data(std::span(&source, 1), tokenizer, options, training_framing(options), {},
              [&](const EncodedPart& part) { joiner.take(part); });
  return documents;
}

}  // namespace

Framing training_framing(const TokenizeOptions& options) {
  return options.append_eos ? Framing::kDocument : Framing::kPrefix;
}

TokenAppender::TokenAppender(const Tokenizer& tokenizer, const TokenizeOptions& options,
                             TokenFileWriter& writer)
    : joiner_(tokenizer, training_framing(options),
              {.append = [&writer](auto ids, bool scored) { writer.append(ids, scored); },
               .end_document = [&writer](bool sample) { writer.end_document(sample); }}),
      writer_(writer) {}

void TokenAppender::take(const EncodedPart& part) {
  joiner_.take(part);
  writer_.add_skipped(part.skipped);
  writer_.add_unwritten(part.unwritten);
  for (const auto& [id, count] : part.special) writer_.add_special(id, count);
}

std::string special_tokens_text(const Tokenizer& tokenizer,
                                const std::map<int32_t, int64_t>& counts) {
  std::string text;
  for (const auto& [id, count] : counts) {
    text += fmt::format("{}{} x {}", text.empty() ? "" : ", ",
                        printable(std::string(tokenizer.token(id).value_or("?"))), count);
  }
  return text;
}

TokenFileKey token_file_key(std::span<const std::filesystem::path> sources,
                            const Tokenizer& tokenizer, const TokenizeOptions& options) {
  std::string identity;
  for (const std::filesystem::path& source : sources) {
    const int64_t size =
        MappedFile::open(source)->size();  // says what is wrong with a source that is no file
    identity += fmt::format("{}\n{} {} {:016x}\n", files::absolute(source).string(), size,
                            files::modified_ns(source), fingerprint_file(source));
  }
  TokenFileKey key;
  key.tokenizer = tokenizer.fingerprint();
  key.sources = XXH3_64bits(identity.data(), identity.size());
  key.options = fingerprint(options);
  return key;
}

void finish_token_file(std::span<const std::filesystem::path> sources, const Tokenizer& tokenizer,
                       const TokenizeOptions& options, const TokenFileKey& key,
                       TokenFileWriter& writer) {
  if (writer.tokens() == 0) {
    fail_input("{}: expected at least one document that is not empty, got none",
               sources.empty() ? "data" : shown(sources[0]));
  }
  if (token_file_key(sources, tokenizer, options) != key) {
    fail_input("{}: expected the sources to stay as they are while they are read, got a change",
               shown(sources[0]));
  }
  writer.commit();
}

std::optional<TokenFile> open_made_from(const std::filesystem::path& cache,
                                        std::span<const std::filesystem::path> sources,
                                        const Tokenizer& tokenizer,
                                        const TokenizeOptions& options) {
  if (std::optional<TokenFile> given = given_tokens(sources, tokenizer)) return given;
  const TokenFileKey key = token_file_key(sources, tokenizer, options);
  if (!files::exists(cache)) return std::nullopt;
  try {
    TokenFile file = TokenFile::open(cache);
    if (file.key() == key) return file;
  } catch (const Error&) {
    // A damaged cache is as good as none.
  }
  return std::nullopt;
}

TokenFile build_or_open(const std::filesystem::path& cache,
                        std::span<const std::filesystem::path> sources, const Tokenizer& tokenizer,
                        const TokenizeOptions& options, bool* made) {
  if (made != nullptr) *made = false;
  if (const auto there = open_made_from(cache, sources, tokenizer, options)) return *there;
  const TokenFileKey key = token_file_key(sources, tokenizer, options);
  TokenFileWriter writer(cache, key, tokenizer.vocabulary_size());
  TokenAppender appender(tokenizer, options, writer);
  TextCheck check(sources, options.documents);
  encode_data(sources, tokenizer, options, training_framing(options), {},
              [&](const EncodedPart& part) {
                check.take(part.source, part.faults);
                appender.take(part);
              });
  check.finish();
  finish_token_file(sources, tokenizer, options, key, writer);
  if (made != nullptr) *made = true;
  return TokenFile::open(cache);
}

std::string document_place(std::span<const std::filesystem::path> sources,
                           const Tokenizer& tokenizer, const TokenizeOptions& options,
                           int64_t number) {
  int64_t passed = 0;  // documents before the one that is looked at
  for (const std::filesystem::path& source : sources) {
    if (is_plain_text(source)) {
      passed += count_documents(source, tokenizer, options);
      if (number < passed) return shown(source);
      continue;
    }
    const auto reader = open_documents(source, options.documents);
    DocumentTokens tokens;
    for (Document document; reader->next(document);) {
      tokenize_document(document, tokenizer, training_framing(options), tokens);
      if (!tokens.ids.empty() && passed++ == number) return document.place;
    }
  }
  return shown(sources.front());
}

}  // namespace tenon
