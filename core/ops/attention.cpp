// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
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

KeyPages paged(const CachedKeys& cache) {
  return {.pages = static_cast<void* const*>(cache.pages.raw()),
          .past = cache.past.data<int32_t>(),
          .most_pages = cache.pages.dim(1),
          .key_offset = cache.key_offset,
          .value_offset = cache.value_offset};
}

// A sequence's keys, or its values, in one array (tokens, G D).
Tensor gathered(const CachedKeys& cache, int64_t sequence, int64_t tokens, int64_t channels,
                int64_t offset, Device device) {
  Tensor all = Tensor::empty({tokens, channels}, cache.dtype, device, MemoryKind::kWorkspace);
  for (int64_t token = 0; token < tokens; token += kPageTokens) {
    const int64_t page =
        cache.host_pages[static_cast<size_t>(sequence * cache.pages.dim(1) + token / kPageTokens)];
    kernels(device).copy_rows(
        {.x = reinterpret_cast<const std::byte*>(page) + offset * size_of(cache.dtype),
         .y = at(all, token * channels),
         .rows = std::min(kPageTokens, tokens - token),
         .channels = channels,
         .x_stride = channels,
         .y_stride = channels,
         .dtype = cache.dtype});
  }
  return all;
}

// Many new tokens of one sequence after some in its pages: they all are read for every block of
// queries, so they are laid side by side first.
void attend_gathered(const Tensor& qkv, const Packed& p, const CachedKeys& cache, int64_t sequence,
                     const AttentionOptions& options, const Tensor& out) {
  const int64_t keys = cache.host_past[static_cast<size_t>(sequence)] + p.tokens;
  const auto gather = [&](int64_t offset) {
    return gathered(cache, sequence, keys, p.kv_channels, offset, qkv.device());
  };
  const Tensor k = gather(cache.key_offset), v = gather(cache.value_offset);  // (keys, G D)
  kernels(qkv.device())
      .attention({.q = at(qkv, sequence * p.tokens * p.width),
                  .k = k.raw(),
                  .v = v.raw(),
                  .out = at(out, sequence * p.tokens * p.q_channels),
                  .batch = 1,
                  .queries = p.tokens,
                  .keys = keys,
                  .heads = options.heads,
                  .kv_heads = options.kv_heads,
                  .head_size = p.head_size,
                  .q_stride = p.width,
                  .kv_stride = p.kv_channels,
                  .out_stride = p.q_channels,
                  .kv_batch_stride = keys * p.kv_channels,
                  .scale = options.scale,
                  .dtype = qkv.dtype()});
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

Tensor attention_cached(const Tensor& qkv, const CachedKeys& cache,
                        const AttentionOptions& options) {
  const Packed p = unpack(qkv, options);
  const int32_t most = *std::max_element(cache.host_past.begin(), cache.host_past.end());
  TENON_CHECK(cache.past.numel() == p.batch && cache.dtype == qkv.dtype() &&
                  !options.doc_start.defined() &&
                  most + p.tokens <= cache.pages.dim(1) * kPageTokens,
              "[attention] {} {} after {} tokens in {} pages of {}", name_of(qkv.dtype()),
              qkv.shape().text(), most, cache.pages.shape().text(), name_of(cache.dtype));
  const KernelTable& table = kernels(qkv.device());
  table.append_keys({.k = at(qkv, p.q_channels),
                     .v = at(qkv, p.q_channels + p.kv_channels),
                     .paged = paged(cache),
                     .batch = p.batch,
                     .tokens = p.tokens,
                     .kv_channels = p.kv_channels,
                     .kv_stride = p.width,
                     .dtype = qkv.dtype()});
  if (p.tokens > kFewQueries && most == 0) return attention(qkv, options);
  Tensor out =
      Tensor::empty({p.batch, p.tokens, p.q_channels}, qkv.dtype(), qkv.device());  // (B, T, H D)
  if (p.tokens > kFewQueries) {
    for (int64_t b = 0; b < p.batch; ++b) attend_gathered(qkv, p, cache, b, options, out);
    return out;
  }
  table.attention({.q = qkv.raw(),
                   .out = out.raw(),
                   .batch = p.batch,
                   .queries = p.tokens,
                   .keys = most + p.tokens,
                   .heads = options.heads,
                   .kv_heads = options.kv_heads,
                   .head_size = p.head_size,
                   .q_stride = p.width,
                   .kv_stride = p.kv_channels,
                   .out_stride = p.q_channels,
                   .scale = options.scale,
                   .paged = paged(cache),
                   .dtype = qkv.dtype()});
  return out;
}

}  // namespace tenon
