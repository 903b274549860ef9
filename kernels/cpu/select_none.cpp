// SPDX-License-Identifier: Apache-2.0
// No kernel table, where TENON_CPU_TABLES is none: for fuzz targets, which read files and compute
// nothing, by compilers that the kernels are not written for.
#include <vector>

#include "core/backend.h"

namespace tenon::cpu {

const std::vector<Implementation>& implementations() {
  static const std::vector<Implementation> list;
  return list;
}

}  // namespace tenon::cpu
