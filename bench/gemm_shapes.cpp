// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include "bench/gemm.h"

namespace tenon::bench {
namespace {

// A weight of a model, and how it is stored: (in, out) as GPT-2's Conv1D, or (out, in).
struct Weight {
  const char* name;
  int64_t in, out;
  bool in_out;
};

constexpr Weight kWeights[] = {
    {"gpt2.qkv", 768, 2304, true},        {"gpt2.attn_out", 768, 768, true},
    {"gpt2.mlp_up", 768, 3072, true},     {"gpt2.mlp_down", 3072, 768, true},
    {"gpt2.head", 768, 50257, false},     {"opt-2.7b.attn", 2560, 2560, false},
    {"opt-2.7b.fc1", 2560, 10240, false}, {"opt-2.7b.fc2", 10240, 2560, false},
    {"llama-1b.q", 2048, 2048, false},    {"llama-1b.kv", 2048, 512, false},
    {"llama-1b.gate", 2048, 8192, false}, {"llama-1b.down", 8192, 2048, false},
};

void add_training(std::vector<GemmShape>& shapes, const Weight& w, int64_t rows) {
  const auto name = [&](const char* what) { return fmt::format("{} {}", w.name, what); };
  shapes.push_back({name("forward"), rows, w.out, w.in, false, !w.in_out});
  shapes.push_back({name("dX"), rows, w.in, w.out, false, w.in_out});
  if (w.in_out) {
    shapes.push_back({name("dW"), w.in, w.out, rows, true, false});
  } else {
    shapes.push_back({name("dW"), w.out, w.in, rows, true, false});
  }
}

// T = x A^T, U = dY B, dA = U^T x, dB = dY^T T, with one square weight of this width.
void add_lora(std::vector<GemmShape>& shapes, int64_t width, int64_t rank) {
  constexpr int64_t kRows = 2048;
  const auto name = [&](const char* what) { return fmt::format("lora.r{} {}", rank, what); };
  shapes.push_back({name("x A^T"), kRows, rank, width, false, true});
  shapes.push_back({name("dY B"), kRows, rank, width, false, false});
  shapes.push_back({name("dA"), rank, width, kRows, true, false});
  shapes.push_back({name("dB"), width, rank, kRows, true, false});
}

}  // namespace

std::vector<GemmShape> gemm_shapes() {
  std::vector<GemmShape> shapes;
  for (const int64_t rows : {256, 512, 2048}) {
    for (const Weight& weight : kWeights) add_training(shapes, weight, rows);
  }
  for (const int64_t rows : {1, 4, 8}) {
    for (const Weight& w : kWeights)
      shapes.push_back({fmt::format("{} generate", w.name), rows, w.out, w.in, false, !w.in_out});
  }
  for (const int64_t rank : {8, 16}) {
    for (const int64_t width : {768, 2048}) add_lora(shapes, width, rank);
  }
  return shapes;
}

}  // namespace tenon::bench
