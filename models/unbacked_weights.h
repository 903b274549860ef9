// SPDX-License-Identifier: Apache-2.0
// The weights of a model that is only a config.json, for dry runs (core/counting.h): what a checkpoint
// of it would hold, mapped where nothing lies.
#pragma once

#include <filesystem>

#include "core/weight_files.h"
#include "models/model.h"

namespace tenon {

// Every base parameter under its name, in this dtype; `source` is what messages name.
WeightFiles unbacked_weights(Model& model, DType dtype, const std::filesystem::path& source);

// The dtype that a config.json says its weights have ("dtype", or "torch_dtype"); fp32 where it says
// nothing.
DType stated_dtype(const Json& config);

}  // namespace tenon
