// SPDX-License-Identifier: Apache-2.0
// Products at the shapes of real models, beside the libraries that compute them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/report.h"

namespace tenon::bench {

struct GemmShape {
  std::string name;  // "gpt2.qkv forward"
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  DType dtype = DType::kF32;

  std::string text() const;  // "256x2304x768:NN"
};

// The products of GPT-2, OPT-2.7B and Llama-3.2-1B: forward, dX and dW of every weight at 256, 512 and
// 2048 rows, generation at 1, 4 and 8, and LoRA's at ranks 8 and 16.
std::vector<GemmShape> gemm_shapes();

void bench_gemm(const Options& options, Report& report);

// What the device's first peer needs for this product.
double peer_seconds(Device device, const GemmShape& shape, const Patience& patience);

}  // namespace tenon::bench
