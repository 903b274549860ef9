// SPDX-License-Identifier: Apache-2.0
// The builders of the model families, one a file; registry.cpp lists them by model_type.
#pragma once

#include <memory>

#include "core/json.h"
#include "models/model.h"

namespace tenon {

std::unique_ptr<Model> build_gpt2(const JsonObject& config);
std::unique_ptr<Model> build_opt(const JsonObject& config);
std::unique_ptr<Model> build_llama(const JsonObject& config);
std::unique_ptr<Model> build_mistral(const JsonObject& config);

}  // namespace tenon
