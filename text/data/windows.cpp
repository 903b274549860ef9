// SPDX-License-Identifier: Apache-2.0
#include "text/data/windows.h"

#include <algorithm>

#include "core/error.h"

namespace tenon {

StridedWindows::StridedWindows(const TokenFile& file, std::span<const DocumentSpan> texts,
                               int64_t length, int64_t stride, int32_t pad_id)
    : file_(file), pad_id_(pad_id) {
  TENON_CHECK(stride >= 1 && stride <= length && length >= 2,
              "[windows] expected 1 <= stride <= length and 2 <= length, got {} and {}", stride,
              length);
  int64_t tokens = 0;
  for (const DocumentSpan& text : texts) {
    tokens += text.size();
    if (file.unscored_in(text) > 0) {
      fail_input("{}: expected plain text for windows with a stride, got prompts and answers",
                 file.name());
    }
    for (int64_t begin = text.begin, seen = text.begin + 1; seen < text.end; begin += stride) {
      const int64_t end = std::min(begin + length, text.end);
      const int64_t first = std::max(seen, begin + 1);
      if (first < end) windows_.push_back({begin, end, first});
      seen = end;
    }
  }
  if (windows_.empty()) {
    fail_input("{}: expected at least one token to predict, got none in {} texts of {} tokens",
               file.name(), texts.size(), tokens);
  }
}

Batch StridedWindows::batch(std::span<const int64_t> rows) const {
  Batch batch;
  batch.rows = static_cast<int64_t>(rows.size());
  for (const int64_t row : rows)
    batch.length = std::max(batch.length, windows_[row].end - windows_[row].begin - 1);
  const auto size = static_cast<size_t>(batch.rows * batch.length);
  batch.ids.assign(size, pad_id_);
  batch.targets.assign(size, Batch::kNotScored);
  batch.positions.resize(size);
  batch.doc_start.resize(size);
  for (int64_t i = 0; i < batch.rows; ++i) {
    const Window& window = windows_[rows[i]];
    const int64_t inputs = window.end - window.begin - 1, offset = i * batch.length;
    file_.copy_ids(window.begin, std::span(batch.ids).subspan(static_cast<size_t>(offset),
                                                              static_cast<size_t>(inputs)));
    for (int64_t t = 0; t < batch.length; ++t) {
      // Padding behind the window is a text of its own: it attends to itself, and nothing to it.
      const int64_t start = t < inputs ? 0 : inputs;
      batch.positions[offset + t] = static_cast<int32_t>(t - start);
      batch.doc_start[offset + t] = static_cast<int32_t>(start);
      const int64_t target = window.begin + t + 1;
      if (target < window.first_target || target >= window.end) continue;
      batch.targets[offset + t] = file_.id(target);
      ++batch.scored;
    }
  }
  return batch;
}

}  // namespace tenon
