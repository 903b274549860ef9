// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {
namespace {

// `ids` on the device of the logits.
Tensor placed(std::span<const int32_t> ids, Device device) {
  const Tensor host = Tensor::empty({static_cast<int64_t>(ids.size())}, DType::kI32);
  std::copy(ids.begin(), ids.end(), host.data<int32_t>());
  return host.to(device);
}

}  // namespace

std::vector<int32_t> sample(const Tensor& logits, std::span<const SampleRow> rows) {
  const auto count = static_cast<int64_t>(rows.size());
  TENON_CHECK(logits.dtype() == DType::kF32 && logits.dim(0) >= count,
              "[sample] {} rows of logits {}", count, logits.shape().text());
  const KernelTable& table = kernels(logits.device());
  const Tensor tokens = Tensor::empty({count}, DType::kI32, logits.device());
  for (int64_t i = 0; i < count; ++i) {
    const SampleRow& row = rows[static_cast<size_t>(i)];
    const Tensor own = logits.rows(i, i + 1);  // (1, V)
    if (row.repetition_penalty != 1 && !row.repeated.empty()) {
      const Tensor ids = placed(row.repeated, logits.device());
      table.repetition_penalty({.logits = own.data<float>(),
                                .ids = ids.data<int32_t>(),
                                .count = ids.numel(),
                                .penalty = static_cast<float>(row.repetition_penalty)});
    }
    table.sample({.logits = own.data<float>(),
                  .token = tokens.rows(i, i + 1).data<int32_t>(),
                  .vocabulary = own.numel(),
                  .top_k = row.top_k,
                  .temperature = row.temperature,
                  .top_p = row.top_p,
                  .min_p = row.min_p,
                  .random = row.random,
                  .position = row.position});
  }
  const Tensor host = tokens.to(Device::kCPU);
  return {host.data<int32_t>(), host.data<int32_t>() + count};
}

}  // namespace tenon
