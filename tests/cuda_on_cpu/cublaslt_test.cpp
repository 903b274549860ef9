// SPDX-License-Identifier: Apache-2.0
#include <cublasLt.h>

#include <catch2/catch.hpp>

#include "tests/cuda_on_cpu/device_array.h"

namespace tenon::cuda_on_cpu {
namespace {

constexpr uint64_t kWorkspace = uint64_t{2} << 20;

// A column-major fp32 product: sizes, strides, what is transposed.
struct Problem {
  int m = 8, n = 12, k = 4;
  bool transpose_a = false, transpose_b = false, bias = false;
  float alpha = 1, beta = 0;
  int padding = 4;  // of every stride

  int a_rows() const { return transpose_a ? k : m; }
  int a_columns() const { return transpose_a ? m : k; }
  int b_rows() const { return transpose_b ? n : k; }
  int b_columns() const { return transpose_b ? k : n; }
};

std::vector<float> numbers(int count, int step) {
  std::vector<float> values;
  for (int i = 0; i < count; ++i) values.push_back(static_cast<float>(i * step % 17) - 8);
  return values;
}

// The library's objects for one problem.
struct Objects {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;

  Objects(const Problem& p, const float* bias) {
    REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
            CUBLAS_STATUS_SUCCESS);
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    layout(&a, p.a_rows(), p.a_columns(), p.padding);
    layout(&b, p.b_rows(), p.b_columns(), p.padding);
    layout(&d, p.m, p.n, p.padding);
    REQUIRE(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatmulPreferenceSetAttribute(
                preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                sizeof kWorkspace) == CUBLAS_STATUS_SUCCESS);
  }
  ~Objects() {
    cublasLtMatmulPreferenceDestroy(preference);
    for (const auto each : {a, b, d}) cublasLtMatrixLayoutDestroy(each);
    cublasLtMatmulDescDestroy(description);
    cublasLtDestroy(handle);
  }
  Objects(const Objects&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    REQUIRE(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value) ==
            CUBLAS_STATUS_SUCCESS);
  }
  static void layout(cublasLtMatrixLayout_t* made, int rows, int columns, int padding) {
    REQUIRE(cublasLtMatrixLayoutCreate(made, CUDA_R_32F, static_cast<uint64_t>(rows),
                                       static_cast<uint64_t>(columns),
                                       rows + padding) == CUBLAS_STATUS_SUCCESS);
  }
  int propose(cublasLtMatmulHeuristicResult_t (&found)[8], cublasStatus_t* status) const {
    int count = 0;
    *status = cublasLtMatmulAlgoGetHeuristic(handle, description, a, b, d, d, preference, 8, found,
                                             &count);
    return count;
  }
};

void check_product(const Problem& p) {
  const std::vector<float> a = numbers((p.a_rows() + p.padding) * p.a_columns(), 5);
  const std::vector<float> b = numbers((p.b_rows() + p.padding) * p.b_columns(), 7);
  const std::vector<float> c = numbers((p.m + p.padding) * p.n, 3), bias = numbers(p.m, 2);
  const Array<float> a_there(a), b_there(b), bias_there(bias);
  const Array<char> workspace(kWorkspace);
  const Objects objects(p, bias_there.get());
  cublasLtMatmulHeuristicResult_t found[8];
  cublasStatus_t status;
  const int count = objects.propose(found, &status);
  REQUIRE(count == 3);
  for (int choice = 0; choice < count; ++choice) {
    const Array<float> d(c);
    REQUIRE(cublasLtMatmul(objects.handle, objects.description, &p.alpha, a_there.get(), objects.a,
                           b_there.get(), objects.b, &p.beta, d.get(), objects.d, d.get(),
                           objects.d, &found[choice].algo, workspace.get(), kWorkspace,
                           nullptr) == CUBLAS_STATUS_SUCCESS);
    const std::vector<float> result = d.download();
    REQUIRE(texts(take_reports()) == "");
    std::vector<float> expected = c;
    for (int i = 0; i < p.m; ++i) {
      for (int j = 0; j < p.n; ++j) {
        float sum = 0;
        for (int k = 0; k < p.k; ++k) {
          const int at_a = p.transpose_a ? i * (p.k + p.padding) + k : k * (p.m + p.padding) + i;
          const int at_b = p.transpose_b ? k * (p.n + p.padding) + j : j * (p.k + p.padding) + k;
          sum += a[static_cast<size_t>(at_a)] * b[static_cast<size_t>(at_b)];
        }
        float& at = expected[static_cast<size_t>(j * (p.m + p.padding) + i)];
        at = p.alpha * sum + p.beta * at + (p.bias ? bias[static_cast<size_t>(i)] : 0);
      }
    }
    CHECK(result == expected);
  }
}

TEST_CASE("cuBLASLt's products are those of the definition") {
  const Playing playing({});
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      check_product({.transpose_a = transpose_a, .transpose_b = transpose_b});
      check_product({.transpose_a = transpose_a,
                     .transpose_b = transpose_b,
                     .bias = true,
                     .alpha = 2,
                     .beta = 1});
    }
  }
}

TEST_CASE("cuBLASLt refuses what its algorithms cannot do, and operands are checked") {
  const Playing playing({});
  const Array<float> data(1000);
  const float one = 1, zero = 0;
  cublasLtMatmulHeuristicResult_t found[8];
  cublasStatus_t status;
  const Objects odd({.padding = 1}, nullptr);
  CHECK(odd.propose(found, &status) == 1);
  const Objects even({.padding = 4}, nullptr);
  CHECK(even.propose(found, &status) == 3);
  const auto run = [&](float* a, float* d) {
    return cublasLtMatmul(even.handle, even.description, &one, a, even.a, data.get(), even.b, &zero,
                          d, even.d, d, even.d, &found[0].algo, nullptr, 0, nullptr);
  };
  CHECK(run(data.get() + 1, data.get() + 500) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(run(data.get() + 100, data.get() + 900) == CUBLAS_STATUS_SUCCESS);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(texts(take_reports()), Catch::Contains("cublasLtMatmul, d of 560 bytes"));
}

}  // namespace
}  // namespace tenon::cuda_on_cpu
