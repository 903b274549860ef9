// SPDX-License-Identifier: Apache-2.0
// The contract between ops and kernels: one argument struct and one row of TENON_KERNELS for each
// kernel. Core declares it; a kernels folder implements it once for each device and ISA and knows
// nothing of Tensor. A table that lacks a kernel does not compile.
//
// Conventions, for every kernel unless its struct says otherwise: arrays are row-major and
// contiguous; an activation array has type `dtype` (kF32, kBF16 or kF16), a weight array its own
// dtype; sums are kept in fp32 or better and rounded once on store; a null pointer means "absent"
// for an input and "not wanted" for an output; arrays do not overlap unless allowed; any extent may
// be 0; results do not depend on the number of threads.
//
// Letters: B batch, T tokens, C channels, H heads, G key/value heads, D head size, V vocabulary, R
// adapter rank.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/philox.h"

namespace tenon {

enum class Activation : uint8_t { kGeluTanh, kGeluErf, kQuickGelu, kRelu, kSilu, kTanh };

// How a matrix in 4 bits is read (NF4: Dettmers et al. 2023, arXiv:2305.14314): two elements a byte,
// the first in the high half, in the order of the matrix as it lies, rows without gaps. An element
// is the number of its code times the scale of its block, blocks counted in the same order. Where
// `scales` is null the scales are quantized as well: that of block b is scale_numbers[scale_codes[b]]
// * outer_scales[b / outer_block] + offset. All sums and products are fp32's, rounded one by one.
struct FourBit {
  const float* numbers = nullptr;        // (16)
  int64_t block = 64;                    // elements of one: a power of 2, 32 at least
  const float* scales = nullptr;         // of each block, or null
  const uint8_t* scale_codes = nullptr;  // of each block
  const float* scale_numbers = nullptr;  // (256)
  const float* outer_scales = nullptr;   // of each outer_block blocks
  int64_t outer_block = 256;             // a power of 2
  float offset = 0;
};

// A matrix operand as it lies in memory. op(X) is X, or its transpose where `transposed`.
struct MatrixOperand {
  const void* data = nullptr;
  int64_t stride = 0;  // elements from one stored row to the next
  bool transposed = false;
  DType dtype = DType::kF32;
  const float* scales = nullptr;  // (stored rows), of kI8 only: an element is its number times this
  // Where given, `data` is in 4 bits, `stride` the length of its rows, and the dtype kF32: that of
  // the elements that it stands for.
  const FourBit* four_bit = nullptr;
};

// What becomes of v = alpha * (products) + bias before it is stored: it itself, f(v) (and v goes to
// `pre`, where given), or v f'(pre).
enum class Epilogue : uint8_t { kNone, kActivation, kActivationGrad };

// c = epilogue(alpha * (op(a) op(b) + op(a2) op(b2)) + bias) + add, or that added to c where
// `accumulate`. The second pair extends the K loop: with T = x A^T, [x | T] [W | B]^T is one product:
// LoRA for nearly nothing. Where `t` is given the kernel computes T itself, in its
// pass over a: op(a2) = t = down_alpha * op(a) op(down), and a2 is not read.
// Requires: accumulate without an epilogue. On a CPU a row of c has the same bits whatever m <=
// kAlikeRows it is computed with, so that a text does not depend on those that it is generated with.
inline constexpr int64_t kAlikeRows = 32;
struct MatmulArgs {
  MatrixOperand a;    // op(a): (m, k)
  MatrixOperand b;    // op(b): (k, n)
  MatrixOperand a2;   // op(a2): (m, k2); data null when k2 == 0
  MatrixOperand b2;   // op(b2): (k2, n)
  void* c = nullptr;  // (m, n), rows `c_stride` apart
  int64_t c_stride = 0;
  DType c_dtype = DType::kF32;
  int64_t m = 0, n = 0, k = 0, k2 = 0;
  float alpha = 1.0f;
  const float* bias = nullptr;  // (n), added to every row
  bool accumulate = false;      // c += instead of c =
  // kF32: operands count as they are stored. kBF16 or kF16: those that are fp32 may be rounded to it.
  DType precision = DType::kF32;
  MatrixOperand down;  // op(down): (k, k2)
  float* t = nullptr;  // (m, k2), fp32, written
  float down_alpha = 1.0f;
  const void* add = nullptr;  // (m, n) of c_dtype, rows `c_stride` apart, or null; may be c
  Epilogue epilogue = Epilogue::kNone;
  Activation activation = Activation::kGeluTanh;
  void* pre = nullptr;  // (m, n) of c_dtype, rows `c_stride` apart; may be c where it is read
};

// y[t] = token_table[ids[t]] + position_table[positions[t]].
struct EmbeddingArgs {
  const int32_t* ids = nullptr;          // (rows), each in [0, vocabulary)
  const int32_t* positions = nullptr;    // (rows); null together with position_table
  const void* token_table = nullptr;     // (V, C) of table_dtype
  const void* position_table = nullptr;  // (positions, C) of table_dtype
  void* y = nullptr;                     // (rows, C)
  int64_t rows = 0, channels = 0;
  DType table_dtype = DType::kF32;
  DType dtype = DType::kF32;
};

// dtable[ids[t]] += dy[t], summed in the order of t (deterministic); dtable is fp32 and
// accumulates.
struct EmbeddingGradArgs {
  const int32_t* ids = nullptr;  // (rows)
  const void* dy = nullptr;      // (rows, C)
  float* dtable = nullptr;       // (V, C)
  int64_t rows = 0, channels = 0;
  DType dtype = DType::kF32;
  int32_t padding = -1;  // an id whose row gains nothing
};

// s = x + residual (s = x without residual). Layer norm ("centred"): y = (s - mean) / sqrt(var + eps)
// * weight + bias, per row. Root-mean-square norm: y = s / sqrt(mean(s^2) + eps) * weight (Zhang and
// Sennrich 2019, arXiv:1910.07467), without bias and mean.
struct NormArgs {
  const void* x = nullptr;         // (rows, C)
  const void* residual = nullptr;  // (rows, C) or null
  const float* weight = nullptr;   // (C)
  const float* bias = nullptr;     // (C), where centred
  void* sum = nullptr;  // (rows, C): s, written when residual is given; may be x or residual itself
  void* y = nullptr;    // (rows, C)
  float* mean = nullptr;  // (rows), kept for backward where centred
  float* rstd =
      nullptr;  // (rows), 1 / sqrt(var + eps) or 1 / sqrt(mean(s^2) + eps), kept for backward
  int64_t rows = 0, channels = 0;
  float eps = 0;
  DType dtype = DType::kF32;
  bool centred = true;
};

// ds = gradient of s through y, plus dsum (the gradient that reaches s from elsewhere) where given.
// dweight and dbias accumulate (+=) over rows in a fixed order.
struct NormGradArgs {
  const void* s = nullptr;        // (rows, C)
  const float* weight = nullptr;  // (C)
  const float* mean = nullptr;    // (rows), where centred
  const float* rstd = nullptr;    // (rows)
  const void* dy = nullptr;       // (rows, C)
  const void* dsum = nullptr;     // (rows, C) or null
  void* ds = nullptr;             // (rows, C) or null; may be dy or dsum itself
  float* dweight = nullptr;       // (C) or null
  float* dbias = nullptr;         // (C), where centred, or null
  int64_t rows = 0, channels = 0;
  DType dtype = DType::kF32;
  bool centred = true;
};

// y = f(x), elementwise. y may be x.
struct ActivationArgs {
  const void* x = nullptr;  // (count)
  void* y = nullptr;        // (count)
  int64_t count = 0;
  Activation activation = Activation::kGeluTanh;
  DType dtype = DType::kF32;
};

// dx = dy * f'(x). dx may be dy.
struct ActivationGradArgs {
  const void* x = nullptr;   // (count)
  const void* dy = nullptr;  // (count)
  void* dx = nullptr;        // (count)
  int64_t count = 0;
  Activation activation = Activation::kGeluTanh;
  DType dtype = DType::kF32;
};

// Bit i % 8 of byte i / 8 says whether x[i] > 0 (a NaN is not): all that the gradient of a ReLU needs to
// know. Bits past the end are 0.
struct PositiveBitsArgs {
  const void* x = nullptr;  // (count)
  uint8_t* bits = nullptr;  // (count / 8, rounded up)
  int64_t count = 0;
  DType dtype = DType::kF32;
};

// y[i] = x[i] where its bit is set, else 0. y may be x.
struct SelectBitsArgs {
  const void* x = nullptr;        // (count)
  const uint8_t* bits = nullptr;  // (count / 8, rounded up)
  void* y = nullptr;              // (count)
  int64_t count = 0;
  DType dtype = DType::kF32;
};

// y = f(gate) up, elementwise (SwiGLU where f is SiLU: Shazeer 2020, arXiv:2002.05202). gate and up
// may be the two halves of one (rows, 2C) array.
struct GatedActivationArgs {
  const void* gate = nullptr;  // (rows, C), rows `stride` apart
  const void* up = nullptr;    // like gate
  void* y = nullptr;           // (rows, C)
  int64_t rows = 0, channels = 0;
  int64_t stride = 0;  // elements
  Activation activation = Activation::kSilu;
  DType dtype = DType::kF32;
};

// dgate = dy up f'(gate), dup = dy f(gate). They may be gate and up themselves.
struct GatedActivationGradArgs {
  const void* gate = nullptr;  // (rows, C), rows `stride` apart
  const void* up = nullptr;    // like gate
  const void* dy = nullptr;    // (rows, C)
  void* dgate = nullptr;       // (rows, C), rows `dstride` apart
  void* dup = nullptr;         // like dgate
  int64_t rows = 0, channels = 0;
  int64_t stride = 0, dstride = 0;  // elements
  Activation activation = Activation::kSilu;
  DType dtype = DType::kF32;
};

// Rotary position embedding (Su et al. 2021, arXiv:2104.09864), in place, paired as transformers'
// rotate_half does: with x1 and x2 the halves of the first `rotary` elements of a head, and c, s the
// table's row of the token's position, x1 becomes x1 c - x2 s and x2 becomes x2 c + x1 s; `inverse`
// turns the other way, which is the gradient. A token's head h lies at x + t * stride + h * head_size.
struct RotaryArgs {
  void* x = nullptr;                   // (tokens, H, D), tokens `stride` apart
  const float* cosines = nullptr;      // (any, rotary / 2)
  const float* sines = nullptr;        // (any, rotary / 2)
  const int32_t* positions = nullptr;  // (tokens), rows of the tables; null: t % sequence
  int64_t tokens = 0, heads = 0, head_size = 0;
  int64_t rotary = 0;    // even, at most head_size
  int64_t sequence = 0;  // tokens of one sequence, where positions is null
  int64_t stride = 0;    // elements
  bool inverse = false;
  DType dtype = DType::kF32;
};

// Keys and values of the tokens before these, in pages of kPageTokens tokens, so that their memory
// follows the text: those of token j of sequence b are row j % kPageTokens of page j / kPageTokens,
// a row being (G, D). The pages and the list of them lie on the kernel's device.
struct KeyPages {
  // (B, most_pages): where each begins, at a multiple of 64 bytes; null: there are none.
  void* const* pages = nullptr;
  const int32_t* past = nullptr;  // (B): tokens of each sequence before these
  int64_t most_pages = 0;
  int64_t key_offset = 0, value_offset = 0;  // elements from the begin of a page to its rows
};
inline constexpr int64_t kPageTokens = 64;

// Rows past[b] + t of sequence b's pages become k[b, t] and v[b, t].
struct AppendKeysArgs {
  const void* k = nullptr;  // (B, T, G D), tokens kv_stride apart
  const void* v = nullptr;  // like k
  KeyPages paged;
  int64_t batch = 0, tokens = 0, kv_channels = 0;
  int64_t kv_stride = 0;  // elements
  DType dtype = DType::kF32;
};

// Causal attention with online softmax (flash attention: Dao et al. 2022, arXiv:2205.14135). No T x T array exists.
//   out[b,i,h] = sum_j softmax_j(scale * q[b,i,h] . k[b,j,g]) v[b,j,g],  g = h / (heads / kv_heads),
//   over doc_start[b,i] <= j <= i + (keys - queries).
// A token's head h lies at data + (b * tokens + t) * stride + h * head_size, so q, k and v may be parts of one array.
// With `paged`, k and v are not read: sequence b has past[b] + queries keys, all of them in its pages, and `keys` is
// the most of them. Each sequence's result is that of its keys in one array. Requires then: queries <= kFewQueries, no
// lse, no dropout.
inline constexpr int64_t kFewQueries = 8;
struct AttentionArgs {
  const void* q = nullptr;  // (B, queries, H, D), tokens q_stride apart
  const void* k =
      nullptr;  // (B, keys, G, D), tokens kv_stride apart, sequences kv_batch_stride apart
  const void* v = nullptr;  // like k
  void* out = nullptr;      // (B, queries, H, D), tokens out_stride apart
  float* lse =
      nullptr;  // (B, H, queries): log-sum-exp of the scaled scores, kept for backward; or null
  const int32_t* doc_start = nullptr;  // (B, queries): first key that the query may see; null = 0
  int64_t batch = 0, queries = 0, keys = 0, heads = 0, kv_heads = 0, head_size = 0;
  int64_t q_stride = 0, kv_stride = 0, out_stride = 0;
  int64_t kv_batch_stride =
      0;  // elements from one sequence's keys to the next's (keys * kv_stride unless a cache is longer)
  float scale = 1.0f;
  // Dropout of the probabilities: element ((((sequence0 + b) * H + h) * queries + i) * P + j), P =
  // keys rounded up to 4.
  float dropout = 0.0f;
  RandomStream random;
  uint64_t sequence0 = 0;  // global index of the batch's first sequence
  KeyPages paged;
  DType dtype = DType::kF32;
};

// Gradients by recomputing the probabilities from q, k and lse. dq, dk and dv are written (not
// accumulated), laid out as q, k and v are with strides dq_stride and dkv_stride.
struct AttentionGradArgs {
  AttentionArgs forward;       // as it was called, out and lse filled
  const void* dout = nullptr;  // (B, queries, H, D), tokens out_stride apart
  void* dq = nullptr;          // (B, queries, H, D)
  void* dk = nullptr;          // (B, keys, G, D)
  void* dv = nullptr;          // (B, keys, G, D)
  int64_t dq_stride = 0, dkv_stride = 0;
};

// y[i] = x[i] / (1 - p) where word (position0 + i) of the stream is at or above
// dropout_threshold(p), else 0. The same kernel is its own gradient. y may be x. With `add`, y[i] =
// add[i] + that.
struct DropoutArgs {
  const void* x = nullptr;    // (count)
  const void* add = nullptr;  // (count) or null
  void* y = nullptr;          // (count)
  int64_t count = 0;
  float p = 0;
  RandomStream random;
  uint64_t position0 = 0;  // a multiple of 4 or not
  DType dtype = DType::kF32;
};

// For each row: loss = log(sum(exp(logits))) - logits[target]; logits become (softmax -
// onehot(target)) * scale when `write_gradient`. Logits are fp32.
struct CrossEntropyArgs {
  float* logits = nullptr;           // (rows, V) in: logits, out: their gradient
  const int32_t* targets = nullptr;  // (rows), each in [0, V)
  float* loss = nullptr;             // (rows)
  int64_t rows = 0, vocabulary = 0;
  int64_t stride = 0;  // elements from one row of logits to the next
  float scale = 1.0f;
  bool write_gradient = false;
};

// y[i] = x[index[i]]: the rows named by index.
struct GatherRowsArgs {
  const void* x = nullptr;         // (any, C)
  const int32_t* index = nullptr;  // (rows)
  void* y = nullptr;               // (rows, C)
  int64_t rows = 0, channels = 0;
  DType dtype = DType::kF32;
};

// y[index[i]] = x[i]; other rows of y are left as they are. The indices differ from each other.
struct ScatterRowsArgs {
  const float* x = nullptr;        // (rows, C), fp32
  const int32_t* index = nullptr;  // (rows)
  void* y = nullptr;               // (any, C) of dtype
  int64_t rows = 0, channels = 0;
  DType dtype = DType::kF32;
};

// out[c] += sum over rows of x[r, c], in a fixed order: the gradient of a bias.
struct ColumnSumArgs {
  const void* x = nullptr;  // (rows, C)
  float* out = nullptr;     // (C), fp32, accumulates
  int64_t rows = 0, channels = 0;
  DType dtype = DType::kF32;
};

// y = a + b. y may be a or b.
struct AddArgs {
  const void* a = nullptr;  // (count)
  const void* b = nullptr;  // (count)
  void* y = nullptr;        // (count)
  int64_t count = 0;
  DType dtype = DType::kF32;
};

// y = x * factor. y may be x.
struct ScaleArgs {
  const void* x = nullptr;  // (count)
  void* y = nullptr;        // (count)
  int64_t count = 0;
  float factor = 1.0f;
  DType dtype = DType::kF32;
};

// y = x in another dtype, rounded to nearest even (NaN stays NaN; fp16 overflow becomes infinity).
struct CastArgs {
  const void* x = nullptr;  // (count) of from
  void* y = nullptr;        // (count) of to
  int64_t count = 0;
  DType from = DType::kF32, to = DType::kF32;
};

// y[i] = value.
struct FillArgs {
  void* y = nullptr;  // (count)
  int64_t count = 0;
  float value = 0;
  DType dtype = DType::kF32;
};

// y[r] = x[r] for rows that lie some elements apart: what appends keys and values to a cache.
struct CopyRowsArgs {
  const void* x = nullptr;  // (rows, C), rows x_stride apart
  void* y = nullptr;        // (rows, C), rows y_stride apart
  int64_t rows = 0, channels = 0;
  int64_t x_stride = 0, y_stride = 0;  // elements
  DType dtype = DType::kF32;
};

// One of the tensors that an optimizer updates together. Work is split into pieces of
// kOptimizerPiece elements of one tensor; a list is sorted by first_piece.
struct OptimizerTensor {
  void* weight = nullptr;       // (count) of `dtype`
  const float* grad = nullptr;  // (count)
  float* m = nullptr;           // (count); null where the optimizer keeps none
  float* v = nullptr;           // (count); null where the optimizer keeps none
  int64_t count = 0;
  int64_t first_piece = 0;  // pieces of the tensors before this one
  float weight_decay = 0;
  DType dtype = DType::kF32;  // fp32, bf16 or fp16
  uint32_t number = 0;        // of the tensor: what its half weights are rounded by, see Rounding
  // AdamW's moments in 8 bits instead, on the CPU: element i is numbers[code i] of the DynamicCode
  // times scale i / kCodeBlock.
  uint8_t *m_codes = nullptr, *v_codes = nullptr;  // (count)
  float *m_scales = nullptr, *v_scales = nullptr;  // (count / kCodeBlock, rounded up)
};
inline constexpr int64_t kCodeBlock = 256;
inline constexpr int64_t kOptimizerPiece = 4096;

// What a step stores of bf16 and fp16 weights is rounded up or down with the probabilities that make it
// right on average (Gupta et al. 2015, arXiv:1502.02551): an update smaller than half of their spacing
// would be lost else. Element i of tensor n takes the upper bits of word i of this stream with purpose
// + n: as many as its fp32 bits have below the type's own, 16 or 13, are added to those, which are then
// cut off. fp16 is brought to the exponents of fp32 first, times 2^-112 in fp32: so both types' numbers
// that are smaller than normal have their bits at the same places. What overflows is infinite.
using Rounding = RandomStream;

// A byte for each number in [-1, 1] or [0, 1], in decades that have the more steps the larger they
// are (Dettmers et al. 2022, arXiv:2110.02861). core/dynamic_code.h makes them.
struct DynamicCode {
  static constexpr int kSteps = 128, kOctaves = 24, kBuckets = kOctaves * kSteps + 2;
  float numbers[256];  // rising
  float between[256];  // halfway from a number to the next; at the end infinity
  // By sign and bucket: the code of the least number in it. Bucket 0 holds what is less than
  // 2^-kOctaves in size, the others what has the same first 7 bits of the mantissa. None holds more
  // than one number of `between`.
  uint8_t first[2][kBuckets];
};

// The list and all that it points to lie on the kernel's device.
struct OptimizerList {
  const OptimizerTensor* tensors = nullptr;  // (count)
  int64_t count = 0;
  int64_t pieces = 0;  // of all tensors
};

// *out = sum of squares of all gradients in double: pieces by themselves, then added in order. Not
// finite when a gradient is not.
struct SumSquaresArgs {
  OptimizerList list;
  double* out = nullptr;  // (1), on the device; written
};

// What a step multiplies gradients with: unscale * min(1, max_norm / (norm + 1e-6)) with norm =
// unscale * sqrt(*sum_squares), as torch's clip_grad_norm_ does. Where *sum_squares is not finite
// nothing is written: neither weights nor moments. Computed where the kernel runs, so that a step
// does not wait for the host.
struct GradientScale {
  const double* sum_squares = nullptr;  // (1), on the device; null: the factor is unscale
  double unscale = 1;
  double max_norm = 0;  // 0: no clipping
};

// AdamW (Loshchilov and Hutter, arXiv:1711.05101), decoupled weight decay as in PyTorch:
//   g = grad * factor; w -= lr * weight_decay * w; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
//   w -= lr * (m / correction1) / (sqrt(v / correction2) + eps),  correction_i = 1 - beta_i^step.
struct AdamWArgs {
  OptimizerList list;
  GradientScale scale;
  Rounding rounding;
  float lr = 0, beta1 = 0, beta2 = 0, eps = 0;
  float correction1 = 1, correction2 = 1;
  // What moments in 8 bits are written with: a moment's code is that of the nearest number, or, where
  // that has not the sign of the moment, the next one that has.
  const DynamicCode *signed_code = nullptr, *unsigned_code = nullptr;
};

// SGD as in PyTorch: g = grad * factor + weight_decay * w; m = momentum m + g; w -= lr * m (g
// where momentum is 0 and m is null).
struct SgdArgs {
  OptimizerList list;
  GradientScale scale;
  Rounding rounding;
  float lr = 0, momentum = 0;
};

// Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) as torch.optim.Adafactor has it: of a matrix
// the second moment is kept as the means of its rows and of its columns.
//   g = grad * factor; row += fresh * (mean over j of g^2 - row), column likewise over i;
//   V = row column^T / max(mean of row, least_mean); u = g / sqrt(max(V, least_variance));
//   w -= lr * weight_decay * w; w -= rate * max(least_scale, rms(w)) / max(1, rms(u) / most_rms) * u
// with rms(w) of before. Of a vector v = V is kept: v += fresh * (g^2 - v).
struct AdafactorArgs {
  void* weight = nullptr;       // (rows, columns) of `dtype`
  const float* grad = nullptr;  // (rows, columns)
  float* row = nullptr;         // (rows)
  float* column = nullptr;      // (columns)
  float* v = nullptr;           // (columns), in place of both, where rows is 1
  int64_t rows = 0, columns = 0;
  DType dtype = DType::kF32;  // fp32, bf16 or fp16
  uint32_t number = 0;        // as OptimizerTensor has it
  GradientScale scale;
  Rounding rounding;
  float lr = 0, weight_decay = 0, rate = 0, fresh = 0;
  float least_mean = 0, least_variance = 0, least_scale = 0, most_rms = 1;
};

// logits[i] = logits[i] * penalty where it is negative, / penalty elsewhere, for i of ids (Keskar et
// al. 2019, arXiv:1909.05858, as in transformers).
struct RepetitionPenaltyArgs {
  float* logits = nullptr;       // (any)
  const int32_t* ids = nullptr;  // (count), different from each other
  int64_t count = 0;
  float penalty = 1;
};

// How a token is drawn from logits, as in transformers: temperature, then top-k (ties with the k-th
// stay), then top-p (the smallest set whose mass is at least p), then min-p (what is at least min_p
// times as likely as the likeliest), then the draw, from words 0 and 1 of the stream's block
// `position`; tokens own intervals by falling logit, ties by id. temperature 0 takes the greatest
// (lowest id on ties).
struct SampleArgs {
  const float* logits = nullptr;  // (V)
  int32_t* token = nullptr;       // (1): the id; -1 when a logit is NaN
  int64_t vocabulary = 0;
  int64_t top_k = 0;  // 0: off
  double temperature = 0;
  double top_p = 1;  // 1: off
  double min_p = 0;  // 0: off
  RandomStream random;
  uint64_t position = 0;
};

// Rows of x in int8, as LLM.int8() has activations (Dettmers et al. 2022, arXiv:2208.07339): a code is
// round(x 127 / most), ties to even, and stands for code * scale, with `most` the largest magnitude of
// the row's elements below the threshold and scale = most / 127. The others, NaN among them, are
// outliers: their codes are 0. Like bitsandbytes it takes x as fp16 holds it: a rounding that moves one
// code in a hundred, and what follows from them.
struct QuantizeRowsArgs {
  const void* x = nullptr;      // (rows, C)
  int8_t* codes = nullptr;      // (rows, C)
  float* scales = nullptr;      // (rows)
  uint8_t* outliers = nullptr;  // (C): 1 where a row has an outlier in that column, else 0
  int64_t rows = 0, channels = 0;
  float threshold = 0;  // > 0
  DType dtype = DType::kF32;
};

// y[i, k] = x[i, index[k]] as fp32; 0 where index[k] < 0 or |x| is below `least`.
struct GatherColumnsArgs {
  const void* x = nullptr;         // (rows, C), floats or int8
  const float* scales = nullptr;   // (rows), of int8: an element is its number times this
  const int32_t* index = nullptr;  // (columns)
  float* y = nullptr;              // (rows, columns)
  int64_t rows = 0, channels = 0, columns = 0;
  float least = 0;
  DType dtype = DType::kF32;
};

#define TENON_KERNELS(X)                            \
  X(matmul, MatmulArgs)                             \
  X(embedding, EmbeddingArgs)                       \
  X(embedding_grad, EmbeddingGradArgs)              \
  X(norm, NormArgs)                                 \
  X(norm_grad, NormGradArgs)                        \
  X(activation, ActivationArgs)                     \
  X(activation_grad, ActivationGradArgs)            \
  X(positive_bits, PositiveBitsArgs)                \
  X(select_bits, SelectBitsArgs)                    \
  X(gated_activation, GatedActivationArgs)          \
  X(gated_activation_grad, GatedActivationGradArgs) \
  X(rotary, RotaryArgs)                             \
  X(append_keys, AppendKeysArgs)                    \
  X(attention, AttentionArgs)                       \
  X(attention_grad, AttentionGradArgs)              \
  X(dropout, DropoutArgs)                           \
  X(cross_entropy, CrossEntropyArgs)                \
  X(gather_rows, GatherRowsArgs)                    \
  X(scatter_rows, ScatterRowsArgs)                  \
  X(quantize_rows, QuantizeRowsArgs)                \
  X(gather_columns, GatherColumnsArgs)              \
  X(column_sum, ColumnSumArgs)                      \
  X(add, AddArgs)                                   \
  X(scale, ScaleArgs)                               \
  X(cast, CastArgs)                                 \
  X(fill, FillArgs)                                 \
  X(copy_rows, CopyRowsArgs)                        \
  X(sum_squares, SumSquaresArgs)                    \
  X(adamw, AdamWArgs)                               \
  X(sgd, SgdArgs)                                   \
  X(adafactor, AdafactorArgs)                       \
  X(repetition_penalty, RepetitionPenaltyArgs)      \
  X(sample, SampleArgs)

struct KernelTable {
  const char* name;  // "avx512", "avx2", "scalar", ...
#define X(fn, Args) void (*fn)(const Args&);
  TENON_KERNELS(X)
#undef X
};

}  // namespace tenon
