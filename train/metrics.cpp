// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.h"

#include <unistd.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHeader =
    "step,epoch,tokens,loss,val_loss,perplexity,lr,grad_norm,tokens_per_second,step_seconds,memory_"
    "peak_bytes";

// The step that a line of either file is about, or -1.
int64_t step_of(const std::string& line, bool csv) {
  if (csv)
    return line.empty() || line[0] < '0' || line[0] > '9' ? -1
                                                          : std::strtoll(line.c_str(), nullptr, 10);
  const auto json = nlohmann::json::parse(line, nullptr, false);
  return json.is_object() && json.contains("step") && json["step"].is_number_integer()
             ? json["step"].get<int64_t>()
             : -1;
}

// Rewrites a metrics file with the complete rows of steps 1..last.
void cut_after(const fs::path& path, int64_t last, bool csv) {
  if (!fs::exists(path)) return;
  std::string kept;
  {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
      const bool complete = !in.eof();  // a torn last line has no end
      const int64_t step = step_of(line, csv);
      if (complete && ((csv && line == kHeader) || (step > 0 && step <= last))) kept += line + "\n";
    }
  }
  write_text_atomic(path, kept);
}

}  // namespace

Metrics::Metrics(const fs::path& folder, int64_t after_step,
                 std::function<void(const std::string&)> warn)
    : warn_(std::move(warn)) {
  const fs::path csv = folder / "metrics.csv", jsonl = folder / "metrics.jsonl";
  try {
    cut_after(csv, after_step, true);
    cut_after(jsonl, after_step, false);
  } catch (const Error& e) {
    warn_(e.what());
    return;
  }
  const bool fresh = !fs::exists(csv) || fs::file_size(csv) == 0;
  csv_ = std::fopen(csv.c_str(), "a");
  jsonl_ = std::fopen(jsonl.c_str(), "a");
  if (csv_ == nullptr || jsonl_ == nullptr)
    warn_(fmt::format("{}: metrics cannot be written", shown(folder)));
  if (fresh) put(csv_, "metrics.csv", std::string(kHeader) + "\n");
}

Metrics::~Metrics() {
  for (std::FILE* file : {csv_, jsonl_}) {
    if (file != nullptr) std::fclose(file);
  }
}

void Metrics::put(std::FILE*& file, const std::string& name, const std::string& text) {
  if (file == nullptr) return;
  if (std::fputs(text.c_str(), file) >= 0 && std::fflush(file) == 0) return;
  warn_(fmt::format("{}: cannot be written any more; the run goes on without it", name));
  std::fclose(file);
  file = nullptr;
}

void Metrics::sync() {
  for (std::FILE* file : {csv_, jsonl_}) {
    if (file != nullptr)
      ::fsync(fileno(file));  // a failure is not the run's: the next write says it
  }
}

void Metrics::write(const MetricsRow& row) {
  const double judged =
      row.val_loss.value_or(row.loss);  // perplexity of the validation loss where there is one
  nlohmann::ordered_json json = {
      {"step", row.step}, {"epoch", row.epoch}, {"tokens", row.tokens}, {"loss", row.loss}};
  if (row.val_loss) json["val_loss"] = *row.val_loss;
  json["perplexity"] = std::exp(judged);
  json["lr"] = row.lr;
  json["grad_norm"] = row.grad_norm;
  json["tokens_per_second"] = row.tokens_per_second;
  json["step_seconds"] = row.step_seconds;
  json["memory_peak_bytes"] = row.memory_peak_bytes;
  put(jsonl_, "metrics.jsonl", json.dump() + "\n");
  put(csv_, "metrics.csv",
      fmt::format("{},{},{},{},{},{},{},{},{},{},{}\n", row.step, row.epoch, row.tokens, row.loss,
                  row.val_loss ? fmt::format("{}", *row.val_loss) : "", std::exp(judged), row.lr,
                  row.grad_norm, row.tokens_per_second, row.step_seconds, row.memory_peak_bytes));
}

}  // namespace tenon
