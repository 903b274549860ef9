// SPDX-License-Identifier: Apache-2.0
// The `tenon` program as a child process: what it is given, what it says, how it ends; and what it
// leaves in a folder.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tenon::test {

using Words = std::vector<std::string>;
using Environment = std::vector<std::pair<std::string, std::string>>;

// How a process ended: its exit status, or 128 + the signal as a shell has it; kTimeout when it had
// to be killed for not ending in time.
inline constexpr int kTimeout = -1;
struct Result {
  int code = 0;
  std::string out, err;
};

// A process that runs beside the test; it is killed with its children when the test lets go of it.
class Process {
 public:
  explicit Process(const Words& words, const Environment& environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  std::string err() const;      // so far
  bool ended();                 // without waiting
  Result wait(double seconds);  // to its end
  std::vector<pid_t> children() const;

 private:
  pid_t pid_ = -1;
  int out_ = -1, err_ = -1, status_ = 0;
  bool ended_ = false;
};

// Runs words[0] with the others as its arguments, to its end.
Result run(const Words& words, const Environment& environment = {}, double seconds = 60);

// tenon WORDS...
Words tenon_words(const Words& words);
Result tenon(const Words& words, const Environment& environment = {});
// mpirun -n RANKS tenon WORDS...
Words mpirun_words(int ranks, const Words& words);
Result tenon_ranks(int ranks, const Words& words);

// Every file below a folder with a hash of its content, every folder with "".
using Listing = std::map<std::string, std::string>;
Listing list(const std::filesystem::path& folder);

// The lines of a text, without their ends.
Words lines(const std::string& text);

void sleep_ms(double milliseconds);
// Looks every half millisecond until `condition` holds; false when it does not within `seconds`.
template <class F>
bool eventually(F&& condition, double seconds = 20) {
  for (int look = 0; look < seconds * 2000; ++look) {
    if (condition()) return true;
    sleep_ms(0.5);
  }
  return false;
}

}  // namespace tenon::test
