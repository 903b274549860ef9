// SPDX-License-Identifier: Apache-2.0
// matmul with an operand in 4 bits against Eigen in double: on every table, either operand, either
// way round, few rows and many, blocks that rows end within, scales as they are and quantized.
#include "core/backend.h"
#include "core/dynamic_code.h"
#include "core/four_bit.h"
#include "core/parallel_for.h"
#include "tests/kernels/matmul_problem.h"

namespace tenon::test {
namespace {

// Random codes and scales; the elements that they stand for, decoded one by one.
struct FourBitOperand {
  FourBitOperand(int64_t rows, int64_t columns, bool transpose, bool doubled, int64_t block,
                 uint32_t seed)
      : transposed(transpose), stride(transpose ? rows : columns), values(rows, columns) {
    const int64_t count = rows * columns, blocks = (count + block - 1) / block;
    for (const float x : random_values((count + 1) / 2, seed, 0, 256))
      codes.push_back(static_cast<uint8_t>(std::min(x, 255.0f)));
    scales = random_values(blocks, seed + 1, 0.001f, 0.1f);
    for (const float x : random_values(blocks, seed + 2, 0, 256))
      scale_codes.push_back(static_cast<uint8_t>(std::min(x, 255.0f)));
    outer = random_values((blocks + 255) / 256, seed + 3, 0.001f, 0.1f);
    format = {.numbers = kNf4Numbers, .block = block, .scales = doubled ? nullptr : scales.data()};
    if (doubled) {
      format.scale_codes = scale_codes.data();
      format.scale_numbers = signed_dynamic_code().numbers;
      format.outer_scales = outer.data();
      format.offset = 0.07f;
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c)
        values(r, c) = decoded(transpose ? c * rows + r : r * columns + c);
    }
  }
  double decoded(int64_t element) const {
    const auto at = static_cast<size_t>(element);
    const int code = element % 2 == 0 ? codes[at / 2] / 16 : codes[at / 2] % 16;
    const size_t b = at / static_cast<size_t>(format.block);
    float scale = scales[b];
    if (format.scales == nullptr) {
      const float inner = signed_dynamic_code().numbers[scale_codes[b]] * outer[b / 256];
      scale = inner + 0.07f;
    }
    const float value = kNf4Numbers[code] * scale;
    return static_cast<double>(value);
  }
  MatrixOperand operand() const {
    return {.data = codes.data(), .stride = stride, .transposed = transposed, .four_bit = &format};
  }

  bool transposed;
  int64_t stride;
  std::vector<uint8_t> codes, scale_codes;
  std::vector<float> scales, outer;
  FourBit format;
  Matrix values;
};

struct Shape3 {
  int64_t m, n, k;
};

// c = bias + a b + a2 b2, one of a and b in 4 bits.
void check(const KernelTable& table, Shape3 s, bool left, bool transpose, bool doubled,
           int64_t block, DType dtype) {
  INFO(table.name << ": " << s.m << " x " << s.n << " x " << s.k << (left ? " left" : " right")
                  << (transpose ? " transposed" : "") << (doubled ? " doubled" : "") << " block "
                  << block << " " << name_of(dtype));
  MatmulProblem p{.m = s.m, .n = s.n, .k = s.k, .k2 = 8, .transpose_b = true, .bias = true};
  (left ? p.b : p.a) = dtype;
  const MatmulOperands x(p);
  const FourBitOperand q(left ? s.m : s.k, left ? s.k : s.n, transpose, doubled, block, 9);
  const auto product = [&] {
    return multiply(table, p, x, left ? q.operand() : x.a.operand(),
                    left ? x.b.operand() : q.operand(), x.a2.operand(), x.b2.operand());
  };
  const Matrix &a = left ? q.values : x.a.values, &b = left ? x.b.values : q.values;
  Matrix want = a * b + x.a2.values * x.b2.values;
  Matrix magnitude = a.cwiseAbs() * b.cwiseAbs() + x.a2.values.cwiseAbs() * x.b2.values.cwiseAbs();
  for (int64_t j = 0; j < p.n; ++j) {
    want.col(j).array() += x.bias.get(j);
    magnitude.col(j).array() += std::fabs(x.bias.get(j));
  }
  const int threads = thread_count();
  set_thread_count(1);
  const GuardedArray c = product();
  const int64_t terms = p.k + p.k2 + (p.k + p.k2) / 16 + 4;
  CHECK_WITHIN(results(p, x, c), std::vector<double>(want.data(), want.data() + want.size()),
               Bound::sum(terms, {magnitude.data(), magnitude.data() + magnitude.size()}));
  set_thread_count(3);
  const bool same_bytes = product().bytes() == c.bytes();
  CHECK(same_bytes);
  set_thread_count(threads);
}

}  // namespace

TEST_CASE("matmul in 4 bits: few and many, either operand, either way round", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    int turn = 0;
    for (const int64_t m : {1, 2, 5, 31, 33, 67}) {
      for (const int64_t n : {1, 7, 24, 47, 131}) {
        for (const int64_t k : {1, 16, 63, 64, 100, 257}) {
          for (int way = 0; way < 4; ++way, ++turn) {
            constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
            check(*table, {m, n, k}, way % 2 != 0, way >= 2, turn % 3 == 0, turn % 5 == 0 ? 32 : 64,
                  kTypes[turn % 3]);
          }
        }
      }
    }
  }
}

TEST_CASE("matmul in 4 bits: sizes beyond every block", "[kernels]") {
  constexpr Shape3 kShapes[] = {{35, 1033, 1601}, {1031, 67, 790}, {3, 1100, 1601},
                                {1, 4111, 523},   {2, 523, 4111},  {531, 40, 1024},
                                {1, 131, 96},     {1, 515, 1056},  {1, 7, 2048}};
  for (const KernelTable* table : usable_tables()) {
    for (const Shape3& shape : kShapes) {
      for (int way = 0; way < 4; ++way)
        check(*table, shape, way % 2 != 0, way >= 2, way == 1 || way == 2, 64, DType::kF32);
    }
  }
}

TEST_CASE("matmul in 4 bits: a row has the same bits whatever it is computed with", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (const auto& [transpose, k] : {std::pair(false, 640), {true, 640}, {true, 1056}}) {
      const MatmulProblem p{.m = kAlikeRows, .n = 515, .k = k};
      const MatmulOperands x(p);
      const FourBitOperand q(p.k, p.n, transpose, true, 64, 3);
      std::vector<float> all(static_cast<size_t>(p.m * p.n)), one(static_cast<size_t>(p.n));
      MatmulArgs args{.a = x.a.operand(),
                      .b = q.operand(),
                      .c = all.data(),
                      .c_stride = p.n,
                      .m = p.m,
                      .n = p.n,
                      .k = p.k};
      table->matmul(args);
      args.c = one.data();
      args.m = 1;
      table->matmul(args);
      INFO(table->name << (transpose ? " transposed" : "") << " k " << k);
      CHECK(std::equal(one.begin(), one.end(), all.begin()));
    }
  }
}

}  // namespace tenon::test
