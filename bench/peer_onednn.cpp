// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include <dnnl.hpp>
#include <string>

#include "bench/peer.h"

namespace tenon::bench {
namespace {

dnnl::memory::data_type type_of(DType dtype) {
  return dtype == DType::kBF16  ? dnnl::memory::data_type::bf16
         : dtype == DType::kF16 ? dnnl::memory::data_type::f16
                                : dnnl::memory::data_type::f32;
}

dnnl::memory::desc describe(DType dtype, int64_t rows, int64_t columns, int64_t stride,
                            bool transposed) {
  const dnnl::memory::dims strides =
      transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
  return dnnl::memory::desc({rows, columns}, type_of(dtype), strides);
}

// Versions 2 and 3 differ in how a primitive is described.
#if DNNL_VERSION_MAJOR >= 3
dnnl::matmul::primitive_desc describe_matmul(const dnnl::engine& engine,
                                             const dnnl::memory::desc& a,
                                             const dnnl::memory::desc& b,
                                             const dnnl::memory::desc& c) {
  return {engine, a, b, c};
}
#else
dnnl::matmul::primitive_desc describe_matmul(const dnnl::engine& engine,
                                             const dnnl::memory::desc& a,
                                             const dnnl::memory::desc& b,
                                             const dnnl::memory::desc& c) {
  return {dnnl::matmul::desc(a, b, c), engine};
}
#endif

std::function<void()> prepare(const MatmulArgs& args) {
  if (!is_plain_product(args)) return {};
  try {
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    const auto a = describe(args.a.dtype, args.m, args.k, args.a.stride, args.a.transposed);
    const auto b = describe(args.b.dtype, args.k, args.n, args.b.stride, args.b.transposed);
    const auto c = describe(args.c_dtype, args.m, args.n, args.c_stride, false);
    const dnnl::matmul product(describe_matmul(engine, a, b, c));
    const std::unordered_map<int, dnnl::memory> operands = {
        {DNNL_ARG_SRC, dnnl::memory(a, engine, const_cast<void*>(args.a.data))},
        {DNNL_ARG_WEIGHTS, dnnl::memory(b, engine, const_cast<void*>(args.b.data))},
        {DNNL_ARG_DST, dnnl::memory(c, engine, args.c)}};
    return [product, operands, stream = dnnl::stream(engine)]() mutable {
      product.execute(stream, operands);
      stream.wait();
    };
  } catch (const dnnl::error&) {
    return {};  // this version has no such product
  }
}

}  // namespace

std::optional<Peer> onednn_peer(int threads) {
  omp_set_num_threads(threads);
  const dnnl_version_t* v = dnnl_version();
  Peer peer;
  peer.name = "oneDNN";
  peer.version = "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
                 std::to_string(v->patch);
  peer.quiet = threads > 1 ? 0.02 : 0;  // GNU's OpenMP
  peer.matmul = prepare;
  return peer;
}

}  // namespace tenon::bench
