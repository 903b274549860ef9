// SPDX-License-Identifier: Apache-2.0
// How a kernel is started and how it names its shared memory. Kernels use this file and ptx.cuh
// instead of <<<>>>, __shared__ and asm, so that tests/cuda_on_cpu can put its own two in their
// place and run the same source on a CPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace tenon::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

// Starts kernel(args...) on stream(), on `blocks` of `threads` with `shared_bytes` of dynamic shared
// memory; the kernel's limit above 48 KB is raised here. A grid with a zero extent starts nothing.
// Throws Error(kInternal) with the kernel's name when CUDA refuses the launch.
template <class... Parameters, class... Args>
static void launch(const char* name, void (*kernel)(Parameters...), dim3 blocks, dim3 threads,
                   int64_t shared_bytes, Args... args) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  note_launch(name);
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 * 1024)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  if (error == cudaSuccess) {
    kernel<<<blocks, threads, static_cast<size_t>(shared_bytes), stream()>>>(
        static_cast<Parameters>(args)...);
    error = cudaGetLastError();
  }
  check(error, "starting a kernel");
}

// A static shared array of a kernel or device function: TENON_SHARED(float, partial, 32);
#define TENON_SHARED(T, name, count) __shared__ T name[count]

// The block's dynamic shared memory, 128-byte aligned.
template <class T>
static __device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char tenon_dynamic_shared[];
  return reinterpret_cast<T*>(tenon_dynamic_shared);
}

}  // namespace tenon::cuda
