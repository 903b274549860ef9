// SPDX-License-Identifier: Apache-2.0
// cuBLASLt stores matrices by columns; a row-major matrix is its transpose there. So what it is
// asked for is c^T = op(b)^T op(a)^T: b first, sizes n, m, k, and each flag as it is.
#include "kernels/cuda/cublaslt.h"

#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "core/device.h"
#include "core/error.h"
#include "kernels/cuda/matmul_choice.h"
#include "kernels/cuda/runtime.h"

namespace tenon::cuda {
namespace {

constexpr int64_t kMostWorkspace = int64_t{32} << 20;  // what NVIDIA recommends for Hopper
constexpr int kCandidates = 8;

const CublasLt& library() {
  static const CublasLt functions = load_cublaslt();
  return functions;
}

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(Exit::kEnvironment, "[cuda] cublasLt{} failed with status {}", what,
       static_cast<int>(status));
}

cublasLtHandle_t handle() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t created = nullptr;
    check(library().Create(&created), "Create");
    return created;
  }();
  return handle;
}

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kBF16: return CUDA_R_16BF;
    case DType::kF16: return CUDA_R_16F;
    default: return CUDA_R_32F;
  }
}

// A matrix as it lies: `rows` of `columns` elements.
class Layout {
 public:
  Layout(DType dtype, int64_t rows, int64_t columns, int64_t stride) {
    check(library().MatrixLayoutCreate(&layout_, type_of(dtype), static_cast<uint64_t>(columns),
                                       static_cast<uint64_t>(rows), stride),
          "MatrixLayoutCreate");
  }
  Layout(const MatrixOperand& x, int64_t rows, int64_t columns)
      : Layout(x.dtype, x.transposed ? columns : rows, x.transposed ? rows : columns, x.stride) {}
  ~Layout() { library().MatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

class Description {
 public:
  explicit Description(const LibraryProduct& p) {
    check(library().MatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "MatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.bias == nullptr) return;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  }
  ~Description() { library().MatmulDescDestroy(description_); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  cublasLtMatmulDesc_t get() const { return description_; }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    check(library().MatmulDescSetAttribute(description_, attribute, &value, sizeof(value)),
          "MatmulDescSetAttribute");
  }
  cublasLtMatmulDesc_t description_ = nullptr;
};

class Preference {
 public:
  explicit Preference(const LibraryProduct& p) {
    check(library().MatmulPreferenceCreate(&preference_), "MatmulPreferenceCreate");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kMostWorkspace));
    // Parts of a split K are added in fp32, never in the type of c.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.c));
  }
  ~Preference() { library().MatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  static uint32_t alignment(const void* pointer) {
    return static_cast<uint32_t>(alignment_of(pointer));
  }
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(library().MatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof(value)),
          "MatmulPreferenceSetAttribute");
  }
  cublasLtMatmulPreference_t preference_ = nullptr;
};

struct Algorithm {
  cublasLtMatmulAlgo_t id;
  int64_t workspace;  // bytes that it asks for
};

// A product in the library's words.
class Problem {
 public:
  explicit Problem(const LibraryProduct& p)
      : product_(p),
        description_(p),
        first_(p.b, p.k, p.n),
        second_(p.a, p.m, p.k),
        result_(p.c_dtype, p.m, p.n, p.c_stride) {}

  // The library's proposals, best first by its own estimate; none where it has none.
  std::vector<Algorithm> propose() const {
    const Preference preference(product_);
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found;
    int count = 0;
    const cublasStatus_t status = library().MatmulAlgoGetHeuristic(
        handle(), description_.get(), first_.get(), second_.get(), result_.get(), result_.get(),
        preference.get(), kCandidates, found.data(), &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
    check(status, "MatmulAlgoGetHeuristic");
    std::vector<Algorithm> algorithms;
    for (int i = 0; i < count; ++i) {
      const auto& proposal = found[static_cast<size_t>(i)];
      algorithms.push_back({proposal.algo, static_cast<int64_t>(proposal.workspaceSize)});
    }
    return algorithms;
  }

  cublasStatus_t run(const Algorithm& algorithm, void* c) const {
    const float beta = product_.accumulate ? 1.0f : 0.0f;
    const int64_t bytes = algorithm.workspace;
    return library().Matmul(handle(), description_.get(), &product_.alpha, product_.b.data,
                            first_.get(), product_.a.data, second_.get(), &beta, c, result_.get(),
                            c, result_.get(), &algorithm.id,
                            bytes > 0 ? device_scratch(kWorkspace, bytes) : nullptr,
                            static_cast<size_t>(bytes), stream());
  }

 private:
  const LibraryProduct& product_;
  Description description_;
  Layout first_, second_, result_;
};

// What decides which algorithms there are, and how fast they are.
ProblemKey key_of(const LibraryProduct& p) {
  return {p.m,
          p.n,
          p.k,
          p.a.stride,
          p.b.stride,
          p.c_stride,
          p.a.transposed,
          p.b.transposed,
          static_cast<int64_t>(p.a.dtype),
          static_cast<int64_t>(p.c_dtype),
          alignment_of(p.a.data),
          alignment_of(p.b.data),
          alignment_of(p.c),
          p.bias != nullptr,
          p.bias != nullptr ? alignment_of(p.bias) : 0,
          p.accumulate,
          timed()};
}

// The first proposal, or the fastest one. One that the library then refuses to run is passed over.
std::optional<Algorithm> choose(const LibraryProduct& p, const Problem& problem) {
  const std::vector<Algorithm> candidates = problem.propose();
  if (candidates.empty()) return {};
  if (!timed() || candidates.size() == 1) return candidates[0];
  void* c = timed_result(p.c, p.m * p.c_stride * size_of(p.c_dtype), p.accumulate);
  std::optional<Algorithm> best;
  float shortest = 0;
  for (const Algorithm& candidate : candidates) {
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    const float time = milliseconds([&] { status = problem.run(candidate, c); });
    if (status != CUBLAS_STATUS_SUCCESS || (best && time >= shortest)) continue;
    best = candidate;
    shortest = time;
  }
  return best;
}

}  // namespace

bool multiply_by_library(const LibraryProduct& product) {
  static std::mutex mutex;
  static std::map<ProblemKey, std::optional<Algorithm>> known;
  const Problem problem(product);
  const ProblemKey key = key_of(product);
  std::optional<Algorithm> algorithm;
  {
    const std::lock_guard lock(mutex);
    auto found = known.find(key);
    if (found == known.end()) found = known.emplace(key, choose(product, problem)).first;
    algorithm = found->second;
  }
  if (!algorithm) return false;
  check(problem.run(*algorithm, product.c), "Matmul");
  return true;
}

}  // namespace tenon::cuda
