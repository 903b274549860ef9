// SPDX-License-Identifier: Apache-2.0
// tenon bench: the process becomes tenon-bench, which lies beside the program. So the program itself
// needs none of the libraries that kernels are compared with.
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/file.h"
#include "core/files.h"
#include "tools/command.h"

namespace tenon {

void become_bench(std::vector<std::string> words) {
  const std::filesystem::path bench =
      files::link_target("/proc/self/exe").parent_path() / "tenon-bench";
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  // OpenMP's threads, which peers use, would go on spinning on the cores that ours then run on.
  setenv("OMP_WAIT_POLICY", "passive", 0);
  execv(bench.c_str(), arguments.data());
  if (errno == ENOENT) {
    fail(Exit::kEnvironment,
         "bench: expected tenon-bench beside the program, got no {}: tools/dev build tenon-bench "
         "builds it",
         shown(bench));
  }
  fail(Exit::kEnvironment, "bench: cannot start {}: {}", shown(bench),
       std::error_code(errno, std::generic_category()).message());
}

}  // namespace tenon
