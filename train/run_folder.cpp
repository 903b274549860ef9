// SPDX-License-Identifier: Apache-2.0
#include "train/run_folder.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/folders.h"
#include "core/memory.h"
#include "core/output.h"

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
  for (const fs::path& path : files::list(folder)) {
    if (std::find(std::begin(kWorking), std::end(kWorking), path.filename()) == std::end(kWorking))
      return true;
  }
  return false;
}

}  // namespace

void check_run_inputs(const TrainOptions& options, const std::vector<fs::path>& more) {
  const fs::path folder = options.out;
  const auto check = [&](const TrainOptions& read, const std::vector<fs::path>& parts) {
    Output output{.flag = "--out", .path = folder, .force = options.force, .inputs = more};
    for (const fs::path& input : inputs_of(read)) output.inputs.push_back(input);
    check_output_parts(output, parts);
  };
  std::vector<fs::path> parts;
  for (const char* name : kOutputs) parts.push_back(folder / name);
  check(options, parts);
  // Token files in the cache are data like any other, where they are not made anew: a run reads its
  // own as --data and --val.
  TrainOptions but_data = options, but_val = options;
  but_data.data.clear();
  but_val.val.clear();
  check(but_data, {folder / "cache/train.tokens"});
  check(but_val, {folder / "cache/val.tokens"});
}

RunFolder::RunFolder(const TrainOptions& options, bool rank0)
    : path_(options.out), rank0_(rank0), force_(options.force) {
  if (!rank0_) return;
  const bool there = files::is_folder(path_);
  if (!there && (files::exists(path_) || files::is_link(path_)))
    fail_input("--out {}: expected a folder", shown(path_));
  if (there && holds_something(path_) && !force_ && options.resume.empty()) {
    fail_input(
        "--out {}: the folder is not empty (--force overwrites a run, --resume auto goes on with "
        "it)",
        shown(path_));
  }
  check_run_inputs(options, {});
  try {
    open(options);
  } catch (...) {
    discard();
    throw;
  }
}

void RunFolder::open(const TrainOptions& options) {
  made_ = files::make_folders(path_);
  for (const char* inside : kWorking) {
    if (!files::exists(path_ / inside)) inside_.push_back(path_ / inside);
  }
  lock_.emplace(path_);
  if (options.resume.empty()) return;
  // What a killed run had put aside and not yet replaced is what this one goes on from.
  remove_leftovers(path_);
  remove_leftovers(path_ / "checkpoints");
}

RunFolder::~RunFolder() { discard(); }

void RunFolder::check() const {
  if (rank0_) lock_->check();
}

void RunFolder::discard() {
  if (!rank0_ || kept_) return;
  for (; !inside_.empty(); inside_.pop_back()) files::discard_tree(inside_.back());
  // Folders that were made for it go only when nothing else has come into them.
  for (; !made_.empty(); made_.pop_back()) ::rmdir(made_.back().c_str());
  lock_.reset();
}

void RunFolder::keep(const TrainOptions& resolved) {
  if (!rank0_) return;
  if (force_) {
    for (const char* name : kOutputs) files::remove_tree(path_ / name);
  }
  remove_leftovers(path_);
  remove_leftovers(path_ / "checkpoints");
  remove_leftovers(path_ / "cache");
  write_text_atomic(path_ / "config.yaml", config_text(resolved));
  kept_ = true;
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
