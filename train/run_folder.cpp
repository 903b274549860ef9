// SPDX-License-Identifier: Apache-2.0
#include "train/run_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/memory.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// What a run writes; --force removes these and nothing else.
constexpr const char* kOutputs[] = {"config.yaml", "metrics.csv", "metrics.jsonl", "ranks.csv",  "summary.json",
                                    "adapter",     "model",       "adapter-best",  "model-best", "checkpoints"};

bool holds_something(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() != ".lock" && entry.path().filename() != "cache") return true;
  }
  return false;
}

}  // namespace

RunFolder::RunFolder(const TrainOptions& options, bool rank0) : path_(options.out), rank0_(rank0), force_(options.force) {
  if (!rank0_) return;
  std::error_code none;
  const fs::file_status status = fs::status(path_, none);
  if (fs::exists(status) && !fs::is_directory(status)) fail_input("--out {}: expected a folder", shown(path_));
  if (fs::is_directory(status) && holds_something(path_) && !force_ && options.resume.empty()) {
    fail_input("--out {}: the folder is not empty (--force overwrites a run, --resume auto goes on with it)", shown(path_));
  }
  if (!fs::exists(status)) {
    fs::create_directories(path_, none);
    if (none) fail_input("--out {}: cannot be created: {}", shown(path_), none.message());
    created_ = true;
  }
  lock_.emplace(path_);
}

RunFolder::~RunFolder() {
  if (!rank0_ || kept_ || !created_) return;
  lock_.reset();
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void RunFolder::keep(const TrainOptions& resolved) {
  kept_ = true;
  if (!rank0_) return;
  if (force_) {
    for (const char* name : kOutputs) fs::remove_all(path_ / name);
  }
  remove_leftovers(path_);
  remove_leftovers(path_ / "checkpoints");
  write_text_atomic(path_ / "config.yaml", config_text(resolved));
}

void write_ranks(const fs::path& folder, Communicator& world, const RankReport& mine) {
  nlohmann::json row = {{"rank", mine.rank},       {"node", mine.node},           {"threads", mine.threads},
                        {"seconds", mine.seconds}, {"waiting", mine.seconds_waiting}, {"rss", resident_peak_bytes()}};
  for (int kind = 0; kind < kMemoryKinds; ++kind) {
    const auto each = static_cast<MemoryKind>(kind);
    row[name_of(each)] = memory_process().peak(each);
  }
  const std::vector<std::string> rows = world.all_gather_text(row.dump());
  if (world.rank() != 0) return;
  double least_waiting = mine.seconds_waiting;
  for (const std::string& text : rows) {
    least_waiting = std::min(least_waiting, nlohmann::json::parse(text)["waiting"].get<double>());
  }
  std::string csv = "rank,node,threads,seconds,computing,communicating,idle,peak_rss_bytes";
  for (int kind = 0; kind < kMemoryKinds; ++kind) csv += fmt::format(",peak_{}_bytes", name_of(static_cast<MemoryKind>(kind)));
  csv += "\n";
  for (const std::string& text : rows) {
    const auto json = nlohmann::json::parse(text);
    const double seconds = std::max(1e-9, json["seconds"].get<double>()), waiting = json["waiting"].get<double>();
    csv += fmt::format("{},{},{},{:.3f},{:.4f},{:.4f},{:.4f},{}", json["rank"].get<int>(), json["node"].get<std::string>(),
                       json["threads"].get<int>(), seconds, 1 - waiting / seconds, least_waiting / seconds,
                       (waiting - least_waiting) / seconds, json["rss"].get<int64_t>());
    for (int kind = 0; kind < kMemoryKinds; ++kind) {
      csv += fmt::format(",{}", json[name_of(static_cast<MemoryKind>(kind))].get<int64_t>());
    }
    csv += "\n";
  }
  write_text_atomic(folder / "ranks.csv", csv);
}

}  // namespace tenon
