// SPDX-License-Identifier: Apache-2.0
// What a person sees of a run, on stderr and from rank 0 only: a header, then a progress bar on a
// terminal or plain lines elsewhere, then a closing block. Losses shown are means since the last
// line.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace tenon {

struct StepReport {
  int64_t step = 0, total = 0;  // step counts from 1
  double epoch = 0, loss = 0, lr = 0, grad_norm = 0;
  int64_t tokens = 0;  // of this step
  double seconds = 0;
  int64_t memory_bytes = 0;
  std::optional<double> val_loss;
  std::string note;  // "saved", "best", ...
};

class Console {
 public:
  // `speaks`: rank 0 and not --quiet. Lines appear every `log_every` steps and wherever there is a
  // note.
  Console(bool speaks, int64_t log_every);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void line(const std::string& text);     // as it is, above the bar
  void warning(const std::string& text);  // "tenon: warning: ..."
  // A warning that is told with --quiet too: something that was asked for is lost.
  void alarm(const std::string& text);
  void step(const StepReport& report);
  // A terminal that is not told to be without colours (NO_COLOR, TERM=dumb).
  bool colour() const;
  bool terminal() const { return terminal_; }
  // How far a task without steps of training is: a bar on a terminal (without a bar where the total
  // is 0: not known), a line every half minute elsewhere. Requires: done <= total, or total is 0.
  void progress(const std::string& task, int64_t done, int64_t total, const std::string& figures);
  void finish();  // removes the bar

 private:
  void draw_bar(const std::string& task, int64_t done, int64_t total, const std::string& figures);
  void erase_bar();

  using Clock = std::chrono::steady_clock;
  bool speaks_, terminal_, utf8_;
  int64_t log_every_;
  bool header_printed_ = false, bar_shown_ = false;
  double loss_sum_ = 0, seconds_sum_ = 0;  // since the last line
  int64_t loss_count_ = 0, token_sum_ = 0;
  Clock::time_point begin_ = Clock::now(), drawn_{}, told_ = Clock::now();
  int64_t first_step_ = -1;
};

// "0:03:21"; "12.3k"; "1.2 GB".
std::string duration_text(double seconds);
std::string count_text(double count);
std::string bytes_text(int64_t bytes);

}  // namespace tenon
