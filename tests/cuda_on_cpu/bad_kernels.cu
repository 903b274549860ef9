// SPDX-License-Identifier: Apache-2.0
// Kernels that each break one rule. Where the order of threads decides what is seen first, `kind`
// names both.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "tests/cuda_on_cpu/test_kernels.h"

namespace tenon::cuda_on_cpu {
namespace {

using namespace tenon::cuda;

constexpr unsigned kAll = 0xffffffffu;

__device__ float* shared() { return dynamic_shared<float>(); }
__device__ int thread() { return static_cast<int>(threadIdx.x); }

__global__ void missing_barrier(float* data, int) {
  shared()[thread()] = 1;
  data[thread()] = shared()[(thread() + 32) % 64];
}

__global__ void missing_second_barrier(float* data, int) {
  shared()[thread()] = 1;
  __syncthreads();
  data[thread()] = shared()[63 - thread()];
  shared()[thread()] = 2;
}

__global__ void same_address(float*, int) { shared()[0] = 1; }

__global__ void missing_syncwarp(float* data, int) {
  shared()[thread()] = 1;
  data[thread()] = shared()[thread() ^ 1];
}

__global__ void missing_second_syncwarp(float* data, int) {
  shared()[thread()] = 1;
  __syncwarp();
  data[thread()] = shared()[thread() ^ 1];
  shared()[thread()] = 2;
}

__global__ void shuffle_for_barrier(float* data, int) {
  shared()[thread()] = 1;
  const int other = __shfl_xor_sync(kAll, thread(), 1);
  data[thread()] = shared()[other];
}

__global__ void syncwarp_of_others(float* data, int) {
  shared()[thread()] = 1;
  __syncwarp(thread() % 2 == 0 ? 0x55555555u : 0xaaaaaaaau);
  data[thread()] = shared()[thread() ^ 1];
}

__global__ void neighbour_halves(float* data, int) {
  f16* s = dynamic_shared<f16>();
  s[thread()] = __float2half(1.0f);
  data[thread()] = __half2float(s[(thread() + 2) % 32]);
}

__global__ void plain_shared_race(float* data, int) {
  __shared__ float turned[64];
  turned[thread()] = 1;
  data[thread()] = turned[63 - thread()];
}

__global__ void atomic_against_read(float* data, int) {
  TENON_SHARED(int, counter, 1);
  if (thread() == 0) counter[0] = 0;
  __syncthreads();
  if (thread() % 2 == 0)
    atomicAdd(&counter[0], 1);
  else
    data[thread()] = static_cast<float>(counter[0]);
}

__global__ void unwritten(float* data, int) { data[thread()] = shared()[thread()]; }

__global__ void unwritten_half(float* data, int) {
  f16* s = dynamic_shared<f16>();
  s[2 * thread()] = __float2half(1.0f);
  data[thread()] = *reinterpret_cast<const float*>(s + 2 * thread());
}

__global__ void tail_write(float* data, int) { data[thread()] = 1; }

__global__ void tail_read(float* data, int count) {
  const float next = data[thread() + 1];
  if (thread() < count) data[thread()] = next;
}

__global__ void before_begin(float* data, int) { data[thread() - 1] = 1; }

__global__ void vector_past_end(float* data, int count) {
  const float4 v = *reinterpret_cast<const float4*>(data + count / 4 * 4);
  data[0] = v.w;
}

__global__ void dynamic_past_end(float*, int) { shared()[kTestShared / 4 - 63 + thread()] = 1; }

__global__ void static_past_end(float* data, int) {
  TENON_SHARED(float, first, 8);
  TENON_SHARED(float, second, 8);
  second[thread() % 8] = 1;
  float* p = first;
  data[0] = p[8 + thread()];
}

__global__ void index_past_end(float* data, int count) {
  TENON_SHARED(float, few, 8);
  few[count - 56 + thread()] = 1;
  data[0] = 1;
}

__global__ void local_past_end(float* data, int count) {
  float few[4] = {};
  for (int i = 0; i < count / 10; ++i) few[i] += 1;
  data[0] = few[thread() % 4];
}

__global__ void misaligned_load(float* data, int) {
  const float4 v = *reinterpret_cast<const float4*>(data + 1);
  data[0] = v.x;
}

__global__ void misaligned_store(float* data, int) {
  *reinterpret_cast<float2*>(data + 3) = make_float2(1, 2);
}

__global__ void local_of_another(float* data, int) {
  TENON_SHARED(const float*, where, 1);
  float mine = static_cast<float>(thread());
  if (thread() == 0) where[0] = &mine;
  __syncthreads();
  data[thread()] = *where[0];
  __syncthreads();
}

__global__ void null_pointer(float* data, int count) {
  float* nowhere = count > 0 ? nullptr : data;
  nowhere[thread()] = 1;
}

__global__ void trapped(float*, int) { __trap(); }

__global__ void two_barriers(float*, int) {
  if (thread() < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void barrier_and_warp(float*, int) {
  if (thread() != 5) __syncwarp();
  __syncthreads();
}

__global__ void lane_outside_mask(float* data, int) {
  if (thread() < 16) data[thread()] = __shfl_sync(0x0000ffffu, static_cast<float>(thread()), 20);
}

__global__ void lane_exited(float* data, int) {
  if (thread() == 5) return;
  data[thread()] = __shfl_xor_sync(kAll, 1.0f, 1);
}

__global__ void caller_outside_mask(float* data, int) {
  data[thread()] = __shfl_sync(0x0000ffffu, 1.0f, 0);
}

__global__ void masks_differ(float* data, int) {
  const unsigned mask = thread() < 16 ? 0xffffffffu : 0xffff0001u;
  data[thread()] = __shfl_sync(mask, 1.0f, 0);
}

__global__ void collectives_differ(float*, int) {
  if (thread() % 2 == 0) {
    __ballot_sync(kAll, 1);
  } else {
    __syncwarp();
  }
}

__global__ void read_before_wait(float* data, int) {
  cp_async<4>(shared() + thread(), data + thread());
  cp_async_commit();
  data[thread()] = shared()[thread()];
  cp_async_wait<0>();
}

__global__ void wait_for_too_few(float* data, int) {
  cp_async<4>(shared() + thread(), data + thread());
  cp_async_commit();
  cp_async<4>(shared() + 64 + thread(), data + thread());
  cp_async_commit();
  cp_async_wait<1>();
  data[thread()] = shared()[64 + thread()];
  cp_async_wait<0>();
}

__global__ void wait_without_barrier(float* data, int) {
  cp_async<4>(shared() + thread(), data + thread());
  cp_async_commit();
  cp_async_wait<0>();
  data[thread()] = shared()[63 - thread()];
}

__global__ void copy_over_what_is_read(float* data, int) {
  shared()[thread()] = 1;
  __syncthreads();
  data[thread()] = shared()[63 - thread()];
  cp_async<4>(shared() + thread(), data + thread());
  cp_async_commit();
  cp_async_wait<0>();
}

__global__ void write_in_flight(float* data, int) {
  cp_async<4>(shared() + thread(), data + thread());
  cp_async_commit();
  shared()[thread()] = 1;
  cp_async_wait<0>();
}

__global__ void never_waited(float* data, int) {
  cp_async<4>(shared() + thread(), data + thread());
  cp_async_commit();
}

__global__ void copy_past_end(float* data, int count) {
  cp_async<16>(shared() + 4 * thread(), data + count / 4 * 4 - 4 + 4 * thread());
  cp_async_commit();
  cp_async_wait<0>();
}

__global__ void copy_misaligned(float* data, int) {
  cp_async<16>(shared() + 4 * thread(), data + 4 * thread() + 2);
  cp_async_commit();
  cp_async_wait<0>();
}

__global__ void copy_to_global(float* data, int) {
  cp_async<4>(data + thread(), data + thread());
  cp_async_commit();
  cp_async_wait<0>();
}

__global__ void ldmatrix_misaligned(float* data, int) {
  for (int i = thread(); i < 256; i += 32) shared()[i] = 0;
  __syncthreads();
  uint32_t r[2];
  ldmatrix_x2(r, shared() + 4 * (thread() % 16) + 1);
  data[thread()] = static_cast<float>(r[0]);
}

__global__ void ldmatrix_of_unwritten(float* data, int) {
  uint32_t r[2];
  ldmatrix_x2(r, shared() + 4 * (thread() % 16));
  data[thread()] = static_cast<float>(r[0]);
}

__global__ void mma_by_half_a_warp(float* data, int) {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  if (thread() < 16) return;
  mma_m16n8k16_f16(d, a, b);
  data[thread()] = d[0];
}

__device__ int deep(int depth) {
  volatile int frame[16];
  frame[depth % 16] = depth;
  return depth == 0 ? 0 : deep(depth - 1) + frame[depth % 16];
}

__global__ void recursive(int depth, int* result) {
  const int sum = deep(depth);
  if (result != nullptr) *result = sum;
}

}  // namespace

const std::vector<TestKernel>& bad_kernels() {
#define X(kind, threads, name) \
  { #name, kind, threads, name }
  static const std::vector<TestKernel> all = {
      X("race, unwritten", 64, missing_barrier),
      X("race", 64, missing_second_barrier),
      X("race", 64, same_address),
      X("race, unwritten", 32, missing_syncwarp),
      X("race", 32, missing_second_syncwarp),
      X("race", 32, shuffle_for_barrier),
      X("race", 32, syncwarp_of_others),
      X("race, unwritten", 32, neighbour_halves),
      X("race, unwritten", 64, plain_shared_race),
      X("race", 64, atomic_against_read),
      X("unwritten", 64, unwritten),
      X("unwritten", 32, unwritten_half),
      X("out of bounds", 128, tail_write),
      X("out of bounds", 128, tail_read),
      X("out of bounds", 32, before_begin),
      X("out of bounds", 1, vector_past_end),
      X("out of bounds", 64, dynamic_past_end),
      X("out of bounds", 8, static_past_end),
      X("out of bounds", 8, index_past_end),
      X("out of bounds", 8, local_past_end),
      X("misaligned", 1, misaligned_load),
      X("misaligned", 1, misaligned_store),
      X("out of bounds", 32, local_of_another),
      X("out of bounds", 32, null_pointer),
      X("trap", 32, trapped),
      X("divergent barrier", 64, two_barriers),
      X("divergent barrier", 64, barrier_and_warp),
      X("shuffle", 32, lane_outside_mask),
      X("shuffle", 32, lane_exited),
      X("mask", 32, caller_outside_mask),
      X("divergent warp", 32, masks_differ),
      X("divergent warp", 32, collectives_differ),
      X("in flight", 32, read_before_wait),
      X("in flight", 32, wait_for_too_few),
      X("race, unwritten, in flight", 64, wait_without_barrier),
      X("race, in flight", 64, copy_over_what_is_read),
      X("in flight", 32, write_in_flight),
      X("cp.async", 32, never_waited),
      X("out of bounds", 32, copy_past_end),
      X("misaligned", 8, copy_misaligned),
      X("out of bounds", 32, copy_to_global),
      X("misaligned", 32, ldmatrix_misaligned),
      X("unwritten", 32, ldmatrix_of_unwritten),
      X("divergent warp", 32, mma_by_half_a_warp),
  };
#undef X
  return all;
}

void start_deep(int depth) {
  launch("recursive", recursive, dim3(1), dim3(1), 0, depth, static_cast<int*>(nullptr));
}

}  // namespace tenon::cuda_on_cpu
