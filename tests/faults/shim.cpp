// SPDX-License-Identifier: Apache-2.0
// A library to be loaded before libc: it records the calls that change or read a folder's files, in
// their order, and lets one of them fail. What it is told by the environment:
//   TENON_SHIM_UNDER  the folder; calls that concern nothing below it pass unseen
//   TENON_SHIM_LOG    a file that gets a line a call: its name and its paths relative to the folder
//   TENON_SHIM_CALLS  names of the calls that count, with commas; or unset: all
//   TENON_SHIM_AT     the numbers of the calls that fail, from 1 on, with commas; "7+": all from the
//                     seventh on
//   TENON_SHIM_ERRNO  what they fail with
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <string>

namespace {

std::string variable(const char* name) {
  const char* const value = ::getenv(name);
  return value == nullptr ? "" : value;
}

struct Plan {
  std::string under = variable("TENON_SHIM_UNDER") + "/";
  std::string calls = "," + variable("TENON_SHIM_CALLS") + ",";
  std::string at = "," + variable("TENON_SHIM_AT") + ",";
  int error = ::atoi(variable("TENON_SHIM_ERRNO").c_str());
  int log = -1;

  Plan() {
    const std::string file = variable("TENON_SHIM_LOG");
    if (!file.empty()) {
      log = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, file.c_str(),
                                       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    }
  }
};

const Plan& plan() {
  static const Plan* const made = new Plan;  // calls come until the very end of the process
  return *made;
}

std::atomic<int> count{0};

// The path below the folder; "." for the folder itself, "" for what does not lie there.
std::string below(const std::string& path) {
  const std::string& under = plan().under;
  if (path + "/" == under) return ".";
  return path.starts_with(under) ? path.substr(under.size()) : "";
}

std::string path_of(int fd) {
  char link[64], path[4096];
  ::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(link, path, sizeof path);
  return std::string(path, length > 0 ? static_cast<size_t>(length) : 0);
}

// True where this call is to fail; errno is set then.
bool fails(const std::string& name, const std::string& first, const std::string& second = "") {
  const Plan& p = plan();
  const std::string path = below(first), other = second.empty() ? "" : below(second);
  if (path.empty() && other.empty()) return false;
  if (p.calls != ",," && p.calls.find("," + name + ",") == std::string::npos) return false;
  if (p.log >= 0) {
    const std::string line = name + " " + path + (other.empty() ? "" : " " + other) + "\n";
    ::syscall(SYS_write, p.log, line.data(), line.size());
  }
  const int number = ++count;
  const bool for_good = p.at.ends_with("+,") && number >= ::atoi(p.at.c_str() + 1);
  if (!for_good && p.at.find("," + std::to_string(number) + ",") == std::string::npos) return false;
  errno = p.error;
  return true;
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int mode_of(int flags, va_list arguments) {
  const bool made = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return made ? va_arg(arguments, int) : 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int mode = mode_of(flags, arguments);
  va_end(arguments);
  static const auto real = next<int(const char*, int, ...)>("open");
  return fails("open", path) ? -1 : real(path, flags, mode);
}

ssize_t write(int fd, const void* data, size_t bytes) {
  static const auto real = next<ssize_t(int, const void*, size_t)>("write");
  return fails("write", path_of(fd)) ? -1 : real(fd, data, bytes);
}

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  static const auto real = next<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  return fails("write", path_of(fd)) ? -1 : real(fd, data, bytes, at);
}

ssize_t pread(int fd, void* data, size_t bytes, off_t at) {
  static const auto real = next<ssize_t(int, void*, size_t, off_t)>("pread");
  return fails("read", path_of(fd)) ? -1 : real(fd, data, bytes, at);
}

int ftruncate(int fd, off_t size) noexcept {
  static const auto real = next<int(int, off_t)>("ftruncate");
  return fails("write", path_of(fd)) ? -1 : real(fd, size);
}

int fsync(int fd) {
  static const auto real = next<int(int)>("fsync");
  return fails("fsync", path_of(fd)) ? -1 : real(fd);
}

// As the system does it: the descriptor is gone, whatever the result.
int close(int fd) {
  static const auto real = next<int(int)>("close");
  const bool failed = fails("close", path_of(fd));
  const int error = errno, result = real(fd);
  if (failed) errno = error;
  return failed ? -1 : result;
}

int rename(const char* from, const char* to) noexcept {
  static const auto real = next<int(const char*, const char*)>("rename");
  return fails("rename", from, to) ? -1 : real(from, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
  static const auto real = next<int(int, const char*, int, const char*, unsigned)>("renameat2");
  return fails("exchange", from, to) ? -1 : real(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const auto real = next<int(const char*, mode_t)>("mkdir");
  return fails("mkdir", path) ? -1 : real(path, mode);
}

int unlink(const char* path) noexcept {
  static const auto real = next<int(const char*)>("unlink");
  return fails("unlink", path) ? -1 : real(path);
}

int rmdir(const char* path) noexcept {
  static const auto real = next<int(const char*)>("rmdir");
  return fails("rmdir", path) ? -1 : real(path);
}

int link(const char* from, const char* to) noexcept {
  static const auto real = next<int(const char*, const char*)>("link");
  return fails("link", from, to) ? -1 : real(from, to);
}

int stat(const char* path, struct stat* status) noexcept {
  static const auto real = next<int(const char*, struct stat*)>("stat");
  return fails("stat", path) ? -1 : real(path, status);
}

int lstat(const char* path, struct stat* status) noexcept {
  static const auto real = next<int(const char*, struct stat*)>("lstat");
  return fails("stat", path) ? -1 : real(path, status);
}

DIR* opendir(const char* path) {
  static const auto real = next<DIR*(const char*)>("opendir");
  return fails("opendir", path) ? nullptr : real(path);
}

dirent* readdir(DIR* folder) {
  static const auto real = next<dirent*(DIR*)>("readdir");
  return fails("readdir", path_of(::dirfd(folder))) ? nullptr : real(folder);
}

void* mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  static const auto real = next<void*(void*, size_t, int, int, int, off_t)>("mmap");
  if (fd >= 0 && fails("mmap", path_of(fd))) return MAP_FAILED;
  return real(at, bytes, protection, flags, fd, offset);
}

}  // extern "C"
