// SPDX-License-Identifier: Apache-2.0
#include "tools/version.h"

#include <fmt/core.h>

#include "core/backend.h"
#include "version_commit.h"
#include "version_config.h"

namespace tenon {

std::string version_number() { return kVersion; }
std::string version_name() { return fmt::format("tenon {}", kVersion); }

std::string version_text() {
  std::string tables;
  for (const KernelTable* table : usable_tables())
    tables += fmt::format("{}{}", tables.empty() ? "" : ", ", table->name);
  const cuda::Backend& cuda = cuda::backend();
  for (int i = 0; i < cuda.implementation_count; ++i)
    tables += fmt::format("{}{}", i == 0 ? "; CUDA " : ", ", cuda.implementations[i].table->name);
  return fmt::format("{} ({}, {}, {}; kernels {})", version_name(), kCommit, kBuildType, kCompiler,
                     tables);
}

std::string build_id() {
  return fmt::format("{} {} {} {}", kVersion, kCommit, kBuildType, kCompiler);
}

}  // namespace tenon
