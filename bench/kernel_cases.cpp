// SPDX-License-Identifier: Apache-2.0
// The sizes are those of a step of GPT-2 (124M) with 4 sequences of 512 tokens.
//
// Letters: B batch, T tokens, C channels, H heads, D head size, V vocabulary.
#include <fmt/core.h>

#include <cmath>
#include <random>

#include "bench/kernel_bench.h"
#include "tests/support/half.h"

namespace tenon::bench {
namespace {

constexpr int64_t B = 4, T = 512, C = 768, H = 12, D = 64, V = 50257, kRows = B * T;

Tensor drawn(Shape shape, DType dtype, uint32_t seed, double low = -1, double high = 1) {
  Tensor tensor = Tensor::empty(shape, dtype);
  std::mt19937 generator(seed);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    test::store_element(dtype, tensor.raw(), i,
                        low + (high - low) * static_cast<double>(generator()) * 0x1p-32);
  }
  return tensor;
}

Tensor ids(int64_t count, int64_t most, uint32_t seed) {
  Tensor tensor = Tensor::empty({count}, DType::kI32);
  std::mt19937 generator(seed);
  for (int64_t i = 0; i < count; ++i)
    tensor.data<int32_t>()[i] = static_cast<int32_t>(generator() % static_cast<uint64_t>(most));
  return tensor;
}

double bytes_of(const std::vector<Tensor>& arrays) {
  int64_t bytes = 0;
  for (const Tensor& array : arrays) bytes += array.bytes();
  return static_cast<double>(bytes);
}

std::string rows_by(int64_t rows, int64_t channels) { return fmt::format("{}x{}", rows, channels); }

AttentionArgs attention_args(const std::vector<Tensor>& a) {
  const Tensor& qkv = a[0];
  const auto part = [&](int64_t i) {
    return static_cast<std::byte*>(qkv.raw()) + i * C * size_of(qkv.dtype());
  };
  return {.q = part(0),
          .k = part(1),
          .v = part(2),
          .out = a[1].raw(),
          .lse = a[2].data<float>(),
          .batch = B,
          .queries = T,
          .keys = T,
          .heads = H,
          .kv_heads = H,
          .head_size = D,
          .q_stride = 3 * C,
          .kv_stride = 3 * C,
          .out_stride = C,
          .kv_batch_stride = T * 3 * C,
          .scale = 0.125f,
          .dtype = qkv.dtype()};
}

// Products of one pass over the causal half of the scores.
double attention_products(int products) {
  return products * 2.0 * static_cast<double>(B * H * T * T * D) / 2;
}

void add_attention(std::vector<KernelCase>& cases, DType dtype) {
  const std::string size = fmt::format("b={} t={} h={} d={}", B, T, H, D);
  std::vector<Tensor> arrays = {drawn({B, T, 3 * C}, dtype, 1), drawn({B, T, C}, dtype, 2),
                                drawn({B, H, T}, DType::kF32, 3)};
  cases.push_back({.kernel = "attention",
                   .size = size,
                   .operations = attention_products(2),
                   .bytes = bytes_of(arrays),
                   .arrays = arrays,
                   .outputs = {1, 2},
                   .roundings = 8,
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     table.attention(attention_args(a));
                   }});
  arrays.push_back(drawn({B, T, C}, dtype, 4));      // dout
  arrays.push_back(drawn({B, T, 3 * C}, dtype, 5));  // dqkv
  cases.push_back({.kernel = "attention_grad",
                   .size = size + " (forward too)",
                   .operations = attention_products(2 + 5),
                   .bytes = bytes_of(arrays),
                   .arrays = arrays,
                   .outputs = {4},
                   .roundings = 32,
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     table.attention(attention_args(a));
                     const auto part = [&](int64_t i) {
                       return static_cast<std::byte*>(a[4].raw()) + i * C * size_of(a[4].dtype());
                     };
                     table.attention_grad({.forward = attention_args(a),
                                           .dout = a[3].raw(),
                                           .dq = part(0),
                                           .dk = part(1),
                                           .dv = part(2),
                                           .dq_stride = 3 * C,
                                           .dkv_stride = 3 * C});
                   }});
}

void add_norm(std::vector<KernelCase>& cases, DType dtype) {
  const auto row = [](uint32_t seed) { return drawn({C}, DType::kF32, seed); };
  std::vector<Tensor> arrays = {drawn({kRows, C}, dtype, 1),
                                drawn({kRows, C}, dtype, 2),
                                row(3),
                                row(4),
                                drawn({kRows, C}, dtype, 5),
                                drawn({kRows, C}, dtype, 6),
                                drawn({kRows}, DType::kF32, 7),
                                drawn({kRows}, DType::kF32, 8)};
  const auto forward = [](const KernelTable& table, const std::vector<Tensor>& a) {
    table.layer_norm({.x = a[0].raw(),
                      .residual = a[1].raw(),
                      .weight = a[2].data<float>(),
                      .bias = a[3].data<float>(),
                      .sum = a[4].raw(),
                      .y = a[5].raw(),
                      .mean = a[6].data<float>(),
                      .rstd = a[7].data<float>(),
                      .rows = kRows,
                      .channels = C,
                      .eps = 1e-5f,
                      .dtype = a[0].dtype()});
  };
  cases.push_back({.kernel = "layer_norm",
                   .size = rows_by(kRows, C) + " with residual",
                   .bytes = bytes_of(arrays),
                   .arrays = arrays,
                   .outputs = {4, 5},
                   .roundings = 16,
                   .run = forward});
  arrays = {drawn({kRows, C}, dtype, 1),
            row(2),
            drawn({kRows}, DType::kF32, 3),
            drawn({kRows}, DType::kF32, 4, 0.5, 2),
            drawn({kRows, C}, dtype, 5),
            drawn({kRows, C}, dtype, 6),
            drawn({kRows, C}, dtype, 7),
            row(8),
            row(9)};
  cases.push_back({.kernel = "layer_norm_grad",
                   .size = rows_by(kRows, C),
                   .bytes = bytes_of(arrays),
                   .arrays = arrays,
                   .outputs = {6},
                   .roundings = 32,
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     table.layer_norm_grad({.s = a[0].raw(),
                                            .weight = a[1].data<float>(),
                                            .mean = a[2].data<float>(),
                                            .rstd = a[3].data<float>(),
                                            .dy = a[4].raw(),
                                            .dsum = a[5].raw(),
                                            .ds = a[6].raw(),
                                            .dweight = a[7].data<float>(),
                                            .dbias = a[8].data<float>(),
                                            .rows = kRows,
                                            .channels = C,
                                            .dtype = a[0].dtype()});
                   }});
}

void add_elementwise(std::vector<KernelCase>& cases, DType dtype) {
  const std::string size = rows_by(kRows, 4 * C);
  const auto array = [&](uint32_t seed) { return drawn({kRows, 4 * C}, dtype, seed, -4, 4); };
  const auto add = [&](const std::string& kernel, int count, double roundings, auto run) {
    std::vector<Tensor> arrays;
    for (int i = 0; i < count; ++i) arrays.push_back(array(static_cast<uint32_t>(i + 1)));
    cases.push_back({.kernel = kernel,
                     .size = size,
                     .bytes = bytes_of(arrays),
                     .arrays = arrays,
                     .outputs = {static_cast<size_t>(count - 1)},
                     .roundings = roundings,
                     .run = run});
  };
  using Arrays = std::vector<Tensor>;
  add("activation", 2, 16, [](const KernelTable& table, const Arrays& a) {
    table.activation(
        {.x = a[0].raw(), .y = a[1].raw(), .count = a[0].numel(), .dtype = a[0].dtype()});
  });
  add("activation_grad", 3, 64, [](const KernelTable& table, const Arrays& a) {
    table.activation_grad({.x = a[0].raw(),
                           .dy = a[1].raw(),
                           .dx = a[2].raw(),
                           .count = a[0].numel(),
                           .dtype = a[0].dtype()});
  });
  add("dropout", 2, 4, [](const KernelTable& table, const Arrays& a) {
    table.dropout({.x = a[0].raw(),
                   .y = a[1].raw(),
                   .count = a[0].numel(),
                   .p = 0.1f,
                   .random = {.seed = 1, .purpose = 2, .step = 3},
                   .dtype = a[0].dtype()});
  });
  add("add", 3, 4, [](const KernelTable& table, const Arrays& a) {
    table.add({.a = a[0].raw(),
               .b = a[1].raw(),
               .y = a[2].raw(),
               .count = a[0].numel(),
               .dtype = a[0].dtype()});
  });
}

void add_rows(std::vector<KernelCase>& cases, DType dtype) {
  std::vector<Tensor> arrays = {ids(kRows, V, 1), drawn({V, C}, dtype, 2),
                                drawn({kRows, C}, dtype, 3)};
  cases.push_back({.kernel = "embedding",
                   .size = rows_by(kRows, C),
                   .bytes = 2 * static_cast<double>(arrays[2].bytes()),
                   .arrays = arrays,
                   .outputs = {2},
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     table.embedding({.ids = a[0].data<int32_t>(),
                                      .token_table = a[1].raw(),
                                      .y = a[2].raw(),
                                      .rows = kRows,
                                      .channels = C,
                                      .table_dtype = a[1].dtype(),
                                      .dtype = a[2].dtype()});
                   }});
  arrays = {ids(kRows, V, 1), drawn({kRows, C}, dtype, 2), drawn({V, C}, DType::kF32, 3)};
  cases.push_back({.kernel = "embedding_grad",
                   .size = rows_by(kRows, C),
                   .bytes = static_cast<double>(arrays[1].bytes() + 8 * kRows * C),
                   .arrays = arrays,
                   .outputs = {2},
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     table.embedding_grad({.ids = a[0].data<int32_t>(),
                                           .dy = a[1].raw(),
                                           .dtable = a[2].data<float>(),
                                           .rows = kRows,
                                           .channels = C,
                                           .dtype = a[1].dtype()});
                   }});
  arrays = {drawn({kRows, 4 * C}, dtype, 1), drawn({4 * C}, DType::kF32, 2)};
  cases.push_back({.kernel = "column_sum",
                   .size = rows_by(kRows, 4 * C),
                   .bytes = bytes_of(arrays),
                   .arrays = arrays,
                   .outputs = {1},
                   .roundings = 64,
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     table.column_sum({.x = a[0].raw(),
                                       .out = a[1].data<float>(),
                                       .rows = kRows,
                                       .channels = 4 * C,
                                       .dtype = a[0].dtype()});
                   }});
}

void add_loss(std::vector<KernelCase>& cases) {
  constexpr int64_t kChunk = 256;
  const std::vector<Tensor> arrays = {drawn({kChunk, V}, DType::kF32, 1, -5, 5), ids(kChunk, V, 2),
                                      drawn({kChunk}, DType::kF32, 3)};
  cases.push_back({.kernel = "cross_entropy",
                   .size = rows_by(kChunk, V) + " fp32 with gradient",
                   .bytes = 2 * static_cast<double>(arrays[0].bytes()),
                   .arrays = arrays,
                   .outputs = {0, 2},
                   .roundings = 64,
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     table.cross_entropy({.logits = a[0].data<float>(),
                                          .targets = a[1].data<int32_t>(),
                                          .loss = a[2].data<float>(),
                                          .rows = kChunk,
                                          .vocabulary = V,
                                          .stride = V,
                                          .write_gradient = true});
                   }});
}

// A list of one tensor, on the device of the arrays.
OptimizerTensor one_tensor(const std::vector<Tensor>& a) {
  return {.weight = a[0].data<float>(),
          .grad = a[1].data<float>(),
          .m = a[2].data<float>(),
          .v = a[3].data<float>(),
          .count = a[0].numel()};
}

void add_optimizer(std::vector<KernelCase>& cases) {
  constexpr int64_t kCount = 12 * C * C;  // the matrices of a block
  const auto array = [&](uint32_t seed, double low) {
    return drawn({kCount}, DType::kF32, seed, low);
  };
  const std::vector<Tensor> arrays = {array(1, -1), array(2, -1), array(3, -1), array(4, 0),
                                      Tensor::empty({sizeof(OptimizerTensor)}, DType::kU8)};
  cases.push_back({.kernel = "adamw",
                   .size = fmt::format("{}", kCount),
                   .bytes = 7.0 * 4 * kCount,
                   .arrays = arrays,
                   .outputs = {0, 2, 3},
                   .roundings = 16,
                   .run = [](const KernelTable& table, const std::vector<Tensor>& a) {
                     const OptimizerTensor tensor = one_tensor(a);
                     memory_of(a[4].device()).upload(a[4].raw(), &tensor, sizeof tensor);
                     table.adamw({.list = {static_cast<const OptimizerTensor*>(a[4].raw()), 1,
                                           (kCount + kOptimizerPiece - 1) / kOptimizerPiece},
                                  .lr = 1e-3f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.999f,
                                  .eps = 1e-8f,
                                  .correction1 = 0.1f,
                                  .correction2 = 0.001f});
                   }});
}

}  // namespace

std::vector<KernelCase> kernel_cases(DType dtype) {
  std::vector<KernelCase> cases;
  add_rows(cases, dtype);
  add_norm(cases, dtype);
  add_elementwise(cases, dtype);
  add_attention(cases, dtype);
  add_loss(cases);
  add_optimizer(cases);
  return cases;
}

}  // namespace tenon::bench
