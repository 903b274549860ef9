// SPDX-License-Identifier: Apache-2.0
// The CPU's one kernel table where TENON_CPU_TABLES is scalar: for builds that are to be quick or
// that watch memory, where the kernels are not what is looked at.
#include <vector>

#include "core/backend.h"

namespace tenon::cpu {

namespace scalar {
extern const KernelTable table;
}

const std::vector<Implementation>& implementations() {
  static const std::vector<Implementation> list = {{&scalar::table, [] { return true; }}};
  return list;
}

}  // namespace tenon::cpu
