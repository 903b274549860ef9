// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "core/file.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A file without a name: it takes any amount of output and needs nobody to read it meanwhile.
int capture(const char* name) {
  const int fd = ::memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) throw std::runtime_error("memfd_create failed");
  return fd;
}

std::string content(int fd) {
  std::string text(static_cast<size_t>(::lseek(fd, 0, SEEK_END)), '\0');
  if (::pread(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("captured output cannot be read");
  }
  return text;
}

[[noreturn]] void become(const Words& words, const Environment& environment, int out, int err) {
  ::setpgid(0, 0);  // so that it can be killed with its children
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  ::signal(SIGPIPE, SIG_DFL);
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  _exit(127);
}

}  // namespace

Process::Process(const Words& words, const Environment& environment)
    : out_(capture("stdout")), err_(capture("stderr")) {
  pid_ = ::fork();
  if (pid_ == 0) become(words, environment, out_, err_);
  if (pid_ < 0) throw std::runtime_error("fork failed");
}

Process::~Process() {
  if (!ended()) {
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);  // had it no group of its own yet
    ::waitpid(pid_, &status_, 0);
  }
  ::close(out_);
  ::close(err_);
}

void Process::signal(int number) const { ::kill(pid_, number); }

std::string Process::err() const { return content(err_); }

bool Process::ended() {
  if (!ended_ && ::waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
  return ended_;
}

Result Process::wait(double seconds) {
  const auto limit = Clock::now() + std::chrono::duration<double>(seconds);
  while (!ended() && Clock::now() < limit) sleep_ms(0.5);
  Result result;
  if (ended_) {
    result.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  } else {
    result.code = kTimeout;
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, &status_, 0);
    ended_ = true;
  }
  result.out = content(out_);
  result.err = content(err_);
  return result;
}

std::vector<pid_t> Process::children() const {
  std::ifstream file(fmt::format("/proc/{}/task/{}/children", pid_, pid_));
  std::vector<pid_t> pids;
  for (pid_t pid; file >> pid;) pids.push_back(pid);
  return pids;
}

Result run(const Words& words, const Environment& environment, double seconds) {
  return Process(words, environment).wait(seconds);
}

Words tenon_words(const Words& words) {
  Words all = {TENON_PROGRAM};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

Result tenon(const Words& words, const Environment& environment) {
  return run(tenon_words(words), environment);
}

Words mpirun_words(int ranks, const Words& words) {
  Words all = {TENON_MPIRUN, "--oversubscribe", "--allow-run-as-root", "-n", std::to_string(ranks)};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

Result tenon_ranks(int ranks, const Words& words) {
  return run(mpirun_words(ranks, tenon_words(words)));
}

Listing list(const fs::path& folder) {
  Listing listing;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).string();
    listing[name] = entry.is_regular_file() ? fmt::format("{:016x}", hash_file(entry.path())) : "";
  }
  return listing;
}

Words lines(const std::string& text) {
  Words all;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) all.push_back(line);
  return all;
}

void sleep_ms(double milliseconds) {
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(milliseconds));
}

}  // namespace tenon::test
