// SPDX-License-Identifier: Apache-2.0
// The configuration and the list of violations.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>

#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {
namespace {

std::mutex mutex;
std::vector<Report>& reports() {
  static auto* all = new std::vector<Report>;
  return *all;
}
bool quiet = false;

[[noreturn]] void bad_setting(const std::string& setting) {
  std::fprintf(stderr, "TENON_CUDA_ON_CPU: '%s' is not understood\n", setting.c_str());
  std::exit(1);
}

void set(Config& config, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos) bad_setting(setting);
  const std::string key = setting.substr(0, equals), value = setting.substr(equals + 1);
  if (key == "driver" && (value == "present" || value == "absent" || value == "old")) {
    config.driver = value == "present"  ? Driver::kPresent
                    : value == "absent" ? Driver::kAbsent
                                        : Driver::kTooOld;
    return;
  }
  char* end = nullptr;
  const long long number = std::strtoll(value.c_str(), &end, 10);
  const std::string unit = end;
  if (key == "memory" && number > 0 && (unit == "GB" || unit == "MB" || unit == "KB")) {
    config.memory = static_cast<int64_t>(number) << (unit == "GB" ? 30 : unit == "MB" ? 20 : 10);
    return;
  }
  if (end == value.c_str() || !unit.empty() || number < 0) bad_setting(setting);
  if (key == "sm") {
    config.sm = static_cast<int>(number);
  } else if (key == "devices") {
    config.devices = static_cast<int>(number);
  } else if (key == "seed") {
    config.seed = static_cast<uint64_t>(number);
  } else if (key == "threads" && number > 0) {
    config.threads = static_cast<int>(number);
  } else {
    bad_setting(setting);
  }
}

Config from_environment() {
  Config config;
  const char* environment = std::getenv("TENON_CUDA_ON_CPU");
  std::string rest = environment == nullptr ? "" : environment;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    set(config, rest.substr(0, comma));
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
  }
  return config;
}

Config& present() {
  static Config config = from_environment();
  return config;
}

}  // namespace

Config config() {
  const std::lock_guard lock(mutex);
  return present();
}

void configure(const Config& config) {
  const std::lock_guard lock(mutex);
  present() = config;
}

void set_quiet(bool value) {
  const std::lock_guard lock(mutex);
  quiet = value;
}

bool is_quiet() {
  const std::lock_guard lock(mutex);
  return quiet;
}

void add_report(std::string kind, std::string text) {
  const std::lock_guard lock(mutex);
  if (!quiet) std::fprintf(stderr, "cuda_on_cpu: %s: %s\n", kind.c_str(), text.c_str());
  reports().push_back({std::move(kind), std::move(text)});
}

bool any_report() {
  const std::lock_guard lock(mutex);
  return !reports().empty();
}

// cudaGetErrorString's result has no end of life, so each text is kept.
const char* first_report() {
  static auto* texts = new std::deque<std::string>;
  const std::lock_guard lock(mutex);
  if (reports().empty()) return "";
  const Report& first = reports().front();
  const std::string text = first.kind + ": " + first.text;
  if (texts->empty() || texts->back() != text) texts->push_back(text);
  return texts->back().c_str();
}

std::vector<Report> take_reports() {
  const std::lock_guard lock(mutex);
  std::vector<Report> taken;
  taken.swap(reports());
  return taken;
}

std::string text(const char* format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  return line;
}

}  // namespace tenon::cuda_on_cpu
