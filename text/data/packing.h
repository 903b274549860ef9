// SPDX-License-Identifier: Apache-2.0
// Rows of at most seq_len tokens, cut from a token file, and the batches that a model is fed. What
// is kept is where each row's pieces lie: memory grows with rows and documents, never with tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/data/token_file.h"

namespace tenon {

enum class Packing {
  kDocument,  // documents side by side in a row, best fit first; attention stays inside a document.
              // A text that is longer than a row is cut into pieces; for a sample see Overlong.
  kConcat,    // all documents as one stream, cut into rows; attention goes across
  kNone,      // a document a row; what does not fit is left out
};

// What becomes of a sample (a prompt and its answer) that is longer than a row. In kConcat's stream
// nothing is too long.
enum class Overlong {
  kCut,    // at its end
  kDrop,   // left out
  kError,  // Error(kInput)
};

struct PackingOptions {
  Packing mode = Packing::kDocument;
  int64_t seq_len = 1024;
  Overlong overlong = Overlong::kCut;
  int32_t pad_id = 0;  // fills rows that are shorter than the longest of their batch
  // Where a document of the file, by its number from 0, stands in what it was made from: for
  // messages. Empty: nobody knows.
  std::function<std::string(int64_t number)> place;
};

// Tokens [begin, begin + length) of the file, and where the token lies that follows the last of
// them.
struct Segment {
  int64_t begin, next;
  int32_t length;
};

struct PackingStatistics {
  int64_t documents = 0, tokens = 0;  // what was to be packed
  int64_t rows = 0;
  int64_t positions = 0;          // tokens that stand in rows
  int64_t scored = 0;             // targets in them
  double fill = 0;                // positions / (rows * seq_len)
  int64_t samples = 0;            // of the documents
  int64_t cut_documents = 0;      // texts longer than a row
  int64_t cut_samples = 0;        // samples that lost their end
  int64_t long_samples = 0;       // samples left out for their length
  int64_t dropped_documents = 0;  // with nothing to predict, perhaps since they were cut
  int64_t lost_targets = 0;       // scored tokens that did not fit
};

// A batch as the model takes it: B rows of T tokens, all arrays (B, T).
struct Batch {
  static constexpr int32_t kNotScored = -100;
  int64_t rows = 0, length = 0;  // B and T
  std::vector<int32_t> ids;
  std::vector<int32_t> targets;    // the token that follows, or kNotScored
  std::vector<int32_t> positions;  // within the segment; within the row for kConcat
  std::vector<int32_t> doc_start;  // where in the row the attention of this position begins
  int64_t scored = 0;              // targets that count
};

// Every token that is scored and follows another (of its document; for kConcat: of the stream) is
// the target of exactly one position in exactly one row, but for lost_targets. A segment
// without a scored target is in no row.
class PackedRows {
 public:
  // Packs `documents`, spans of the file in ascending order.
  // Throws Error(kInput) when there is nothing to predict in them. Requires: seq_len > 0.
  PackedRows(const TokenFile& file, std::span<const DocumentSpan> documents,
             const PackingOptions& options);

  int64_t rows() const { return static_cast<int64_t>(scored_.size()); }
  std::span<const Segment> segments(int64_t row) const;
  int64_t length(int64_t row) const;
  // The targets of the row that count.
  int64_t scored(int64_t row) const { return scored_[row]; }
  int64_t scored(std::span<const int64_t> rows) const;

  // At least `length` long: the rows of one step share a length, however they are cut into batches.
  Batch batch(std::span<const int64_t> rows, int64_t length = 0) const;
  int64_t longest(std::span<const int64_t> rows) const;

  const PackingStatistics& statistics() const { return statistics_; }
  const PackingOptions& options() const { return options_; }

 private:
  void pack_documents(std::span<const DocumentSpan> documents);
  void pack_stream(std::span<const DocumentSpan> documents);
  void pack_alone(std::span<const DocumentSpan> documents);
  // The part of a document that may stand in a row where it is not cut into pieces: all of it, or
  // its front; nothing where it is left out. Counts what is lost.
  std::optional<Segment> fitted(const DocumentSpan& document);
  void add_row(std::span<const Segment> segments);
  [[noreturn]] void fail_empty() const;
  [[noreturn]] void fail_overlong(const DocumentSpan& document, int64_t most) const;
  int64_t scored_targets(const Segment& segment) const;
  // Writes a row at element `offset` of the arrays.
  void fill_row(int64_t row, int64_t offset, Batch& batch) const;

  TokenFile file_;
  PackingOptions options_;
  std::vector<Segment> segments_;  // row by row
  std::vector<int64_t> row_begin_ = {0};
  std::vector<int32_t> scored_;  // by row
  PackingStatistics statistics_;
};

// All documents of the file.
std::vector<DocumentSpan> all_documents(const TokenFile& file);

// Documents for training and for validation; none is in both.
struct DocumentSplit {
  std::vector<DocumentSpan> train, validation;
};
// Sets aside the share `fraction` of the documents, at least one, drawn by `seed`. A single text
// is cut instead: its last tokens are for validation. Throws Error(kInput) when it is too short, or
// a sample. Requires: 0 < fraction < 1.
DocumentSplit split_documents(const TokenFile& file, double fraction, uint64_t seed);

}  // namespace tenon
