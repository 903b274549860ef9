// SPDX-License-Identifier: Apache-2.0
// Matrices in 4 bits: QLoRA's NF4 (Dettmers et al. 2023, arXiv:2305.14314), in the arithmetic of
// bitsandbytes 0.50 on a CPU, bit by bit. Elements are taken row by row in blocks of 64, the last of
// which may be shorter; a block has the scale of its largest magnitude. Doubly quantized, the
// scales, less their mean, are in 8 bits in blocks of 256.
#pragma once

#include <memory>
#include <string>

#include "core/element_reader.h"
#include "core/kernel_table.h"
#include "core/tensor.h"

namespace tenon {

// The numbers of NF4's codes, ascending.
inline constexpr float kNf4Numbers[16] = {-1.0f,
                                          -0.6961928009986877f,
                                          -0.5250730514526367f,
                                          -0.39491748809814453f,
                                          -0.28444138169288635f,
                                          -0.18477343022823334f,
                                          -0.09105003625154495f,
                                          0.0f,
                                          0.07958029955625534f,
                                          0.16093020141124725f,
                                          0.24611230194568634f,
                                          0.33791524171829224f,
                                          0.44070982933044434f,
                                          0.5626170039176941f,
                                          0.7229568362236023f,
                                          1.0f};

struct FourBitMatrix {
  Shape shape;                // (rows, columns)
  DType dtype = DType::kF32;  // what it was quantized from
  std::string kind = "nf4";   // or "fp4", which is read only
  int64_t block = 64;
  Tensor codes;          // (ceil(elements / 2)), kU8: two codes a byte, the first in the high half
  Tensor numbers;        // (16), fp32
  Tensor scales;         // (blocks), fp32, or undefined where doubly quantized:
  Tensor scale_codes;    // (blocks), kU8
  Tensor scale_numbers;  // (256), fp32
  Tensor outer_scales;   // (ceil(blocks / outer_block)), fp32
  int64_t outer_block = 256;
  float offset = 0;

  bool doubled() const { return scale_codes.defined(); }
  int64_t blocks() const { return (shape.numel() + block - 1) / block; }
  int64_t bytes() const;
  FourBit format() const;  // looks at the tensors
  // Rows [begin, end) as fp32. `begin` may be any row.
  Tensor rows(int64_t begin, int64_t end) const;
};

// One that is to be filled, not doubly quantized: its numbers are there, codes and scales are any.
FourBitMatrix unfilled_nf4(const Shape& shape, DType dtype);

// Throws Error(kNumeric) naming `where` and the first element that is not finite.
FourBitMatrix quantize_nf4(const Shape& shape, DType dtype, const ElementReader& read, bool doubled,
                           const std::string& where);

}  // namespace tenon
