// SPDX-License-Identifier: Apache-2.0
#include "text/sources.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace tenon {
namespace {

// Puts documents together: appends ids, and the end-of-text token where a document does not have it
// yet.
class DocumentWriter {
 public:
  DocumentWriter(const Tokenizer& tokenizer, const TokenizeOptions& options,
                 TokenFileWriter& writer)
      : eos_(tokenizer.eos_id()), append_eos_(options.append_eos && eos_), writer_(writer) {}

  void append(std::span<const int32_t> ids, bool scored) {
    if (ids.empty()) return;
    writer_.append(ids, scored);
    last_ = ids.back();
  }
  // Appends ids of which each end-of-text token ends a document.
  void append_documents(std::span<const int32_t> ids) {
    while (!ids.empty()) {
      const auto end = eos_ ? std::find(ids.begin(), ids.end(), *eos_) : ids.end();
      const bool ends = end != ids.end();
      const size_t count = static_cast<size_t>(end - ids.begin()) + (ends ? 1 : 0);
      append(ids.first(count), true);
      if (ends) end_document();
      ids = ids.subspan(count);
    }
  }
  void end_document() {
    if (append_eos_ && last_ && last_ != eos_) writer_.append(std::span(&*eos_, 1), true);
    writer_.end_document();
    last_.reset();
  }

 private:
  std::optional<int32_t> eos_;
  bool append_eos_;
  TokenFileWriter& writer_;
  std::optional<int32_t> last_;  // of the current document
};

// Refuses what is not UTF-8 text by its first bytes, rather than training on it.
void check_is_text(std::string_view text, const std::string& name) {
  if (text.empty()) fail_input("{}: expected text, got an empty file", name);
  static const std::pair<std::string_view, const char*> kOthers[] = {
      {"\xFF\xFE", "UTF-16"},
      {"\xFE\xFF", "UTF-16"},
      {"\x1F\x8B", "gzip"},
      {"PK\x03\x04", "a zip"},
      {"\x28\xB5\x2F\xFD", "Zstandard"}};
  for (const auto& [magic, kind] : kOthers) {
    if (text.starts_with(magic))
      fail_input("{}: expected UTF-8 text, got {} (by its first bytes)", name, kind);
  }
}

std::string_view without_byte_order_mark(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return text;
}

// The length of the next chunk of `rest`: a safe cut near `wanted` bytes, or everything where there
// is none.
size_t chunk_length(std::string_view rest, size_t wanted, const Tokenizer& tokenizer) {
  for (size_t window = std::max<size_t>(wanted, 1); window < rest.size(); window *= 2) {
    if (const size_t cut = tokenizer.safe_cut(rest.substr(0, window))) return cut;
  }
  return rest.size();
}

void tokenize_text(const MappedFile& file, const Tokenizer& tokenizer,
                   const TokenizeOptions& options, DocumentWriter& documents) {
  std::string_view rest = without_byte_order_mark(file.text());
  std::vector<int32_t> ids;
  while (!rest.empty()) {
    const size_t length = chunk_length(rest, static_cast<size_t>(options.chunk_bytes), tokenizer);
    ids.clear();
    tokenizer.encode(rest.substr(0, length), ids);
    documents.append_documents(ids);
    file.advise_done(rest.data() - file.text().data(), static_cast<int64_t>(length));
    rest.remove_prefix(length);
  }
  documents.end_document();
}

// The JSON of one line. The parser sees the line alone and calls it line 1: the message gets the
// file's line.
Json parse_line(std::string_view line, const std::string& file, int64_t number) {
  try {
    return parse_json(line, file);
  } catch (const Error& error) {
    std::string_view message = error.what();
    for (const std::string& prefix : {file + ":1:", file + ":"}) {
      if (!message.starts_with(prefix)) continue;
      message.remove_prefix(prefix.size());
      fail_input("{}:{}:{}", file, number, message);
    }
    throw;
  }
}

void tokenize_record(const Json& record, const std::string& place, const Tokenizer& tokenizer,
                     DocumentWriter& documents) {
  if (!record.is_object()) fail_input("{}: expected a JSON object, got {}", place, brief(record));
  const auto field = [&](const char* name) {
    const auto found = record.find(name);
    return found != record.end() && found->is_string() ? &found->get_ref<const std::string&>()
                                                       : nullptr;
  };
  const std::string *const text = field("text"), *const prompt = field("prompt"),
                           *const completion = field("completion");
  const bool pair = prompt != nullptr && completion != nullptr;
  if ((text != nullptr) == pair) {
    std::string keys;
    for (const auto& [key, value] : record.items()) {
      keys += fmt::format("{}\"{}\"{}", keys.empty() ? "" : ", ", key,
                          value.is_string() ? "" : " (not a string)");
    }
    fail_input("{}: expected \"text\", or \"prompt\" and \"completion\" (strings); found keys: {}",
               place, keys.empty() ? "none" : printable(keys));
  }
  std::vector<int32_t> ids;
  if (text != nullptr) {
    tokenizer.encode(*text, ids);
    documents.append(ids, true);
  } else {
    tokenizer.encode(*prompt, ids);
    documents.append(ids, false);
    ids.clear();
    tokenizer.encode(*completion, ids);
    documents.append(ids, true);
  }
  documents.end_document();
}

void tokenize_lines(const MappedFile& file, const std::string& name, const Tokenizer& tokenizer,
                    DocumentWriter& documents) {
  std::string_view rest = without_byte_order_mark(file.text());
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t newline = rest.find('\n');
    std::string_view line = rest.substr(0, newline);
    const size_t length = std::min(rest.size(), line.size() + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t\r") != line.npos) {
      tokenize_record(parse_line(line, name, number), fmt::format("{}:{}", name, number), tokenizer,
                      documents);
    }
    file.advise_done(rest.data() - file.text().data(), static_cast<int64_t>(length));
    rest.remove_prefix(length);
  }
}

}  // namespace

void tokenize_source(const std::filesystem::path& source, const Tokenizer& tokenizer,
                     const TokenizeOptions& options, TokenFileWriter& writer) {
  const auto file = MappedFile::open(source);
  const std::string name = shown(source), extension = source.extension().string();
  if (extension != ".txt" && extension != ".jsonl") {
    fail_input("{}: expected a .txt or .jsonl file, got {}", name,
               extension.empty() ? "no extension" : printable(extension));
  }
  check_is_text(file->text(), name);
  file->advise_sequential();
  DocumentWriter documents(tokenizer, options, writer);
  if (extension == ".txt") {
    tokenize_text(*file, tokenizer, options, documents);
  } else {
    tokenize_lines(*file, name, tokenizer, documents);
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
  key.options = options.append_eos ? 1 : 0;
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
