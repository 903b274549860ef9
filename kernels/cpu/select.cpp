// SPDX-License-Identifier: Apache-2.0
// The CPU's kernel tables, best first. Compiled without ISA flags.
#include "core/backend.h"

namespace tenon::cpu {

namespace scalar {
extern const KernelTable table;
}
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}

const std::vector<Implementation>& implementations() {
  static const std::vector<Implementation> list = {
      {&avx512::table,
       [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
       }},
      {&avx2::table,
       [] {
         return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c");
       }},
      {&scalar::table, [] { return true; }},
  };
  return list;
}

}  // namespace tenon::cpu
