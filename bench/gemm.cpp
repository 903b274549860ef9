// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "bench/peer.h"
#include "bench/values.h"
#include "core/backend.h"
#include "core/error.h"

namespace tenon::bench {
namespace {

// A dense matrix of random values on the host and on the device; int8 has a scale for each stored
// row.
struct Matrix {
  Matrix(DType dtype, int64_t rows, int64_t columns, bool transpose, uint32_t seed, Device device)
      : transposed(transpose),
        stride(transpose ? rows : columns),
        host(drawn({rows, columns}, dtype, seed)),
        placed(host.to(device)) {
    if (dtype != DType::kI8) return;
    host_scales = drawn({transpose ? columns : rows}, DType::kF32, seed + 10, 0.001, 0.01);
    scales = host_scales.to(device);
  }
  MatrixOperand operand() const {
    return {placed.raw(), stride, transposed, placed.dtype(), scales.data<float>()};
  }
  double at(int64_t row, int64_t column) const {
    const int64_t stored = transposed ? column : row, other = transposed ? row : column;
    const double value = element(host, stored * stride + other);
    return host_scales.defined() ? value * element(host_scales, stored) : value;
  }

  bool transposed;
  int64_t stride;
  Tensor host, placed, host_scales, scales;
};

// One product, ready to run.
class Product {
 public:
  Product(const GemmShape& shape, Device device)
      : shape_(shape),
        a_(shape.dtype, shape.m, shape.k, shape.transpose_a, 1, device),
        b_(shape.dtype, shape.k, shape.n, shape.transpose_b, 2, device),
        c_(Tensor::empty({shape.m, shape.n}, c_dtype(), device)) {
    args_ = {.a = a_.operand(),
             .b = b_.operand(),
             .c = c_.raw(),
             .c_stride = shape.n,
             .c_dtype = c_dtype(),
             .m = shape.m,
             .n = shape.n,
             .k = shape.k};
  }

  const MatmulArgs& args() const { return args_; }

  // Compares the corners and some elements between them with double-precision dot products; returns
  // the largest error as a share of its bound.
  double check(const std::string& who) const {
    const Tensor c = c_.to(Device::kCPU);
    Errors errors(fmt::format("gemm {} {} {}", shape_.text(), name_of(shape_.dtype), who));
    std::mt19937_64 generator(7);
    for (int sample = 0; sample < 24; ++sample) {
      const auto drawn_below = [&](int64_t extent) {
        return static_cast<int64_t>(generator() % static_cast<uint64_t>(extent));
      };
      const int64_t row = sample < 4 ? (sample & 1) * (shape_.m - 1) : drawn_below(shape_.m);
      const int64_t column = sample < 4 ? (sample >> 1) * (shape_.n - 1) : drawn_below(shape_.n);
      double exact = 0, magnitude = 0;
      for (int64_t p = 0; p < shape_.k; ++p) {
        const double product = a_.at(row, p) * b_.at(p, column);
        exact += product;
        magnitude += std::fabs(product);
      }
      const double bound = sum_share(static_cast<double>(shape_.k)) * magnitude +
                           (roundoff(c_dtype()) + 4 * roundoff(DType::kF32)) * std::fabs(exact);
      errors.check(element(c, row * shape_.n + column), exact, bound,
                   fmt::format("element ({}, {})", row, column));
    }
    return errors.worst();
  }

 private:
  DType c_dtype() const { return shape_.dtype == DType::kI8 ? DType::kF32 : shape_.dtype; }

  GemmShape shape_;
  Matrix a_, b_;
  Tensor c_;
  MatmulArgs args_;
};

GemmShape parse_gemm(const std::string& text) {
  const auto words =
      match_shape(text, R"(([1-9]\d{0,8})x([1-9]\d{0,8})x([1-9]\d{0,8})(?::([NT])([NT]))?)",
                  "MxNxK[:NN|NT|TN|TT]");
  return {"shape",          extent(words[0]), extent(words[1]),
          extent(words[2]), words[3] == "T",  words[4] == "T"};
}

std::vector<GemmShape> chosen_shapes(const Options& options) {
  if (options.shapes.empty()) return gemm_shapes();
  std::vector<GemmShape> shapes;
  for (const std::string& text : options.shapes) shapes.push_back(parse_gemm(text));
  return shapes;
}

bool chosen(const Options& options, const Peer& peer) {
  return options.peers.empty() ||
         std::find(options.peers.begin(), options.peers.end(), peer.name) != options.peers.end();
}

void run_product(const Options& options, const GemmShape& shape, Report& report) {
  const Product product(shape, options.device);
  const KernelTable& table = kernels(options.device);
  table.matmul(product.args());
  Line line{.group = "gemm",
            .name = shape.name,
            .size = shape.text(),
            .dtype = shape.dtype,
            .work = work_of(product.args()),
            .error = product.check("")};
  std::vector<Contender> contenders = {{"", [&] { table.matmul(product.args()); }}};
  for (const Peer& peer : peers_of(options.device)) {
    if (!chosen(options, peer)) continue;
    const std::function<void()> run = peer.matmul(product.args());
    if (!run) continue;
    run();
    product.check("of " + peer.name);
    contenders.push_back({peer.name, run, peer.quiet});
  }
  const std::vector<Spread> times = race(options.device, contenders, options.patience);
  line.time = times[0];
  for (size_t i = 1; i < times.size(); ++i) line.peers.push_back({contenders[i].name, times[i]});
  line.more = {{"m", shape.m},
               {"n", shape.n},
               {"k", shape.k},
               {"transpose_a", shape.transpose_a},
               {"transpose_b", shape.transpose_b}};
  report.add(line);
}

}  // namespace

std::string GemmShape::text() const {
  return fmt::format("{}x{}x{}:{}{}", m, n, k, transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N');
}

void bench_gemm(const Options& options, Report& report) {
  const std::vector<GemmShape> shapes = chosen_shapes(options);
  report.begin();
  for (const DType dtype : options.dtypes) {
    for (GemmShape shape : shapes) {
      shape.dtype = dtype;
      if (!options.wants(fmt::format("gemm {} {} {}", shape.name, shape.text(), name_of(dtype))))
        continue;
      // A row scale leaves the sum over k only where k runs along the stored rows.
      if (dtype == DType::kI8 && (shape.transpose_a || !shape.transpose_b)) {
        report.skip("gemm", fmt::format("{} {} int8", shape.name, shape.text()),
                    "int8 operands have scales along k only as NT");
        continue;
      }
      run_product(options, shape, report);
    }
  }
}

double peer_seconds(Device device, const GemmShape& shape, const Patience& patience) {
  const Product product(shape, device);
  const std::vector<Peer>& peers = peers_of(device);
  TENON_CHECK(!peers.empty(), "[gemm bench] {} has no peer", name_of(device));
  return time_alone(device, patience, peers[0].matmul(product.args())).median;
}

}  // namespace tenon::bench
