// SPDX-License-Identifier: Apache-2.0
// Letters: C channels, V vocabulary, D head size.
#include <algorithm>

#include "bench/row_cases.h"
#include "bench/values.h"

namespace tenon::bench {
namespace {

using Arrays = std::vector<Tensor>;

constexpr std::pair<const char*, Activation> kActivations[] = {
    {"gelu_tanh", Activation::kGeluTanh},
    {"gelu_erf", Activation::kGeluErf},
    {"quick_gelu", Activation::kQuickGelu},
    {"relu", Activation::kRelu},
    {"silu", Activation::kSilu},
    {"tanh", Activation::kTanh}};

Tensor vector_of(int64_t channels, uint32_t seed) { return drawn({channels}, DType::kF32, seed); }

RowCase layer_norm_case(int64_t rows, int64_t channels, DType dtype, bool with_residual) {
  RowCase c{.roundings = 16};
  for (uint32_t seed = 1; seed <= (with_residual ? 4u : 2u); ++seed)
    c.arrays.push_back(drawn({rows, channels}, dtype, seed));  // x, y; residual, sum
  c.arrays.insert(c.arrays.end(), {vector_of(channels, 5), vector_of(channels, 6),
                                   vector_of(rows, 7), vector_of(rows, 8)});
  c.outputs = with_residual ? std::vector<size_t>{1, 3} : std::vector<size_t>{1};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    const size_t at = a.size() - 4;
    table.norm({.x = a[0].raw(),
                .residual = with_residual ? a[2].raw() : nullptr,
                .weight = a[at].data<float>(),
                .bias = a[at + 1].data<float>(),
                .sum = with_residual ? a[3].raw() : nullptr,
                .y = a[1].raw(),
                .mean = a[at + 2].data<float>(),
                .rstd = a[at + 3].data<float>(),
                .rows = rows,
                .channels = channels,
                .eps = 1e-5f,
                .dtype = dtype});
  };
  return c;
}

RowCase layer_norm_grad_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.outputs = {3}, .roundings = 64};
  for (uint32_t seed = 1; seed <= 4; ++seed)
    c.arrays.push_back(drawn({rows, channels}, dtype, seed));  // s, dy, dsum, ds
  c.arrays.insert(c.arrays.end(), {vector_of(channels, 5), drawn({rows}, DType::kF32, 6, -0.1, 0.1),
                                   drawn({rows}, DType::kF32, 7, 0.5, 2), vector_of(channels, 8),
                                   vector_of(channels, 9)});
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.norm_grad({.s = a[0].raw(),
                     .weight = a[4].data<float>(),
                     .mean = a[5].data<float>(),
                     .rstd = a[6].data<float>(),
                     .dy = a[1].raw(),
                     .dsum = a[2].raw(),
                     .ds = a[3].raw(),
                     .dweight = a[7].data<float>(),
                     .dbias = a[8].data<float>(),
                     .rows = rows,
                     .channels = channels,
                     .dtype = dtype});
  };
  return c;
}

RowCase rms_norm_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.outputs = {2, 3}, .roundings = 16};
  for (uint32_t seed = 1; seed <= 4; ++seed)
    c.arrays.push_back(drawn({rows, channels}, dtype, seed));  // x, residual, sum, y
  c.arrays.insert(c.arrays.end(), {vector_of(channels, 5), vector_of(rows, 6)});
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.norm({.x = a[0].raw(),
                .residual = a[1].raw(),
                .weight = a[4].data<float>(),
                .sum = a[2].raw(),
                .y = a[3].raw(),
                .rstd = a[5].data<float>(),
                .rows = rows,
                .channels = channels,
                .eps = 1e-5f,
                .dtype = dtype,
                .centred = false});
  };
  return c;
}

RowCase rms_norm_grad_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.outputs = {3}, .roundings = 64};
  for (uint32_t seed = 1; seed <= 4; ++seed)
    c.arrays.push_back(drawn({rows, channels}, dtype, seed));  // s, dy, dsum, ds
  c.arrays.insert(c.arrays.end(), {vector_of(channels, 5), drawn({rows}, DType::kF32, 6, 0.5, 2),
                                   vector_of(channels, 7)});
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.norm_grad({.s = a[0].raw(),
                     .weight = a[4].data<float>(),
                     .rstd = a[5].data<float>(),
                     .dy = a[1].raw(),
                     .dsum = a[2].raw(),
                     .ds = a[3].raw(),
                     .dweight = a[6].data<float>(),
                     .rows = rows,
                     .channels = channels,
                     .dtype = dtype,
                     .centred = false});
  };
  return c;
}

RowCase activation_case(int64_t rows, int64_t channels, DType dtype, Activation kind) {
  RowCase c{.outputs = {1}, .roundings = 16};
  for (uint32_t seed = 1; seed <= 2; ++seed)
    c.arrays.push_back(drawn({rows, channels}, dtype, seed, -4, 4));  // x, y
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.activation({.x = a[0].raw(),
                      .y = a[1].raw(),
                      .count = a[0].numel(),
                      .activation = kind,
                      .dtype = dtype});
  };
  return c;
}

RowCase activation_grad_case(int64_t rows, int64_t channels, DType dtype, Activation kind) {
  RowCase c{.outputs = {2}, .roundings = 64};
  for (uint32_t seed = 1; seed <= 3; ++seed)
    c.arrays.push_back(drawn({rows, channels}, dtype, seed, -4, 4));  // x, dy, dx
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.activation_grad({.x = a[0].raw(),
                           .dy = a[1].raw(),
                           .dx = a[2].raw(),
                           .count = a[0].numel(),
                           .activation = kind,
                           .dtype = dtype});
  };
  return c;
}

// gate and up are the halves of one array, as one product makes them.
RowCase gated_activation_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.outputs = {1}, .roundings = 16};
  c.arrays = {drawn({rows, 2 * channels}, dtype, 1, -4, 4), drawn({rows, channels}, dtype, 2)};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    auto* gate = static_cast<std::byte*>(a[0].raw());
    table.gated_activation({.gate = gate,
                            .up = gate + channels * size_of(dtype),
                            .y = a[1].raw(),
                            .rows = rows,
                            .channels = channels,
                            .stride = 2 * channels,
                            .dtype = dtype});
  };
  return c;
}

RowCase gated_activation_grad_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.outputs = {2}, .roundings = 64};
  c.arrays = {drawn({rows, 2 * channels}, dtype, 1, -4, 4), drawn({rows, channels}, dtype, 2),
              drawn({rows, 2 * channels}, dtype, 3)};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    auto* gate = static_cast<std::byte*>(a[0].raw());
    auto* dgate = static_cast<std::byte*>(a[2].raw());
    table.gated_activation_grad({.gate = gate,
                                 .up = gate + channels * size_of(dtype),
                                 .dy = a[1].raw(),
                                 .dgate = dgate,
                                 .dup = dgate + channels * size_of(dtype),
                                 .rows = rows,
                                 .channels = channels,
                                 .stride = 2 * channels,
                                 .dstride = 2 * channels,
                                 .dtype = dtype});
  };
  return c;
}

// Heads of 64, or one head where the width is no multiple of it.
RowCase rotary_case(int64_t rows, int64_t channels, DType dtype) {
  constexpr int64_t kSequence = 512;
  const int64_t size = channels % 64 == 0 ? 64 : channels / 2 * 2, heads = channels / size;
  RowCase c{.outputs = {0}, .roundings = 8};
  c.arrays = {drawn({rows, channels}, dtype, 1),
              drawn({kSequence, size / 2}, DType::kF32, 2, 0, 0.7),
              drawn({kSequence, size / 2}, DType::kF32, 3, 0, 0.7)};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.rotary({.x = a[0].raw(),
                  .cosines = a[1].data<float>(),
                  .sines = a[2].data<float>(),
                  .tokens = rows,
                  .heads = heads,
                  .head_size = size,
                  .rotary = size,
                  .sequence = kSequence,
                  .stride = channels,
                  .dtype = dtype});
  };
  return c;
}

RowCase dropout_case(int64_t rows, int64_t channels, DType dtype) {
  RowCase c{.outputs = {1}};
  c.arrays = {drawn({rows, channels}, dtype, 1), drawn({rows, channels}, dtype, 2)};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.dropout({.x = a[0].raw(),
                   .y = a[1].raw(),
                   .count = a[0].numel(),
                   .p = 0.1f,
                   .random = {.seed = 1, .purpose = 2, .step = 3},
                   .dtype = dtype});
  };
  return c;
}

RowCase cross_entropy_case(int64_t rows, int64_t vocabulary, bool gradient) {
  RowCase c{.outputs = {1}, .roundings = 64};
  if (gradient) c.outputs.push_back(0);
  c.arrays = {drawn({rows, vocabulary}, DType::kF32, 1, -5, 5), drawn({rows}, DType::kF32, 2),
              drawn_ids(rows, vocabulary, 3)};
  c.run = [=](const KernelTable& table, const Arrays& a) {
    table.cross_entropy({.logits = a[0].data<float>(),
                         .targets = a[2].data<int32_t>(),
                         .loss = a[1].data<float>(),
                         .rows = rows,
                         .vocabulary = vocabulary,
                         .stride = vocabulary,
                         .write_gradient = gradient});
  };
  return c;
}

}  // namespace

void add_layer_kernels(std::vector<RowKernel>& kernels) {
  const auto add = [&](const std::string& name, Width width, auto make) {
    kernels.push_back({name, width, make});
  };
  add("layer_norm", Width::kModel, [](int64_t rows, int64_t channels, DType dtype) {
    return layer_norm_case(rows, channels, dtype, false);
  });
  add("layer_norm with residual", Width::kModel, [](int64_t rows, int64_t channels, DType dtype) {
    return layer_norm_case(rows, channels, dtype, true);
  });
  add("layer_norm_grad", Width::kModel, layer_norm_grad_case);
  add("rms_norm with residual", Width::kModel, rms_norm_case);
  add("rms_norm_grad", Width::kModel, rms_norm_grad_case);
  for (const auto& [name, kind] : kActivations) {
    add(std::string("activation ") + name, Width::kInner,
        [kind = kind](int64_t rows, int64_t channels, DType dtype) {
          return activation_case(rows, channels, dtype, kind);
        });
    add(std::string("activation_grad ") + name, Width::kInner,
        [kind = kind](int64_t rows, int64_t channels, DType dtype) {
          return activation_grad_case(rows, channels, dtype, kind);
        });
  }
  add("gated_activation silu", Width::kInner, gated_activation_case);
  add("gated_activation_grad silu", Width::kInner, gated_activation_grad_case);
  add("rotary", Width::kModel, rotary_case);
  add("dropout", Width::kInner, dropout_case);
  add("cross_entropy", Width::kVocabulary, [](int64_t rows, int64_t channels, DType) {
    return cross_entropy_case(rows, channels, false);
  });
  add("cross_entropy with gradient", Width::kVocabulary, [](int64_t rows, int64_t channels, DType) {
    return cross_entropy_case(rows, channels, true);
  });
}

}  // namespace tenon::bench
