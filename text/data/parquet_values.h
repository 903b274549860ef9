// SPDX-License-Identifier: Apache-2.0
// Values of Arrow's types as JSON: see parquet_plugin.h for what becomes what.
#pragma once

#include <arrow/api.h>

#include <nlohmann/json.hpp>

namespace tenon {

// Throws std::runtime_error for what is damaged. `depth`: how many values it lies within.
nlohmann::ordered_json parquet_value(const arrow::Array& array, int64_t i, int depth = 0);

// Adds a member that the object has not yet; null is left out.
void add_unless_null(nlohmann::ordered_json& object, const std::string& name,
                     nlohmann::ordered_json value);

}  // namespace tenon
