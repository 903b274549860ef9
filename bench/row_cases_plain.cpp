// SPDX-License-Identifier: Apache-2.0
// Letters: C channels, V vocabulary.
#include <algorithm>
#include <numeric>

#include "bench/row_cases.h"
#include "bench/values.h"
#include "core/backend.h"

namespace tenon::bench {
namespace {

using Arrays = std::vector<Tensor>;

// Rows of a table of tokens: GPT-2's, or as many as there are rows to look up.
int64_t vocabulary_for(int64_t rows) { return std::clamp<int64_t>(rows, 16, 50257); }

// All of [0, rows) in an order that jumps.
Tensor shuffled(int64_t rows) {
  Tensor index = Tensor::empty({rows}, DType::kI32);
  int64_t step = 7919;
  while (std::gcd(step, rows) != 1) ++step;
  for (int64_t i = 0; i < rows; ++i)
    index.data<int32_t>()[i] = static_cast<int32_t>(i * step % rows);
  return index;
}

RowCase embedding_case(int64_t rows, int64_t channels, DType dtype) {
  const int64_t V = vocabulary_for(rows);
  RowCase c{.arrays = {drawn_ids(rows, V, 1), drawn({V, channels}, dtype, 2),
                       drawn({rows, channels}, dtype, 3)},
            .outputs = {2}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.embedding({.ids = a[0].data<int32_t>(),
                     .token_table = a[1].raw(),
                     .y = a[2].raw(),
                     .rows = rows,
                     .channels = channels,
                     .table_dtype = dtype,
                     .dtype = dtype});
  };
  return c;
}

RowCase embedding_grad_case(int64_t rows, int64_t channels, DType dtype) {
  const int64_t V = vocabulary_for(rows);
  RowCase c{.arrays = {drawn_ids(rows, V, 1), drawn({rows, channels}, dtype, 2),
                       drawn({V, channels}, DType::kF32, 3)},
            .outputs = {2}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.embedding_grad({.ids = a[0].data<int32_t>(),
                          .dy = a[1].raw(),
                          .dtable = a[2].data<float>(),
                          .rows = rows,
                          .channels = channels,
                          .dtype = dtype});
  };
  return c;
}

RowCase gather_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.arrays = {drawn({rows, channels}, dtype, 1), shuffled(rows),
                       drawn({rows, channels}, dtype, 2)},
            .outputs = {2}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.gather_rows({.x = a[0].raw(),
                       .index = a[1].data<int32_t>(),
                       .y = a[2].raw(),
                       .rows = rows,
                       .channels = channels,
                       .dtype = dtype});
  };
  return c;
}

RowCase scatter_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.arrays = {drawn({rows, channels}, DType::kF32, 1), shuffled(rows),
                       drawn({rows, channels}, dtype, 2)},
            .outputs = {2}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.scatter_rows({.x = a[0].data<float>(),
                        .index = a[1].data<int32_t>(),
                        .y = a[2].raw(),
                        .rows = rows,
                        .channels = channels,
                        .dtype = dtype});
  };
  return c;
}

// The keys of packed projections into a cache: rows of C out of rows of 3 C.
RowCase copy_rows_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.arrays = {drawn({rows, 3 * channels}, dtype, 1), drawn({rows, channels}, dtype, 2)},
            .outputs = {1}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.copy_rows({.x = a[0].raw(),
                     .y = a[1].raw(),
                     .rows = rows,
                     .channels = channels,
                     .x_stride = 3 * channels,
                     .y_stride = channels,
                     .dtype = dtype});
  };
  return c;
}

RowCase column_sum_case(int64_t rows, int64_t channels, DType dtype) {
  // The sum over rows is compared with one in another order.
  RowCase c{.arrays = {drawn({rows, channels}, dtype, 1), drawn({channels}, DType::kF32, 2)},
            .outputs = {1},
            .roundings = 64};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.column_sum({.x = a[0].raw(),
                      .out = a[1].data<float>(),
                      .rows = rows,
                      .channels = channels,
                      .dtype = dtype});
  };
  return c;
}

RowCase add_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.outputs = {2}};
  for (uint32_t seed = 1; seed <= 3; ++seed)
    c.arrays.push_back(drawn({rows, channels}, dtype, seed));
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.add(
        {.a = a[0].raw(), .b = a[1].raw(), .y = a[2].raw(), .count = a[0].numel(), .dtype = dtype});
  };
  return c;
}

RowCase scale_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.arrays = {drawn({rows, channels}, dtype, 1), drawn({rows, channels}, dtype, 2)},
            .outputs = {1}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.scale(
        {.x = a[0].raw(), .y = a[1].raw(), .count = a[0].numel(), .factor = 0.7f, .dtype = dtype});
  };
  return c;
}

RowCase cast_case(int64_t rows, int64_t channels, DType from, DType to) {
  RowCase c{.arrays = {drawn({rows, channels}, from, 1), drawn({rows, channels}, to, 2)},
            .outputs = {1}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.cast({.x = a[0].raw(), .y = a[1].raw(), .count = a[0].numel(), .from = from, .to = to});
  };
  return c;
}

RowCase fill_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.arrays = {drawn({rows, channels}, dtype, 1)}, .outputs = {0}};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.fill({.y = a[0].raw(), .count = a[0].numel(), .value = 0.7f, .dtype = dtype});
  };
  return c;
}

enum class Update { kSumSquares, kAdamW, kSgd };

OptimizerList list_of(const Arrays& a) {
  // weight, grad, m, v, and the list with them on their device.
  const OptimizerTensor tensor{.weight = a[0].data<float>(),
                               .grad = a[1].data<float>(),
                               .m = a[2].data<float>(),
                               .v = a[3].data<float>(),
                               .count = a[0].numel()};
  memory_of(a[4].device()).upload(a[4].raw(), &tensor, sizeof tensor);
  return {static_cast<const OptimizerTensor*>(a[4].raw()), 1,
          (tensor.count + kOptimizerPiece - 1) / kOptimizerPiece};
}

RowCase update_case(int64_t rows, int64_t channels, Update update) {
  const int64_t count = rows * channels;
  RowCase c{.outputs = {0, 2}, .roundings = 16};
  for (uint32_t seed = 1; seed <= 4; ++seed)
    c.arrays.push_back(drawn({count}, DType::kF32, seed, seed == 4 ? 0 : -1));
  c.arrays.push_back(Tensor::zeros({sizeof(OptimizerTensor)}, DType::kU8));
  c.arrays.push_back(Tensor::zeros({2}, DType::kF32));  // the double that sum_squares writes
  if (update == Update::kSumSquares) c.outputs = {};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    const OptimizerList list = list_of(a);
    switch (update) {
      case Update::kSumSquares:
        table.sum_squares({.list = list, .out = static_cast<double*>(a[5].raw())});
        break;
      case Update::kSgd: table.sgd({.list = list, .lr = 1e-3f, .momentum = 0.9f}); break;
      case Update::kAdamW:
        table.adamw({.list = list,
                     .lr = 1e-3f,
                     .beta1 = 0.9f,
                     .beta2 = 0.999f,
                     .eps = 1e-8f,
                     .correction1 = 0.1f,
                     .correction2 = 0.001f});
    }
  };
  return c;
}

}  // namespace

void add_plain_kernels(std::vector<RowKernel>& kernels) {
  const auto add = [&](const std::string& name, Width width, auto make) {
    kernels.push_back({name, width, make});
  };
  const auto narrow = [](DType dtype) { return dtype == DType::kF32 ? DType::kBF16 : dtype; };
  add("embedding", Width::kModel, embedding_case);
  add("embedding_grad", Width::kModel, embedding_grad_case);
  add("gather_rows", Width::kModel, gather_case);
  add("scatter_rows", Width::kModel, scatter_case);
  add("copy_rows", Width::kModel, copy_rows_case);
  add("column_sum", Width::kInner, column_sum_case);
  add("add", Width::kModel, add_case);
  add("scale", Width::kModel, scale_case);
  add("cast to half", Width::kModel, [=](int64_t rows, int64_t channels, DType dtype) {
    return cast_case(rows, channels, DType::kF32, narrow(dtype));
  });
  add("cast to fp32", Width::kModel, [=](int64_t rows, int64_t channels, DType dtype) {
    return cast_case(rows, channels, narrow(dtype), DType::kF32);
  });
  add("fill", Width::kModel, fill_case);
  const std::pair<const char*, Update> updates[] = {{"sum_squares", Update::kSumSquares},
                                                    {"adamw", Update::kAdamW},
                                                    {"sgd with momentum", Update::kSgd}};
  for (const auto& [name, update] : updates) {
    add(name, Width::kModel, [update = update](int64_t rows, int64_t channels, DType) {
      return update_case(rows, channels, update);
    });
  }
}

std::vector<RowKernel> row_kernels() {
  std::vector<RowKernel> kernels;
  add_layer_kernels(kernels);
  add_plain_kernels(kernels);
  return kernels;
}

}  // namespace tenon::bench
