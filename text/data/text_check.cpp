// SPDX-License-Identifier: Apache-2.0
#include "text/data/text_check.h"

#include <fmt/format.h>

#include <cstring>

#include "core/error.h"
#include "core/file.h"
#include "text/data/byte_source.h"
#include "text/utf8.h"

namespace tenon {
namespace {

// Whether eight bytes are ASCII characters without NUL, as most text is.
bool plain_eight(const char* at) {
  uint64_t eight;
  std::memcpy(&eight, at, sizeof eight);
  constexpr uint64_t kHigh = 0x8080808080808080, kOnes = 0x0101010101010101;
  return ((eight | (eight - kOnes)) & kHigh) == 0;  // NUL - 1 sets the high bit
}

}  // namespace

TextFaults text_faults(std::string_view text, int64_t begin) {
  TextFaults faults;
  for (size_t i = 0; i < text.size();) {
    if (text.size() - i >= 8 && plain_eight(text.data() + i)) {
      faults.characters += 8;
      i += 8;
      continue;
    }
    const Utf8Char c = first_utf8(text.substr(i));
    ++faults.characters;
    if ((c.kind != Utf8Char::kValid || c.code == 0) && faults.bad++ == 0)
      faults.first = begin + static_cast<int64_t>(i);
    i += c.length;
  }
  return faults;
}

TextCheck::TextCheck(std::span<const std::filesystem::path> sources, const DocumentOptions& options)
    : stops_(!options.skip_bad), note_(options.note) {
  for (const std::filesystem::path& source : sources) {
    const bool packed = !data_file_name(source).compression.empty();
    sources_.push_back({source, packed ? INT64_MAX : MappedFile::open(source)->size(), {}});
  }
}

void TextCheck::take(int source, const TextFaults& faults) {
  Source& of = sources_.at(static_cast<size_t>(source));
  if (faults.bad > 0 && of.faults.bad == 0) of.faults.first = faults.first;
  of.faults.characters += faults.characters;
  of.faults.bad += faults.bad;
  judge(of, of.bytes);
}

void TextCheck::finish() {
  for (const Source& source : sources_) {
    const TextFaults& faults = source.faults;
    judge(source, faults.characters);
    if (faults.bad == 0 || !note_) continue;
    note_(
        fmt::format("{}: {} of {} characters are no text (not UTF-8, or NUL), the first at byte "
                    "{}; U+FFFD is read for what is not UTF-8",
                    shown(source.path), faults.bad, faults.characters, faults.first));
  }
}

void TextCheck::judge(const Source& source, int64_t characters) const {
  const TextFaults& faults = source.faults;
  if (!stops_ || faults.bad <= characters / 100) return;
  fail_input(
      "{}: expected UTF-8 text, got {} characters that are none (not UTF-8, or NUL) among {}, the "
      "first at byte {}: is it binary, or in another encoding? (--skip-bad reads it nevertheless)",
      shown(source.path), faults.bad, faults.characters, faults.first);
}

}  // namespace tenon
