// SPDX-License-Identifier: Apache-2.0
// The run folder: the contract with whoever reads a run's results. Existing output is never
// overwritten without --force, what the run reads never at all, and a run that fails before its
// first step leaves nothing behind that it made.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "core/file.h"
#include "train/trainer.h"

namespace tenon {

// What a rank did, for ranks.csv.
struct RankReport {
  int rank = 0;
  std::string node;
  int threads = 1;
  double seconds = 0, seconds_waiting = 0;
};

// Throws Error(kInput) where the run would replace something that it reads: what the options name,
// or one of `more`.
void check_run_inputs(const TrainOptions& options, const std::vector<std::filesystem::path>& more);

class RunFolder {
 public:
  // Rank 0 opens the folder: creates it, or takes what is there when it is empty, to be resumed, or
  // --force. Throws Error(kInput) when it holds something else, when another run is writing there,
  // or when the run would replace what it reads.
  RunFolder(const TrainOptions& options, bool rank0);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path cache(const std::string& name) const { return path_ / "cache" / name; }
  // From here on the folder stays. With --force, removes what an earlier run left; writes
  // config.yaml.
  void keep(const TrainOptions& resolved);
  // Throws Error(kIo) where the folder is no longer the one that was opened: moved, removed, or
  // without its lock. Before every write of a run that goes on for long.
  void check() const;
  // Removes what was made here, unless keep() was called.
  void discard();

 private:
  void open(const TrainOptions& options);

  std::filesystem::path path_;
  bool rank0_, force_, kept_ = false;
  // What was not there before: folders above and the folder itself, outermost first; what lies in it.
  std::vector<std::filesystem::path> made_, inside_;
  std::optional<FolderLock> lock_;
};

// Collective: every rank's row of ranks.csv, written by rank 0. A rank's time is its own computing,
// communicating (what even the last rank to arrive spends in collectives) and idling (what it waits
// beyond that for slower ranks).
void write_ranks(const std::filesystem::path& folder, Communicator& world, const RankReport& mine);

}  // namespace tenon
