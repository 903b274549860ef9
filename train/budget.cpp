// SPDX-License-Identifier: Apache-2.0
#include "train/budget.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "core/error.h"
#include "train/options.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

struct Unit {
  const char* name;
  double bytes;
};
constexpr Unit kUnits[] = {{"TiB", 0x1p40}, {"GiB", 0x1p30}, {"MiB", 0x1p20}, {"KiB", 0x1p10},
                           {"TB", 1e12},    {"GB", 1e9},     {"MB", 1e6},     {"KB", 1e3},
                           {"T", 1e12},     {"G", 1e9},      {"M", 1e6},      {"K", 1e3},
                           {"B", 1},        {"", 1}};

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return std::tolower(x) == std::tolower(y); });
}

// The number that a file begins with; `absent` where there is no such file or it holds a word.
int64_t number_of(const fs::path& file, int64_t absent) {
  std::ifstream in(file);
  int64_t number = absent;
  return in >> number ? number : absent;
}

// The number behind a key of a file of lines "key number".
int64_t number_of(const fs::path& file, const std::string& key, int64_t absent) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string name;
    int64_t number = 0;
    if (words >> name >> number && name == key) return number;
  }
  return absent;
}

// Names of files, and in memory.stat of what the page cache holds.
struct CgroupFiles {
  const char *limit, *used, *cold, *warm;
};
constexpr CgroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                   "total_inactive_file", "total_active_file"};
constexpr CgroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

// What is left in this cgroup and those around it.
int64_t left_in(const fs::path& mount, fs::path group, const CgroupFiles& files) {
  int64_t least = kNone;
  for (group = group.relative_path();; group = group.parent_path()) {
    const fs::path folder = mount / group;
    const int64_t limit = number_of(folder / files.limit, kNone);
    if (limit < kNone) {
      const fs::path stat = folder / "memory.stat";
      const int64_t used = number_of(folder / files.used, 0) - number_of(stat, files.cold, 0) -
                           number_of(stat, files.warm, 0);
      least = std::min(least, std::max<int64_t>(0, limit - std::max<int64_t>(0, used)));
    }
    if (group.empty()) return least;
  }
}

int64_t left_in_cgroups(const fs::path& root) {
  std::ifstream in(root / "proc/self/cgroup");
  int64_t least = kNone;
  std::string line;  // "0::/user.slice/..." or "4:memory:/job_17"
  while (std::getline(in, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path group = line.substr(second + 1);
    const fs::path mount = root / "sys/fs/cgroup";
    if (controllers.empty()) least = std::min(least, left_in(mount, group, kVersion2));
    if ((',' + controllers + ',').find(",memory,") != std::string::npos)
      least = std::min(least, left_in(mount / "memory", group, kVersion1));
  }
  return least;
}

// Megabytes that SLURM gave the job on this node.
int64_t given_by_slurm() {
  const auto number = [](const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? 0 : std::atoll(text);
  };
  const int64_t node = number("SLURM_MEM_PER_NODE");
  const int64_t cores = number("SLURM_MEM_PER_CPU") * number("SLURM_CPUS_ON_NODE");
  const int64_t megabytes = node > 0 ? node : cores;
  return megabytes > 0 ? megabytes << 20 : kNone;
}

}  // namespace

int64_t parse_bytes(const std::string& where, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view rest(end, static_cast<size_t>(text.data() + text.size() - end));
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  if (error == std::errc()) {
    for (const Unit& unit : kUnits) {
      if (!same_letters(rest, unit.name)) continue;
      const double bytes = value * unit.bytes;
      if (bytes >= 1 && bytes < 1e18) return static_cast<int64_t>(bytes);
    }
  }
  fail_input("{}: expected a size such as 5GB or 7.5GiB, got \"{}\"", where, printable(text));
}

int64_t available_memory(const std::string& root) {
  const fs::path base = root.empty() ? "/" : root;
  const int64_t kilobytes = number_of(base / "proc/meminfo", "MemAvailable:", kNone / 1024);
  return std::min({kilobytes * 1024, left_in_cgroups(base), given_by_slurm()});
}

}  // namespace tenon
