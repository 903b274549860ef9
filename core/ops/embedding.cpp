// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {

namespace {

// Looks up rows of one table, or of two of one dtype.
struct LookUp {
  const Tensor& ids;
  const Tensor& tokens;
  int64_t first_token = 0;
  const Tensor* positions = nullptr;
  const Tensor* position_table = nullptr;
  int64_t first_position = 0;

  Tensor operator()(DType dtype) const {
    const auto from_row = [](const Tensor& table, int64_t row) {
      return table.defined() ? table.rows(row, table.dim(0)).raw() : nullptr;
    };
    const bool two = position_table != nullptr && position_table->defined();
    const int64_t channels = tokens.dim(-1);
    Tensor y = Tensor::empty({ids.dim(0), ids.dim(1), channels}, dtype, tokens.device());
    kernels(y.device())
        .embedding({.ids = ids.data<int32_t>(),
                    .positions = two ? positions->data<int32_t>() : nullptr,
                    .token_table = from_row(tokens, first_token),
                    .position_table = two ? from_row(*position_table, first_position) : nullptr,
                    .y = y.raw(),
                    .rows = ids.numel(),
                    .channels = channels,
                    .table_dtype = tokens.dtype(),
                    .dtype = dtype});
    return y;
  }
};

// Tables of two dtypes, one trained and one not: each by itself, and their sum rounded once.
Tensor look_up_apart(const LookUp& in, DType dtype) {
  const Tensor y = LookUp{in.ids, in.tokens, in.first_token}(DType::kF32);
  const Tensor more = LookUp{*in.positions, *in.position_table, in.first_position}(DType::kF32);
  kernels(y.device())
      .add({.a = y.raw(), .b = more.raw(), .y = y.raw(), .count = y.numel(), .dtype = y.dtype()});
  return cast(y, dtype);
}

}  // namespace

Tensor embedding(const Tensor& ids, const Tensor& positions, const Tensor& token_table,
                 const Tensor& position_table, DType dtype, EmbeddingRows first) {
  const int64_t rows = ids.numel(), channels = token_table.dim(-1);
  TENON_CHECK(ids.shape().rank() == 2, "[embedding] ids are (B, T), got {}", ids.shape().text());
  TENON_CHECK(!position_table.defined() ||
                  (position_table.dim(-1) == channels && positions.numel() == rows),
              "[embedding] positions do not fit: table {} beside {}", position_table.shape().text(),
              token_table.shape().text());
  const LookUp look_up{ids,        token_table,     first.first_token,
                       &positions, &position_table, first.first_position};
  const bool apart = position_table.defined() && position_table.dtype() != token_table.dtype();
  Tensor y = apart ? look_up_apart(look_up, dtype) : look_up(dtype);  // (B, T, C)

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
