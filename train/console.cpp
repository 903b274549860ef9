// SPDX-License-Identifier: Apache-2.0
#include "train/console.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace tenon {
namespace {

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string text = value;
    return text.find("UTF-8") != std::string::npos || text.find("utf8") != std::string::npos;
  }
  return false;
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void put(const std::string& text) { std::fputs(text.c_str(), stderr); }

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, seconds));
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string count_text(double count) {
  if (count >= 1e9) return fmt::format("{:.2f}B", count / 1e9);
  if (count >= 1e6) return fmt::format("{:.1f}M", count / 1e6);
  if (count >= 1e4) return fmt::format("{:.1f}k", count / 1e3);
  return fmt::format("{:.0f}", count);
}

std::string bytes_text(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return value >= 1e9 ? fmt::format("{:.2f} GB", value / 1e9)
                      : fmt::format("{:.0f} MB", value / 1e6);
}

Console::Console(bool speaks, int64_t log_every)
    : speaks_(speaks),
      terminal_(isatty(STDERR_FILENO) == 1 && std::getenv("SLURM_JOB_ID") == nullptr),
      utf8_(locale_is_utf8()),
      log_every_(log_every) {}

Console::~Console() { finish(); }

void Console::line(const std::string& text) {
  if (!speaks_) return;
  erase_bar();
  put(text + "\n");
}

void Console::warning(const std::string& text) { line("tenon: warning: " + text); }

void Console::alarm(const std::string& text) {
  erase_bar();
  put("tenon: warning: " + text + "\n");
}

bool Console::colour() const {
  const auto value = [](const char* name) {
    const char* const text = std::getenv(name);
    return std::string(text == nullptr ? "" : text);
  };
  return terminal_ && value("NO_COLOR").empty() && value("TERM") != "dumb";
}

void Console::step(const StepReport& report) {
  if (!speaks_) return;
  if (first_step_ < 0) first_step_ = report.step - 1;
  loss_sum_ += report.loss;
  ++loss_count_;
  token_sum_ += report.tokens;
  seconds_sum_ += report.seconds;
  const bool due =
      report.step % log_every_ == 0 || report.step == report.total || !report.note.empty();
  if (due) {
    if (!header_printed_) {
      line("   step  epoch     loss      val        lr    grad    tok/s       mem       eta");
      header_printed_ = true;
    }
    const double spent = std::chrono::duration<double>(Clock::now() - begin_).count();
    const double left = spent / static_cast<double>(report.step - first_step_) *
                        static_cast<double>(report.total - report.step);
    line(fmt::format(
        "{:>7} {:>6.2f} {:>8.4f} {:>8} {:>9.2e} {:>7.3f} {:>8} {:>9} {:>9}{}{}", report.step,
        report.epoch, loss_sum_ / static_cast<double>(loss_count_),
        report.val_loss ? fmt::format("{:.4f}", *report.val_loss) : "", report.lr, report.grad_norm,
        count_text(seconds_sum_ > 0 ? static_cast<double>(token_sum_) / seconds_sum_ : 0),
        bytes_text(report.memory_bytes), duration_text(left), report.note.empty() ? "" : "  ",
        report.note));
    loss_sum_ = seconds_sum_ = 0;
    loss_count_ = token_sum_ = 0;
  }
  if (terminal_) {
    draw_bar("train", report.step, report.total, fmt::format("loss {:.3f}", report.loss));
  }
}

void Console::progress(const std::string& task, int64_t done, int64_t total,
                       const std::string& figures) {
  if (!speaks_) return;
  if (terminal_) return draw_bar(task, done, total, figures);
  const Clock::time_point now = Clock::now();
  if (now - told_ < std::chrono::seconds(30)) return;
  told_ = now;
  line(fmt::format("{} {}{}  {}", task, done, total > 0 ? fmt::format("/{}", total) : "", figures));
}

void Console::draw_bar(const std::string& task, int64_t done, int64_t total,
                       const std::string& figures) {
  const Clock::time_point now = Clock::now();
  if (bar_shown_ && now - drawn_ < std::chrono::milliseconds(100) && (done < total || total == 0))
    return;
  drawn_ = now;
  bar_shown_ = true;
  if (total == 0) return put(fmt::format("\r\033[K{} {} {}", task, done, figures));
  const double share = static_cast<double>(done) / static_cast<double>(total);
  const std::string tail = fmt::format(" {:3.0f} %  {}/{}  {}", 100 * share, done, total, figures);
  const int room =
      std::max(5, std::min(40, terminal_width() - 3 - static_cast<int>(task.size() + tail.size())));
  const int full = static_cast<int>(std::lround(share * room));
  std::string bar;
  for (int i = 0; i < room; ++i) bar += utf8_ ? (i < full ? "━" : "╌") : (i < full ? "=" : "-");
  put("\r\033[K" + task + " " + bar + tail);
}

void Console::erase_bar() {
  if (bar_shown_) put("\r\033[K");
  bar_shown_ = false;
}

void Console::finish() { erase_bar(); }

}  // namespace tenon
