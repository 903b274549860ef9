// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/backend.h"
#include "core/ops.h"
#include "core/ops/launches.h"

namespace tenon {
namespace {

constexpr int32_t kIgnored = -100;

// Rows of logits that exist at a time, so that all chunks are about as large: a multiple of 16, and
// at least 64 whatever the vocabulary.
int64_t chunk_rows(int64_t rows, int64_t vocabulary, int64_t bytes) {
  const int64_t most = std::max<int64_t>(bytes / (vocabulary * 4), 64);
  const int64_t chunks = std::max<int64_t>((rows + most - 1) / most, 1);
  return std::max<int64_t>(((rows + chunks - 1) / chunks + 15) / 16 * 16, 64);
}

struct Head {
  Tensor x;        // (scored, C): the scored rows
  Tensor weight;   // (V, C)
  Tensor targets;  // (scored) int32
  float scale;
};

// Losses of rows [begin, end), and where wanted the gradients: dx rows written, dweight
// accumulated.
void head_chunk(const Head& head, int64_t begin, int64_t end, const Tensor& loss, const Tensor& dx,
                const Tensor& dweight) {
  const int64_t rows = end - begin, channels = head.x.dim(1), vocabulary = head.weight.dim(0);
  const Tensor x = head.x.rows(begin, end);  // (rows, C)
  Tensor z = Tensor::empty({rows, vocabulary}, DType::kF32, x.device(),
                           MemoryKind::kWorkspace);  // (rows, V)
  const DType dtype = x.dtype();
  product(z, operand(x, channels), operand(head.weight, channels, true), rows, vocabulary, channels,
          dtype);
  kernels(x.device())
      .cross_entropy({.logits = z.data<float>(),
                      .targets = head.targets.rows(begin, end).data<int32_t>(),
                      .loss = loss.rows(begin, end).data<float>(),
                      .rows = rows,
                      .vocabulary = vocabulary,
                      .stride = vocabulary,
                      .scale = head.scale,
                      .write_gradient = dx.defined() || dweight.defined()});
  if (dx.defined()) {
    product(dx.rows(begin, end), operand(z, vocabulary), operand(head.weight, channels), rows,
            channels, vocabulary, dtype);
  }
  if (dweight.defined()) {
    product(dweight, operand(z, vocabulary, true), operand(x, channels), vocabulary, channels, rows,
            dtype, 1, true);
  }
}

// The rows that count, and their targets.
struct Scored {
  Tensor index, targets;  // (scored) int32 each
};

Scored scored_rows(const Tensor& targets) {
  const int32_t* target = targets.data<int32_t>();
  std::vector<int32_t> kept;
  for (int64_t row = 0; row < targets.numel(); ++row) {
    if (target[row] != kIgnored) kept.push_back(static_cast<int32_t>(row));
  }
  const auto scored = static_cast<int64_t>(kept.size());
  Scored chosen{Tensor::empty({scored}, DType::kI32), Tensor::empty({scored}, DType::kI32)};
  for (int64_t i = 0; i < scored; ++i) {
    chosen.index.data<int32_t>()[i] = kept[static_cast<size_t>(i)];
    chosen.targets.data<int32_t>()[i] = target[kept[static_cast<size_t>(i)]];
  }
  return chosen;
}

}  // namespace

double LossSum::sum() const {
  const Tensor host = losses.to(Device::kCPU);
  double total = 0;
  for (int64_t i = 0; i < scored; ++i) total += static_cast<double>(host.data<float>()[i]);
  return total;
}

LossSum linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                             float scale, int64_t chunk_bytes) {
  const int64_t channels = x.dim(-1), rows = x.numel() / channels;
  const Device device = x.device();
  TENON_CHECK(weight.dim(1) == channels && targets.numel() == rows,
              "[linear_cross_entropy] x {}, weight {}, targets {} do not fit", x.shape().text(),
              weight.shape().text(), targets.shape().text());
  const Scored chosen = scored_rows(targets);
  const int64_t scored = chosen.index.numel();
  const Tensor index = chosen.index.to(device);  // (scored)
  Head head{x.detach().view({rows, channels}), weight.detach(), chosen.targets.to(device), scale};
  if (scored < rows) {
    head.x = Tensor::empty({scored, channels}, x.dtype(), device);
    kernels(device).gather_rows({.x = x.raw(),
                                 .index = index.data<int32_t>(),
                                 .y = head.x.raw(),
                                 .rows = scored,
                                 .channels = channels,
                                 .dtype = x.dtype()});
  }

  const bool wants_dx = x.slot() != nullptr && current_tape() != nullptr;
  const bool wants_dweight = weight.slot() != nullptr && current_tape() != nullptr;
  LossSum result{.losses = Tensor::empty({scored}, DType::kF32, device), .scored = scored};
  Tensor dx =
      wants_dx ? Tensor::empty({scored, channels}, DType::kF32, device) : Tensor{};  // (scored, C)
  const Tensor dweight = wants_dweight ? weight.slot()->buffer() : Tensor{};         // (V, C)
  const int64_t chunk = chunk_rows(scored, weight.dim(0), chunk_bytes);
  for (int64_t begin = 0; begin < scored; begin += chunk) {
    head_chunk(head, begin, std::min(begin + chunk, scored), result.losses, dx, dweight);
  }

  record("linear_cross_entropy", {x, weight}, {&result.losses},
         [=, shape = x.shape(), dtype = x.dtype()](const std::vector<Tensor>&, Grads& grads) {
           if (!grads.wants(0)) return;
           Tensor full = Tensor::empty(shape, dtype, device);
           if (scored < rows) full.zero();
           kernels(device).scatter_rows({.x = dx.data<float>(),
                                         .index = index.data<int32_t>(),
                                         .y = full.raw(),
                                         .rows = scored,
                                         .channels = channels,
                                         .dtype = dtype});
           grads.add(0, full);
         });
  return result;
}

}  // namespace tenon
