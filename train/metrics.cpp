// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHeader =
    "step,epoch,tokens,loss,val_loss,perplexity,lr,grad_norm,tokens_per_second,step_seconds,memory_"
    "peak_bytes,loss_scale,skipped_steps";

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

// A metrics file's complete rows of steps 1..last.
std::string rows_until(const fs::path& path, int64_t last, bool csv) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  std::string kept;
  for (std::string_view rest = file->text(); !rest.empty();) {
    const size_t end = rest.find('\n');
    if (end == rest.npos) break;  // a torn last line has no end
    const std::string line(rest.substr(0, end));
    const int64_t step = step_of(line, csv);
    if ((csv && line == kHeader) || (step > 0 && step <= last)) kept += line + "\n";
    rest.remove_prefix(end + 1);
  }
  return kept;
}

}  // namespace

Metrics::Metrics(const fs::path& folder, int64_t after_step,
                 std::function<void(const std::string&)> warn)
    : csv_{folder / "metrics.csv", kHeader + std::string("\n")},
      jsonl_{folder / "metrics.jsonl", ""},
      warn_(std::move(warn)) {
  for (File* file : {&csv_, &jsonl_}) attempt(*file, [&] { open(*file, after_step); });
}

Metrics::~Metrics() {
  for (const File* file : {&csv_, &jsonl_}) {
    if (file->fd >= 0) ::close(file->fd);
  }
}

void Metrics::open(File& file, int64_t after_step) {
  const std::string kept =
      files::exists(file.path) ? rows_until(file.path, after_step, !file.header.empty()) : "";
  write_text_atomic(file.path, kept.empty() ? file.header : kept);
  file.fd = ::open(file.path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (file.fd < 0) fail_system(file.path, "be opened", errno);
}

template <class F>
void Metrics::attempt(File& file, F&& action) {
  try {
    action();
  } catch (const Error& e) {
    if (file.fd >= 0) ::close(file.fd);
    file.fd = -1;
    if (!lost_.empty()) return;
    lost_ = e.what();
    warn_("metrics are lost, the run goes on without them: " + lost_);
  }
}

void Metrics::put(File& file, const std::string& text) {
  if (file.fd < 0) return;
  attempt(file, [&] { write_all(file.fd, std::as_bytes(std::span(text)), file.path); });
}

void Metrics::sync() {
  for (File* file : {&csv_, &jsonl_}) {
    attempt(*file, [&] {
      if (file->fd >= 0 && ::fsync(file->fd) != 0) fail_system(file->path, "be synced", errno);
    });
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
  json["loss_scale"] = row.loss_scale;
  json["skipped_steps"] = row.skipped_steps;
  put(jsonl_, json.dump() + "\n");
  put(csv_,
      fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{}\n", row.step, row.epoch, row.tokens,
                  row.loss, row.val_loss ? fmt::format("{}", *row.val_loss) : "", std::exp(judged),
                  row.lr, row.grad_norm, row.tokens_per_second, row.step_seconds,
                  row.memory_peak_bytes, row.loss_scale, row.skipped_steps));
}

}  // namespace tenon
