// SPDX-License-Identifier: Apache-2.0
#include "train/evaluation.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "comm/threads.h"
#include "core/json.h"
#include "models/weights.h"
#include "tests/core/temp_folder.h"
#include "text/data/windows.h"

using namespace tenon;
using namespace tenon::test;

namespace {

const std::filesystem::path kReference =
    std::filesystem::path(TENON_SOURCE_DIR) / "tests/reference";

TokenFile file_of(const TempFolder& folder, const std::vector<std::vector<int32_t>>& documents,
                  bool scored = true) {
  TokenFileWriter writer(folder / "t", {}, 1 << 16);
  for (const std::vector<int32_t>& ids : documents) {
    writer.append(ids, scored);
    writer.end_document();
  }
  writer.commit();
  return TokenFile::open(folder / "t");
}

RowSource source_of(const StridedWindows& windows) {
  return {windows.rows(),
          [&windows](std::span<const int64_t> rows) { return windows.batch(rows); }};
}

TEST_CASE("losses by windows are those of the Hugging Face guide") {
  const Json golden = parse_json_file(kReference / "scores/windows.json");
  const std::string folder = (kReference / "cases/gpt2-small/model").string();
  const std::unique_ptr<Model> model = build_model(folder);
  load_weights(*model, folder);
  const TempFolder scratch;
  const TokenFile file = file_of(scratch, {golden.at("ids").get<std::vector<int32_t>>()});
  for (const Json& one : golden.at("cases")) {
    const int64_t length = one.at("length"), stride = one.at("stride");
    const StridedWindows windows(file, all_documents(file), length, stride, 0);
    for (const int ranks : {1, 3}) {
      const std::vector<Evaluation> results = on_ranks(ranks, [&](Communicator& group) {
        return evaluate(*model, source_of(windows), group, 4, DType::kF32);
      });
      for (const Evaluation& result : results) {
        INFO(length << " tokens, stride " << stride << ", " << ranks << " ranks");
        CHECK(result.tokens == one.at("tokens"));
        // Means of losses near 6 in fp32, in two orders: some units in the last place of each.
        CHECK(std::abs(result.loss - one.at("loss").get<double>()) <= 1e-5);
      }
    }
  }
}

TEST_CASE("each token of a text is predicted once, from as far back as its window goes") {
  const TempFolder scratch;
  std::vector<std::vector<int32_t>> texts;
  int32_t next = 0;  // a token's id is its place
  for (const int length : {20, 1, 2, 9}) {
    texts.emplace_back();
    for (int i = 0; i < length; ++i) texts.back().push_back(next++);
  }
  const TokenFile file = file_of(scratch, texts);
  constexpr int64_t kLength = 8, kStride = 3;
  const StridedWindows windows(file, all_documents(file), kLength, kStride, 99);
  std::vector<int> predicted(static_cast<size_t>(next), 0);
  for (int64_t row = 0; row < windows.rows(); ++row) {
    const Batch batch = windows.batch(std::span(&row, 1));
    int64_t scored = 0;
    for (int64_t t = 0; t < batch.length; ++t) {
      CHECK(batch.positions[t] == t);
      CHECK(batch.doc_start[t] == 0);
      if (batch.targets[t] == Batch::kNotScored) continue;
      ++scored;
      ++predicted[batch.targets[t]];
      CHECK(batch.targets[t] == batch.ids[t] + 1);
      // Behind a text's first window no token has less than length - stride before it.
      const bool first = row == 0 || batch.ids[0] == 21 || batch.ids[0] == 23;
      CHECK((first || t + 1 >= kLength - kStride));
    }
    CHECK(scored == batch.scored);
  }
  for (const DocumentSpan& text : all_documents(file)) {
    CHECK(predicted[file.id(text.begin)] == 0);
    for (int64_t p = text.begin + 1; p < text.end; ++p) CHECK(predicted[file.id(p)] == 1);
  }
}

TEST_CASE("what fills a shorter window up is a text of its own that nothing is predicted from") {
  const TempFolder scratch;
  const TokenFile file = file_of(scratch, {{0, 1, 2, 3, 4, 5, 6, 7}, {10, 11, 12}});
  const StridedWindows windows(file, all_documents(file), 8, 8, 99);
  const std::vector<int64_t> both = {0, 1};
  const Batch batch = windows.batch(both);
  REQUIRE(batch.length == 7);
  const std::vector<int32_t> ids(batch.ids.begin() + 7, batch.ids.end()),
      positions(batch.positions.begin() + 7, batch.positions.end()),
      starts(batch.doc_start.begin() + 7, batch.doc_start.end()),
      targets(batch.targets.begin() + 7, batch.targets.end());
  constexpr int32_t kNone = Batch::kNotScored;
  CHECK(ids == std::vector<int32_t>{10, 11, 99, 99, 99, 99, 99});
  CHECK(positions == std::vector<int32_t>{0, 1, 0, 1, 2, 3, 4});
  CHECK(starts == std::vector<int32_t>{0, 0, 2, 2, 2, 2, 2});
  CHECK(targets == std::vector<int32_t>{11, 12, kNone, kNone, kNone, kNone, kNone});
  CHECK(batch.scored == 9);
}

TEST_CASE("an evaluation may be stopped between batches, which all ranks are asked about") {
  const Json golden = parse_json_file(kReference / "scores/windows.json");
  const std::string folder = (kReference / "cases/gpt2-small/model").string();
  const std::unique_ptr<Model> model = build_model(folder);
  load_weights(*model, folder);
  const TempFolder scratch;
  const auto ids = golden.at("ids").get<std::vector<int32_t>>();
  const TokenFile file = file_of(
      scratch, {{ids.begin(), ids.begin() + std::min<std::ptrdiff_t>(
                                                40, static_cast<std::ptrdiff_t>(ids.size()))}});
  const StridedWindows windows(file, all_documents(file), 8, 4, 0);
  REQUIRE(windows.rows() > 4);
  for (const int ranks : {1, 3}) {  // whose shares differ
    const int64_t rounds = (windows.rows() + ranks - 1) / ranks;
    for (int64_t last = 0; last <= rounds; ++last) {
      INFO(ranks << " ranks, stopped at look " << last);
      const std::vector<int64_t> looks = on_ranks(ranks, [&](Communicator& group) {
        int64_t look = 0;
        const Evaluation result = evaluate(*model, source_of(windows), group, 1, DType::kF32, {},
                                           [&] { return look++ == last; });
        return result.whole ? -look : look;
      });
      CHECK(looks ==
            std::vector<int64_t>(static_cast<size_t>(ranks), last < rounds ? last + 1 : -rounds));
    }
  }
}

TEST_CASE("windows want plain text with something to predict") {
  const TempFolder scratch;
  const TokenFile prompts = file_of(scratch, {{1, 2, 3}}, false);
  CHECK_THROWS_WITH(StridedWindows(prompts, all_documents(prompts), 8, 4, 0),
                    Catch::Contains("plain text"));
  const TokenFile single = file_of(scratch, {{1}, {2}});
  CHECK_THROWS_WITH(StridedWindows(single, all_documents(single), 8, 4, 0),
                    Catch::Contains("2 texts of 2 tokens"));
}

}  // namespace
