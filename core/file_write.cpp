// SPDX-License-Identifier: Apache-2.0
// The writing half of core/file.h.
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// "a/b/" names b, as "a/b" does.
fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

uint64_t random_word() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

[[noreturn]] void fail_no_space(const fs::path& path, int64_t needed) {
  const int64_t available = free_bytes(folder_of(path));
  const std::string left = available < 0 ? "free space unknown" : fmt::format("{} free", available);
  fail(Exit::kIo, "{}: no space left: needed {} bytes, {}", shown(path), needed, left);
}

bool is_no_space(int error) { return error == ENOSPC || error == EDQUOT; }

// "pid 12 on host" as a lock's holder wrote it.
std::string holder_of(int fd) {
  char text[256];
  const ssize_t got = ::pread(fd, text, sizeof text, 0);
  std::string_view holder(text, got > 0 ? static_cast<size_t>(got) : 0);
  holder = holder.substr(0, holder.find('\n'));
  return holder.empty() ? "pid unknown" : printable(holder);
}

void free_hash(XXH3_state_s* state) { XXH3_freeState(state); }

}  // namespace

void write_all(int fd, std::span<const std::byte> data, const fs::path& path) {
  while (!data.empty()) {
    // Linux writes at most 2 GiB - 4 KiB at once; smaller pieces also let signals through.
    const ssize_t done = ::write(fd, data.data(), std::min(data.size(), size_t{1} << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && is_no_space(errno)) fail_no_space(path, static_cast<int64_t>(data.size()));
    if (done < 0) fail_system(path, "be written", errno);
    data = data.subspan(static_cast<size_t>(done));
  }
}

AtomicFile::AtomicFile(const fs::path& path, int64_t expected_bytes)
    : path_(path), hash_(XXH3_createState(), free_hash) {
  XXH3_64bits_reset(hash_.get());
  const std::string name = path.filename().native();
  if (name.empty() || name == "." || name == ".." ||
      path.native().find('\0') != std::string::npos) {
    fail_input("{}: expected the name of a file to write", shown(path));
  }
  if (files::is_folder(path)) {
    fail_input("{}: expected a file to write, got a folder", shown(path));
  }
  const int64_t available = free_bytes(folder_of(path));
  if (available >= 0 && available < expected_bytes) fail_no_space(path, expected_bytes);
  create();
  if (fd_ < 0 && is_no_space(errno)) fail_no_space(path, expected_bytes);
  if (fd_ < 0) fail_system(path, "be created", errno);
}

void AtomicFile::create() {
  const std::string name = path_.filename().native().substr(0, kTemporaryStem);
  for (;;) {
    temporary_ =
        folder_of(path_) / fmt::format(".{}.tmp.{}.{:016x}", name, ::getpid(), random_word());
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && (errno == EINTR || errno == EEXIST)) continue;
    if (fd_ < 0) return temporary_.clear();
    // Another process may have found it without its lock and removed it: then once more.
    struct stat status {};
    if (::flock(fd_, LOCK_EX) != 0 || ::fstat(fd_, &status) != 0 || status.st_nlink > 0) return;
    ::close(fd_);
  }
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::write(std::span<const std::byte> data) {
  TENON_CHECK(fd_ >= 0, "[AtomicFile] {}: written after commit or failure", shown(path_));
  write_all(fd_, data, path_);
  XXH3_64bits_update(hash_.get(), data.data(), data.size());
  size_ += static_cast<int64_t>(data.size());
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

uint64_t AtomicFile::hash() const { return XXH3_64bits_digest(hash_.get()); }

void AtomicFile::commit() {
  TENON_CHECK(fd_ >= 0, "[AtomicFile] {}: committed twice or after failure", shown(path_));
  int error = ::fsync(fd_) != 0 ? errno : 0;
  // The descriptor is gone after close() even when it fails, EINTR included.
  if (::close(fd_) != 0 && error == 0 && errno != EINTR) error = errno;
  fd_ = -1;
  if (error == 0 && ::rename(temporary_.c_str(), path_.c_str()) != 0) error = errno;
  if (error != 0) {
    discard();
    if (is_no_space(error)) fail_no_space(path_, size_);
    fail_system(path_, "be made durable", error);
  }
  temporary_.clear();
  sync_directory(folder_of(path_));
}

void write_text_atomic(const fs::path& path, std::string_view text) {
  AtomicFile file(path, static_cast<int64_t>(text.size()));
  file.write(text);
  file.commit();
}

void sync_directory(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_system(path, "be opened to sync it", errno);
  const int error = ::fsync(fd) != 0 ? errno : 0;
  ::close(fd);
  if (error != 0 && error != EINVAL) {
    fail_system(path, "be synced", error);  // EINVAL: this file system need not
  }
}

int64_t free_bytes(const fs::path& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0 || status.f_blocks == 0) return -1;
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

fs::path unique_sibling(const fs::path& path, std::string_view mark) {
  const fs::path target = without_trailing_slash(path);
  while (true) {
    const std::string name = fmt::format(
        "{}.{}.{:016x}", target.filename().native().substr(0, kTemporaryStem), mark, random_word());
    const fs::path sibling = target.parent_path() / name;
    if (!files::exists(sibling) && !files::is_link(sibling)) return sibling;
  }
}

ScratchFile::ScratchFile() : ScratchFile(files::temporary_folder()) {}

ScratchFile::ScratchFile(const fs::path& folder) : folder_(folder) {
  fd_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ >= 0) return;
  // Some file systems only know files with names.
  std::string name = (folder_ / "tenon-XXXXXX").native();
  fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) fail_system(name, "be created", errno);
  if (::unlink(name.c_str()) == 0) return;
  const int error = errno;
  ::close(fd_);
  fail_system(name, "be removed", error);
}

ScratchFile::~ScratchFile() { ::close(fd_); }

FolderLock::FolderLock(const fs::path& folder) : folder_(folder) {
  const fs::path file = folder / ".lock";
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0) fail_system(file, "be created", errno);
  int result = 0;
  do {
    result = ::flock(fd_, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  const int error = result != 0 ? errno : 0;
  const bool unsupported = error == ENOSYS || error == EOPNOTSUPP || error == ENOLCK;
  if (error != 0 && !unsupported) {
    const std::string holder = holder_of(fd_);
    ::close(fd_);
    fd_ = -1;
    if (error != EWOULDBLOCK) fail_system(file, "be locked", error);
    fail_input("{}: another tenon run ({}) is writing here", shown(folder), holder);
  }
  held_ = error == 0;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  const std::string text = fmt::format("pid {} on {}\n", ::getpid(), host);
  // The text is for people: a full disk must not keep a run from reading its own folder.
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, text.data(), text.size(), 0) < 0) return;
}

void FolderLock::check() const {
  struct stat locked {
  }, named{};
  if (::fstat(fd_, &locked) != 0) fail_system(folder_, "be looked at", errno);
  const bool there = ::stat((folder_ / ".lock").c_str(), &named) == 0;
  if (!there && errno != ENOENT && errno != ENOTDIR) fail_system(folder_, "be looked at", errno);
  if (there && locked.st_dev == named.st_dev && locked.st_ino == named.st_ino) return;
  if (!files::is_folder(folder_)) {
    fail(Exit::kIo, "{}: the folder was moved or removed while the run went on", shown(folder_));
  }
  fail(Exit::kIo, "{}: the folder or its .lock was removed or replaced while the run went on",
       shown(folder_));
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace tenon
