// SPDX-License-Identifier: Apache-2.0
// The run's numbers as files: metrics.csv and metrics.jsonl, a row for each step. Losing them must
// not stop a run: a file that cannot be written is reported once and then left alone, and the run's
// summary says so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace tenon {

struct MetricsRow {
  int64_t step = 0;
  double epoch = 0;
  int64_t tokens = 0;  // seen so far
  double loss = 0;
  std::optional<double> val_loss;
  double lr = 0, grad_norm = 0, tokens_per_second = 0, step_seconds = 0;
  int64_t memory_peak_bytes = 0;
  double loss_scale = 1;
  int64_t skipped_steps = 0;  // so far, whose gradients overflowed
};

class Metrics {
 public:
  // Appends to what the folder has up to `after_step` and drops rows beyond it: a resumed run
  // repeats those steps.
  Metrics(const std::filesystem::path& folder, int64_t after_step,
          std::function<void(const std::string&)> warn);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void write(const MetricsRow& row);
  // Makes the rows durable: a checkpoint of their last step may follow.
  void sync();
  // Why rows are missing from the files, or "".
  const std::string& lost() const { return lost_; }

 private:
  struct File {
    std::filesystem::path path;
    std::string header;  // a line, or ""
    int fd = -1;
  };
  void open(File& file, int64_t after_step);
  void put(File& file, const std::string& text);
  // Runs what writes to the file, and gives the file up where it fails.
  template <class F>
  void attempt(File& file, F&& action);

  File csv_, jsonl_;
  std::string lost_;
  std::function<void(const std::string&)> warn_;
};

}  // namespace tenon
