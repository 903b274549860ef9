// SPDX-License-Identifier: Apache-2.0
#include "text/sources.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "text/byte_source.h"
#include "text/document_tokens.h"

namespace tenon {
namespace {

// Appends ids of a text, of which each end-of-text token ends a document; the tokenizer's prefix
// before each, and that token behind the last, where they are not there yet.
class TextWriter {
 public:
  TextWriter(const Tokenizer& tokenizer, const TokenizeOptions& options, TokenFileWriter& writer)
      : prefix_(tokenizer.prefix()),
        eos_(tokenizer.eos_id()),
        append_eos_(options.append_eos && eos_),
        writer_(writer) {}

  void append(std::span<const int32_t> ids) {
    while (!ids.empty()) {
      const bool prefixed =
          ids.size() >= prefix_.size() && std::equal(prefix_.begin(), prefix_.end(), ids.begin());
      if (!inside_ && !prefixed) writer_.append(prefix_, true);
      const auto end = eos_ ? std::find(ids.begin(), ids.end(), *eos_) : ids.end();
      const bool ends = end != ids.end();
      const size_t count = static_cast<size_t>(end - ids.begin()) + (ends ? 1 : 0);
      writer_.append(ids.first(count), true);
      inside_ = !ends;
      if (ends) writer_.end_document();
      ids = ids.subspan(count);
    }
  }
  void end() {
    if (append_eos_ && inside_) writer_.append(std::span(&*eos_, 1), true);
    writer_.end_document();
  }

 private:
  const std::vector<int32_t>& prefix_;
  std::optional<int32_t> eos_;
  bool append_eos_, inside_ = false;  // a document that is not yet ended
  TokenFileWriter& writer_;
};

// The next chunk of the text: up to a safe cut near `wanted` bytes, or everything where there is
// none.
std::string_view next_chunk(ByteWindow& text, size_t wanted, const Tokenizer& tokenizer) {
  for (size_t bytes = std::max<size_t>(wanted, 1); text.reach(bytes + 1); bytes *= 2) {
    const std::string_view view = text.view().substr(0, bytes);
    if (const size_t cut = tokenizer.safe_cut(view)) return view.substr(0, cut);
  }
  return text.view();
}

void tokenize_text(const std::filesystem::path& source, const Tokenizer& tokenizer,
                   const TokenizeOptions& options, TokenFileWriter& writer) {
  ByteWindow text = open_text(source);
  TextWriter documents(tokenizer, options, writer);
  std::vector<int32_t> ids;
  for (bool first = true;; first = false) {
    const std::string_view chunk =
        next_chunk(text, static_cast<size_t>(options.chunk_bytes), tokenizer);
    if (chunk.empty()) break;
    ids.clear();
    if (first) {
      tokenizer.encode(chunk, ids);
    } else {
      tokenizer.encode_continued(chunk, true, ids);
    }
    documents.append(ids);
    text.drop(chunk.size());
  }
  documents.end();
}

void tokenize_records(const std::filesystem::path& source, const Tokenizer& tokenizer,
                      const TokenizeOptions& options, TokenFileWriter& writer) {
  const auto reader = open_documents(source, options.documents);
  Document document;
  DocumentTokens tokens;
  while (reader->next(document)) {
    tokenize_document(document, tokenizer, options.append_eos, tokens);
    std::span<const int32_t> rest = tokens.ids;
    for (const TokenRun& run : tokens.runs) {
      writer.append(rest.first(static_cast<size_t>(run.count)), run.scored);
      rest = rest.subspan(static_cast<size_t>(run.count));
    }
    writer.end_document(tokens.sample);
  }
  writer.add_skipped(reader->skipped());
}

// All of the options that the tokens depend on.
uint64_t fingerprint(const TokenizeOptions& options) {
  const DocumentOptions& o = options.documents;
  std::string text =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{:016x}", options.append_eos, o.format,
                  fmt::join(o.columns, "\n"), o.columns.size(), o.chat_template != nullptr,
                  static_cast<int>(o.train_on), o.skip_bad, options.template_fingerprint);
  text += "\n" + o.system;
  return hash_bytes(std::as_bytes(std::span(text)));
}

}  // namespace

void tokenize_source(const std::filesystem::path& source, const Tokenizer& tokenizer,
                     const TokenizeOptions& options, TokenFileWriter& writer) {
  if (is_plain_text(source)) {
    tokenize_text(source, tokenizer, options, writer);
  } else {
    tokenize_records(source, tokenizer, options, writer);
  }
}

TokenFileKey token_file_key(std::span<const std::filesystem::path> sources,
                            const Tokenizer& tokenizer, const TokenizeOptions& options) {
  std::string identity;
  for (const std::filesystem::path& source : sources) {
    const int64_t size =
        MappedFile::open(source)->size();  // says what is wrong with a source that is no file
    const auto time = std::filesystem::last_write_time(source).time_since_epoch();
    identity += fmt::format("{}\n{} {} {:016x}\n",
                            std::filesystem::absolute(source).lexically_normal().string(), size,
                            std::chrono::duration_cast<std::chrono::nanoseconds>(time).count(),
                            fingerprint_file(source));
  }
  TokenFileKey key;
  key.tokenizer = tokenizer.fingerprint();
  key.sources = XXH3_64bits(identity.data(), identity.size());
  key.options = fingerprint(options);
  return key;
}

TokenFile build_or_open(const std::filesystem::path& cache,
                        std::span<const std::filesystem::path> sources, const Tokenizer& tokenizer,
                        const TokenizeOptions& options, bool* made) {
  const TokenFileKey key = token_file_key(sources, tokenizer, options);
  if (made != nullptr) *made = false;
  if (std::filesystem::exists(cache)) {
    try {
      TokenFile file = TokenFile::open(cache);
      if (file.key() == key) return file;
    } catch (const Error&) {
      // A damaged cache is as good as none: it is made anew below.
    }
  }
  TokenFileWriter writer(cache, key, tokenizer.vocabulary_size());
  for (const std::filesystem::path& source : sources)
    tokenize_source(source, tokenizer, options, writer);
  if (writer.tokens() == 0) {
    fail_input("{}: expected at least one document that is not empty, got none",
               sources.empty() ? "data" : shown(sources[0]));
  }
  if (token_file_key(sources, tokenizer, options) != key) {
    fail_input("{}: expected the sources to stay as they are while they are read, got a change",
               shown(sources[0]));
  }
  writer.commit();
  if (made != nullptr) *made = true;
  return TokenFile::open(cache);
}

}  // namespace tenon
