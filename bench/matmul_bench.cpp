// SPDX-License-Identifier: Apache-2.0
#include "bench/matmul_bench.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "bench/peer.h"
#include "bench/timing.h"
#include "core/error.h"
#include "core/tensor.h"
#include "tests/support/half.h"

namespace tenon::bench {
namespace {

// A matrix of random values, dense, on the host and on the device.
struct Matrix {
  Matrix(DType dtype, int64_t rows, int64_t columns, bool transpose, uint32_t seed, Device device)
      : transposed(transpose),
        stride(transpose ? rows : columns),
        host(Tensor::empty({rows, columns}, dtype)) {
    std::mt19937 generator(seed);
    for (int64_t i = 0; i < rows * columns; ++i) {
      test::store_element(dtype, host.raw(), i, static_cast<double>(generator()) * 0x1p-31 - 1);
    }
    placed = host.to(device);
  }
  MatrixOperand operand(const Tensor& tensor) const {
    return {tensor.numel() == 0 ? nullptr : tensor.raw(), stride, transposed, tensor.dtype()};
  }

  bool transposed;
  int64_t stride;
  Tensor host, placed;
};

double element(const MatrixOperand& x, int64_t row, int64_t column) {
  return test::load_element(x.dtype, x.data,
                            x.transposed ? column * x.stride + row : row * x.stride + column);
}

// Compares elements of c with what the operands give, all on the host. `cast` is the rounding of
// operands that a device converts first.
double check(const MatmulArgs& args, double cast) {
  const double u = test::unit_roundoff(DType::kF32), terms = static_cast<double>(args.k + args.k2);
  const double share = std::min(8 * std::sqrt(terms) * u, terms * u / (1 - terms * u)) + 2 * cast;
  double worst = 0;
  std::mt19937_64 generator(7);
  for (int sample = 0; sample < 16; ++sample) {
    const auto row = static_cast<int64_t>(generator() % static_cast<uint64_t>(args.m));
    const auto column = static_cast<int64_t>(generator() % static_cast<uint64_t>(args.n));
    double exact = 0, magnitude = 0;
    const auto add = [&](const MatrixOperand& a, const MatrixOperand& b, int64_t k) {
      for (int64_t p = 0; p < k; ++p) {
        const double product = element(a, row, p) * element(b, p, column);
        exact += product;
        magnitude += std::fabs(product);
      }
    };
    add(args.a, args.b, args.k);
    add(args.a2, args.b2, args.k2);
    const double got = test::load_element(args.c_dtype, args.c, row * args.c_stride + column);
    const double bound =
        share * magnitude + test::unit_roundoff(args.c_dtype) * std::fabs(exact) * 1.001;
    const double error = std::fabs(got - exact);
    if (!(error <= bound)) {
      fail(Exit::kInternal, "[matmul bench] element ({}, {}) is {}, expected {} within {}", row,
           column, got, exact, bound);
    }
    worst = std::max(worst, error / bound);
  }
  return worst;
}

}  // namespace

const std::vector<MatmulShape>& matmul_shapes() {
  static const std::vector<MatmulShape> shapes = {
      {.name = "mlp_up", .m = 2048, .n = 3072, .k = 768},
      {.name = "mlp_up_b_transposed", .m = 2048, .n = 3072, .k = 768, .transpose_b = true},
      {.name = "mlp_down", .m = 2048, .n = 768, .k = 3072},
      {.name = "qkv", .m = 2048, .n = 2304, .k = 768},
      {.name = "qkv_lora", .m = 2048, .n = 2304, .k = 768, .k2 = 8},
      {.name = "head", .m = 512, .n = 50257, .k = 768, .transpose_b = true},
      {.name = "head_dx", .m = 512, .n = 768, .k = 50257},
      {.name = "mlp_up_dx", .m = 2048, .n = 768, .k = 3072, .transpose_b = true},
      {.name = "mlp_up_dw", .m = 768, .n = 3072, .k = 2048, .transpose_a = true},
      {.name = "qkv_bf16",
       .m = 2048,
       .n = 2304,
       .k = 768,
       .a = DType::kBF16,
       .b = DType::kBF16,
       .c = DType::kBF16},
      {.name = "qkv_f16_weight", .m = 2048, .n = 2304, .k = 768, .b = DType::kF16},
      {.name = "mlp_down_bf16",
       .m = 2048,
       .n = 768,
       .k = 3072,
       .a = DType::kBF16,
       .b = DType::kBF16,
       .c = DType::kBF16},
      {.name = "lora_x_a", .m = 2048, .n = 8, .k = 768, .transpose_b = true},
      {.name = "lora_da", .m = 8, .n = 768, .k = 2048, .transpose_a = true},
      {.name = "lora_db", .m = 2304, .n = 8, .k = 2048, .transpose_a = true},
      {.name = "lora_x_a_rank16", .m = 2048, .n = 16, .k = 768, .transpose_b = true},
      {.name = "lora_da_rank16", .m = 16, .n = 768, .k = 2048, .transpose_a = true},
      {.name = "generate_1", .m = 1, .n = 3072, .k = 768},
      {.name = "generate_1_head", .m = 1, .n = 50257, .k = 768, .transpose_b = true},
      {.name = "generate_8", .m = 8, .n = 3072, .k = 768},
      {.name = "generate_8_head", .m = 8, .n = 50257, .k = 768, .transpose_b = true},
      {.name = "generate_16_head", .m = 16, .n = 50257, .k = 768, .transpose_b = true},
      {.name = "prompt_64", .m = 64, .n = 3072, .k = 768},
      {.name = "small", .m = 64, .n = 64, .k = 64},
  };
  return shapes;
}

MatmulTiming run_matmul_bench(Device device, const MatmulShape& s, int runs, double seconds) {
  const Matrix a(s.a, s.m, s.k, s.transpose_a, 1, device),
      b(s.b, s.k, s.n, s.transpose_b, 2, device);
  const Matrix a2(s.a, s.m, s.k2, s.transpose_a, 3, device),
      b2(s.b, s.k2, s.n, s.transpose_b, 4, device);
  const Matrix c(s.c, s.m, s.n, false, 5, device);
  const auto args_with = [&](Tensor Matrix::*where) {
    return MatmulArgs{.a = a.operand(a.*where),
                      .b = b.operand(b.*where),
                      .a2 = a2.operand(a2.*where),
                      .b2 = b2.operand(b2.*where),
                      .c = (c.*where).raw(),
                      .c_stride = s.n,
                      .c_dtype = s.c,
                      .m = s.m,
                      .n = s.n,
                      .k = s.k,
                      .k2 = s.k2};
  };
  const MatmulArgs args = args_with(&Matrix::placed), on_host = args_with(&Matrix::host);
  const bool casts = device != Device::kCPU && s.a != s.b;
  const double cast = casts ? test::unit_roundoff(s.a == DType::kF32 ? s.b : s.a) : 0;
  const auto checked = [&] {
    Tensor(c.host).assign(c.placed);
    return check(on_host, cast);
  };
  const KernelTable& table = kernels(device);
  MatmulTiming timing;
  table.matmul(args);
  timing.bound_used = checked();

  const std::function<void()> peer = peer_matmul(device, args);
  if (peer) {
    peer();
    checked();
  }
  std::vector<double> ours, theirs;
  for (double spent = 0; static_cast<int>(ours.size()) < runs || spent < seconds;) {
    ours.push_back(time_once(device, [&] { table.matmul(args); }));
    if (peer) theirs.push_back(time_once(device, peer));
    spent += ours.back() + (peer ? theirs.back() : 0);
  }
  timing.seconds = median(ours);
  timing.best_seconds = *std::min_element(ours.begin(), ours.end());
  timing.peer_seconds = median(theirs);
  return timing;
}

std::string describe(const MatmulShape& s, const MatmulTiming& t, double peak) {
  const auto gigas = [](int64_t amount, double seconds) {
    return static_cast<double>(amount) / seconds * 1e-9;
  };
  const int64_t k = s.k + s.k2, operations = 2 * s.m * s.n * k;
  const int64_t bytes = s.m * k * size_of(s.a) + k * s.n * size_of(s.b) + s.m * s.n * size_of(s.c);
  const double rate = gigas(operations, t.seconds);
  std::string line = fmt::format(
      "{:20} {:5}x{:5}x{:5}+{:1} {}{} {:4} {:4} {:4} {:9.3f} ms (best {:8.3f}) {:7.1f} GFLOP/s",
      s.name, s.m, s.n, s.k, s.k2, s.transpose_a ? 'T' : 'N', s.transpose_b ? 'T' : 'N',
      name_of(s.a), name_of(s.b), name_of(s.c), t.seconds * 1e3, t.best_seconds * 1e3, rate);
  if (peak > 0) {
    line += fmt::format(" {:5.1f} % (best {:5.1f} %)", 100 * rate / peak,
                        100 * gigas(operations, t.best_seconds) / peak);
  }
  line += fmt::format(" {:6.1f} GB/s  bound {:.3f}", gigas(bytes, t.seconds), t.bound_used);
  if (t.peer_seconds > 0) {
    line += fmt::format("  peer {:9.3f} ms ({:.2f}x)", t.peer_seconds * 1e3,
                        t.peer_seconds / t.seconds);
  }
  return line;
}

}  // namespace tenon::bench
