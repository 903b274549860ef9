// SPDX-License-Identifier: Apache-2.0
// Checkpoints that are complete or absent. One is a folder `step-N` with the trained weights and
// optimizer state (state.safetensors), the position in the run (trainer.json), a usable adapter,
// and manifest.json, which lists every file with its size and XXH3-64 and carries its own checksum.
// It is written beside as `step-N.tmp.<hex>`, every file synced, the manifest last, then renamed,
// then the parent synced, and only then are older ones removed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/optimizer.h"

namespace tenon {

// Where a run stands after `step` optimizer steps; with the weights, all that decides what it does
// next.
struct TrainerState {
  int64_t step = 0;
  int64_t optimizer_steps = 0;  // less than `step` where fp16 overflowed and an update was skipped
  int64_t tokens = 0;           // seen so far
  double seconds = 0;           // spent so far
  double first_loss = 0, last_loss = 0;
  double best_val = 0;  // lowest validation loss, when best_step >= 0
  int64_t best_step = -1;
  int64_t evals_without_gain = 0;
  double loss_scale = 1;
  int64_t good_steps = 0;  // since the loss scale changed
  // The step's validation was left when the run was asked to stop, and so was its row of the metrics,
  // which is to have these too.
  bool validation_due = false;
  double grad_norm = 0, step_seconds = 0;
  std::string
      identity;  // fingerprint of model, data, tokenizer and options that a resumed run must share

  int64_t rows_of_metrics() const { return validation_due ? step - 1 : step; }
};

// Writes checkpoints/step-N, then removes all but the newest `keep` up to it.
// `write_weights(folder)` adds the adapter. Returns the folder. What cannot be removed takes nothing
// from a run: `warn` is told.
std::filesystem::path save_checkpoint(
    const std::filesystem::path& checkpoints, const TrainerState& state, Optimizer& optimizer,
    const std::function<void(const std::filesystem::path&)>& write_weights, int64_t keep,
    const std::function<void(const std::string&)>& warn = {});

// The step of a folder whose manifest and files verify, and in which folder, manifest and
// trainer.json speak of the same step. Throws Error(kInput) saying what is wrong with it.
int64_t verify_checkpoint(const std::filesystem::path& folder);

// The newest checkpoint that verifies, and why newer ones do not.
struct Found {
  std::optional<std::filesystem::path> folder;
  std::vector<std::string> rejected;
};
Found newest_checkpoint(const std::filesystem::path& checkpoints);
// "last good checkpoint: ..." of a run folder, for the message of what ends the run.
std::string last_good_text(const std::filesystem::path& run);

// A state as the text of trainer.json, and back; `where` is for messages. What no run can have come
// to is refused, so that a checkpoint that was made up is not gone on with.
std::string state_text(const TrainerState& state);
TrainerState parse_state(const std::string& text, const std::string& where);

// Reads a verified checkpoint into the optimizer's parameters and state. `accept` sees where the
// run stood first, and throws where it is not to be gone on with.
TrainerState load_checkpoint(const std::filesystem::path& folder, Optimizer& optimizer,
                             const std::function<void(const TrainerState&)>& accept = {});

}  // namespace tenon
