// SPDX-License-Identifier: Apache-2.0
#include "core/launch.h"

namespace tenon {
namespace {

using launch::matrix_bytes;

// Pairs of a query and a key that a causal mask leaves visible, over all sequences and heads.
double visible_pairs(const AttentionArgs& a) {
  const auto queries = static_cast<double>(a.queries), past = static_cast<double>(a.keys) - queries;
  return static_cast<double>(a.batch * a.heads) * (queries * past + queries * (queries + 1) / 2);
}

const char* kind_of(const MatrixOperand& x) {
  return x.four_bit != nullptr ? "4-bit" : name_of(x.dtype);
}

double operand_bytes(const MatrixOperand& x, int64_t rows, int64_t columns) {
  if (x.four_bit == nullptr) return matrix_bytes(rows, columns, x.dtype);
  const int64_t count = rows * columns, blocks = count / x.four_bit->block;
  return static_cast<double>(count / 2 + blocks * (x.four_bit->scales != nullptr ? 4 : 1));
}

double optimizer_elements(const OptimizerList& list) {
  return static_cast<double>(list.pieces * kOptimizerPiece);
}

}  // namespace

std::string shape_text(const MatmulArgs& a) {
  std::string text = fmt::format("m={} n={} k={}+{} {}{} {}x{}->{}", a.m, a.n, a.k, a.k2,
                                 a.a.transposed ? 'T' : 'N', a.b.transposed ? 'T' : 'N',
                                 kind_of(a.a), kind_of(a.b), name_of(a.c_dtype));
  if (a.precision != DType::kF32) text += fmt::format(" in {}", name_of(a.precision));
  if (a.t != nullptr) text += " +down";
  if (a.epilogue == Epilogue::kActivation) text += " +activation";
  if (a.epilogue == Epilogue::kActivationGrad) text += " +activation_grad";
  if (a.add != nullptr) text += " +add";
  if (a.accumulate) text += " +=";
  return text;
}
std::string shape_text(const AttentionArgs& a) {
  return fmt::format("batch={} queries={} keys={} heads={}/{} size={} {}", a.batch, a.queries,
                     a.keys, a.heads, a.kv_heads, a.head_size, name_of(a.dtype));
}
std::string shape_text(const AttentionGradArgs& a) { return shape_text(a.forward); }
std::string shape_text(const AppendKeysArgs& a) {
  return fmt::format("batch={} tokens={} channels={} {}", a.batch, a.tokens, a.kv_channels,
                     name_of(a.dtype));
}
std::string shape_text(const CrossEntropyArgs& a) {
  return fmt::format("rows={} vocabulary={} fp32", a.rows, a.vocabulary);
}
std::string shape_text(const CastArgs& a) {
  return fmt::format("count={} {}->{}", a.count, name_of(a.from), name_of(a.to));
}
std::string shape_text(const RotaryArgs& a) {
  return fmt::format("tokens={} heads={} size={} rotary={} {}", a.tokens, a.heads, a.head_size,
                     a.rotary, name_of(a.dtype));
}
std::string shape_text(const SampleArgs& a) {
  return fmt::format("vocabulary={} fp32", a.vocabulary);
}

LaunchWork work_of(const MatmulArgs& a) {
  const auto m = static_cast<double>(a.m), n = static_cast<double>(a.n),
             k = static_cast<double>(a.k), k2 = static_cast<double>(a.k2);
  LaunchWork work{2 * m * n * (k + k2), 0};
  work.bytes =
      operand_bytes(a.a, a.m, a.k) + operand_bytes(a.b, a.k, a.n) + operand_bytes(a.b2, a.k2, a.n);
  if (a.t != nullptr) {
    work.operations += 2 * m * k * k2;
    work.bytes += matrix_bytes(a.k, a.k2, a.down.dtype) + matrix_bytes(a.m, a.k2, DType::kF32);
  } else {
    work.bytes += matrix_bytes(a.m, a.k2, a.a2.dtype);
  }
  const int of_c = 1 + a.accumulate + (a.add != nullptr) + (a.pre != nullptr);
  work.bytes += of_c * matrix_bytes(a.m, a.n, a.c_dtype);
  return work;
}

LaunchWork work_of(const AttentionArgs& a) {
  const double products = 4 * visible_pairs(a) * static_cast<double>(a.head_size);
  const int64_t q = a.batch * a.queries * a.heads, k = a.batch * a.keys * a.kv_heads;
  return {products, matrix_bytes(2 * q + 2 * k, a.head_size, a.dtype)};
}
// Five products, of which one makes the scores again.
LaunchWork work_of(const AttentionGradArgs& args) {
  const AttentionArgs& a = args.forward;
  const double products = 10 * visible_pairs(a) * static_cast<double>(a.head_size);
  const int64_t q = a.batch * a.queries * a.heads, k = a.batch * a.keys * a.kv_heads;
  return {products, matrix_bytes(4 * q + 4 * k, a.head_size, a.dtype)};
}
LaunchWork work_of(const AppendKeysArgs& a) {
  return {0, 4 * matrix_bytes(a.batch * a.tokens, a.kv_channels, a.dtype)};
}
LaunchWork work_of(const CrossEntropyArgs& a) {
  return {0, (a.write_gradient ? 2 : 1) * matrix_bytes(a.rows, a.vocabulary, DType::kF32)};
}
LaunchWork work_of(const EmbeddingArgs& a) {
  const int tables = a.position_table != nullptr ? 2 : 1;
  return {0, matrix_bytes(a.rows, a.channels, a.dtype) +
                 tables * matrix_bytes(a.rows, a.channels, a.table_dtype)};
}
LaunchWork work_of(const EmbeddingGradArgs& a) {
  return {0, matrix_bytes(a.rows, a.channels, a.dtype) +
                 2 * matrix_bytes(a.rows, a.channels, DType::kF32)};
}
LaunchWork work_of(const CastArgs& a) {
  return {0, matrix_bytes(a.count, 1, a.from) + matrix_bytes(a.count, 1, a.to)};
}
LaunchWork work_of(const RotaryArgs& a) {
  return {0, 2 * matrix_bytes(a.tokens * a.heads, a.rotary, a.dtype)};
}
LaunchWork work_of(const PositiveBitsArgs& a) {
  return {0, matrix_bytes(a.count, 1, a.dtype) + static_cast<double>(a.count) / 8};
}
LaunchWork work_of(const SelectBitsArgs& a) {
  return {0, 2 * matrix_bytes(a.count, 1, a.dtype) + static_cast<double>(a.count) / 8};
}
LaunchWork work_of(const QuantizeRowsArgs& a) {
  return {0,
          matrix_bytes(a.rows, a.channels, a.dtype) + matrix_bytes(a.rows, a.channels, DType::kI8)};
}
LaunchWork work_of(const GatherColumnsArgs& a) {
  return {0,
          matrix_bytes(a.rows, a.columns, a.dtype) + matrix_bytes(a.rows, a.columns, DType::kF32)};
}
LaunchWork work_of(const SampleArgs& a) { return {0, matrix_bytes(a.vocabulary, 1, DType::kF32)}; }
LaunchWork work_of(const SumSquaresArgs& a) { return {0, 4 * optimizer_elements(a.list)}; }
LaunchWork work_of(const AdamWArgs& a) { return {0, 7 * 4 * optimizer_elements(a.list)}; }
LaunchWork work_of(const SgdArgs& a) {
  return {0, (a.momentum != 0 ? 5 : 3) * 4 * optimizer_elements(a.list)};
}

}  // namespace tenon
