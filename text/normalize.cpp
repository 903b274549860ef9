// SPDX-License-Identifier: Apache-2.0
#include "text/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "core/error.h"

namespace tenon {
namespace {

void append_normalized(std::string_view text, int options, std::string& out) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(mapped, std::free);
  TENON_CHECK(size >= 0, "[normalize] {}", utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  if (ascii) return std::string(text);  // every form leaves ASCII as it is

  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                      (compatible ? UTF8PROC_COMPAT : 0);
  std::string out;
  // utf8proc 2.8 swallows U+11A7 behind a Korean syllable: it takes this vowel for the "no final
  // consonant" of its arithmetic. Nothing composes with it, so it may begin a part of its own.
  while (!text.empty()) {
    const size_t end = text.find("\xE1\x86\xA7", 1);
    append_normalized(text.substr(0, end), options, out);
    text.remove_prefix(std::min(end, text.size()));
  }
  return out;
}

}  // namespace tenon
