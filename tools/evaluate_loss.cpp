// SPDX-License-Identifier: Apache-2.0
// The loss of a model on texts, whole or by overlapping windows.
#include <cmath>
#include <filesystem>

#include "core/folders.h"
#include "text/data/packing.h"
#include "text/data/sources.h"
#include "text/data/windows.h"
#include "tools/evaluate.h"
#include "train/choices.h"
#include "train/data.h"
#include "train/evaluation.h"
#include "train/trainer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// Windows see the texts as they are, without an end-of-text token: so perplexity is usually given.
TokenizeOptions reading_of(const EvaluateOptions& options) {
  TokenizeOptions reading = tokenize_options(options.reading, options.model, options.adapter);
  reading.append_eos = options.stride == 0;
  return reading;
}

// The data as a token file that has no name any more: nothing stays behind, however the job ends.
TokenFile tokenized(const EvaluationSetting& setting) {
  const EvaluateOptions& options = setting.options;
  // Rank by rank, so that no shared file system is needed.
  const fs::path scratch = files::temporary_folder() / "tenon-evaluate";
  remove_abandoned(scratch);
  const TemporaryFolder folder(scratch);
  const std::vector<fs::path> sources(options.data.begin(), options.data.end());
  TokenizeOptions reading = reading_of(options);
  reading.documents.note = [&](const std::string& note) { setting.console.warning(note); };
  TokenFile file =
      build_or_open(folder.path() / "data.tokens", sources, setting.tokenizer, reading);
  file.call(shown(sources.front()));
  check_token(file.largest_id(), setting.tokenizer, setting.rows, file.name());
  return file;
}

// Where a document stands in the files; nothing for a token file.
std::function<std::string(int64_t)> places_of(const EvaluationSetting& setting) {
  const EvaluateOptions& o = setting.options;
  const std::vector<fs::path> sources(o.data.begin(), o.data.end());
  if (is_token_file(sources.front())) return {};
  return [sources, &setting](int64_t number) {
    return document_place(sources, setting.tokenizer, reading_of(setting.options), number);
  };
}

// The rows of the data, and what of the figures follows from the data alone.
struct Rows {
  RowSource source;
  int64_t seq_len = 0, documents = 0;
};

Rows rows_of(const EvaluationSetting& setting) {
  const EvaluateOptions& o = setting.options;
  const TokenFile tokens = tokenized(setting);
  std::vector<DocumentSpan> documents = all_documents(tokens);
  if (o.limit > 0 && o.limit < static_cast<int64_t>(documents.size()))
    documents.resize(static_cast<size_t>(o.limit));
  const int64_t positions = setting.positions;
  Rows rows{.seq_len = o.seq_len > 0 ? o.seq_len : std::min<int64_t>(1024, positions),
            .documents = static_cast<int64_t>(documents.size())};
  if (rows.seq_len > positions) {
    fail_input("--seq-len: {} tokens, but the model has {}", rows.seq_len, setting.positions_text);
  }
  const int32_t pad_id = setting.tokenizer.eos_id().value_or(0);
  if (o.stride == 0) {
    const auto packed = std::make_shared<PackedRows>(
        tokens, documents,
        PackingOptions{.mode = packing_mode(o.packing),
                       .seq_len = rows.seq_len,
                       .overlong = chosen(kOverlongs, "--overlong", o.reading.overlong),
                       .pad_id = pad_id,
                       .place = places_of(setting)});
    rows.source = {packed->rows(),
                   [packed](std::span<const int64_t> chosen) { return packed->batch(chosen); }};
    return rows;
  }
  if (rows.seq_len < 2 || o.stride > rows.seq_len) {
    fail_input("--stride: expected 1..{} (--seq-len, at least 2), got {}", rows.seq_len, o.stride);
  }
  if (o.packing == "concat") documents = {{{documents.front().begin, documents.back().end}}};
  const auto windows =
      std::make_shared<StridedWindows>(tokens, documents, rows.seq_len, o.stride, pad_id);
  rows.source = {windows->rows(),
                 [windows](std::span<const int64_t> chosen) { return windows->batch(chosen); }};
  return rows;
}

// The bytes of text that each token stands for; special tokens stand for none.
std::vector<int32_t> bytes_by_token(const Tokenizer& tokenizer) {
  std::vector<int32_t> bytes(static_cast<size_t>(tokenizer.vocabulary_size()), 0);
  for (size_t id = 0; id < bytes.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    if (!tokenizer.is_special(token))
      bytes[id] = static_cast<int32_t>(tokenizer.bytes(token).size());
  }
  return bytes;
}

}  // namespace

EvaluationTask loss_task(const EvaluationSetting& setting) {
  const Rows rows = rows_of(setting);
  const std::vector<int32_t> bytes = bytes_by_token(setting.tokenizer);
  return [&options = setting.options, &world = setting.world, &console = setting.console, rows,
          bytes](const Model& model, const std::string& name) -> Figures {
    int64_t target_bytes = 0;
    const RowSource counted{rows.source.rows, [&](std::span<const int64_t> chosen) {
                              Batch batch = rows.source.batch(chosen);
                              for (const int32_t target : batch.targets)
                                target_bytes += target >= 0 ? bytes[target] : 0;
                              return batch;
                            }};
    const int64_t micro_batch =
        options.micro_batch > 0 ? options.micro_batch : std::max<int64_t>(1, 2048 / rows.seq_len);
    const Evaluation result =
        evaluate(model, counted, world, micro_batch, options.compute.dtype(),
                 [&](int64_t done, int64_t all, double loss) {
                   console.progress(name, done, all, fmt::format("loss {:.3f}", loss));
                 });
    console.finish();
    world.all_reduce(std::span(&target_bytes, 1), Reduce::kSum);
    if (!std::isfinite(result.loss)) {
      fail(Exit::kNumeric, "evaluate: the loss of the {} is {}", name,
           not_finite_text(result.loss));
    }
    Figures figures{{"loss", result.loss}, {"perplexity", std::exp(result.loss)}};
    if (target_bytes > 0) {
      const double bits = result.loss * static_cast<double>(result.tokens) / std::log(2.0);
      figures["bits_per_byte"] = bits / static_cast<double>(target_bytes);
    }
    figures.update({{"tokens", result.tokens},
                    {"bytes", target_bytes},
                    {"rows", rows.source.rows},
                    {"documents", rows.documents}});
    if (options.stride > 0) figures.update({{"context", rows.seq_len}, {"stride", options.stride}});
    return figures;
  };
}

}  // namespace tenon
