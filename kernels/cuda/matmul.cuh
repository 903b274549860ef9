// SPDX-License-Identifier: Apache-2.0
// The parts of matmul(): what carries it out, and the type that its operands are multiplied in.
#pragma once

#include "core/kernel_table.h"
#include "kernels/cuda/matmul_choice.h"

namespace tenon::cuda::TENON_SM {

// Our kernel: any product, operands of any dtypes, rounded to `type` on their way (matmul_tile.cu).
void multiply_by_tiles(const MatmulArgs& args, DType type);

// The operand (rows, columns) as elements of `type`, rows of which are 16-byte aligned: itself
// where it has that type, else a copy in a scratch slot (matmul_cast.cu).
MatrixOperand cast_operand(const MatrixOperand& x, int64_t rows, int64_t columns, DType type,
                           MatmulSlot slot);

// bias (count) as elements of `type` that the library can read.
const void* cast_bias(const float* bias, int64_t count, DType type);

// Up to this many rows or columns are few: the product is bound by reading the other side once.
constexpr int64_t kFew = 32;

}  // namespace tenon::cuda::TENON_SM
