// SPDX-License-Identifier: Apache-2.0
// The kernels that are bound by memory, each with arrays to run on.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/kernel_table.h"
#include "core/tensor.h"

namespace tenon::bench {

// One kernel at one size. The arrays are its inputs and outputs, as they are before it runs.
struct RowCase {
  std::vector<Tensor> arrays;
  std::vector<size_t> outputs;  // those of the arrays that are compared
  // The largest error allowed, as a share of an output's largest magnitude, in units of the rounding
  // of the coarsest dtype among the arrays; a sum of many terms has more.
  double roundings = 4;
  std::function<void(const KernelTable& table, const std::vector<Tensor>& arrays)> run;
};

// How wide an activation is where nothing else is said: GPT-2's residual stream, its MLP, its
// vocabulary.
enum class Width { kModel, kInner, kVocabulary };

struct RowKernel {
  std::string name;  // of the kernel, and what is special about the case
  Width width;
  std::function<RowCase(int64_t rows, int64_t channels, DType dtype)> make;
};

// In the order of the table of kernels.
std::vector<RowKernel> row_kernels();

// The two halves of the list: what a layer computes, and what copies, adds and updates.
void add_layer_kernels(std::vector<RowKernel>& kernels);
void add_plain_kernels(std::vector<RowKernel>& kernels);

}  // namespace tenon::bench
