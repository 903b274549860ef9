// SPDX-License-Identifier: Apache-2.0
// Files as Tenon reads and writes them. Reading: a read-only mapping of a whole regular file.
// Writing: beside the target under a temporary name, synced, then renamed, so that a target is
// either the old file or the whole new one. What a user named wrongly is Error(kInput); a system
// that failed to read or write is Error(kIo).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct XXH3_state_s;  // of xxhash.h

namespace tenon {

// A path as it may stand in a message: escaped, and cut only when absurdly long.
std::string shown(const std::filesystem::path& path);

// The bytes of a whole file, mapped read-only. Safe to share between threads. A file that shrinks
// while it is mapped raises SIGBUS at the missing bytes: see install_sigbus_reporter().
class MappedFile {
 public:
  // Throws Error(kInput) for what is missing, unreadable or not a regular file, Error(kMemory) where
  // there is no room for the mapping. An empty file is an empty mapping.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  // What stands in the place of a file that is not there, for dry runs: `bytes` zeros that take no
  // memory, under the name of `path`.
  static std::shared_ptr<const MappedFile> unbacked(const std::filesystem::path& path,
                                                    int64_t bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }  // never null
  int64_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(data_), static_cast<size_t>(size_)};
  }
  const std::filesystem::path& path() const { return path_; }

  // Hints for the kernel's read-ahead: read once from front to back; a range needed soon; a range
  // not needed again.
  void advise_sequential() const;
  void advise_will_need(int64_t offset, int64_t bytes) const;
  void advise_done(int64_t offset, int64_t bytes) const;

 private:
  MappedFile(const std::filesystem::path& path, const std::byte* data, int64_t size);
  std::filesystem::path path_;
  const std::byte* data_;
  int64_t size_;
  struct Region* region_ = nullptr;  // the entry that the SIGBUS reporter looks up
};

// Whether all of these bytes lie in one MappedFile, which the system can read again.
bool in_mapped_file(const void* data, int64_t bytes);

// Hints for the whole pages among bytes of a MappedFile: map them all now, which is quicker than one
// by one as they are touched; they are needed soon; they may go until they are touched again.
enum class Pages : uint8_t { kMap, kSoon, kDone };
void advise_pages(const void* data, int64_t bytes, Pages what);

// From here on, a fault inside a MappedFile ends the process with one line that names the file, and
// exit code 6. Any other SIGBUS keeps its default action. Called once by the program; more calls do
// no harm.
void install_sigbus_reporter();

// The whole text of a regular file. Throws Error(kInput) when it is longer than `max_bytes`, and
// reads nothing of one that says so itself.
std::string read_text(const std::filesystem::path& path, int64_t max_bytes);

// XXH3-64 of some bytes; of a file's whole content.
uint64_t hash_bytes(std::span<const std::byte> bytes);
uint64_t hash_file(const std::filesystem::path& path);

// A quick identity of a file's content, seeded with its size: XXH3-64 of all of it up to 64 MiB;
// above that of its first and last 64 KiB and 256 evenly spaced samples of 64 KiB (a change between
// samples is not seen).
uint64_t fingerprint_file(const std::filesystem::path& path);

// Writes all of `data` to a descriptor, however the system cuts it up. `path` is for messages.
void write_all(int fd, std::span<const std::byte> data, const std::filesystem::path& path);

// A file in the making: `.NAME.tmp.<pid>.<random>` beside `path` until commit(). Destroyed without
// commit(), it leaves nothing behind. It is locked meanwhile: see remove_abandoned().
class AtomicFile {
 public:
  // Throws Error(kIo) when the folder takes no file, or has less than `expected_bytes` free (0:
  // unknown).
  explicit AtomicFile(const std::filesystem::path& path, int64_t expected_bytes = 0);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> data);
  void write(std::string_view text);
  int64_t size() const { return size_; }  // bytes written so far
  uint64_t hash() const;                  // XXH3-64 of them

  // Syncs, closes, renames to the target and syncs the folder. A failed sync is final: the kernel
  // may have dropped the pages and would report success the second time.
  void commit();

 private:
  void create();  // without a descriptor where it fails
  void discard() noexcept;
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
  int64_t size_ = 0;
  std::unique_ptr<XXH3_state_s, void (*)(XXH3_state_s*)> hash_;
};

void write_text_atomic(const std::filesystem::path& path, std::string_view text);

// Makes the names inside a folder (created, renamed, removed) durable.
void sync_directory(const std::filesystem::path& path);

// Bytes that an ordinary user may still write on the file system of `path`, or -1 where it does not
// say.
int64_t free_bytes(const std::filesystem::path& path);

// A name beside `path` that nothing has yet: `NAME.<mark>.<hex>`. Of a long name only so much is
// taken that the whole fits the 255 bytes of a file name.
constexpr size_t kTemporaryStem = 200;
std::filesystem::path unique_sibling(const std::filesystem::path& path,
                                     std::string_view mark = "tmp");

// A file without a name, to be written and read back: it goes with this object, however the process
// ends.
class ScratchFile {
 public:
  ScratchFile();  // in the folder for temporary files
  explicit ScratchFile(const std::filesystem::path& folder);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  int fd() const { return fd_; }
  const std::filesystem::path& folder() const { return folder_; }  // for messages

 private:
  std::filesystem::path folder_;
  int fd_ = -1;
};

// Keeps other runs out of a folder while it lives, by a lock on the file `.lock` inside it (which
// stays). The system releases the lock when the process ends, however it ends.
class FolderLock {
 public:
  // Throws Error(kInput) naming the holder when another run holds the folder.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  // False where the file system has no locks (some Lustre mounts): the caller should say so and go
  // on.
  bool held() const { return held_; }

  // Throws Error(kIo) where the folder's name, or `.lock` in it, no longer leads to what was
  // locked: it was moved, removed or replaced, and what is written would be lost or be another's.
  void check() const;

 private:
  std::filesystem::path folder_;
  int fd_ = -1;
  bool held_ = false;
};

}  // namespace tenon
