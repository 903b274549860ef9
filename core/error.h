// SPDX-License-Identifier: Apache-2.0
// Errors as Tenon reports them: one line that says who speaks, where, what was expected and what
// was found, and the exit code that the program ends with. Everything that can fail throws Error;
// only `tools` catches it.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace tenon {

// The exit codes of the command line (the contract with scripts and job schedulers).
enum class Exit : int {
  kDone = 0,
  kInternal = 1,     // a bug in Tenon
  kInput = 2,        // bad input or usage; nothing was written
  kEnvironment = 3,  // ranks disagree, or launcher, library or device is wrong
  kNumeric = 4,      // loss or weights are not finite
  kPeer = 5,         // a peer was lost or a collective timed out
  kIo = 6,           // reading or writing failed
  kMemory = 7,       // does not fit in memory
  kStopped = 75,     // stopped by a signal after a saved checkpoint: run again with --resume auto
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Exit code() const { return code_; }

 private:
  Exit code_;
};

// Throws Error(code) with the formatted message.
template <class... Args>
[[noreturn]] void fail(Exit code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error(kInput): for what a user gave (files, flags, data).
template <class... Args>
[[noreturn]] void fail_input(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(Exit::kInput, fmt::format(format, std::forward<Args>(args)...));
}

// Text that came from a file or the command line, made safe for one line of a message: control
// characters, ESC, newlines, bidi marks and invalid UTF-8 are escaped (\n, \x1b, \u202e), and it is
// cut at `limit` bytes with "...".
std::string printable(std::string_view text, size_t limit = 120);

// The candidate nearest to `name` by edit distance, or "" when none is near: for "did you mean"
// hints.
template <class Names>
std::string_view nearest(std::string_view name, const Names& candidates);
int edit_distance(std::string_view a, std::string_view b);

template <class Names>
std::string_view nearest(std::string_view name, const Names& candidates) {
  std::string_view best;
  int best_distance = static_cast<int>(name.size()) / 3 + 2;  // further than this is another word
  for (const auto& candidate : candidates) {
    const int distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace tenon

// Checks what a programmer or a mismatched tensor broke. The message starts with the speaker in
// brackets: "[matmul] ...".
#define TENON_CHECK(condition, ...)                                         \
  do {                                                                      \
    if (!(condition)) ::tenon::fail(::tenon::Exit::kInternal, __VA_ARGS__); \
  } while (false)
