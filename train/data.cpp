// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "text/tokenizer/tokenizer_files.h"
#include "text/utf8.h"
#include "train/choices.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// Where special tokens are named that a template writes: the adapter's files before the model's.
std::vector<fs::path> folders_of(const fs::path& model, const fs::path& adapter) {
  if (adapter.empty()) return {model};
  return {adapter, model};
}

// The day by this machine's clock, as --date has it.
std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm time{};
  localtime_r(&now, &time);
  char text[16];
  std::strftime(text, sizeof(text), "%Y-%m-%d", &time);
  return text;
}

// Text for a terminal: lines stay lines, other control characters are escaped.
std::string shown_text(std::string_view text) {
  constexpr size_t kEnd = 400;  // bytes of a stretch that are shown, at each end
  if (text.size() > 2 * kEnd + 100) {
    std::string_view front = text.substr(0, kEnd), back = text.substr(text.size() - kEnd);
    front.remove_suffix(unfinished_utf8_tail(front));
    while (!back.empty() && (back.front() & 0xC0) == 0x80) back.remove_prefix(1);
    return shown_text(front) + " [...] " + shown_text(back);
  }
  std::string lines;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    lines += printable(line, 8 * kEnd);
    if (line.size() < text.size()) lines += '\n';
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return lines;
}

// What a file's first records show of it.
struct Look {
  std::string kind;
  std::vector<std::string> unread;
};

Look look_at(const std::string& file, const DocumentOptions& options) {
  constexpr int kRecords = 100;
  if (is_token_file(file)) return {"token file", {}};
  const auto reader = open_documents(file, options);
  if (!is_plain_text(file)) {
    Document document;
    for (int i = 0; i < kRecords && reader->next(document); ++i) {
    }
  }
  return {reader->description(), reader->unread_fields()};
}

void add_new(const std::vector<std::string>& names, std::vector<std::string>& to) {
  for (const std::string& name : names) {
    if (std::find(to.begin(), to.end(), name) == to.end()) to.push_back(name);
  }
}

std::string unread_text(const std::vector<std::string>& names) {
  constexpr size_t kNames = 8;
  if (names.empty()) return "";
  const auto shown_end =
      names.begin() + static_cast<std::ptrdiff_t>(std::min(kNames, names.size()));
  const std::string text = printable(fmt::format("{}", fmt::join(names.begin(), shown_end, ", ")));
  const size_t more = names.size() - std::min(kNames, names.size());
  return "fields not read: " + text + (more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace

std::optional<TemplateSource> template_source(const DataOptions& options, const fs::path& model,
                                              const fs::path& adapter) {
  if (options.chat_template == "none") return std::nullopt;
  if (!options.chat_template.empty()) return named_template(options.chat_template);
  if (!adapter.empty()) {
    if (std::optional<TemplateSource> own = model_template(adapter)) return own;
  }
  return model_template(model);
}

std::shared_ptr<const ChatTemplate> chat_template(const DataOptions& options, const fs::path& model,
                                                  const fs::path& adapter) {
  const std::optional<TemplateSource> source = template_source(options, model, adapter);
  if (source && !options.chat_template.empty())
    return ChatTemplate::named(options.chat_template, model, options.date);
  return source ? ChatTemplate::of(*source, folders_of(model, adapter), options.date) : nullptr;
}

TokenizeOptions tokenize_options(const DataOptions& options, const fs::path& model,
                                 const fs::path& adapter) {
  TokenizeOptions result;
  DocumentOptions& documents = result.documents;
  documents.format = options.format;
  documents.columns = options.columns;
  documents.chat_template = chat_template(options, model, adapter);
  documents.system = options.system;
  documents.skip_bad = options.skip_bad;
  documents.train_on = chosen(kTrainOns, "--train-on", options.train_on);
  result.template_fingerprint = template_fingerprint(options, model, adapter);
  result.plain_people = options.special_in_text == "plain";
  return result;
}

uint64_t template_fingerprint(const DataOptions& options, const fs::path& model,
                              const fs::path& adapter) {
  std::string parts;
  const auto add = [&](const std::string& name, uint64_t content) {
    parts += fmt::format("{}\n{:016x}\n", name, content);
  };
  for (const fs::path& folder : folders_of(model, adapter)) {
    for (const fs::path& file : tokenizer_files(folder))
      add(file.filename().string(), fingerprint_file(file));
  }
  if (const auto source = template_source(options, model, adapter)) {
    const auto add_text = [&](const TemplateText& one) {
      add("template " + one.name, hash_bytes(std::as_bytes(std::span(one.text))));
    };
    add_text(source->main);
    for (const TemplateText& one : source->additional) add_text(one);
    if (source->asks_date()) parts += options.date;
  }
  return hash_bytes(std::as_bytes(std::span(parts)));
}

void settle_date(DataOptions& options, const fs::path& model, const fs::path& adapter,
                 Communicator& world, const std::string& earlier) {
  std::string date;
  if (world.rank() == 0 && options.date.empty()) {
    const auto source = template_source(options, model, adapter);
    if (source && source->asks_date()) date = earlier.empty() ? today() : earlier;
  }
  date = world.all_gather_text(date).front();
  if (options.date.empty()) options.date = date;
}

std::string describe_data(const std::vector<std::string>& files, const TokenizeOptions& options) {
  std::vector<std::string> kinds, unread;
  for (const std::string& file : files) {
    const Look look = look_at(file, options.documents);
    add_new({look.kind}, kinds);
    add_new(look.unread, unread);
  }
  const std::string note = unread_text(unread);
  return fmt::format("{}{}{}", fmt::join(kinds, "; "), note.empty() ? "" : "; ", note);
}

std::string describe_unread(const std::vector<std::string>& files, const TokenizeOptions& options) {
  std::vector<std::string> unread;
  for (const std::string& file : files) add_new(look_at(file, options.documents).unread, unread);
  return unread_text(unread);
}

std::string sample_text(const TokenFile& file, const DocumentSpan& document,
                        const Tokenizer& tokenizer, bool colour) {
  constexpr int64_t kTokens = 4096;
  const int64_t end = std::min(document.end, document.begin + kTokens);
  std::string text;
  for (int64_t at = document.begin; at < end;) {
    const bool scored = file.scored(at);
    int64_t next = at + 1;
    while (next < end && file.scored(next) == scored) ++next;
    std::vector<int32_t> ids(static_cast<size_t>(next - at));
    file.copy_ids(at, ids);
    const std::string part = shown_text(tokenizer.decode(ids));
    text += colour   ? fmt::format("\033[{}m{}\033[0m", scored ? "32" : "2", part)
            : scored ? "[[" + part + "]]"
                     : part;
    at = next;
  }
  return end < document.end ? text + " [...]" : text;
}

}  // namespace tenon
