// SPDX-License-Identifier: Apache-2.0
// matmul of every CUDA table that the card runs, against Eigen in double: our kernel and cuBLASLt
// each by itself, then the choice between them.
#include <limits>

#include "kernels/cuda/matmul_choice.h"
#include "tests/kernels/matmul_problem.h"
#include "tests/kernels_cuda/cards.h"

namespace tenon::test {
namespace {

using cuda::MatmulPath;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};

struct Table {
  const KernelTable* kernels;
  bool has_bf16_cores;
};

const std::vector<Table>& tables() {
  static const std::vector<Table> found = [] {
    std::vector<Table> list;
    for (const cuda::Implementation& each : card_implementations())
      list.push_back({each.table, each.least >= 80});
    return list;
  }();
  return found;
}

// The one half type among the operands, as a step in that precision has it; fp32 where there is none
// or another.
DType precision_of(const MatmulProblem& p) {
  DType precision = DType::kF32;
  for (DType type : {p.a, p.b, p.k2 > 0 ? p.a2 : p.a, p.k2 > 0 ? p.b2 : p.b}) {
    if (type == DType::kF32) continue;
    if (precision != DType::kF32 && precision != type) return DType::kF32;
    precision = type;
  }
  return precision;
}

// The type that operands are multiplied in, as kernels/cuda/matmul.cu states it.
DType product_type(const MatmulProblem& p, bool has_bf16_cores) {
  return p.precision == DType::kBF16 && !has_bf16_cores ? DType::kF32 : p.precision;
}

// On the device: aligned, or one element off.
MatmulOperands operands_of(const MatmulProblem& p) {
  placement() = {cuda::backend().memory, p.aligned ? 0 : 1};
  return MatmulOperands(p);
}

std::vector<double> elements(const Matrix& x) { return {x.data(), x.data() + x.size()}; }

struct Expected {
  Matrix value;
  Matrix magnitude;  // the sum of |terms|
  Matrix rounded;    // of what the library's way rounds to the dtype of c on its way
};

Expected reference(const MatmulProblem& p, const MatmulOperands& x, DType type) {
  const Matrix a = x.a.rounded(type), b = x.b.rounded(type);
  const Matrix a2 = x.a2.rounded(type), b2 = x.b2.rounded(type);
  const double alpha = p.alpha;
  Expected e;
  e.rounded = (alpha * (a2 * b2)).cwiseAbs();
  e.value = alpha * (a * b + a2 * b2);
  e.magnitude = std::fabs(alpha) * (a.cwiseAbs() * b.cwiseAbs() + a2.cwiseAbs() * b2.cwiseAbs());
  if (p.accumulate) {
    e.value += x.c.values;
    e.magnitude += x.c.values.cwiseAbs();
    e.rounded += x.c.values.cwiseAbs();
  }
  if (p.k2 == 0) e.rounded.setZero();
  for (int64_t j = 0; p.bias && j < p.n; ++j) {
    e.value.col(j).array() += x.bias.get(j);
    e.magnitude.col(j).array() += std::fabs(x.bias.get(j));
    e.rounded.col(j).array() += std::fabs(x.bias.get(j));
  }
  return e;
}

// K products of operands in the product's type, summed in fp32; then alpha, bias and c: K + 4
// roundings of what is summed, and one more for at most 1 / 16 of the terms, where K is shared;
// then one to the dtype of c. The library's way rounds the bias and the second pair's product to it
// before, once each; the latter when it already holds c.
Bound bound_of(const MatmulProblem& p, const Expected& want, bool by_library) {
  const int64_t k = p.k + p.k2;
  Bound bound = Bound::sum(k + k / 16 + 4, elements(want.magnitude));
  if (by_library && p.c != DType::kF32) {
    for (int64_t i = 0; i < want.rounded.size(); ++i) {
      bound.absolute[static_cast<size_t>(i)] +=
          1.01 * unit_roundoff(p.c) * want.rounded.data()[i] + 2 * underflow_error(p.c);
    }
  }
  return bound.then_round(p.c);
}

GuardedArray check(const Table& table, MatmulPath path, MatmulProblem p) {
  p.precision = precision_of(p);
  INFO(table.kernels->name << (path == MatmulPath::kOwn ? " own: " : ": ") << p.text());
  cuda::set_matmul_path(path);
  const MatmulOperands x = operands_of(p);
  const Expected want = reference(p, x, product_type(p, table.has_bf16_cores));
  GuardedArray c = multiply(*table.kernels, p, x);
  CHECK_WITHIN(results(p, x, c), elements(want.value), bound_of(p, want, path != MatmulPath::kOwn));
  return c;
}

// Takes the first algorithm while it lives, and gives back the automatic path.
struct Fixed {
  Fixed() { cuda::set_timed(false); }
  ~Fixed() {
    cuda::set_timed(true);
    cuda::set_matmul_path(MatmulPath::kAutomatic);
  }
};

constexpr MatmulPath kPaths[] = {MatmulPath::kOwn, MatmulPath::kLibrary};

// Turns through sizes, dtypes and options so that each meets each over the cases of a test.
class Turn {
 public:
  MatmulProblem problem() {
    constexpr int64_t kSizes[] = {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65, 130};
    constexpr int64_t kRanks[] = {0, 0, 1, 4, 8, 17};
    constexpr float kAlphas[] = {1.0f, 0.25f, -1.7f};
    // What ops ask for: of one type, an fp32 operand beside a half one, and sometimes anything.
    const DType activation = one_of(kFloats), weight = next(3) == 0 ? DType::kF32 : activation;
    const bool anything = next(5) == 0;
    const auto type = [&](DType usual) { return anything ? one_of(kFloats) : usual; };
    return {.m = one_of(kSizes),
            .n = one_of(kSizes),
            .k = one_of(kSizes),
            .k2 = one_of(kRanks),
            .transpose_a = next(2) != 0,
            .transpose_b = next(2) != 0,
            .a = type(activation),
            .b = type(weight),
            .a2 = type(DType::kF32),
            .b2 = type(DType::kF32),
            .c = type(next(2) != 0 ? activation : DType::kF32),
            .bias = next(2) != 0,
            .accumulate = next(2) != 0,
            .alpha = one_of(kAlphas),
            .gap = next(4) * 3,
            .aligned = next(3) != 0,
            .padded = next(2) != 0};
  }

 private:
  int64_t next(uint32_t count) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<int64_t>((state_ >> 16) % count);
  }
  template <class T, size_t N>
  T one_of(const T (&choices)[N]) {
    return choices[next(N)];
  }
  uint32_t state_ = 1;
};

}  // namespace

TEST_CASE("cuda matmul: sizes, dtypes and ways round", "[kernels]") {
  const Fixed fixed;
  for (const Table& table : tables()) {
    for (MatmulPath path : kPaths) {
      Turn turn;
      for (int i = 0; i < 200; ++i) check(table, path, turn.problem());
    }
  }
}

TEST_CASE("cuda matmul: every dtype of a, b and c", "[kernels]") {
  const Fixed fixed;
  for (const Table& table : tables()) {
    int cases = 0;
    for (DType a : kFloats) {
      for (DType b : kFloats) {
        for (DType c : kFloats) {
          for (int way = 0; way < 4; ++way) {
            MatmulProblem p = {.m = way < 2 ? 37 : 130,
                               .n = 53,
                               .k = 41,
                               .k2 = 8,
                               .transpose_a = way % 2 != 0,
                               .transpose_b = way >= 2,
                               .a = a,
                               .b = b,
                               .a2 = a,
                               .b2 = b,
                               .c = c,
                               .bias = true,
                               .accumulate = true,
                               .alpha = 0.5f,
                               .gap = 5,
                               .aligned = way != 0,
                               .padded = way >= 2};
            check(table, kPaths[(way + way / 2 + cases++) % 2], p);
          }
        }
      }
    }
  }
}

TEST_CASE("cuda matmul: K shared by several blocks", "[kernels]") {
  const Fixed fixed;
  MatmulProblem problems[] = {
      // As dA = U^T x and dB = dY^T T, then the other ways round.
      {.m = 8, .n = 70, .k = 1100, .transpose_a = true, .accumulate = true},
      {.m = 133, .n = 8, .k = 900, .transpose_a = true, .accumulate = true},
      {.m = 5, .n = 33, .k = 777, .transpose_b = true, .bias = true, .alpha = 0.5f},
      {.m = 136, .n = 16, .k = 600, .transpose_a = true, .transpose_b = true, .bias = true},
      // few blocks of wide tiles
      {.m = 129, .n = 40, .k = 530, .k2 = 17, .bias = true, .accumulate = true},
      {.m = 40, .n = 136, .k = 300, .k2 = 250, .transpose_b = true}};
  for (const Table& table : tables()) {
    int cases = 0;
    for (MatmulProblem p : problems) {
      p.a = p.b = kFloats[cases % 3];
      p.aligned = p.padded = cases++ % 2 == 0;
      const GuardedArray first = check(table, MatmulPath::kOwn, p);
      const bool same_bits = check(table, MatmulPath::kOwn, p).bytes() == first.bytes();
      CHECK(same_bits);
    }
  }
}

TEST_CASE("cuda matmul: the timed choice computes the same, and only once", "[kernels]") {
  const Fixed fixed;
  for (const Table& table : tables()) {
    for (bool timed : {false, true}) {
      cuda::set_timed(timed);
      for (int64_t m : {9, 60}) {
        for (int64_t k2 : {0, 8}) {
          MatmulProblem p = {.m = m, .n = 64, .k = 48, .k2 = k2, .bias = true, .accumulate = true};
          p.a = p.b = DType::kF16;
          p.aligned = p.padded = true;
          const GuardedArray first = check(table, MatmulPath::kAutomatic, p);
          const bool same_bits = check(table, MatmulPath::kAutomatic, p).bytes() == first.bytes();
          CHECK(same_bits);
        }
      }
    }
  }
}

TEST_CASE("cuda matmul: nothing to do writes nothing", "[kernels]") {
  const Fixed fixed;
  for (const Table& table : tables()) {
    for (MatmulPath path : kPaths) {
      cuda::set_matmul_path(path);
      for (const MatmulProblem& p : {MatmulProblem{.m = 0, .n = 20, .k = 5, .gap = 1},
                                     MatmulProblem{.m = 20, .n = 0, .k = 5, .gap = 1},
                                     MatmulProblem{.m = 20, .n = 20, .k = 0, .accumulate = true}}) {
        const MatmulOperands x = operands_of(p);
        const bool unchanged = multiply(*table.kernels, p, x).bytes() == x.c.array.bytes();
        CHECK(unchanged);
      }
      check(table, path, {.m = 20, .n = 40, .k = 0, .k2 = 0, .bias = true});
      check(table, path, {.m = 20, .n = 40, .k = 0, .k2 = 9, .bias = true});
    }
  }
}

TEST_CASE("cuda matmul: a NaN or infinity reaches its row or column and no other", "[kernels]") {
  const Fixed fixed;
  for (const Table& table : tables()) {
    for (int i = 0; i < 32; ++i) {
      const DType type = i < 16 ? DType::kF32 : DType::kF16;
      const MatmulProblem p = {.m = i % 2 == 0 ? 7 : 37,
                               .n = 45,
                               .k = 50,
                               .k2 = 3,
                               .transpose_a = i / 2 % 2 != 0,
                               .transpose_b = i / 4 % 2 != 0,
                               .a = type,
                               .b = type,
                               .aligned = i / 8 % 2 != 0,
                               .padded = i / 8 % 2 != 0};
      INFO(table.kernels->name << ": " << p.text());
      cuda::set_matmul_path(kPaths[i % 3 == 0]);
      MatmulOperands x = operands_of(p);
      x.a.set(p.m - 2, 49, NAN);
      x.b.set(0, 44, std::numeric_limits<double>::infinity());
      const GuardedArray c = multiply(*table.kernels, p, x);
      bool right = true;
      for (int64_t row = 0; row < p.m; ++row) {
        for (int64_t j = 0; j < p.n; ++j) {
          const double y = c.get(row * x.c.stride + j);
          right &= row == p.m - 2 ? std::isnan(y) : j == 44 ? std::isinf(y) : std::isfinite(y);
        }
      }
      CHECK(right);
    }
  }
}

}  // namespace tenon::test
