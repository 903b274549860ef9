// SPDX-License-Identifier: Apache-2.0
// What the arguments of a kernel say about a launch: its shape as text, and how much it computes
// and moves at least. For those who stand before a table: the trace, the profile, the benchmarks.
#pragma once

#include <string>
#include <type_traits>

#include "core/device.h"
#include "core/error.h"
#include "core/kernel_table.h"

namespace tenon {

// Floating-point operations of products (a kernel that is bound by memory has none), and bytes read
// and written, each array once.
struct LaunchWork {
  double operations = 0, bytes = 0;
  LaunchWork& operator+=(const LaunchWork& other) {
    operations += other.operations;
    bytes += other.bytes;
    return *this;
  }
};

// Names of the fields that are arrays of a whole activation, in every kernel that has them.
#define TENON_ACTIVATION_ARRAYS(X) \
  X(x)                             \
  X(y)                             \
  X(a) X(b) X(add) X(s) X(sum) X(residual) X(dx) X(dy) X(ds) X(dsum) X(gate) X(up) X(dgate) X(dup)

// Elements of one array of a kernel that works on rows or on a run of elements.
int64_t elements_of(const auto& args) {
  if constexpr (requires { args.rows* args.channels; }) return args.rows * args.channels;
  if constexpr (requires { args.count; }) return args.count;
  return 0;
}

namespace launch {

template <class Args>
DType dtype_of(const Args& args) {
  if constexpr (requires { args.dtype; }) return args.dtype;
  return DType::kF32;
}

// Bytes of `count` elements that `array` points to, 0 where it is absent; a void pointer's have
// `dtype`.
template <class T>
double bytes_of(const T* array, int64_t count, DType dtype) {
  if (array == nullptr) return 0;
  if constexpr (std::is_void_v<T>) return static_cast<double>(count * size_of(dtype));
  return static_cast<double>(count) * sizeof(std::conditional_t<std::is_void_v<T>, char, T>);
}

inline double matrix_bytes(int64_t rows, int64_t columns, DType dtype) {
  return static_cast<double>(rows) * static_cast<double>(columns) *
         static_cast<double>(size_of(dtype));
}

}  // namespace launch

std::string shape_text(const MatmulArgs& args);
std::string shape_text(const AttentionArgs& args);
std::string shape_text(const AttentionGradArgs& args);
std::string shape_text(const AppendKeysArgs& args);
std::string shape_text(const CrossEntropyArgs& args);
std::string shape_text(const CastArgs& args);
std::string shape_text(const RotaryArgs& args);
std::string shape_text(const SampleArgs& args);
std::string shape_text(const auto& args) {
  std::string text;
  if constexpr (requires { args.channels; })
    text = fmt::format("rows={} channels={}", args.rows, args.channels);
  else if constexpr (requires { args.rows; })
    text = fmt::format("rows={}", args.rows);
  if constexpr (requires { args.count; }) text = fmt::format("count={}", args.count);
  if constexpr (requires { args.list; })
    text = fmt::format("tensors={} pieces={}", args.list.count, args.list.pieces);
  return fmt::format("{} {}", text, name_of(launch::dtype_of(args)));
}

LaunchWork work_of(const MatmulArgs& args);
// Of what a causal mask leaves visible; documents within a row are not known here, and every sequence
// counts as if it had the most keys.
LaunchWork work_of(const AttentionArgs& args);
LaunchWork work_of(const AttentionGradArgs& args);
LaunchWork work_of(const AppendKeysArgs& args);
LaunchWork work_of(const CrossEntropyArgs& args);
LaunchWork work_of(const EmbeddingArgs& args);
LaunchWork work_of(const EmbeddingGradArgs& args);
LaunchWork work_of(const CastArgs& args);
LaunchWork work_of(const RotaryArgs& args);
LaunchWork work_of(const SampleArgs& args);
// Every piece of a tensor counts as a whole one.
LaunchWork work_of(const SumSquaresArgs& args);
LaunchWork work_of(const AdamWArgs& args);
LaunchWork work_of(const SgdArgs& args);
LaunchWork work_of(const PositiveBitsArgs& args);
LaunchWork work_of(const SelectBitsArgs& args);
LaunchWork work_of(const QuantizeRowsArgs& args);
LaunchWork work_of(const GatherColumnsArgs& args);
LaunchWork work_of(const auto& args) {
  LaunchWork work;
  const int64_t count = elements_of(args);
#define TENON_ADD_ARRAY(field)            \
  if constexpr (requires { args.field; }) \
    work.bytes += launch::bytes_of(args.field, count, launch::dtype_of(args));
  TENON_ACTIVATION_ARRAYS(TENON_ADD_ARRAY)
#undef TENON_ADD_ARRAY
  return work;
}

}  // namespace tenon
