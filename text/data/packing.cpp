// SPDX-License-Identifier: Apache-2.0
#include "text/data/packing.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/error.h"
#include "text/data/row_order.h"

namespace tenon {
namespace {

constexpr uint32_t kSplitPurpose = 0x53504C54;  // "SPLT": apart from every other use of the seed

// Spans that touch become one, so that a stream has no more pieces than it has gaps.
std::vector<TokenSpan> joined(std::span<const DocumentSpan> spans) {
  std::vector<TokenSpan> result;
  for (const DocumentSpan& span : spans) {
    if (!result.empty() && result.back().end == span.begin) {
      result.back().end = span.end;
    } else {
      result.push_back(span);
    }
  }
  return result;
}

}  // namespace

PackedRows::PackedRows(const TokenFile& file, std::span<const DocumentSpan> documents,
                       const PackingOptions& options)
    : file_(file), options_(options) {
  TENON_CHECK(options.seq_len > 0, "[packing] expected seq_len > 0, got {}", options.seq_len);
  statistics_.documents = static_cast<int64_t>(documents.size());
  for (const DocumentSpan& document : documents) {
    statistics_.tokens += document.size();
    statistics_.samples += document.sample ? 1 : 0;
  }
  switch (options.mode) {
    case Packing::kDocument: pack_documents(documents); break;
    case Packing::kConcat: pack_stream(documents); break;
    case Packing::kNone: pack_alone(documents); break;
  }
  if (rows() == 0) fail_empty();
  statistics_.rows = rows();
  for (const Segment& segment : segments_) statistics_.positions += segment.length;
  for (const int32_t scored : scored_) statistics_.scored += scored;
  statistics_.fill = static_cast<double>(statistics_.positions) /
                     (static_cast<double>(statistics_.rows) * static_cast<double>(options.seq_len));
}

void PackedRows::fail_empty() const {
  const PackingStatistics& s = statistics_;
  const std::string name = file_.name();
  if (s.long_samples > 0) {
    fail_input(
        "{}: nothing is left to predict: {} of {} documents are samples longer than --seq-len "
        "{}, left out by --overlong drop (--overlong cut keeps their fronts)",
        name, s.long_samples, s.documents, options_.seq_len);
  }
  if (s.lost_targets > 0) {
    fail_input(
        "{}: nothing is left to predict: {} tokens in {} documents lie beyond --seq-len {} (a "
        "larger --seq-len reaches them)",
        name, s.lost_targets, s.documents, options_.seq_len);
  }
  fail_input("{}: expected at least one token to predict, got none in {} documents of {} tokens",
             name, s.documents, s.tokens);
}

void PackedRows::fail_overlong(const DocumentSpan& document, int64_t most) const {
  int64_t number = 0;
  while (file_.document(number).begin != document.begin) ++number;
  fail_input(
      "{}: a sample of {} tokens, but --seq-len {} takes {} (--overlong cut and --overlong drop "
      "allow it)",
      options_.place ? options_.place(number)
                     : fmt::format("{}: document {}", file_.name(), number + 1),
      document.size(), options_.seq_len, most + 1);
}

int64_t PackedRows::scored_targets(const Segment& segment) const {
  const int64_t last =
      segment.begin + segment.length;  // the targets are begin + 1 .. last - 1, and next
  const int64_t unscored =
      file_.unscored_in({segment.begin + 1, last}) + (file_.scored(segment.next) ? 0 : 1);
  return segment.length - unscored;
}

void PackedRows::add_row(std::span<const Segment> segments) {
  int64_t scored = 0;
  for (const Segment& segment : segments) scored += scored_targets(segment);
  if (scored == 0) return;
  segments_.insert(segments_.end(), segments.begin(), segments.end());
  row_begin_.push_back(static_cast<int64_t>(segments_.size()));
  scored_.push_back(static_cast<int32_t>(scored));
}

std::optional<Segment> PackedRows::fitted(const DocumentSpan& document) {
  // A sample is cut to seq_len tokens, as others do it: the last of them has no target. The rest of a
  // text is in the next row or lost, so its last position has the target that it has in the text.
  const int64_t most =
      document.sample ? std::max<int64_t>(1, options_.seq_len - 1) : options_.seq_len;
  const int64_t positions = document.size() - 1, length = std::min(most, positions);
  const bool overlong = positions > length;
  if (overlong && document.sample && options_.overlong != Overlong::kCut) {
    if (options_.overlong == Overlong::kError) fail_overlong(document, most);
    ++statistics_.long_samples;
    return {};
  }
  if (overlong) {
    const TokenSpan rest{document.begin + length + 1, document.end};
    statistics_.lost_targets += rest.size() - file_.unscored_in(rest);
  }
  const Segment piece{document.begin, document.begin + length, static_cast<int32_t>(length)};
  if (length == 0 || scored_targets(piece) == 0) {
    ++statistics_.dropped_documents;
    return {};
  }
  if (overlong) ++(document.sample ? statistics_.cut_samples : statistics_.cut_documents);
  return piece;
}

// Best fit, longest first: each piece goes to the fullest row that still has room for it, or opens
// a row. The last token of a document predicts nothing, so it stands in no row.
void PackedRows::pack_documents(std::span<const DocumentSpan> documents) {
  const int64_t seq_len = options_.seq_len;
  std::vector<Segment> pieces;
  for (const DocumentSpan& document : documents) {
    if (document.sample) {
      if (const std::optional<Segment> piece = fitted(document)) pieces.push_back(*piece);
      continue;
    }
    const int64_t positions = document.size() - 1;
    bool used = false;
    for (int64_t at = 0; at < positions; at += seq_len) {
      const int64_t begin = document.begin + at, length = std::min(seq_len, positions - at);
      const Segment piece{begin, begin + length, static_cast<int32_t>(length)};
      if (scored_targets(piece) == 0) continue;
      used = true;
      pieces.push_back(piece);
    }
    statistics_.cut_documents += positions > seq_len ? 1 : 0;
    statistics_.dropped_documents += used ? 0 : 1;
  }
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Segment& a, const Segment& b) { return a.length > b.length; });

  std::vector<int64_t> row_of(pieces.size());
  std::map<int64_t, std::vector<int64_t>> rows_with_room;  // free positions -> rows that have them
  int64_t opened = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const int64_t length = pieces[i].length;
    const auto fit = rows_with_room.lower_bound(length);
    int64_t room = seq_len;
    if (fit == rows_with_room.end()) {
      row_of[i] = opened++;
    } else {
      room = fit->first;
      row_of[i] = fit->second.back();
      fit->second.pop_back();
      if (fit->second.empty()) rows_with_room.erase(fit);
    }
    if (room > length) rows_with_room[room - length].push_back(row_of[i]);
  }

  std::vector<int64_t> order(pieces.size());  // by row; within a row longest first
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return row_of[a] < row_of[b]; });
  std::vector<Segment> row;
  for (size_t i = 0; i < order.size(); ++i) {
    row.push_back(pieces[order[i]]);
    if (i + 1 < order.size() && row_of[order[i + 1]] == row_of[order[i]]) continue;
    add_row(row);
    row.clear();
  }
}

// One stream; its last token has nothing to predict and stands in no row.
void PackedRows::pack_stream(std::span<const DocumentSpan> documents) {
  const std::vector<TokenSpan> spans = joined(documents);
  std::vector<Segment> row;
  int64_t room = options_.seq_len;
  for (size_t i = 0; i < spans.size(); ++i) {
    const bool last = i + 1 == spans.size();
    const int64_t end = spans[i].end - (last ? 1 : 0);
    for (int64_t at = spans[i].begin; at < end;) {
      const int64_t length = std::min(room, end - at);
      const int64_t next = at + length < spans[i].end ? at + length : spans[i + 1].begin;
      row.push_back({at, next, static_cast<int32_t>(length)});
      at += length;
      room -= length;
      if (room > 0) continue;
      add_row(row);
      row.clear();
      room = options_.seq_len;
    }
  }
  if (!row.empty()) add_row(row);
}

void PackedRows::pack_alone(std::span<const DocumentSpan> documents) {
  for (const DocumentSpan& document : documents) {
    if (const std::optional<Segment> piece = fitted(document)) add_row(std::span(&*piece, 1));
  }
}

std::span<const Segment> PackedRows::segments(int64_t row) const {
  return std::span(segments_).subspan(static_cast<size_t>(row_begin_[row]),
                                      static_cast<size_t>(row_begin_[row + 1] - row_begin_[row]));
}

int64_t PackedRows::length(int64_t row) const {
  int64_t total = 0;
  for (const Segment& segment : segments(row)) total += segment.length;
  return total;
}

int64_t PackedRows::scored(std::span<const int64_t> rows) const {
  int64_t total = 0;
  for (const int64_t row : rows) total += scored_[row];
  return total;
}

int64_t PackedRows::longest(std::span<const int64_t> rows) const {
  int64_t longest = 0;
  for (const int64_t row : rows) longest = std::max(longest, length(row));
  return longest;
}

Batch PackedRows::batch(std::span<const int64_t> rows, int64_t length) const {
  Batch batch;
  batch.rows = static_cast<int64_t>(rows.size());
  batch.length = std::max(length, longest(rows));
  const auto size = static_cast<size_t>(batch.rows * batch.length);
  batch.ids.assign(size, options_.pad_id);
  batch.targets.assign(size, Batch::kNotScored);
  batch.positions.resize(size);
  batch.doc_start.resize(size);
  for (size_t i = 0; i < rows.size(); ++i)
    fill_row(rows[i], static_cast<int64_t>(i) * batch.length, batch);
  batch.scored = scored(rows);
  return batch;
}

void PackedRows::fill_row(int64_t row, int64_t offset, Batch& batch) const {
  const bool apart =
      options_.mode != Packing::kConcat;  // each segment has its own attention and positions
  int64_t done = 0;
  // Padding is a segment of its own behind the others: it attends to itself, and nothing to it.
  const auto place = [&](int64_t length, int64_t first) {
    for (int64_t t = 0; t < length; ++t) {
      batch.positions[offset + done + t] = static_cast<int32_t>(done + t - first);
      batch.doc_start[offset + done + t] = static_cast<int32_t>(first);
    }
    done += length;
  };
  for (const Segment& segment : segments(row)) {
    const auto length = static_cast<size_t>(segment.length);
    const std::span ids = std::span(batch.ids).subspan(static_cast<size_t>(offset + done), length);
    const std::span targets =
        std::span(batch.targets).subspan(static_cast<size_t>(offset + done), length);
    file_.copy_ids(segment.begin, ids);
    std::copy(ids.begin() + 1, ids.end(), targets.begin());
    targets.back() = file_.id(segment.next);
    if (scored_targets(segment) != segment.length) {
      for (size_t t = 0; t < length; ++t) {
        const int64_t target =
            t + 1 < length ? segment.begin + static_cast<int64_t>(t) + 1 : segment.next;
        if (!file_.scored(target)) targets[t] = Batch::kNotScored;
      }
    }
    place(segment.length, apart ? done : 0);
  }
  place(batch.length - done, done);
}

std::vector<DocumentSpan> all_documents(const TokenFile& file) {
  std::vector<DocumentSpan> documents(static_cast<size_t>(file.documents()));
  for (int64_t i = 0; i < file.documents(); ++i) documents[i] = file.document(i);
  return documents;
}

DocumentSplit split_documents(const TokenFile& file, double fraction, uint64_t seed) {
  TENON_CHECK(fraction > 0 && fraction < 1, "[packing] expected 0 < fraction < 1, got {}",
              fraction);
  const auto share = [&](int64_t whole, int64_t least) {
    return std::clamp<int64_t>(std::llround(fraction * static_cast<double>(whole)), least,
                               whole - least);
  };
  const int64_t count = file.documents();
  if (count == 1) {
    if (file.document(0).sample) {
      fail_input("{}: expected at least 2 samples to set some aside for validation, got 1",
                 file.name());
    }
    constexpr int64_t kLeast = 2;  // a token, and one before it
    if (file.tokens() < 2 * kLeast) {
      fail_input("{}: expected at least {} tokens to set some aside for validation, got {}",
                 file.name(), 2 * kLeast, file.tokens());
    }
    const int64_t cut = file.tokens() - share(file.tokens(), kLeast);
    return {{{{0, cut}}}, {{{cut, file.tokens()}}}};
  }
  std::vector<int64_t> order = permutation(count, {.seed = seed, .purpose = kSplitPurpose});
  const int64_t kept = count - share(count, 1);
  std::sort(order.begin(), order.begin() + kept);
  std::sort(order.begin() + kept, order.end());
  DocumentSplit split;
  for (int64_t i = 0; i < count; ++i) {
    (i < kept ? split.train : split.validation).push_back(file.document(order[i]));
  }
  return split;
}

}  // namespace tenon
