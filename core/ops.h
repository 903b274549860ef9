// SPDX-License-Identifier: Apache-2.0
// The ops of a transformer: few and large, each with its gradient beside it in core/ops/. An op
// checks, allocates, launches kernels and records its backward; parameters' gradients accumulate in
// fp32, activations' have the dtype of the activation.
//
// Letters: B batch, T tokens, C channels, H heads, G key/value heads, D head size, V vocabulary, R
// adapter rank. "rows" is B*T; an activation's leading dims are free, its last one is its channels.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "core/kernel_table.h"
#include "core/tape.h"
#include "core/tensor.h"
#include "core/weight.h"

namespace tenon {

// Which rows of its tables an embedding looks at.
struct EmbeddingRows {
  int64_t first_token = 0, first_position = 0;  // the rows of id 0 and of position 0
  int32_t padding = -1;  // an id whose row gets no gradient (torch's padding_idx); -1: none
};

// token_table[ids] + position_table[positions] as `dtype`. ids and positions: int32, same shape (B,
// T); result (B, T, C). An undefined position_table adds nothing. Requires: ids and positions
// inside their tables (the caller checks data).
Tensor embedding(const Tensor& ids, const Tensor& positions, const Tensor& token_table,
                 const Tensor& position_table, DType dtype, EmbeddingRows rows = {});

// y = (x - mean) / sqrt(var + eps) * weight + bias over the last dim; weight and bias fp32 (C).
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps);

// {s, layer_norm(s)} with s = residual + x: the residual stream and the next half-block's input in
// one pass.
std::pair<Tensor, Tensor> add_layer_norm(const Tensor& residual, const Tensor& x,
                                         const Tensor& weight, const Tensor& bias, float eps);

// y = x / sqrt(mean(x^2) + eps) * weight over the last dim; weight fp32 (C).
Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps);

// {s, rms_norm(s)} with s = residual + x.
std::pair<Tensor, Tensor> add_rms_norm(const Tensor& residual, const Tensor& x,
                                       const Tensor& weight, float eps);

// How a weight matrix lies: nn.Linear's (out, in), or GPT-2's Conv1D (in, out).
enum class WeightLayout : uint8_t { kOutIn, kInOut };

// Where a dropout draws its bits: element i of the tensor is word position0 + i of the stream. p =
// 0 drops nothing.
struct Dropout {
  float p = 0;
  RandomStream random;
  uint64_t position0 = 0;
};

// A low-rank adapter (Hu et al. 2021, arXiv:2106.09685): adds scale * (dropout(x) A^T B^T + bias).
// Where magnitude is defined it is a DoRA (Liu et al. 2024, arXiv:2402.09353): with W' = diag(m / n)
// (W + scale B A), whose rows have the lengths m, it adds dropout(x) (W' - W)^T instead. To the
// gradient the norms n are constants. It has no bias, and runs on the CPU only.
struct LoraFactors {
  Tensor a;  // (R, in), fp32
  Tensor b;  // (out, R), fp32
  float scale = 1;
  Dropout dropout;
  Tensor bias;       // (out), fp32, or undefined
  Tensor magnitude;  // m: (out), fp32, or undefined
  Tensor norms;      // n: (out), fp32, the lengths of the rows of W + scale B A
};

// y = x W^T + bias (+ adapter), (rows, in) -> (rows, out). bias may be undefined, lora null. Frozen
// tensors get no gradient and no buffer. The adapter is folded into the K loop of the same product,
// forward and backward.
Tensor linear(const Tensor& x, const Weight& weight, WeightLayout layout, const Tensor& bias,
              const LoraFactors* lora);

// A linear among several of one x. bias may be undefined; without an adapter lora.a is undefined.
struct LinearPart {
  Weight weight;
  WeightLayout layout = WeightLayout::kOutIn;
  Tensor bias;
  LoraFactors lora;
};
// The linears of one x with their results side by side: (rows, in) -> (rows, sum of outs). q, k and v
// of an attention, gate and up of a gated activation.
Tensor linears(const Tensor& x, std::vector<LinearPart> parts);

// v and f(v), computed in one pass. Only v is on the tape: f(v) goes to a linear that knows both. Of a
// ReLU's v only the bits are kept that say where it is positive.
struct Activated {
  Tensor v, value;
  Activation kind = Activation::kGeluTanh;
};
// v = linear(x), activated. v is undefined where nothing is recorded.
Activated linear_activation(const Tensor& x, const Weight& weight, WeightLayout layout,
                            const Tensor& bias, const LoraFactors* lora, Activation kind);
// linear(x.value); its gradient with respect to v is computed in one pass.
Tensor linear(const Activated& x, const Weight& weight, WeightLayout layout, const Tensor& bias,
              const LoraFactors* lora);

// y = f(x), elementwise.
Tensor activation(const Tensor& x, Activation kind);

// y = f(gate) up, elementwise.
Tensor gated_activation(const Tensor& gate, const Tensor& up, Activation kind);
// The same of one tensor (B, T, 2C) that holds gate and up side by side -> (B, T, C).
Tensor gated_activation(const Tensor& gate_up, Activation kind);

// y = x * (magnitude / norms) + bias, column by column; the vectors are fp32 (C), bias may be
// undefined; a column whose norm is 0 is 0. The norms are constants to the gradient. Requires: x on
// the CPU.
Tensor scale_columns(const Tensor& x, const Tensor& magnitude, const Tensor& norms,
                     const Tensor& bias);

// Tensors of the same rows side by side: (rows, C1), (rows, C2), ... -> (rows, C1 + C2 + ...).
Tensor side_by_side(const std::vector<Tensor>& parts);

// y = factor * x.
Tensor scaled(const Tensor& x, float factor);

// y = residual + dropout(x).
Tensor residual_add(const Tensor& residual, const Tensor& x, const Dropout& dropout);

// y = dropout(x); x itself when p is 0.
Tensor dropout(const Tensor& x, const Dropout& dropout);

// How heads are rotated by the position of their token.
struct Rotary {
  Tensor cosines, sines;  // (any, R), fp32: row p is that of position p; R pairs of a head rotate
  Tensor positions;       // (B, T) int32, inside the tables; undefined: 0, 1, ... in each sequence
  int64_t heads = 0;      // how many of x's heads, from the first: those of q and k, not of v
  int64_t head_size = 0;
};

// x (B, T, C) with its heads rotated as RotaryArgs (core/kernel_table.h) says. Give x away with
// std::move: its bytes are used for the result where nobody else holds them.
Tensor rotary(Tensor x, const Rotary& options);

struct AttentionOptions {
  int64_t heads = 0, kv_heads = 0;
  float scale = 1;
  Tensor doc_start;  // (B, T) int32: first position of the row that a token may see; undefined = 0
  Dropout dropout;   // position0 counts sequences: the global index of the batch's first one
};

// Causal self-attention of packed projections: qkv (B, T, (H + 2G) D), heads of q first, then k,
// then v -> (B, T, H D).
Tensor attention(const Tensor& qkv, const AttentionOptions& options);

// The keys and values that one block keeps of the tokens before, for each sequence of a batch
// (KeyPages in core/kernel_table.h says how they lie); on the host too, as far as the host needs it.
struct CachedKeys {
  Tensor pages;                              // (B, P) int64: addresses of pages
  Tensor past;                               // (B) int32
  int64_t key_offset = 0, value_offset = 0;  // elements
  DType dtype = DType::kF32;
  std::span<const int64_t> host_pages;  // (B, P)
  std::span<const int32_t> host_past;   // (B)
};

// Attention of `qkv`'s new tokens over them and those before, after appending their k and v to the
// cache. No gradient. A sequence's result does not depend on the others. Requires: pages for all.
Tensor attention_cached(const Tensor& qkv, const CachedKeys& cache,
                        const AttentionOptions& options);

// The sum over scored rows of -log softmax(x W^T)[target], times `scale`. Targets lie on the host;
// rows with target -100 are left out, not masked; the logits exist for a chunk of rows at a time,
// about `chunk_bytes` (at least 64 rows), and never as a whole. Where a gradient is wanted it is
// computed in the same pass (dlogits overwrite the chunk's logits), so backward only hands it over:
// the loss must be the last thing computed, its incoming gradient is taken to be 1.
//
// 104 MiB are 512 rows of GPT-2's vocabulary, for which a pass over its head pays.
inline constexpr int64_t kLogitsBytes = int64_t{104} << 20;
struct LossSum {
  Tensor losses;  // (rows), fp32, not scaled: what backward starts from; the first `scored` count
  int64_t scored = 0;  // rows that counted
  double sum() const;  // of the losses, in row order; waits for the device
};
LossSum linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                             float scale, int64_t chunk_bytes = kLogitsBytes);

// x W^T for some rows, as fp32: logits to sample from. No gradient.
Tensor logits(const Tensor& x, const Tensor& weight);

// How the token of a row is chosen, as SampleArgs and RepetitionPenaltyArgs (core/kernel_table.h) say.
struct SampleRow {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0, repetition_penalty = 1;
  std::span<const int32_t> repeated;  // different from each other
  RandomStream random;
  uint64_t position = 0;
};
// The tokens that the first rows of `logits` (any, V) give, -1 where a logit is NaN; a penalty is
// written into the logits. Waits for the device.
std::vector<int32_t> sample(const Tensor& logits, std::span<const SampleRow> rows);

// x in another dtype (x itself when it has it). Not differentiable: for weights and results.
Tensor cast(const Tensor& x, DType to, MemoryKind kind = MemoryKind::kActivations);

}  // namespace tenon
