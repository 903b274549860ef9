// SPDX-License-Identifier: Apache-2.0
// AdamW with moments in 8 bits, in blocks of 256 (Dettmers et al. 2022, arXiv:2110.02861), as
// bitsandbytes keeps them: those of tensors of less than 4096 elements in fp32.
#include "core/dynamic_code.h"
#include "train/rules/adamw.h"

namespace tenon {
namespace {

StateTensor zeros(const Parameter& parameter, const char* suffix, int64_t count, DType dtype) {
  return {suffix, Tensor::zeros({count}, dtype, parameter.value.device(), MemoryKind::kOptimizer)};
}

std::vector<StateTensor> state(const Parameter& parameter, const OptimizerOptions& options) {
  const int64_t count = parameter.shape.numel();
  if (count < options.least_8bit) return {zero_state(parameter, "m"), zero_state(parameter, "v")};
  const int64_t blocks = (count + kCodeBlock - 1) / kCodeBlock;
  // Whatever the codes name, a scale of 0 makes it 0.
  return {zeros(parameter, "m_codes", count, DType::kU8),
          zeros(parameter, "m_scales", blocks, DType::kF32),
          zeros(parameter, "v_codes", count, DType::kU8),
          zeros(parameter, "v_scales", blocks, DType::kF32)};
}

void step(const UpdateStep& s) {
  AdamWArgs args = adamw_args(s);
  args.signed_code = &signed_dynamic_code();
  args.unsigned_code = &unsigned_dynamic_code();
  s.kernels.adamw(args);
}

}  // namespace

const UpdateRule kAdamW8bit{state, step, /*cuda=*/false};

}  // namespace tenon
