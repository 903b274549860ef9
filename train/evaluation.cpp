// SPDX-License-Identifier: Apache-2.0
#include "train/evaluation.h"

#include <algorithm>
#include <deque>
#include <numeric>

#include "core/ops.h"
#include "text/data/row_order.h"

namespace tenon {
namespace {

Tensor int_tensor(const std::vector<int32_t>& values, int64_t rows, int64_t length) {
  Tensor tensor = Tensor::empty({rows, length}, DType::kI32);
  std::copy(values.begin(), values.end(), tensor.data<int32_t>());
  return tensor;
}

}  // namespace

ModelInput model_input(const Batch& batch, DType dtype, Device device) {
  const auto tensor = [&](const std::vector<int32_t>& values) {
    return int_tensor(values, batch.rows, batch.length);
  };
  ModelInput input;
  input.context.ids = tensor(batch.ids).to(device);
  input.context.positions = tensor(batch.positions).to(device);
  input.context.doc_start = tensor(batch.doc_start).to(device);
  input.context.dtype = dtype;
  input.targets = tensor(batch.targets);
  return input;
}

RowSource source_of(const PackedRows& rows) {
  return {rows.rows(), [&rows](std::span<const int64_t> chosen) { return rows.batch(chosen); }};
}

Evaluation evaluate(const Model& model, const RowSource& source, Communicator& group,
                    int64_t micro_batch, DType dtype, const EvaluationProgress& progress,
                    const EvaluationStop& stop) {
  std::vector<int64_t> all(static_cast<size_t>(source.rows));
  std::iota(all.begin(), all.end(), 0);
  const std::span<const int64_t> mine = rows_of_rank(all, group.rank(), group.size());
  const auto count = static_cast<int64_t>(mine.size());

  // Losses are read some batches late, so that a card never waits for the host.
  constexpr size_t kUnread = 4;
  struct Unread {
    LossSum loss;
    int64_t rows_done;
  };
  std::deque<Unread> unread;
  double sums[2] = {0, 0};  // loss, scored tokens
  const auto read_down_to = [&](size_t left) {
    for (; unread.size() > left; unread.pop_front()) {
      const Unread& oldest = unread.front();
      sums[0] += oldest.loss.sum();
      sums[1] += static_cast<double>(oldest.loss.scored);
      if (progress) progress(oldest.rows_done, count, sums[0] / std::max(1.0, sums[1]));
    }
  };
  // Ranks whose share is the smaller one have no rows in the last round.
  const int64_t most = (source.rows + group.size() - 1) / group.size();
  for (int64_t at = 0; at < most; at += micro_batch) {
    if (stop && stop()) return {.whole = false};
    if (at >= count) continue;
    const int64_t size = std::min(micro_batch, count - at);
    const Batch batch =
        source.batch(mine.subspan(static_cast<size_t>(at), static_cast<size_t>(size)));
    const ModelInput input = model_input(batch, dtype, device_of(model));
    const Tensor hidden = forward(model, input.context);  // (B, T, C)
    unread.push_back(
        {linear_cross_entropy(hidden, model.head().value, input.targets, 1), at + size});
    read_down_to(kUnread);
  }
  read_down_to(0);
  group.all_reduce(std::span<double>(sums), Reduce::kSum);
  return {sums[1] > 0 ? sums[0] / sums[1] : 0, static_cast<int64_t>(sums[1])};
}

}  // namespace tenon
