// SPDX-License-Identifier: Apache-2.0
// Computes    what picks, places or sums whole rows: embedding, gather, scatter, copies between
//             strides and to a cache's pages, column sums.
// Layout      rows of `channels` contiguous elements.
// Work split  16 rows at a time; embedding_grad 64 columns at a time, with all tokens in order, so
//             that a row which several tokens share needs no lock; column_sum as in row_sums.h.
// Numerics    an embedding is one fp32 sum, rounded once; gradients are fp32 sums in the order of
//             the tokens.
// Traffic     reads and writes each named row once; embedding_grad reads and writes a row of its
//             table for each token.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kRows = 16, kColumns = 64;

// y = x, while what is read next, the row at `next`, comes closer.
template <bool stream, class From, class To>
void copy_row(const From* x, const From* next, To* y, int64_t channels) {
  for_vectors(channels, [&](int64_t c, int64_t left, int) {
    prefetch(next + c);
    put<stream>(Vec::load(x + c, left), y + c, left);
  });
}

template <bool stream, class Table, class T>
void embed(const EmbeddingArgs& a, int64_t begin, int64_t end) {
  const Table* tokens = static_cast<const Table*>(a.token_table);
  const Table* positions = static_cast<const Table*>(a.position_table);
  const int64_t channels = a.channels;
  for (int64_t t = begin; t < end; ++t) {
    const Table* token = tokens + a.ids[t] * channels;
    const Table* next = tokens + a.ids[t + 1 < end ? t + 1 : t] * channels;
    T* y = static_cast<T*>(a.y) + t * channels;
    if (positions == nullptr) {
      copy_row<stream>(token, next, y, channels);
      continue;
    }
    const Table* position = positions + a.positions[t] * channels;
    for_vectors(channels, [&](int64_t c, int64_t left, int) {
      prefetch(next + c);
      put<stream>(Vec::load(token + c, left) + Vec::load(position + c, left), y + c, left);
    });
  }
  if (stream) finish_streams();
}

template <bool stream, class T>
void gather(const GatherRowsArgs& a, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(a.x);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t next = a.index[i + 1 < end ? i + 1 : i];
    copy_row<stream>(x + a.index[i] * a.channels, x + next * a.channels,
                     static_cast<T*>(a.y) + i * a.channels, a.channels);
  }
  if (stream) finish_streams();
}

// Whether rows of T go past the caches.
template <class T>
bool streams(const void* y, int64_t rows, int64_t channels) {
  return rows_past_caches(y, rows, channels * static_cast<int64_t>(sizeof(T)));
}

}  // namespace

void embedding(const EmbeddingArgs& a) {
  dispatch_float(a.table_dtype, [&]<class Table>(Table) {
    dispatch_float(a.dtype, [&]<class T>(T) {
      const auto rows =
          streams<T>(a.y, a.rows, a.channels) ? embed<true, Table, T> : embed<false, Table, T>;
      for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) { rows(a, begin, end); });
    });
  });
}

void copy_rows(const CopyRowsArgs& a) {
  const int64_t size = size_of(a.dtype), bytes = a.channels * size;
  for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      __builtin_memcpy(static_cast<char*>(a.y) + r * a.y_stride * size,
                       static_cast<const char*>(a.x) + r * a.x_stride * size,
                       static_cast<size_t>(bytes));
    }
  });
}

void append_keys(const AppendKeysArgs& a) {
  const int64_t size = size_of(a.dtype), bytes = a.kv_channels * size;
  for_ranges(a.batch * a.tokens, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sequence = i / a.tokens, token = a.paged.past[sequence] + i % a.tokens;
      char* page =
          static_cast<char*>(a.paged.pages[sequence * a.paged.most_pages + token / kPageTokens]);
      const auto append = [&](const void* from, int64_t offset) {
        __builtin_memcpy(page + (offset + token % kPageTokens * a.kv_channels) * size,
                         static_cast<const char*>(from) + i * a.kv_stride * size,
                         static_cast<size_t>(bytes));
      };
      append(a.k, a.paged.key_offset);
      append(a.v, a.paged.value_offset);
    }
  });
}

void embedding_grad(const EmbeddingGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_ranges(a.channels, kColumns, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < a.rows; ++t) {
        if (a.ids[t] == a.padding) continue;
        const T* dy = static_cast<const T*>(a.dy) + t * a.channels;
        float* dtable = a.dtable + a.ids[t] * a.channels;
        for (int64_t c = begin; c < end; c += kLanes) {
          (Vec::load(dtable + c, end - c) + Vec::load(dy + c, end - c)).store(dtable + c, end - c);
        }
      }
    });
  });
}

void gather_rows(const GatherRowsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const auto rows = streams<T>(a.y, a.rows, a.channels) ? gather<true, T> : gather<false, T>;
    for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) { rows(a, begin, end); });
  });
}

void scatter_rows(const ScatterRowsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* x = a.x + i * a.channels;
        copy_row<false>(x, x, static_cast<T*>(a.y) + a.index[i] * a.channels, a.channels);
      }
    });
  });
}

// partial += `rows` rows, which are added in order; several at once so that the sums are read and
// written less often.
template <int rows, class T>
void add_rows(const T* x, float* partial, int64_t channels) {
  for_vectors(channels, [&](int64_t c, int64_t left, int) {
    Vec sum = Vec::load(partial + c, left);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      prefetch(x + (rows + r) * channels + c);
      sum = sum + Vec::load(x + r * channels + c, left);
    }
    sum.store(partial + c, left);
  });
}

void column_sum(const ColumnSumArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const auto sum_block = [&](int64_t begin, int64_t end, float* partial) {
      constexpr int kGroup = 4;
      const T* x = static_cast<const T*>(a.x);
      int64_t r = begin;
      for (; r + kGroup <= end; r += kGroup)
        add_rows<kGroup>(x + r * a.channels, partial, a.channels);
      for (; r < end; ++r) add_rows<1>(x + r * a.channels, partial, a.channels);
    };
    add_row_blocks(sum_row_blocks(a.rows, a.channels, sum_block), a.rows, a.channels, a.channels,
                   a.out);
  });
}

}  // namespace tenon::cpu::TENON_ISA
