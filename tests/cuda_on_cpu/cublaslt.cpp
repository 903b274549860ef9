// SPDX-License-Identifier: Apache-2.0
// cuBLASLt for products of column-major matrices: d = alpha op(a) op(b) + beta c (+ bias of each
// row). Sums in fp32 in the order of k. Like a kernel the product runs when its stream is waited
// for, and its operands must lie in device allocations.
#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/streams.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // that of d
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type;
  int64_t rows, columns, stride;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace = 0;
  uint32_t reduction = 7;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of a, b, c and d
};

namespace tenon::cuda_on_cpu {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;
using Layout = cublasLtMatrixLayoutOpaque_t;
using Description = cublasLtMatmulDescOpaque_t;

// The algorithms on offer, best first: what each asks of addresses and strides, and its workspace.
// The library publishes no such table; it does refuse problems, and so must its stand-in.
struct Algorithm {
  uint64_t alignment;
  uint64_t workspace;
};
constexpr Algorithm kAlgorithms[] = {{16, 0}, {16, uint64_t{1} << 20}, {4, 0}};
constexpr uint64_t kMagic = 0x43754c744f6e4350;  // in the first word of an algorithm made here

int64_t size_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

bool known_type(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

// The least power of two that divides both, 256 at most.
uint64_t common_alignment(uint64_t x, uint64_t y) {
  const uint64_t either = x | y | 256;
  return either & (~either + 1);
}

int64_t extent(const Layout& x) {
  return x.columns == 0 || x.rows == 0 ? 0
                                       : ((x.columns - 1) * x.stride + x.rows) * size_of(x.type);
}

bool sizes_agree(const Description& p, const Layout& a, const Layout& b, const Layout& c,
                 const Layout& d) {
  const auto [m, k] =
      p.transpose_a == CUBLAS_OP_T ? std::pair(a.columns, a.rows) : std::pair(a.rows, a.columns);
  const auto [k2, n] =
      p.transpose_b == CUBLAS_OP_T ? std::pair(b.columns, b.rows) : std::pair(b.rows, b.columns);
  for (const Layout* x : {&a, &b, &c, &d})
    if (!known_type(x->type) || x->rows <= 0 || x->columns <= 0 || x->stride < x->rows)
      return false;
  return k == k2 && d.rows == m && d.columns == n && c.rows == m && c.columns == n;
}

// The library multiplies operands of one type, into that type or fp32.
bool types_supported(const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  return a.type == b.type && c.type == d.type && (d.type == a.type || d.type == CUDA_R_32F);
}

float load(const void* data, cudaDataType type, int64_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return type == CUDA_R_16F ? half_to_float(bits)
                            : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

void store(void* data, cudaDataType type, int64_t i, float value) {
  if (type == CUDA_R_32F)
    static_cast<float*>(data)[i] = value;
  else
    static_cast<uint16_t*>(data)[i] =
        type == CUDA_R_16F ? float_to_half(value) : float_to_bf16(value);
}

bool in_bounds(const char* name, const void* at, int64_t bytes, int device) {
  const std::string problem = device_range_problem(at, bytes, device);
  if (!problem.empty())
    add_report("out of bounds", text("cublasLtMatmul, %s of %lld bytes: %s", name,
                                     static_cast<long long>(bytes), problem.c_str()));
  return problem.empty();
}

// A product as it waits in its stream.
struct Product {
  Description description;
  Layout a_layout, b_layout, c_layout, d_layout;
  const void *a, *b, *c;
  void* d;
  float alpha, beta;

  cudaDataType bias_type() const {
    return description.bias_type < 0 ? d_layout.type
                                     : static_cast<cudaDataType>(description.bias_type);
  }

  bool operands_in_bounds(int device) const {
    const auto check = [device](const char* name, const void* at, int64_t bytes) {
      return in_bounds(name, at, bytes, device);
    };
    const bool bias = description.epilogue == CUBLASLT_EPILOGUE_BIAS;
    return check("a", a, extent(a_layout)) && check("b", b, extent(b_layout)) &&
           check("d", d, extent(d_layout)) && (beta == 0 || check("c", c, extent(c_layout))) &&
           (!bias || check("bias", description.bias, d_layout.rows * size_of(bias_type())));
  }

  void run() const {
    const int64_t m = d_layout.rows, n = d_layout.columns;
    const bool ta = description.transpose_a == CUBLAS_OP_T;
    const bool tb = description.transpose_b == CUBLAS_OP_T;
    const int64_t depth = ta ? a_layout.rows : a_layout.columns;
    std::vector<float> wide_a(static_cast<size_t>(m * depth)), sums(static_cast<size_t>(m));
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t i = 0; i < m; ++i)
        wide_a[static_cast<size_t>(k * m + i)] =
            load(a, a_layout.type, ta ? i * a_layout.stride + k : k * a_layout.stride + i);
    for (int64_t j = 0; j < n; ++j) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t k = 0; k < depth; ++k) {
        const float factor =
            load(b, b_layout.type, tb ? k * b_layout.stride + j : j * b_layout.stride + k);
        const float* column = wide_a.data() + k * m;
        for (int64_t i = 0; i < m; ++i) sums[static_cast<size_t>(i)] += column[i] * factor;
      }
      for (int64_t i = 0; i < m; ++i) {
        float value = alpha * sums[static_cast<size_t>(i)];
        if (beta != 0) value += beta * load(c, c_layout.type, j * c_layout.stride + i);
        if (description.epilogue == CUBLASLT_EPILOGUE_BIAS)
          value += load(description.bias, bias_type(), i);
        store(d, d_layout.type, j * d_layout.stride + i, value);
      }
    }
  }
};

template <class T>
bool take(T& field, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return false;
  std::memcpy(&field, value, bytes);
  return true;
}

}  // namespace
}  // namespace tenon::cuda_on_cpu

using namespace tenon::cuda_on_cpu;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  const Lock lock(runtime_lock());
  if (obstacle() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *description = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  bool taken = false;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: taken = take(description->transpose_a, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: taken = take(description->transpose_b, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: taken = take(description->epilogue, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: taken = take(description->bias, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      taken = take(description->bias_type, value, bytes);
      break;
  }
  return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete description;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  *layout = new cublasLtMatrixLayoutOpaque_t{type, static_cast<int64_t>(rows),
                                             static_cast<int64_t>(columns), stride};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  uint32_t search_mode = 0;
  bool taken = false;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE: taken = take(search_mode, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      taken = take(preference->workspace, value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      taken = take(preference->reduction, value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      taken = take(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                   value, bytes);
      break;
  }
  return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t found[], int* count) {
  *count = 0;
  if (wanted <= 0 || !sizes_agree(*description, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!types_supported(*a, *b, *c, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
  uint64_t alignment = 256;
  const Layout* layouts[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    const auto stride = static_cast<uint64_t>(layouts[i]->stride * size_of(layouts[i]->type));
    alignment = std::min(alignment, common_alignment(preference->alignment[i], stride));
  }
  for (uint64_t i = 0; i < std::size(kAlgorithms) && *count < wanted; ++i) {
    if (kAlgorithms[i].alignment > alignment) continue;
    if (kAlgorithms[i].workspace > preference->workspace) continue;
    found[*count] = {};
    found[*count].algo.data[0] = kMagic;
    found[*count].algo.data[1] = i;
    found[*count].workspaceSize = kAlgorithms[i].workspace;
    found[*count].wavesCount = 1;
    ++*count;
  }
  return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t handle_of_stream) {
  const Lock lock(runtime_lock());
  CUstream_st* stream = stream_of(handle_of_stream);
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (stream == nullptr || !sizes_agree(*description, *a_layout, *b_layout, *c_layout, *d_layout))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!types_supported(*a_layout, *b_layout, *c_layout, *d_layout))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  Algorithm chosen = kAlgorithms[2];
  if (algorithm != nullptr) {
    if (algorithm->data[0] != kMagic || algorithm->data[1] >= std::size(kAlgorithms))
      return CUBLAS_STATUS_INVALID_VALUE;
    chosen = kAlgorithms[algorithm->data[1]];
  }
  for (const auto& [at, layout] : {std::pair(a, a_layout), std::pair(b, b_layout),
                                   std::pair(static_cast<const void*>(d), d_layout)}) {
    const auto stride = static_cast<uint64_t>(layout->stride * size_of(layout->type));
    if (common_alignment(reinterpret_cast<uintptr_t>(at), stride) < chosen.alignment)
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (chosen.workspace > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
  const Product product = {*description,
                           *a_layout,
                           *b_layout,
                           *c_layout,
                           *d_layout,
                           a,
                           b,
                           c,
                           d,
                           *static_cast<const float*>(alpha),
                           *static_cast<const float*>(beta)};
  const cudaError_t error =
      enqueue_task(stream, [product, workspace, bytes = chosen.workspace, device = stream->device] {
        if (!product.operands_in_bounds(device)) return cudaErrorIllegalAddress;
        product.run();
        if (bytes == 0) return cudaSuccess;
        if (!in_bounds("workspace", workspace, static_cast<int64_t>(bytes), device))
          return cudaErrorIllegalAddress;
        std::memset(workspace, 0xff, bytes);  // whoever keeps something there loses it
        return cudaSuccess;
      });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
