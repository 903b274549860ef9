// SPDX-License-Identifier: Apache-2.0
// What a base in 4 bits costs: products of a linear's forward and backward with its weight in NF4, in
// turn with the same in bf16, and how fast the numbers of its codes are read.
#include <fmt/core.h>

#include <cmath>

#include "bench/groups.h"
#include "bench/values.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/weight.h"

namespace tenon::bench {
namespace {

struct Nf4Shape {
  int64_t rows = 0, in = 0, out = 0;
};

std::vector<Nf4Shape> nf4_shapes() {
  std::vector<Nf4Shape> shapes;
  for (const int64_t rows : {1, 4, 512, 2048}) {
    shapes.push_back({rows, 2560, 2560});   // OPT-2.7B's attention
    shapes.push_back({rows, 2048, 8192});   // Llama-3.2-1B's gate
    shapes.push_back({rows, 11008, 4096});  // Llama-7B's down
  }
  return shapes;
}

Nf4Shape parse_nf4(const std::string& text) {
  const auto words =
      match_shape(text, R"(([1-9]\d{0,8})x([1-9]\d{0,8})x([1-9]\d{0,8}))", "ROWSxINxOUT");
  return {extent(words[0]), extent(words[1]), extent(words[2])};
}

// y = x W^T, or dx = dy W.
struct Product {
  Product(const Nf4Shape& s, bool backward, DType dtype)
      : m(s.rows),
        n(backward ? s.in : s.out),
        k(backward ? s.out : s.in),
        left(drawn({m, k}, dtype, 1)),
        result(Tensor::empty({m, n}, dtype)),
        transposed(!backward) {}
  MatmulArgs with(const Weight& weight) const {
    return {.a = {.data = left.raw(), .stride = k, .dtype = left.dtype()},
            .b = weight.operand(transposed),
            .c = result.raw(),
            .c_stride = n,
            .c_dtype = result.dtype(),
            .m = m,
            .n = n,
            .k = k,
            .precision = left.dtype()};
  }

  int64_t m, n, k;
  Tensor left, result;
  bool transposed;
};

// Compares some elements of the result with sums in double over the weight's numbers.
double check(const Product& product, const Tensor& numbers, const std::string& where) {
  Errors errors(where);
  const int64_t in = numbers.dim(1);
  for (int sample = 0; sample < 12; ++sample) {
    const int64_t row = sample * (product.m - 1) / 11, column = sample * (product.n - 1) / 11;
    const Run weight = product.transposed ? Run{numbers, column * in} : Run{numbers, column, in};
    const Sum sum = dot({product.left, row * product.k}, weight, product.k);
    // Where activations are in 16 bits, so is the weight on its way into the product.
    const double u = roundoff(product.left.dtype());
    const double bound = (sum_share(static_cast<double>(product.k)) + u) * sum.magnitude +
                         (u + 4 * roundoff(DType::kF32)) * std::fabs(sum.exact);
    errors.check(element(product.result, row * product.n + column), sum.exact, bound,
                 fmt::format("element ({}, {})", row, column));
  }
  return errors.worst();
}

class Layer {
 public:
  explicit Layer(const Nf4Shape& s) : s_(s) {
    dense_ = drawn({s.out, s.in}, DType::kBF16, 2, -0.05, 0.05);
    const auto read = [&](int64_t begin, int64_t count, float* to) {
      for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(element(dense_, begin + i));
    };
    four_bit_ = Weight(quantize_nf4({s.out, s.in}, DType::kBF16, read, true, "bench"));
    numbers_ = four_bit_.rows(0, s.out);
  }

  void run(const Options& options, bool backward, DType dtype, Report& report) const {
    const std::string size = fmt::format("{}x{}x{}", s_.rows, s_.in, s_.out);
    const std::string name = backward ? "nf4 dX" : "nf4 forward";
    if (!options.wants(fmt::format("{} {} {}", name, size, name_of(dtype)))) return;
    const Product product(s_, backward, dtype);
    const MatmulArgs four_bit = product.with(four_bit_), dense = product.with(dense_);
    const KernelTable& table = kernels(options.device);
    table.matmul(four_bit);
    Line line{.group = "nf4",
              .name = name,
              .size = size,
              .dtype = dtype,
              .work = work_of(four_bit),
              .error = check(product, numbers_, fmt::format("nf4 {} {}", size, name_of(dtype)))};
    const std::vector<Spread> times =
        race(options.device,
             {{"", [&] { table.matmul(four_bit); }}, {"bf16", [&] { table.matmul(dense); }}},
             options.patience);
    line.time = times[0];
    line.peers = {{"the same in bf16", times[1]}};
    const double rate = static_cast<double>(s_.in * s_.out) / times[0].median;
    line.note = fmt::format("{:.2f} G weights/s", rate / 1e9);
    line.more = {{"rows", s_.rows}, {"in", s_.in}, {"out", s_.out}, {"weights_per_second", rate}};
    report.add(line);
  }

 private:
  Nf4Shape s_;
  Tensor dense_;
  Weight four_bit_;
  Tensor numbers_;
};

}  // namespace

void bench_nf4(const Options& options, Report& report) {
  if (options.device != Device::kCPU) {
    report.skip("nf4", "every line", "a weight in 4 bits is computed on CPUs only");
    return;
  }
  std::vector<Nf4Shape> shapes;
  for (const std::string& text : options.shapes) shapes.push_back(parse_nf4(text));
  if (options.shapes.empty()) shapes = nf4_shapes();
  report.begin();
  for (const Nf4Shape& shape : shapes) {
    const Layer layer(shape);
    for (const DType dtype : options.dtypes) {
      layer.run(options, false, dtype, report);
      if (shape.rows > 1) layer.run(options, true, dtype, report);
    }
  }
}

}  // namespace tenon::bench
