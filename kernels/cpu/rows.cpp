// SPDX-License-Identifier: Apache-2.0
// Computes    what picks, places or sums whole rows: embedding, gather, scatter, copies between
//             strides, column sums.
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

template <class From, class To>
void copy_row(const From* x, To* y, int64_t channels) {
  for (int64_t c = 0; c < channels; c += kLanes)
    Vec::load(x + c, channels - c).store(y + c, channels - c);
}

template <class Table, class T>
void embed(const EmbeddingArgs& a) {
  const Table* tokens = static_cast<const Table*>(a.token_table);
  const Table* positions = static_cast<const Table*>(a.position_table);
  const int64_t channels = a.channels;
  for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Table* token = tokens + a.ids[t] * channels;
      T* y = static_cast<T*>(a.y) + t * channels;
      if (positions == nullptr) {
        copy_row(token, y, channels);
        continue;
      }
      const Table* position = positions + a.positions[t] * channels;
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int64_t left = channels - c;
        (Vec::load(token + c, left) + Vec::load(position + c, left)).store(y + c, left);
      }
    }
  });
}

}  // namespace

void embedding(const EmbeddingArgs& a) {
  dispatch_float(a.table_dtype, [&]<class Table>(Table) {
    dispatch_float(a.dtype, [&]<class T>(T) { embed<Table, T>(a); });
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

void embedding_grad(const EmbeddingGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_ranges(a.channels, kColumns, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < a.rows; ++t) {
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
    for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        copy_row(static_cast<const T*>(a.x) + a.index[i] * a.channels,
                 static_cast<T*>(a.y) + i * a.channels, a.channels);
      }
    });
  });
}

void scatter_rows(const ScatterRowsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        copy_row(a.x + i * a.channels, static_cast<T*>(a.y) + a.index[i] * a.channels, a.channels);
      }
    });
  });
}

void column_sum(const ColumnSumArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const auto sum_block = [&](int64_t begin, int64_t end, float* partial) {
      for (int64_t r = begin; r < end; ++r) {
        const T* x = static_cast<const T*>(a.x) + r * a.channels;
        for (int64_t c = 0; c < a.channels; c += kLanes) {
          const int64_t left = a.channels - c;
          (Vec::load(partial + c, left) + Vec::load(x + c, left)).store(partial + c, left);
        }
      }
    };
    add_row_blocks(sum_row_blocks(a.rows, a.channels, sum_block), a.rows, a.channels, a.channels,
                   a.out);
  });
}

}  // namespace tenon::cpu::TENON_ISA
