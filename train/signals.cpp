// SPDX-License-Identifier: Apache-2.0
#include "train/signals.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <initializer_list>
#include <utility>

#include "comm/world.h"

namespace tenon {
namespace {

// All that handlers touch.
volatile sig_atomic_t first = 0, demands = 0, hinted = 0;
pid_t launcher = 0;                // where it ends jobs by signals that follow one another
double grace = 0;                  // seconds between its SIGTERM and its SIGKILL
std::atomic<double> killed_at{0};  // on the monotonic clock; 0: never

// The line and the one before it, which a handler in another thread may still be writing.
struct LastWords {
  std::array<char, 1000> text;
  size_t length;
};
std::array<LastWords, 2> last_words;
std::atomic<const LastWords*> current_words{nullptr};

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void on_signal(int number, siginfo_t* info, void*) {
  const int kept = errno;
  const bool from_launcher = launcher != 0 && info->si_pid == launcher;
  const bool demand = number == SIGTERM || number == SIGINT || number == SIGHUP;
  if (number == SIGCONT) {
    if (from_launcher) hinted = 1;
  } else {
    if (demand && demands != 0) _exit(128 + number);
    if (demand) demands = 1;
    if (first == 0) first = number;
    const LastWords* words = current_words;
    if (from_launcher && demand) {
      killed_at = now() + grace;
      if (words != nullptr && write(STDERR_FILENO, words->text.data(), words->length) < 0) {
        // nobody reads it
      }
    }
  }
  errno = kept;
}

void install(std::initializer_list<int> numbers) {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  for (const int number : numbers) {
    struct sigaction before {};
    sigaction(number, nullptr, &before);
    const bool nohup = number == SIGHUP && before.sa_handler == SIG_IGN;
    if (!nohup) sigaction(number, &action, nullptr);
  }
}

}  // namespace

void remember_early_requests() { install({SIGUSR1, SIGUSR2}); }

void install_stop_signals() {
  if (const std::optional<double> seconds = launcher_grace()) {
    grace = *seconds;
    launcher = getppid();
    install({SIGCONT});
  }
  install({SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU});
}

int stop_signal() { return first; }

Request requested() {
  return first != 0 ? Request::kStop : hinted != 0 ? Request::kSave : Request::kNone;
}

void save_done() { hinted = 0; }

std::optional<double> seconds_left() {
  const double end = killed_at;
  if (end == 0) return std::nullopt;
  return std::max(0.0, end - now());
}

void set_last_words(const std::string& line) {
  const LastWords* current = current_words;
  LastWords& other = current == last_words.data() ? last_words[1] : last_words[0];
  other.length = std::min(line.size(), other.text.size());
  std::memcpy(other.text.data(), line.data(), other.length);
  current_words = &other;
}

Request Votes::next() {
  const Request found = last();
  if (group_.size() == 1) return found;  // nobody else need be asked
  highest_ = static_cast<int64_t>(requested_());
  work_ = group_.all_reduce({&highest_, 1, DType::kI64}, Reduce::kMax);
  return found;
}

Request Votes::last() {
  if (group_.size() == 1) return requested_();
  work_.wait();
  return static_cast<Request>(std::exchange(highest_, 0));
}

}  // namespace tenon
