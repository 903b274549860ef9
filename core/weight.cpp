// SPDX-License-Identifier: Apache-2.0
#include "core/weight.h"

#include "core/ops.h"

namespace tenon {

Tensor Weight::rows(int64_t begin, int64_t end) const {
  if (four_bit_ != nullptr) return four_bit_->rows(begin, end);
  const Tensor part = dense_.rows(begin, end);
  return part.dtype() == DType::kF32 ? part.clone(MemoryKind::kWorkspace)
                                     : cast(part, DType::kF32, MemoryKind::kWorkspace);
}

}  // namespace tenon
