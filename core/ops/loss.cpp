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
  Tensor x;               // (rows, C)
  Tensor weight;          // (V, C)
  Tensor index, targets;  // (scored) int32: the rows that count, and their targets
  float scale;
};

// The losses of scored rows [begin, end), and where wanted the gradients: their rows of dx written,
// dweight accumulated. What is allocated does not depend on how many count.
void head_chunk(const Head& head, int64_t begin, int64_t end, int64_t chunk, const Tensor& loss,
                const Tensor& dx, const Tensor& dweight) {
  const int64_t rows = end - begin, channels = head.x.dim(1), vocabulary = head.weight.dim(0);
  const Device device = head.x.device();
  const DType dtype = head.x.dtype();
  const int32_t* index = head.index.data<int32_t>() + begin;
  const Tensor x = Tensor::empty({chunk, channels}, dtype, device, MemoryKind::kWorkspace);
  kernels(device).gather_rows({.x = head.x.raw(),
                               .index = index,
                               .y = x.raw(),
                               .rows = rows,
                               .channels = channels,
                               .dtype = dtype});
  const Tensor z =
      Tensor::empty({chunk, vocabulary}, DType::kF32, device, MemoryKind::kWorkspace);  // logits
  product(z, operand(x, channels), operand(head.weight, channels, true), rows, vocabulary, channels,
          dtype);
  kernels(device).cross_entropy({.logits = z.data<float>(),
                                 .targets = head.targets.data<int32_t>() + begin,
                                 .loss = loss.data<float>() + begin,
                                 .rows = rows,
                                 .vocabulary = vocabulary,
                                 .stride = vocabulary,
                                 .scale = head.scale,
                                 .write_gradient = dx.defined() || dweight.defined()});
  if (dx.defined()) {
    const Tensor part =
        Tensor::empty({chunk, channels}, DType::kF32, device, MemoryKind::kWorkspace);
    product(part, operand(z, vocabulary), operand(head.weight, channels), rows, channels,
            vocabulary, dtype);
    kernels(device).scatter_rows({.x = part.data<float>(),
                                  .index = index,
                                  .y = dx.raw(),
                                  .rows = rows,
                                  .channels = channels,
                                  .dtype = dtype});
  }
  if (dweight.defined()) {
    product(dweight, operand(z, vocabulary, true), operand(x, channels), vocabulary, channels, rows,
            dtype, 1, true);
  }
}

// The rows that count, and their targets: (rows) int32 each, of which the first `count` are filled.
struct Scored {
  Tensor index, targets;
  int64_t count = 0;
};

Scored scored_rows(const Tensor& targets) {
  const int64_t rows = targets.numel();
  const int32_t* target = targets.data<int32_t>();
  Scored scored{Tensor::empty({rows}, DType::kI32), Tensor::empty({rows}, DType::kI32)};
  int32_t *index = scored.index.data<int32_t>(), *kept = scored.targets.data<int32_t>();
  for (int64_t row = 0; row < rows; ++row) {
    if (target[row] == kIgnored) continue;
    index[scored.count] = static_cast<int32_t>(row);
    kept[scored.count++] = target[row];
  }
  std::fill(index + scored.count, index + rows, 0);
  std::fill(kept + scored.count, kept + rows, 0);
  return scored;
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
  const Scored scored = scored_rows(targets);
  const Head head{x.detach().view({rows, channels}), weight.detach(), scored.index.to(device),
                  scored.targets.to(device), scale};

  const bool wants_dx = x.slot() != nullptr && current_tape() != nullptr;
  const bool wants_dweight = weight.slot() != nullptr && current_tape() != nullptr;
  LossSum result{.losses = Tensor::empty({rows}, DType::kF32, device), .scored = scored.count};
  Tensor dx;  // as x
  if (wants_dx) dx = Tensor::empty(x.shape(), x.dtype(), device);
  if (wants_dx && scored.count < rows) dx.zero();
  const Tensor dweight = wants_dweight ? weight.slot()->buffer() : Tensor{};  // (V, C)
  const int64_t chunk = chunk_rows(rows, weight.dim(0), chunk_bytes);
  for (int64_t begin = 0; begin < scored.count; begin += chunk) {
    const int64_t end = std::min(begin + chunk, scored.count);
    head_chunk(head, begin, end, chunk, result.losses, dx, dweight);
  }

  record("linear_cross_entropy", {x, weight}, {&result.losses},
         [dx](const std::vector<Tensor>&, Grads& grads) {
           if (grads.wants(0)) grads.add(0, dx);
         });
  return result;
}

}  // namespace tenon
