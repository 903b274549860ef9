// SPDX-License-Identifier: Apache-2.0
// Products with weights in int8 as LLM.int8() has them (Dettmers et al. 2022, arXiv:2208.07339): the rows
// of x become int8 too, but for their outliers, which are multiplied as they are. bitsandbytes keeps
// whole columns in which one row has an outlier; here an element is kept where it is one itself, so
// that what comes of a row depends on the rows beside it by the order of its sums at most.
#pragma once

#include <vector>

#include "core/tensor.h"
#include "core/weight.h"

namespace tenon {

struct Int8Rows {
  Tensor x;                       // as it was
  Tensor codes, scales;           // (rows, in) and (rows)
  std::vector<int32_t> outliers;  // the columns that have some
};

// Requires: x on the CPU.
Int8Rows int8_rows(const Tensor& x);

// c = x W^T + bias: a row for each of x, in `dtype`, `stride` elements apart. bias may be null.
void int8_product(const Int8Rows& x, const Weight& weight, const float* bias, void* c,
                  int64_t stride, DType dtype);

}  // namespace tenon
