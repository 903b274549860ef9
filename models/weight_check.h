// SPDX-License-Identifier: Apache-2.0
// Weights that are inf or NaN, told by file, tensor and element: before they make a loss of them, or
// when a loss shows that some are there.
#pragma once

#include <filesystem>
#include <string>

#include "core/error.h"
#include "core/tensor_file.h"
#include "models/model.h"

namespace tenon {

// One line about the first value of `model` that is not finite, "" where all are: the file it was
// read from (the model's folder, or the adapter's where there is one), or what became of it since.
std::string not_finite_weight(Model& model, const std::filesystem::path& folder,
                              const std::filesystem::path& adapter = {});

// Throws Error(kNumeric) with that line.
void check_finite(Model& model, const std::filesystem::path& folder,
                  const std::filesystem::path& adapter = {});

// What `work` returns; where it ends for a number that is none, the error names such a weight too.
template <class Work>
auto naming_weights(Model& model, const std::filesystem::path& folder,
                    const std::filesystem::path& adapter, const Work& work) {
  try {
    return work();
  } catch (const Error& e) {
    const std::string line =
        e.code() == Exit::kNumeric ? not_finite_weight(model, folder, adapter) : "";
    if (line.empty()) throw;
    throw Error(e.code(), fmt::format("{}; {}", e.what(), line));
  }
}

// Bytes of all values of a model: what a check reads.
int64_t weight_bytes(Model& model);

// What is to be said of an element of a stored tensor that as `to` is not finite.
std::string origin_text(const TensorEntry& entry, int64_t index, DType to);

// "more than fp16 holds (65504)"
std::string beyond_text(DType to);

}  // namespace tenon
