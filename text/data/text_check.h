// SPDX-License-Identifier: Apache-2.0
// Whether a .txt is text: what of it is not UTF-8, for which U+FFFD is read, or NUL. Counted by
// whoever encodes it, stretch by stretch, and judged for the file as a whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "text/data/documents.h"

namespace tenon {

struct TextFaults {
  int64_t characters = 0;  // what is no UTF-8 counts by the U+FFFD that stand for it
  int64_t bad = 0;         // of them
  int64_t first = 0;       // the byte of the file where the first bad one lies, if there is one
};

// `begin`: the byte of the file where the text lies.
TextFaults text_faults(std::string_view text, int64_t begin);

class TextCheck {
 public:
  // `options` say whether bad text is passed over, and who is told.
  TextCheck(std::span<const std::filesystem::path> sources, const DocumentOptions& options);
  // What was found in a stretch of sources[source]; stretches come in order. Throws Error(kInput)
  // once more than 1 % of the file's characters are bad, whatever else it holds.
  void take(int source, const TextFaults& faults);
  // When all was taken: throws Error(kInput) for a file of which more than 1 % are bad, and tells of
  // those with fewer.
  void finish();

 private:
  struct Source {
    std::filesystem::path path;
    int64_t bytes;  // not less than its characters
    TextFaults faults;
  };
  void judge(const Source& source, int64_t characters) const;

  std::vector<Source> sources_;
  bool stops_;
  std::function<void(const std::string&)> note_;
};

}  // namespace tenon
