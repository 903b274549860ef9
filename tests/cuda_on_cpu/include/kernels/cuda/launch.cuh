// SPDX-License-Identifier: Apache-2.0
// Shadows kernels/cuda/launch.cuh when a .cu file is compiled for the CPU: same names, same
// contract.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <tuple>

#include "kernels/cuda/runtime.h"

namespace tenon::cuda_on_cpu {

// A kernel with its arguments, as the queue of a stream keeps it.
struct Launch {
  const char* name = "";
  const void* function = nullptr;
  int architecture = 0;  // the variant's number, 0 when it is not compiled as one
  dim3 blocks, threads;
  int64_t shared_bytes = 0;
  void (*run)(const void* arguments) = nullptr;  // calls the kernel, on one of its threads
  std::shared_ptr<const void> arguments;
  int64_t argument_bytes = 0;
};

cudaError_t enqueue(Launch launch, cudaStream_t stream);

// The block's shared array that `tag` stands for: made at the block's first call.
void* shared_array(const void* tag, const char* name, int64_t bytes, int64_t alignment);
void* dynamic_shared_memory();

template <class... Parameters>
struct KernelCall {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;

  static void run(const void* call) {
    const auto& self = *static_cast<const KernelCall*>(call);
    std::apply(self.kernel, self.arguments);
  }
};

}  // namespace tenon::cuda_on_cpu

namespace tenon::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

#ifndef TENON_SM_NUMBER
#define TENON_SM_NUMBER 0
#endif

template <class... Parameters, class... Args>
static void launch(const char* name, void (*kernel)(Parameters...), dim3 blocks, dim3 threads,
                   int64_t shared_bytes, Args... args) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  note_launch(name);
  using Call = cuda_on_cpu::KernelCall<Parameters...>;
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 * 1024)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  if (error == cudaSuccess)
    error = cuda_on_cpu::enqueue(
        {name, reinterpret_cast<const void*>(kernel), TENON_SM_NUMBER, blocks, threads,
         shared_bytes, &Call::run,
         std::make_shared<const Call>(Call{kernel, {static_cast<Parameters>(args)...}}),
         static_cast<int64_t>(sizeof(Call))},
        stream());
  check(error, "starting a kernel");
}

#define TENON_SHARED(T, name, count)                                      \
  static const char name##_tag = 0;                                       \
  T(&name)                                                                \
  [count] = *static_cast<T(*)[count]>(::tenon::cuda_on_cpu::shared_array( \
      &name##_tag, #name, static_cast<int64_t>(sizeof(T) * (count)), alignof(T)))

template <class T>
static T* dynamic_shared() {
  return static_cast<T*>(cuda_on_cpu::dynamic_shared_memory());
}

}  // namespace tenon::cuda
