// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {

Tensor embedding(const Tensor& ids, const Tensor& positions, const Tensor& token_table,
                 const Tensor& position_table, DType dtype, EmbeddingRows first) {
  const int64_t rows = ids.numel(), channels = token_table.dim(-1);
  const auto from_row = [&](const Tensor& table, int64_t row) {
    return table.defined() ? table.rows(row, table.dim(0)).raw() : nullptr;
  };
  TENON_CHECK(ids.shape().rank() == 2, "[embedding] ids are (B, T), got {}", ids.shape().text());
  TENON_CHECK(!position_table.defined() ||
                  (position_table.dim(-1) == channels && positions.numel() == rows &&
                   position_table.dtype() == token_table.dtype()),
              "[embedding] positions do not fit: table {} {} beside {} {}",
              position_table.shape().text(), name_of(position_table.dtype()),
              token_table.shape().text(), name_of(token_table.dtype()));

  Tensor y =
      Tensor::empty({ids.dim(0), ids.dim(1), channels}, dtype, token_table.device());  // (B, T, C)
  kernels(y.device())
      .embedding({.ids = ids.data<int32_t>(),
                  .positions = position_table.defined() ? positions.data<int32_t>() : nullptr,
                  .token_table = from_row(token_table, first.first_token),
                  .position_table = from_row(position_table, first.first_position),
                  .y = y.raw(),
                  .rows = rows,
                  .channels = channels,
                  .table_dtype = token_table.dtype(),
                  .dtype = dtype});

  record("embedding", {token_table, position_table}, {&y},
         [=](const std::vector<Tensor>& douts, Grads& grads) {
           const auto accumulate = [&](size_t input, const Tensor& index, int64_t row,
                                       int32_t padding) {
             if (!grads.wants(input)) return;
             kernels(index.device())
                 .embedding_grad({.ids = index.data<int32_t>(),
                                  .dy = douts[0].raw(),
                                  .dtable = grads.sink(input).data<float>() + row * channels,
                                  .rows = rows,
                                  .channels = channels,
                                  .dtype = dtype,
                                  .padding = padding});
           };
           accumulate(0, ids, first.first_token, first.padding);
           accumulate(1, positions, first.first_position, -1);
         });
  return y;
}

}  // namespace tenon
