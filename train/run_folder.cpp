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
constexpr const char* kOutputs[] = {"config.yaml",  "metrics.csv", "metrics.jsonl", "ranks.csv",
                                    "summary.json", "adapter",     "model",         "adapter-best",
                                    "model-best",   "checkpoints"};

// What a run needs while it works; a folder with nothing else is empty.
constexpr const char* kWorking[] = {".lock", "cache"};

bool holds_something(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const fs::path name = entry.path().filename();
    if (std::find(std::begin(kWorking), std::end(kWorking), name) == std::end(kWorking))
      return true;
  }
  return false;
}

// The run must not replace the model or data that it reads.
void check_inputs_apart(const TrainOptions& options) {
  const auto real = [](const fs::path& path) {
    std::error_code none;
    const fs::path found = fs::weakly_canonical(path, none);
    return none ? path : found;
  };
  const std::vector<fs::path> inputs = inputs_of(options);
  for (const char* name : kOutputs) {
    const fs::path output = real(fs::path(options.out) / name);
    for (const fs::path& input : inputs) {
      const fs::path there = real(input);
      if (std::mismatch(output.begin(), output.end(), there.begin(), there.end()).first !=
          output.end())
        continue;
      fail_input("--out {}: the run would replace {}, which it reads", shown(options.out),
                 shown(input));
    }
  }
}

}  // namespace

RunFolder::RunFolder(const TrainOptions& options, bool rank0)
    : path_(options.out), rank0_(rank0), force_(options.force) {
  if (!rank0_) return;
  std::error_code none;
  const fs::file_status status = fs::status(path_, none);
  if (fs::exists(status) && !fs::is_directory(status))
    fail_input("--out {}: expected a folder", shown(path_));
  if (fs::is_directory(status) && holds_something(path_) && !force_ && options.resume.empty()) {
    fail_input(
        "--out {}: the folder is not empty (--force overwrites a run, --resume auto goes on with "
        "it)",
        shown(path_));
  }
  check_inputs_apart(options);
  // The folders above it too: an absolute path ends at the root, which is there.
  for (fs::path folder = fs::absolute(path_).lexically_normal();
       !fs::exists(folder, none) && folder.has_relative_path(); folder = folder.parent_path()) {
    made_.insert(made_.begin(), folder);
  }
  for (const char* inside : kWorking) {
    if (!fs::exists(path_ / inside, none)) made_.push_back(path_ / inside);
  }
  fs::create_directories(path_, none);
  if (none) {
    discard();
    fail_input("--out {}: cannot be created: {}", shown(path_), none.message());
  }
  lock_.emplace(path_);
}

RunFolder::~RunFolder() { discard(); }

void RunFolder::discard() {
  if (!rank0_ || kept_) return;
  std::error_code ignored;
  // Folders that were made for it go only when nothing else has come into them.
  for (; !made_.empty(); made_.pop_back()) {
    const bool working = made_.back().parent_path() == path_;
    working ? fs::remove_all(made_.back(), ignored) : fs::remove(made_.back(), ignored);
  }
  lock_.reset();
}

void RunFolder::keep(const TrainOptions& resolved) {
  kept_ = true;
  if (!rank0_) return;
  if (force_) {
    for (const char* name : kOutputs) fs::remove_all(path_ / name);
  }
  remove_leftovers(path_);
  remove_leftovers(path_ / "checkpoints");
  remove_leftovers(path_ / "cache");
  write_text_atomic(path_ / "config.yaml", config_text(resolved));
}

void write_ranks(const fs::path& folder, Communicator& world, const RankReport& mine) {
  nlohmann::json row = {{"rank", mine.rank},
                        {"node", mine.node},
                        {"threads", mine.threads},
                        {"seconds", mine.seconds},
                        {"waiting", mine.seconds_waiting},
                        {"rss", resident_peak_bytes()}};
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
  for (int kind = 0; kind < kMemoryKinds; ++kind)
    csv += fmt::format(",peak_{}_bytes", name_of(static_cast<MemoryKind>(kind)));
  csv += "\n";
  for (const std::string& text : rows) {
    const auto json = nlohmann::json::parse(text);
    const double seconds = std::max(1e-9, json["seconds"].get<double>()),
                 waiting = json["waiting"].get<double>();
    csv += fmt::format("{},{},{},{:.3f},{:.4f},{:.4f},{:.4f},{}", json["rank"].get<int>(),
                       json["node"].get<std::string>(), json["threads"].get<int>(), seconds,
                       1 - waiting / seconds, least_waiting / seconds,
                       (waiting - least_waiting) / seconds, json["rss"].get<int64_t>());
    for (int kind = 0; kind < kMemoryKinds; ++kind) {
      csv += fmt::format(",{}", json[name_of(static_cast<MemoryKind>(kind))].get<int64_t>());
    }
    csv += "\n";
  }
  write_text_atomic(folder / "ranks.csv", csv);
}

}  // namespace tenon
