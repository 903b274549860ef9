// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace tenon {
std::string version_number();  // "0.1.0"
std::string version_name();    // "tenon 0.1.0"
std::string
version_text();  // the same with commit, build type, compiler and the kernels that this CPU can run
std::string build_id();  // what ranks compare: version, commit, build type, compiler
}  // namespace tenon
