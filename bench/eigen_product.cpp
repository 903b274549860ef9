// SPDX-License-Identifier: Apache-2.0
#include "bench/eigen_product.h"

#include <Eigen/Core>

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Stride = Eigen::OuterStride<>;

void product(const auto& a, const EigenOperand& b, auto& out, int64_t n, int64_t k) {
  if (b.transposed) {
    out.noalias() =
        a * Eigen::Map<const Matrix, 0, Stride>(b.data, n, k, Stride(b.stride)).transpose();
  } else {
    out.noalias() = a * Eigen::Map<const Matrix, 0, Stride>(b.data, k, n, Stride(b.stride));
  }
}

}  // namespace

void tenon_eigen_product(EigenOperand a, EigenOperand b, float* c, int64_t c_stride, int64_t m,
                         int64_t n, int64_t k) {
  Eigen::Map<Matrix, 0, Stride> out(c, m, n, Stride(c_stride));
  if (a.transposed) {
    product(Eigen::Map<const Matrix, 0, Stride>(a.data, k, m, Stride(a.stride)).transpose(), b, out,
            n, k);
  } else {
    product(Eigen::Map<const Matrix, 0, Stride>(a.data, m, k, Stride(a.stride)), b, out, n, k);
  }
}

void tenon_eigen_threads(int threads) { Eigen::setNbThreads(threads); }

const char* tenon_eigen_version() {
#define TENON_TEXT(x) #x
#define TENON_VERSION(world, major, minor) \
  "Eigen " TENON_TEXT(world) "." TENON_TEXT(major) "." TENON_TEXT(minor)
  return TENON_VERSION(EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
}
