// SPDX-License-Identifier: Apache-2.0
// How much memory a run may take.
#pragma once

#include <cstdint>
#include <string>

namespace tenon {

// "8GB", "7.5 GiB", "512MB", "2e9": bytes. Units: B, kB, MB, GB, TB by 1000, KiB, MiB, GiB, TiB by
// 1024; K, M, G, T alone are those by 1000. Throws Error(kInput) naming `where`.
int64_t parse_bytes(const std::string& where, const std::string& text);

// What this machine has for new work: the least of what the system calls available, what is left of
// the limit of each cgroup that the process is in (versions 1 and 2; what the cgroup's page cache
// holds counts as free), and what SLURM gave the job on the node. `root` stands before /proc and
// /sys: for tests.
int64_t available_memory(const std::string& root = "");

}  // namespace tenon
