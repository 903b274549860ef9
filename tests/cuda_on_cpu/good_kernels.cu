// SPDX-License-Identifier: Apache-2.0
// Kernels that keep every rule, in ways that a checker may well take for violations.
#include <stdexcept>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "tests/cuda_on_cpu/test_kernels.h"

namespace tenon::cuda {

namespace {
thread_local cudaStream_t the_stream = nullptr;
}

cudaStream_t stream() { return the_stream; }
void note_launch(const char*) {}
void check(cudaError_t error, const char* doing) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(doing) + ": " + cudaGetErrorName(error));
}

}  // namespace tenon::cuda

namespace tenon::cuda_on_cpu {
namespace {

using namespace tenon::cuda;

constexpr unsigned kAll = 0xffffffffu;

__global__ void row_sums(const float* x, float* y, int columns) {
  TENON_SHARED(float, partial, 32);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const float* row = x + static_cast<int64_t>(blockIdx.x) * columns;
  float sum = 0;
  for (int i = thread; i < columns; i += threads) sum += row[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  if (thread % 32 == 0) partial[thread / 32] = sum;
  __syncthreads();
  if (thread != 0) return;
  float total = 0;
  for (int i = 0; i < threads / 32; ++i) total += partial[i];
  y[blockIdx.x] = total;
}

__global__ void add(float* data, int count, float value) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) data[i] += value;
}

__global__ void nothing() {}

__global__ void full_shared(float* data, int count) {
  float* s = dynamic_shared<float>();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += 32) s[i] = static_cast<float>(i);
  __syncwarp();
  data[threadIdx.x] = s[count - 1 - static_cast<int>(threadIdx.x)];
}

__global__ void reverse_twice(float* data, int) {
  float* s = dynamic_shared<float>();
  const unsigned t = threadIdx.x, n = blockDim.x;
  s[t] = static_cast<float>(t);
  __syncthreads();
  const float mirrored = s[n - 1 - t];
  __syncthreads();
  s[t] = mirrored;
  __syncthreads();
  data[t] = s[n - 1 - t];
}

__global__ void warp_exchange(float* data, int) {
  float* s = dynamic_shared<float>();
  const unsigned t = threadIdx.x;
  float value = static_cast<float>(t);
  for (unsigned step = 1; step < 32; step *= 2) {
    s[t] = value;
    __syncwarp();
    value = s[t ^ step];
    __syncwarp();
    s[t] = value;
    __syncwarp();
    value = s[t ^ step];
    __syncwarp();
  }
  data[t] = value;
}

// The halves of a warp each meet by themselves, in two branches.
__global__ void half_warps(float* data, int) {
  float* s = dynamic_shared<float>();
  const unsigned t = threadIdx.x, lane = t % 32;
  float value = static_cast<float>(t);
  if (lane < 16) {
    s[t] = value;
    __syncwarp(0x0000ffffu);
    value = s[t ^ 1];
    __syncwarp(0x0000ffffu);
    value = __shfl_xor_sync(0x0000ffffu, value, 1);
  } else {
    value = __shfl_xor_sync(0xffff0000u, value, 3, 16);
    value = __shfl_xor_sync(0xffff0000u, value, 3);
  }
  data[t] = value;
}

// Pairs of threads fill one word; then it is read whole.
__global__ void shared_halves(float* data, int) {
  f16* s = dynamic_shared<f16>();
  const unsigned t = threadIdx.x, n = blockDim.x;
  s[t] = __float2half(static_cast<float>(t));
  __syncthreads();
  const __half2 pair = reinterpret_cast<const __half2*>(s)[(n - 1 - t) / 2];
  __syncthreads();
  s[n - 1 - t] = t % 2 == 0 ? pair.y : pair.x;
  __syncthreads();
  data[t] = __half2float(s[t]);
}

__global__ void exits_before_barrier(float* data, int count) {
  float* s = dynamic_shared<float>();
  const int t = static_cast<int>(threadIdx.x);
  if (t >= count / 2) {
    data[t] = static_cast<float>(t);
    return;
  }
  s[t] = static_cast<float>(t);
  __syncthreads();
  data[t] = s[count / 2 - 1 - t] + static_cast<float>(2 * t - count / 2 + 1);
}

__global__ void plain_shared(float* data, int) {
  __shared__ float turned[128];
  const unsigned t = threadIdx.x;
  turned[t ^ 5] = static_cast<float>(t);
  __syncthreads();
  data[t] = turned[t ^ 5];
}

__global__ void counts_in_shared(float* data, int) {
  TENON_SHARED(int, counters, 2);
  const unsigned t = threadIdx.x;
  if (t < 2) counters[t] = 0;
  __syncthreads();
  atomicAdd(&counters[t % 2], 1);
  atomicAdd(&counters[1 - t % 2], 1);
  __syncthreads();
  const bool right = counters[0] == static_cast<int>(blockDim.x) && counters[1] == counters[0];
  data[t] = right ? static_cast<float>(t) : 1000.0f;
}

__global__ void votes(float* data, int) {
  const unsigned t = threadIdx.x, lane = t % 32;
  bool right = __ballot_sync(kAll, lane % 2) == 0xaaaaaaaau;
  right = right && __any_sync(kAll, lane == 7) && !__all_sync(kAll, lane == 7);
  right = right && __syncthreads_count(t % 2) == static_cast<int>(blockDim.x / 2);
  right = right && __syncthreads_or(t == 1) && !__syncthreads_and(t == 1);
  data[t] = right ? static_cast<float>(t) : 1000.0f;
}

__global__ void shuffles(float* data, int) {
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  bool right = __shfl_sync(kAll, t, 5) == t - lane + 5;
  right = right && __shfl_sync(kAll, lane, 1, 8) == lane / 8 * 8 + 1;
  right = right && __shfl_up_sync(kAll, lane, 2, 16) == (lane % 16 < 2 ? lane : lane - 2);
  right = right && __shfl_down_sync(kAll, lane, 3) == (lane > 28 ? lane : lane + 3);
  right = right && __shfl_xor_sync(kAll, int64_t{lane} << 40, 9) == int64_t{lane ^ 9} << 40;
  right = right && __shfl_xor_sync(kAll, 0.5 * lane, 1) == 0.5 * (lane ^ 1);
  right = right && __popc(__activemask() & 1u << lane) == 1;
  data[t] = right ? static_cast<float>(t) : 1000.0f;
}

// Two buffers in turn: the next tile is on its way while this one is read.
__global__ void copies_ahead(float* data, int) {
  float* s = dynamic_shared<float>();
  const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
  const bool copies = t < n / 4;
  data[t] = static_cast<float>(t);
  __syncthreads();
  if (copies) cp_async<16>(s + 4 * t, data + 4 * t);
  cp_async_commit();
  for (int tile = 0; tile < 4; ++tile) {
    if (copies && tile < 3) cp_async<16>(s + (tile + 1) % 2 * n + 4 * t, data + 4 * t);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    const float value = s[tile % 2 * n + n - 1 - t];
    __syncthreads();
    if (tile == 3) data[n - 1 - t] = value;
  }
}

__global__ void zero_fill(float* data, int) {
  float* s = dynamic_shared<float>();
  const int t = static_cast<int>(threadIdx.x);
  cp_async<4>(s + t, nullptr, false);
  cp_async_commit();
  cp_async_wait<0>();
  data[t] = s[t] + static_cast<float>(t);
}

__constant__ const float kTable[4] = {0, 1, 2, 3};

__global__ void constants(float* data, int) {
  const unsigned t = threadIdx.x;
  data[t] = kTable[t % 4] + static_cast<float>(t / 4 * 4);
}

}  // namespace

const std::vector<TestKernel>& good_kernels() {
  static const std::vector<TestKernel> all = {
      {"reverse_twice", "", 96, reverse_twice},
      {"reverse_twice, one warp and a bit", "", 33, reverse_twice},
      {"warp_exchange", "", 64, warp_exchange},
      {"half_warps", "", 64, half_warps},
      {"shared_halves", "", 128, shared_halves},
      {"exits_before_barrier", "", 128, exits_before_barrier},
      {"plain_shared", "", 128, plain_shared},
      {"counts_in_shared", "", 128, counts_in_shared},
      {"votes", "", 128, votes},
      {"shuffles", "", 128, shuffles},
      {"copies_ahead", "", 32, copies_ahead},
      {"zero_fill", "", 128, zero_fill},
      {"constants", "", 128, constants},
  };
  return all;
}

void start(const TestKernel& k, float* data, int count) {
  launch(k.name, k.kernel, dim3(1), dim3(static_cast<unsigned>(k.threads)), kTestShared, data,
         count);
}

void start_row_sums(const float* x, float* y, int rows, int columns) {
  launch("row_sums", row_sums, dim3(static_cast<unsigned>(rows)), dim3(128), 0, x, y, columns);
}

void start_add(float* data, int count, float value) {
  launch("add", add, dim3(static_cast<unsigned>(count + 63) / 64), dim3(64), 0, data, count, value);
}

void start_sized(dim3 blocks, dim3 threads, int64_t shared_bytes) {
  launch("nothing", nothing, blocks, threads, shared_bytes);
}

cudaError_t start_raw(int64_t shared_bytes) {
  using Call = KernelCall<>;
  return enqueue({"nothing", reinterpret_cast<const void*>(&nothing), 0, dim3(1), dim3(1),
                  shared_bytes, &Call::run, std::make_shared<const Call>(Call{nothing, {}}),
                  static_cast<int64_t>(sizeof(Call))},
                 nullptr);
}

void start_full_shared(float* data, int64_t shared_bytes) {
  launch("full_shared", full_shared, dim3(1), dim3(32), shared_bytes, data, shared_bytes / 4);
}

void set_stream(cudaStream_t stream) { tenon::cuda::the_stream = stream; }

}  // namespace tenon::cuda_on_cpu
