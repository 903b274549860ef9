// SPDX-License-Identifier: Apache-2.0
#include "text/data/packing.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <numeric>
#include <set>

#include "tests/text/text_cases.h"
#include "text/data/row_order.h"

using namespace tenon;
using namespace tenon::test;

namespace {

// A token file whose token at position p has the id p, so that a batch shows where each of its
// tokens came from. Every third document begins with a prompt.
struct Positions {
  explicit Positions(const std::vector<int64_t>& lengths) {
    TokenFileWriter writer(folder / "t", {}, 1 << 20);
    int32_t next = 0;
    const auto append = [&](int64_t count, bool scored) {
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < count; ++i) ids.push_back(next++);
      writer.append(ids, scored);
    };
    for (size_t d = 0; d < lengths.size(); ++d) {
      const int64_t prompt = d % 3 == 1 ? lengths[d] / 2 : 0;
      append(prompt, false);
      append(lengths[d] - prompt, true);
      writer.end_document();
    }
    writer.commit();
  }
  TempFolder folder;
  TokenFile file() const { return TokenFile::open(folder / "t"); }
};

std::vector<int64_t> some_lengths(int count, int64_t longest) {
  std::vector<int64_t> lengths;
  uint32_t state = 7;
  for (int i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    lengths.push_back(1 + (state >> 8) % (i % 10 == 0 ? longest : longest / 4));
  }
  return lengths;
}

std::vector<int64_t> all_rows(const PackedRows& rows) {
  std::vector<int64_t> all(static_cast<size_t>(rows.rows()));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  return all;
}

// How often each token is a target that counts, over all rows, one row a batch.
std::map<int32_t, int> target_counts(const PackedRows& rows) {
  std::map<int32_t, int> counts;
  for (const int64_t row : all_rows(rows)) {
    const Batch batch = rows.batch({&row, 1});
    int64_t scored = 0;
    for (const int32_t target : batch.targets) {
      if (target == Batch::kNotScored) continue;
      ++counts[target];
      ++scored;
    }
    CHECK(scored == rows.scored(row));
    CHECK(scored == batch.scored);
    CHECK(scored > 0);
  }
  return counts;
}

PackedRows pack(const TokenFile& file, Packing mode, int64_t seq_len, int32_t pad_id = 0) {
  return PackedRows(file, all_documents(file),
                    {.mode = mode, .seq_len = seq_len, .pad_id = pad_id});
}

}  // namespace

TEST_CASE("every scored token that follows another is a target exactly once", "[packing]") {
  const int64_t seq_len = GENERATE(1, 2, 7, 16, 33, 1000);
  const Packing mode = GENERATE(Packing::kDocument, Packing::kConcat);
  const Positions positions(some_lengths(120, 90));
  const TokenFile file = positions.file();
  const PackedRows rows = pack(file, mode, seq_len);
  std::map<int32_t, int> want;
  for (int64_t d = 0; d < file.documents(); ++d) {
    const TokenSpan document = file.document(d);
    for (int64_t p = document.begin; p < document.end; ++p) {
      const bool follows = mode == Packing::kConcat ? p > 0 : p > document.begin;
      if (follows && file.scored(p)) want[static_cast<int32_t>(p)] = 1;
    }
  }
  CHECK(target_counts(rows) == want);
  CHECK(rows.statistics().scored == static_cast<int64_t>(want.size()));
}

TEST_CASE("a row is filled to its last position", "[packing]") {
  const Positions positions({8, 2, 8, 2});  // of 7, 1, 7 and 1 positions
  const PackedRows rows = pack(positions.file(), Packing::kDocument, 8);
  CHECK(rows.rows() == 2);
  CHECK(rows.statistics().fill == Approx(1));
}

TEST_CASE("without packing a document is a row, and what does not fit is counted", "[packing]") {
  const Positions positions(
      {5, 12, 1, 30, 8});  // the second's first 6 are a prompt, the fifth's first 4
  const TokenFile file = positions.file();
  const PackedRows rows = pack(file, Packing::kNone, 8);
  REQUIRE(rows.rows() == 4);
  const PackingStatistics& s = rows.statistics();
  CHECK(s.documents == 5);
  CHECK(s.tokens == 56);
  CHECK(s.dropped_documents == 1);
  CHECK(s.cut_documents == 2);
  // Rows: 4 of 4 positions; 8 of 11, targets 1..8 of which 6..8 count; 8 of 29; 7, targets 4..7
  // count.
  CHECK(s.scored == 4 + 3 + 8 + 4);
  CHECK(s.lost_targets == 3 + 21);
  CHECK(s.positions == 4 + 8 + 8 + 7);
  CHECK(s.fill == Approx(27.0 / 32));
}

TEST_CASE("a sample that is too long is cut at its end, left out, or an error", "[packing]") {
  // Lengths; of each the front half is a prompt: 8 fits, 12 is cut, 30 has nothing scored
  // in its first 8 tokens. The text between them is cut into pieces.
  const TempFolder folder;
  TokenFileWriter writer(folder / "t", {}, 1 << 20);
  int32_t next = 0;
  const auto append = [&](int64_t count, bool scored) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i) ids.push_back(next++);
    writer.append(ids, scored);
  };
  for (const int64_t length : {8, 12, 30}) {
    append(length / 2, false);
    append(length - length / 2, true);
    writer.end_document(true);
    append(length, true);
    writer.end_document();
  }
  writer.commit();
  const TokenFile file = TokenFile::open(folder / "t");
  const Packing mode = GENERATE(Packing::kDocument, Packing::kNone);
  const auto packed = [&](Overlong overlong) {
    return PackedRows(file, all_documents(file),
                      {.mode = mode, .seq_len = 8, .overlong = overlong});
  };
  const PackedRows cut = packed(Overlong::kCut);
  CHECK(cut.statistics().samples == 3);
  CHECK(cut.statistics().cut_samples == 1);
  CHECK(cut.statistics().long_samples == 0);
  CHECK(cut.statistics().dropped_documents == 1);
  CHECK(cut.statistics().cut_documents == 2);
  const int64_t pieces = mode == Packing::kNone ? 3 + 21 : 0;  // of the texts
  CHECK(cut.statistics().lost_targets == 4 + 15 + pieces);
  const std::map<int32_t, int> counts = target_counts(cut);
  CHECK(counts.count(8 + 8 + 7) == 1);  // the last target of the sample of 12
  CHECK(counts.count(8 + 8 + 8) == 0);
  for (const auto& [target, count] : counts) CHECK(count == 1);

  const PackedRows dropped = packed(Overlong::kDrop);
  CHECK(dropped.statistics().cut_samples == 0);
  CHECK(dropped.statistics().long_samples == 2);
  CHECK(dropped.statistics().dropped_documents == 0);
  CHECK(dropped.statistics().lost_targets == pieces);
  CHECK(target_counts(dropped).count(8 + 8 + 7) == 0);

  CHECK(error_of([&] { packed(Overlong::kError); }) ==
        "2: " + (folder / "t").string() +
            ": document 3: a sample of 12 tokens, but --seq-len 8 takes 8 (--overlong cut and "
            "--overlong drop allow it)");
  const auto place = [](int64_t number) { return "d.jsonl:" + std::to_string(number + 1); };
  CHECK_THAT(error_of([&] {
               PackedRows(
                   file, all_documents(file),
                   {.mode = mode, .seq_len = 8, .overlong = Overlong::kError, .place = place});
             }),
             Catch::StartsWith("2: d.jsonl:3: a sample of 12 tokens, but --seq-len 8"));
  const PackedRows stream(file, all_documents(file),
                          {.mode = Packing::kConcat, .seq_len = 8, .overlong = Overlong::kError});
  CHECK(stream.statistics().lost_targets == 0);
}

TEST_CASE("a batch is as its segments say", "[packing]") {
  const int64_t seq_len = GENERATE(5, 16, 64);
  const Packing mode = GENERATE(Packing::kDocument, Packing::kConcat, Packing::kNone);
  const Positions positions(some_lengths(60, 50));
  const TokenFile file = positions.file();
  const PackedRows rows = pack(file, mode, seq_len, 999'999);
  const Batch batch = rows.batch(all_rows(rows));
  REQUIRE(batch.rows == rows.rows());
  CHECK(batch.length <= seq_len);
  int64_t longest = 0;
  for (int64_t row = 0; row < rows.rows(); ++row) {
    longest = std::max(longest, rows.length(row));
    int64_t at = row * batch.length, start = 0;
    for (const Segment& segment : rows.segments(row)) {
      for (int64_t t = 0; t < segment.length; ++t, ++at) {
        const int64_t first = mode == Packing::kConcat ? 0 : start;
        const int64_t next = t + 1 < segment.length ? segment.begin + t + 1 : segment.next;
        CHECK(batch.ids[at] == segment.begin + t);
        CHECK(batch.targets[at] == (file.scored(next) ? next : Batch::kNotScored));
        CHECK(batch.doc_start[at] == first);
        CHECK(batch.positions[at] == start + t - first);
      }
      start += segment.length;
    }
    for (int64_t t = start; t < batch.length; ++t, ++at) {
      CHECK(batch.ids[at] == 999'999);
      CHECK(batch.targets[at] == Batch::kNotScored);
      CHECK(batch.doc_start[at] == start);
      CHECK(batch.positions[at] == t - start);
    }
  }
  CHECK(batch.length == longest);
}

TEST_CASE("no segment leaves its document, and rows are well filled", "[packing]") {
  const Positions positions(some_lengths(400, 200));
  const TokenFile file = positions.file();
  const PackedRows rows = pack(file, Packing::kDocument, 64);
  for (const int64_t row : all_rows(rows)) {
    CHECK(rows.length(row) <= 64);
    for (const Segment& segment : rows.segments(row)) {
      CHECK(segment.next == segment.begin + segment.length);
      bool inside = false;
      for (int64_t d = 0; d < file.documents() && !inside; ++d) {
        inside = segment.begin >= file.document(d).begin && segment.next < file.document(d).end;
      }
      CHECK(inside);
    }
  }
  const PackingStatistics& s = rows.statistics();
  CHECK(s.rows <=
        s.positions / 64 * 11 / 9 + 1);  // best fit decreasing needs at most 11/9 of the best
  CHECK(s.fill > 0.9);
  CHECK(s.cut_documents > 0);
}

TEST_CASE("a stream over documents with gaps goes on at the next document", "[packing]") {
  const Positions positions({4, 3, 5});
  const TokenFile file = positions.file();
  const std::vector<DocumentSpan> some = {file.document(0), file.document(2)};
  const PackedRows rows(file, some, {.mode = Packing::kConcat, .seq_len = 3});
  REQUIRE(rows.rows() == 3);
  const Batch batch = rows.batch(all_rows(rows));
  const int32_t pad = 0, none = Batch::kNotScored;
  CHECK(batch.ids == std::vector<int32_t>{0, 1, 2, 3, 7, 8, 9, 10, pad});
  CHECK(batch.targets == std::vector<int32_t>{1, 2, 3, 7, 8, 9, 10, 11, none});
  CHECK(batch.positions == std::vector<int32_t>{0, 1, 2, 0, 1, 2, 0, 1, 0});
  CHECK(batch.doc_start == std::vector<int32_t>{0, 0, 0, 0, 0, 0, 0, 0, 2});
}

TEST_CASE("prompts alone are in no row, and nothing to predict is an error", "[packing]") {
  const Positions positions({2, 40, 2});  // 20 of the 40 are a prompt
  const TokenFile file = positions.file();
  const PackedRows rows = pack(file, Packing::kDocument, 8);
  // Pieces of the 39 positions begin at 0, 8, 16, 24, 32; the targets of the first two are prompt.
  int64_t pieces = 0;
  for (const int64_t row : all_rows(rows))
    pieces += static_cast<int64_t>(rows.segments(row).size());
  CHECK(pieces == 3 + 2);
  CHECK(rows.statistics().scored == 20 + 2);
  CHECK_THAT(error_of([&] { PackedRows(file, {}, {}); }),
             Catch::Contains("expected at least one token to predict"));
  const Positions single({1, 1});
  const TokenFile ones = single.file();
  CHECK_THAT(error_of([&] { pack(ones, Packing::kDocument, 8); }), Catch::StartsWith("2: "));
}

TEST_CASE("where nothing is left to predict it is said why, of the file as a user calls it",
          "[packing]") {
  const TempFolder folder;
  TokenFileWriter writer(folder / "t", {}, 1 << 20);
  for (int i = 0; i < 3; ++i) {
    writer.append(std::vector<int32_t>(20, 1), false);
    writer.append(std::vector<int32_t>(4, 2), true);
    writer.end_document(true);
  }
  writer.commit();
  TokenFile file = TokenFile::open(folder / "t");
  const auto error = [&](Overlong overlong) {
    const Packing mode = GENERATE(Packing::kDocument, Packing::kNone);
    return error_of([&] {
      PackedRows(file, all_documents(file), {.mode = mode, .seq_len = 16, .overlong = overlong});
    });
  };
  file.call("--val long.jsonl");
  CHECK_THAT(error(Overlong::kCut),
             Catch::StartsWith("2: --val long.jsonl: nothing is left to predict: 12 tokens in 3 "
                               "documents lie beyond --seq-len 16"));
  CHECK_THAT(
      error(Overlong::kDrop),
      Catch::StartsWith("2: --val long.jsonl: nothing is left to predict: 3 of 3 documents "
                        "are samples longer than --seq-len 16, left out by --overlong drop"));
}

TEST_CASE("an epoch takes every row once, in an order fixed by the seed", "[packing]") {
  const int64_t rows = GENERATE(1, 5, 64, 101), batch = GENERATE(1, 7, 64);
  RowOrder order(rows, batch, 42), again(rows, batch, 42), other(rows, batch, 43);
  const int64_t steps = order.steps_per_epoch();
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> taken;
    for (int64_t step = epoch * steps; step < (epoch + 1) * steps; ++step) {
      CHECK(order.epoch_of(step) == epoch);
      const auto now = order.rows_of_step(step);
      CHECK(static_cast<int64_t>(now.size()) == std::min(batch, rows - step % steps * batch));
      taken.insert(taken.end(), now.begin(), now.end());
    }
    epochs.push_back(taken);
    CHECK(std::set<int64_t>(taken.begin(), taken.end()).size() == static_cast<size_t>(rows));
    CHECK(static_cast<int64_t>(taken.size()) == rows);
  }
  const auto late = again.rows_of_step(2 * steps);  // a resumed run asks for a late step first
  CHECK(std::equal(late.begin(), late.end(), epochs[2].begin()));
  if (rows < 50) return;
  CHECK(epochs[0] != epochs[1]);
  const auto first = other.rows_of_step(0);
  CHECK(!std::equal(first.begin(), first.end(), epochs[0].begin()));
}

TEST_CASE("permutations are what they were and lean to no side", "[packing]") {
  // Fixed for ever: a run that is resumed by a later build must see the same order.
  const std::vector<int64_t> ten = permutation(10, {.seed = 1, .purpose = 2, .step = 3});
  CHECK(ten == std::vector<int64_t>{7, 8, 5, 0, 6, 4, 9, 2, 3, 1});
  // Each of the 24 orders of 4 comes about 1000 times in 24000 draws: chi-square with 23 degrees of
  // freedom stays below 49.7 in 999 of 1000 cases, and the draws are the same every time.
  std::map<std::vector<int64_t>, int> counts;
  for (uint32_t step = 0; step < 24000; ++step)
    ++counts[permutation(4, {.seed = 5, .purpose = 6, .step = step})];
  double chi_square = 0;
  for (const auto& [order, count] : counts)
    chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
  CHECK(counts.size() == 24);
  CHECK(chi_square < 49.7);
}

TEST_CASE("a permutation draws the words again that would lean to a side", "[packing]") {
  constexpr uint32_t kCount = 300'000;  // so many that some are drawn again: bound / 2^32 of them
  const RandomStream stream{.seed = 1, .purpose = 2, .step = 3};
  std::vector<int64_t> expected(kCount);
  std::iota(expected.begin(), expected.end(), 0);
  uint64_t position = 0, again = 0;
  for (uint64_t bound = kCount; bound > 1; --bound) {
    // Each high word comes from 2^32 / bound low words or one more: the first 2^32 % bound are left out.
    uint64_t product;
    while ((product = bound * philox_word(stream, position++)) % (uint64_t{1} << 32) <
           (uint64_t{1} << 32) % bound)
      ++again;
    std::swap(expected[bound - 1], expected[product >> 32]);
  }
  CHECK(again > 0);
  const bool same = permutation(kCount, stream) == expected;  // too many to print
  CHECK(same);
}

TEST_CASE("the slices of the ranks are the step", "[packing]") {
  RowOrder order(101, 10, 1);
  for (const int64_t ranks : {1, 2, 3, 4, 7, 16}) {
    for (int64_t step = 0; step < order.steps_per_epoch(); ++step) {
      const auto rows = order.rows_of_step(step);
      std::vector<int64_t> together;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const auto slice = rows_of_rank(rows, rank, ranks);
        CHECK(slice.size() <=
              (rows.size() + static_cast<size_t>(ranks) - 1) / static_cast<size_t>(ranks));
        together.insert(together.end(), slice.begin(), slice.end());
      }
      CHECK(std::equal(rows.begin(), rows.end(), together.begin(), together.end()));
    }
  }
}

TEST_CASE("validation takes whole documents, or the end of the only one", "[packing]") {
  const Positions positions(some_lengths(100, 20));
  const TokenFile file = positions.file();
  const DocumentSplit split = split_documents(file, 0.05, 1),
                      other = split_documents(file, 0.05, 2);
  CHECK(split.validation.size() == 5);
  CHECK(split.train.size() == 95);
  std::set<int64_t> begins;
  for (const auto* part : {&split.train, &split.validation}) {
    for (size_t i = 0; i < part->size(); ++i) {
      begins.insert((*part)[i].begin);
      if (i > 0) CHECK((*part)[i].begin >= (*part)[i - 1].end);
    }
  }
  CHECK(begins.size() == 100);
  const auto begins_of = [](const std::vector<DocumentSpan>& spans) {
    std::vector<int64_t> result;
    for (const TokenSpan& span : spans) result.push_back(span.begin);
    return result;
  };
  CHECK(begins_of(split.validation) == begins_of(split_documents(file, 0.05, 1).validation));
  CHECK(begins_of(split.validation) != begins_of(other.validation));

  const Positions two({5, 5});
  CHECK(split_documents(two.file(), 0.01, 1).validation.size() == 1);
  CHECK(split_documents(two.file(), 0.99, 1).train.size() == 1);

  const Positions one({100});
  const TempFolder folder;
  TokenFileWriter sample(folder / "t", {}, 1 << 20);
  sample.append(std::vector<int32_t>(100), true);
  sample.end_document(true);
  sample.commit();
  CHECK_THAT(error_of([&] { split_documents(TokenFile::open(folder / "t"), 0.5, 1); }),
             Catch::Contains("expected at least 2 samples to set some aside"));

  const DocumentSplit cut = split_documents(one.file(), 0.1, 1);
  REQUIRE(cut.train.size() == 1);
  CHECK(cut.train[0].end == 90);
  CHECK(cut.validation[0].begin == 90);
  CHECK(cut.validation[0].end == 100);
  const Positions tiny({3});
  CHECK_THAT(error_of([&] { split_documents(tiny.file(), 0.5, 1); }),
             Catch::Contains("expected at least 4 tokens"));
}
