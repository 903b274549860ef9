// SPDX-License-Identifier: Apache-2.0
// Amounts of memory as people write them, and what a machine says that it has.
#include "train/budget.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "tests/core/temp_folder.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

void put(const TempFolder& folder, const std::string& name, const std::string& text) {
  fs::create_directories((folder / name).parent_path());
  put_file(folder / name, text);
}

}  // namespace

TEST_CASE("sizes are read with the units that people write") {
  const auto bytes = [](const char* text) { return parse_bytes("--memory", text); };
  CHECK(bytes("8GB") == 8'000'000'000);
  CHECK(bytes("8gb") == 8'000'000'000);
  CHECK(bytes("8 G") == 8'000'000'000);
  CHECK(bytes("7.5GiB") == int64_t{15} << 29);
  CHECK(bytes("512MiB") == int64_t{512} << 20);
  CHECK(bytes("100kB") == 100'000);
  CHECK(bytes("1T") == 1'000'000'000'000);
  CHECK(bytes("2e9") == 2'000'000'000);
  CHECK(bytes("64") == 64);
  for (const char* wrong :
       {"", "GB", "0", "-1GB", "nan", "inf", "1e30", "8 apples", "8GB8", "0x10"}) {
    INFO(wrong);
    CHECK_THROWS_AS(bytes(wrong), Error);
  }
}

TEST_CASE("the least of what machine, cgroup and job have is what there is") {
  unsetenv("SLURM_MEM_PER_NODE");
  unsetenv("SLURM_MEM_PER_CPU");
  const TempFolder root;
  const std::string at = root.path().string();
  put(root, "proc/meminfo", "MemTotal:  16000 kB\nMemAvailable:    9000 kB\n");
  CHECK(available_memory(at) == 9000 * 1024);

  // Version 2: the parent's limit counts as well, and the page cache is free.
  put(root, "proc/self/cgroup", "0::/jobs/job7\n");
  put(root, "sys/fs/cgroup/jobs/job7/memory.max", "max\n");
  CHECK(available_memory(at) == 9000 * 1024);
  put(root, "sys/fs/cgroup/jobs/memory.max", "5000000\n");
  put(root, "sys/fs/cgroup/jobs/memory.current", "3000000\n");
  put(root, "sys/fs/cgroup/jobs/memory.stat", "anon 1\ninactive_file 700000\nactive_file 300000\n");
  CHECK(available_memory(at) == 3'000'000);
  put(root, "sys/fs/cgroup/jobs/job7/memory.max", "2500000\n");
  put(root, "sys/fs/cgroup/jobs/job7/memory.current", "500000\n");
  CHECK(available_memory(at) == 2'000'000);

  // Version 1.
  put(root, "proc/self/cgroup", "7:cpu:/\n4:memory:/slurm/job_7\n");
  put(root, "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes", "4000000\n");
  put(root, "sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes", "1000000\n");
  CHECK(available_memory(at) == 3'000'000);
  put(root, "sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes", "9000000\n");
  CHECK(available_memory(at) == 0);

  // A job whose limit is none of a cgroup's.
  fs::remove(root / "proc/self/cgroup");
  setenv("SLURM_MEM_PER_NODE", "2", 1);
  CHECK(available_memory(at) == 2 << 20);
  unsetenv("SLURM_MEM_PER_NODE");
  setenv("SLURM_MEM_PER_CPU", "1", 1);
  setenv("SLURM_CPUS_ON_NODE", "3", 1);
  CHECK(available_memory(at) == 3 << 20);
  unsetenv("SLURM_MEM_PER_CPU");
  unsetenv("SLURM_CPUS_ON_NODE");
}

}  // namespace tenon::test
