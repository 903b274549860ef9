// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "core/backend.h"
#include "core/ops.h"
#include "core/ops/launches.h"

namespace tenon {
namespace {

// Where q, k and v lie inside packed projections (B, T, (H + 2G) D).
struct Packed {
  int64_t batch, tokens, width, head_size, q_channels, kv_channels;
};

Packed unpack(const Tensor& qkv, const AttentionOptions& options) {
  TENON_CHECK(qkv.shape().rank() == 3, "[attention] qkv is (B, T, (H + 2G) D), got {}",
              qkv.shape().text());
  const int64_t width = qkv.dim(2), parts = options.heads + 2 * options.kv_heads;
  TENON_CHECK(options.kv_heads > 0 && options.heads % options.kv_heads == 0 && width % parts == 0,
              "[attention] {} channels do not split into {} + 2 x {} heads", width, options.heads,
              options.kv_heads);
  const int64_t head_size = width / parts;
  return {qkv.dim(0),
          qkv.dim(1),
          width,
          head_size,
          options.heads * head_size,
          options.kv_heads * head_size};
}

}  // namespace

Tensor attention(const Tensor& qkv, const AttentionOptions& options) {
  const Packed p = unpack(qkv, options);
  Tensor out =
      Tensor::empty({p.batch, p.tokens, p.q_channels}, qkv.dtype(), qkv.device());  // (B, T, H D)
  const bool keep = recording({&qkv});
  Tensor lse = keep ? Tensor::empty({p.batch, options.heads, p.tokens}, DType::kF32, qkv.device())
                    : Tensor{};
  const AttentionArgs args{.q = qkv.raw(),
                           .k = at(qkv, p.q_channels),
                           .v = at(qkv, p.q_channels + p.kv_channels),
                           .out = out.raw(),
                           .lse = lse.data<float>(),
                           .doc_start = options.doc_start.data<int32_t>(),
                           .batch = p.batch,
                           .queries = p.tokens,
                           .keys = p.tokens,
                           .heads = options.heads,
                           .kv_heads = options.kv_heads,
                           .head_size = p.head_size,
                           .q_stride = p.width,
                           .kv_stride = p.width,
                           .out_stride = p.q_channels,
                           .kv_batch_stride = p.tokens * p.width,
                           .scale = options.scale,
                           .dropout = options.dropout.p,
                           .random = options.dropout.random,
                           .sequence0 = options.dropout.position0,
                           .dtype = qkv.dtype()};
  kernels(qkv.device()).attention(args);

  // `args` points into tensors that must live until backward: the closure names them all.
  record("attention", {qkv}, {&out},
         [args, p, kept = std::array{qkv.detach(), out.detach(), lse, options.doc_start}](
             const std::vector<Tensor>& douts, Grads& grads) {
           Tensor dqkv = Tensor::empty_like(kept[0]);  // (B, T, (H + 2G) D)
           kernels(dqkv.device())
               .attention_grad({.forward = args,
                                .dout = douts[0].raw(),
                                .dq = dqkv.raw(),
                                .dk = at(dqkv, p.q_channels),
                                .dv = at(dqkv, p.q_channels + p.kv_channels),
                                .dq_stride = p.width,
                                .dkv_stride = p.width});
           grads.add(0, dqkv);
         });
  return out;
}

Tensor attention_cached(const Tensor& qkv, const Tensor& keys, const Tensor& values, int64_t past,
                        const AttentionOptions& options) {
  const Packed p = unpack(qkv, options);
  const int64_t capacity = keys.dim(1);
  TENON_CHECK(past + p.tokens <= capacity && keys.dim(0) == p.batch && keys.dim(2) == p.kv_channels,
              "[attention] {} + {} tokens for a cache of {}", past, p.tokens, keys.shape().text());
  for (int64_t b = 0; b < p.batch; ++b) {
    const auto append = [&](const Tensor& cache, int64_t channel) {
      kernels(qkv.device())
          .copy_rows({.x = at(qkv, b * p.tokens * p.width + channel),
                      .y = at(cache, (b * capacity + past) * p.kv_channels),
                      .rows = p.tokens,
                      .channels = p.kv_channels,
                      .x_stride = p.width,
                      .y_stride = p.kv_channels,
                      .dtype = qkv.dtype()});
    };
    append(keys, p.q_channels);
    append(values, p.q_channels + p.kv_channels);
  }
  Tensor out =
      Tensor::empty({p.batch, p.tokens, p.q_channels}, qkv.dtype(), qkv.device());  // (B, T, H D)
  kernels(qkv.device())
      .attention({.q = qkv.raw(),
                  .k = keys.raw(),
                  .v = values.raw(),
                  .out = out.raw(),
                  .doc_start = options.doc_start.data<int32_t>(),
                  .batch = p.batch,
                  .queries = p.tokens,
                  .keys = past + p.tokens,
                  .heads = options.heads,
                  .kv_heads = options.kv_heads,
                  .head_size = p.head_size,
                  .q_stride = p.width,
                  .kv_stride = p.kv_channels,
                  .out_stride = p.q_channels,
                  .kv_batch_stride = capacity * p.kv_channels,
                  .scale = options.scale,
                  .dtype = qkv.dtype()});
  return out;
}

}  // namespace tenon
