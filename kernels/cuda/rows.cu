// SPDX-License-Identifier: Apache-2.0
// Computes    what picks, places or sums whole rows: embedding, gather, scatter, copies between
//             strides and to a cache's pages, column sums.
// Layout      rows of `channels` contiguous elements.
// Work split  4 channels a thread, a grid row for each row; column_sum as in row_sums.cuh.
//             embedding_grad: the tokens are sorted by id, keeping their order (each warp counts
//             the ids before one token's); then one warp for each id and 128 channels adds the rows
//             of its tokens.
// Numerics    an embedding is one fp32 sum, rounded once; gradients are fp32 sums in the order of
//             the tokens, beginning with what is in the table.
// Traffic     reads and writes each named row once, embedding_grad each used row of its table.
//             The sort reads all ids of 8192 tokens once for each of them, from the caches.
#include "core/device.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/row_sums.cuh"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kPack = 4, kWarps = 4;
constexpr int kThreads = kWarp * kWarps;
constexpr int64_t kMostSorted = 8192;  // tokens that are sorted together
constexpr int kSortSlot = 0;           // of device_scratch

// Blocks along x for rows, which may be many; along y for channels.
dim3 blocks_of(int64_t rows, int64_t channels) {
  return extent(rows, divide_up(channels, kThreads * kPack));
}

__device__ __forceinline__ int64_t first_channel() {
  return (int64_t{blockIdx.y} * kThreads + threadIdx.x) * kPack;
}

template <class Table, class T>
__global__ void __launch_bounds__(kThreads) embedding_kernel(EmbeddingArgs a, bool aligned) {
  const int64_t t = blockIdx.x, c = first_channel(), left = a.channels - c;
  if (left <= 0) return;
  const Table* token = static_cast<const Table*>(a.token_table) + a.ids[t] * a.channels;
  Floats<kPack> v = load<kPack>(token + c, left, aligned);
  if (a.position_table != nullptr) {
    const Table* position =
        static_cast<const Table*>(a.position_table) + a.positions[t] * a.channels;
    const Floats<kPack> w = load<kPack>(position + c, left, aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) v[k] += w[k];
  }
  store(static_cast<T*>(a.y) + t * a.channels + c, v, left, aligned);
}

// sorted[p] = the token at place p by (id, t), and sorted_ids[p] its id; a token a warp.
__global__ void __launch_bounds__(kThreads)
    sort_tokens_kernel(const int32_t* ids, int32_t rows, int32_t* sorted, int32_t* sorted_ids) {
  const int32_t t = static_cast<int32_t>(blockIdx.x) * kWarps + warp_of_thread();
  if (t >= rows) return;
  const int32_t id = ids[t];
  int before = 0;
#pragma unroll 4
  for (int32_t i = lane_of_thread(); i < rows; i += kWarp) {
    const int32_t other = ids[i];
    before += other < id || (other == id && i < t) ? 1 : 0;
  }
  before = warp_sum(before);
  if (lane_of_thread() != 0) return;
  sorted[before] = t;
  sorted_ids[before] = id;
}

// The warps of block p add the rows of the id whose first token is at place p.
template <class T>
__global__ void __launch_bounds__(kThreads)
    embedding_grad_kernel(const int32_t* sorted,      // (rows)
                          const int32_t* sorted_ids,  // (rows)
                          const T* dy,                // (rows, C)
                          float* dtable,              // (V, C)
                          int32_t rows, int64_t channels, int32_t padding, bool aligned) {
  const auto p = static_cast<int32_t>(blockIdx.x);
  const int32_t id = sorted_ids[p];
  if (id == padding || (p > 0 && sorted_ids[p - 1] == id)) return;
  const int64_t c = first_channel(), left = channels - c;
  float* to = dtable + id * channels + c;
  Floats<kPack> sum = load<kPack>(to, left, aligned);
  for (int32_t first = p; first < rows; first += kWarp) {
    const int32_t mine = first + lane_of_thread();
    const bool ours = mine < rows && sorted_ids[mine] == id;
    const int32_t token = ours ? sorted[mine] : 0;
    const int tokens = __popc(__ballot_sync(kAllLanes, ours));  // the first so many lanes'
#pragma unroll 4
    for (int i = 0; i < tokens; ++i) {
      const int64_t t = __shfl_sync(kAllLanes, token, i);
      const Floats<kPack> v = load<kPack>(dy + t * channels + c, left, aligned);
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum[k] += v[k];
    }
    if (tokens < kWarp) break;
  }
  store(to, sum, left, aligned);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(GatherRowsArgs a, bool aligned) {
  const int64_t i = blockIdx.x, c = first_channel(), left = a.channels - c;
  if (left <= 0) return;
  const T* x = static_cast<const T*>(a.x) + a.index[i] * a.channels + c;
  store(static_cast<T*>(a.y) + i * a.channels + c, load<kPack>(x, left, aligned), left, aligned);
}

template <class T>
__global__ void __launch_bounds__(kThreads) scatter_kernel(ScatterRowsArgs a, bool aligned) {
  const int64_t i = blockIdx.x, c = first_channel(), left = a.channels - c;
  if (left <= 0) return;
  T* y = static_cast<T*>(a.y) + a.index[i] * a.channels + c;
  store(y, load<kPack>(a.x + i * a.channels + c, left, aligned), left, aligned);
}

template <class T>
__global__ void __launch_bounds__(kThreads) copy_rows_kernel(CopyRowsArgs a, bool aligned) {
  const int64_t r = blockIdx.x, c = first_channel(), left = a.channels - c;
  if (left <= 0) return;
  const T* x = static_cast<const T*>(a.x) + r * a.x_stride + c;
  store(static_cast<T*>(a.y) + r * a.y_stride + c, load<kPack>(x, left, aligned), left, aligned);
}

template <class T>
__global__ void __launch_bounds__(kThreads) append_keys_kernel(AppendKeysArgs a, bool aligned) {
  const int64_t i = blockIdx.x, c = first_channel(), left = a.kv_channels - c;
  if (left <= 0) return;
  const int64_t sequence = i / a.tokens, token = a.paged.past[sequence] + i % a.tokens;
  T* const page =
      static_cast<T*>(a.paged.pages[sequence * a.paged.most_pages + token / kPageTokens]);
  const int64_t from = i * a.kv_stride + c, to = token % kPageTokens * a.kv_channels + c;
  store(page + a.paged.key_offset + to,
        load<kPack>(static_cast<const T*>(a.k) + from, left, aligned), left, aligned);
  store(page + a.paged.value_offset + to,
        load<kPack>(static_cast<const T*>(a.v) + from, left, aligned), left, aligned);
}

template <class T>
void add_embedding_grad(const EmbeddingGradArgs& a) {
  const bool aligned =
      a.channels % kPack == 0 && aligned_for<kPack, T>(a.dy) && aligned_for<kPack, float>(a.dtable);
  for (int64_t begin = 0; begin < a.rows; begin += kMostSorted) {
    const auto rows = static_cast<int32_t>(smaller(kMostSorted, a.rows - begin));
    auto* sorted = static_cast<int32_t*>(device_scratch(kSortSlot, int64_t{8} * rows));
    launch("embedding_grad", sort_tokens_kernel, extent(divide_up(rows, kWarps)), kThreads, 0,
           a.ids + begin, rows, sorted, sorted + rows);
    launch("embedding_grad", embedding_grad_kernel<T>, blocks_of(rows, a.channels), kThreads, 0,
           sorted, sorted + rows, static_cast<const T*>(a.dy) + begin * a.channels, a.dtable, rows,
           a.channels, a.padding, aligned);
  }
}

}  // namespace

void embedding(const EmbeddingArgs& a) {
  dispatch_float(a.table_dtype, [&]<class Table>() {
    dispatch_float(a.dtype, [&]<class T>() {
      const bool aligned = a.channels % kPack == 0 &&
                           aligned_for<kPack, Table>(a.token_table, a.position_table) &&
                           aligned_for<kPack, T>(a.y);
      launch("embedding", embedding_kernel<Table, T>, blocks_of(a.rows, a.channels), kThreads, 0, a,
             aligned);
    });
  });
}

void embedding_grad(const EmbeddingGradArgs& a) {
  if (a.channels == 0) return;
  dispatch_float(a.dtype, [&]<class T>() { add_embedding_grad<T>(a); });
}

void gather_rows(const GatherRowsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    launch("gather_rows", gather_kernel<T>, blocks_of(a.rows, a.channels), kThreads, 0, a,
           a.channels % kPack == 0 && aligned_for<kPack, T>(a.x, a.y));
  });
}

void scatter_rows(const ScatterRowsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    launch("scatter_rows", scatter_kernel<T>, blocks_of(a.rows, a.channels), kThreads, 0, a,
           a.channels % kPack == 0 && aligned_for<kPack, float>(a.x) && aligned_for<kPack, T>(a.y));
  });
}

void copy_rows(const CopyRowsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    launch("copy_rows", copy_rows_kernel<T>, blocks_of(a.rows, a.channels), kThreads, 0, a,
           a.x_stride % kPack == 0 && a.y_stride % kPack == 0 && aligned_for<kPack, T>(a.x, a.y));
  });
}

void append_keys(const AppendKeysArgs& a) {
  const int64_t steps = a.kv_stride | a.kv_channels | a.paged.key_offset | a.paged.value_offset;
  dispatch_float(a.dtype, [&]<class T>() {
    launch("append_keys", append_keys_kernel<T>, blocks_of(a.batch * a.tokens, a.kv_channels),
           kThreads, 0, a, steps % kPack == 0 && aligned_for<kPack, T>(a.k, a.v));
  });
}

void column_sum(const ColumnSumArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    const ElementTerms<T> terms = {static_cast<const T*>(a.x), a.channels,
                                   a.channels % kSumPack == 0 && aligned_for<kSumPack, T>(a.x)};
    add_row_sums("column_sum", terms, a.rows, a.channels, {a.out});
  });
}

}  // namespace tenon::cuda::TENON_SM
