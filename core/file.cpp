// SPDX-License-Identifier: Apache-2.0
#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "core/files.h"

namespace tenon {

// One mapping as the SIGBUS reporter sees it. Regions form a list that only grows; a region whose
// mapping is gone has size 0 and is taken again, so that the handler may walk the list at any
// moment without a lock.
struct Region {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> size{0};
  std::string shown_path;
  Region* next = nullptr;
};

namespace {

constexpr int64_t kReadChunk = int64_t{1} << 20;
constexpr int64_t kWholeFingerprint = int64_t{64} << 20;
constexpr int64_t kSampleBytes = int64_t{64} << 10;
constexpr int64_t kSamples = 256;

std::atomic<Region*> regions{nullptr};
std::mutex regions_mutex;
std::atomic_flag sigbus_reported;

Region* register_region(const void* data, int64_t size, const std::filesystem::path& path) {
  const std::lock_guard lock(regions_mutex);
  Region* region = regions.load();
  while (region != nullptr && region->size.load() != 0) region = region->next;
  const bool fresh = region == nullptr;
  if (fresh) region = new Region;
  region->shown_path = shown(path);
  region->begin.store(reinterpret_cast<uintptr_t>(data));
  region->size.store(static_cast<uintptr_t>(size));
  if (fresh) {
    region->next = regions.load();
    regions.store(region);
  }
  return region;
}

// write() without a result to act upon: the process is ending.
void put(std::string_view text) {
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) return;
}

void put_number(uintptr_t value) {
  char digits[24];
  size_t at = sizeof digits;
  do {
    digits[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  put({digits + at, sizeof digits - at});
}

// Async-signal-safe: reads atomics and finished strings, writes and leaves. Of several threads that
// fault at once, one speaks.
void on_sigbus(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const bool fault = info->si_code > 0;  // not sent by kill()
  for (const Region* region = regions.load(); fault && region != nullptr; region = region->next) {
    const uintptr_t begin = region->begin.load(), size = region->size.load();
    if (address < begin || address - begin >= size) continue;
    while (sigbus_reported.test_and_set()) ::pause();
    put("tenon: error: ");
    put(region->shown_path);
    put(": the file shrank while it was read, or its disk failed: expected ");
    put_number(size);
    put(" bytes, got none at byte ");
    put_number(address - begin);
    put("\n");
    _exit(static_cast<int>(Exit::kIo));
  }
  std::signal(SIGBUS, SIG_DFL);
  std::raise(SIGBUS);  // delivered when this handler returns
}

// A descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

[[noreturn]] void fail_read(const std::filesystem::path& path, int error) {
  fail_system(path, "be read", error);
}

[[noreturn]] void fail_open(const std::filesystem::path& path, int error) {
  switch (error) {
    case ENOENT:
      fail_input("{}: expected a file, got {}", shown(path),
                 files::is_link(path) ? "a dangling symbolic link" : "nothing of that name");
    case ENXIO: fail_input("{}: expected a regular file, got a socket or a device", shown(path));
    case ENOTDIR:
    case EACCES:
    case EPERM:
    case ELOOP:
    case ENAMETOOLONG:
      fail_input("{}: expected a readable file: {}", shown(path), std::strerror(error));
    default: fail_read(path, error);
  }
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

// Opens a regular file for reading, and gives its size. O_NONBLOCK: a FIFO without a writer must
// not hold us up.
int64_t open_regular(const std::filesystem::path& path, Descriptor& file) {
  if (path.native().find('\0') != std::string::npos) {
    fail_input("{}: expected a path without NUL", shown(path));
  }
  do {
    file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (file.fd < 0 && errno == EINTR);
  if (file.fd < 0) fail_open(path, errno);
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) fail_read(path, errno);
  if (!S_ISREG(status.st_mode)) {
    fail_input("{}: expected a regular file, got {}", shown(path), kind_of(status.st_mode));
  }
  return status.st_size;
}

// Up to `bytes` bytes from `offset`; less only at the end of the file.
int64_t read_at(const Descriptor& file, char* into, int64_t bytes, int64_t offset,
                const std::filesystem::path& path) {
  int64_t done = 0;
  while (done < bytes) {
    const size_t want = static_cast<size_t>(std::min(bytes - done, int64_t{1} << 30));
    const ssize_t got = ::pread(file.fd, into + done, want, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_read(path, errno);
    if (got == 0) break;
    done += got;
  }
  return done;
}

using HashState = std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)>;

HashState new_hash(uint64_t seed) {
  HashState state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset_withSeed(state.get(), seed);
  return state;
}

void hash_range(const Descriptor& file, int64_t offset, int64_t bytes, XXH3_state_t* state,
                const std::filesystem::path& path) {
  std::vector<char> buffer(static_cast<size_t>(std::min(bytes, kReadChunk)));
  while (bytes > 0) {
    const int64_t got = read_at(file, buffer.data(), std::min(bytes, kReadChunk), offset, path);
    if (got == 0) {
      fail(Exit::kIo, "{}: the file shrank while it was read (ends at byte {})", shown(path),
           offset);
    }
    XXH3_64bits_update(state, buffer.data(), static_cast<size_t>(got));
    offset += got;
    bytes -= got;
  }
}

// madvise() wants whole pages; a hint that fails is no loss.
void advise(const MappedFile& file, int64_t offset, int64_t bytes, int advice) {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  const int64_t begin = std::clamp<int64_t>(offset, 0, file.size()) / page * page;
  const int64_t end = std::clamp<int64_t>(offset + bytes, begin, file.size());
  if (end > begin) {
    ::madvise(const_cast<std::byte*>(file.data()) + begin, static_cast<size_t>(end - begin),
              advice);
  }
}

}  // namespace

std::string shown(const std::filesystem::path& path) { return printable(path.native(), 1000); }

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  static constexpr std::byte kEmpty{};
  Descriptor file;
  const int64_t size = open_regular(path, file);
  if (size == 0) return std::shared_ptr<const MappedFile>(new MappedFile(path, &kEmpty, 0));
  void* data = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, file.fd, 0);
  if (data == MAP_FAILED) fail_system(path, fmt::format("be mapped, {} bytes", size), errno);
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, static_cast<const std::byte*>(data), size));
}

std::shared_ptr<const MappedFile> MappedFile::unbacked(const std::filesystem::path& path,
                                                       int64_t bytes) {
  void* data = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) fail_system(path, fmt::format("be planned, {} bytes", bytes), errno);
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, static_cast<const std::byte*>(data), bytes));
}

MappedFile::MappedFile(const std::filesystem::path& path, const std::byte* data, int64_t size)
    : path_(path), data_(data), size_(size) {
  if (size > 0) region_ = register_region(data, size, path);
}

MappedFile::~MappedFile() {
  if (region_ == nullptr) return;
  region_->begin.store(0);
  ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
  region_->size.store(0);  // last: from here on the region may be taken again
}

void MappedFile::advise_sequential() const { advise(*this, 0, size_, MADV_SEQUENTIAL); }
void MappedFile::advise_will_need(int64_t offset, int64_t bytes) const {
  advise(*this, offset, bytes, MADV_WILLNEED);
}
void MappedFile::advise_done(int64_t offset, int64_t bytes) const {
  advise(*this, offset, bytes, MADV_DONTNEED);
}

bool in_mapped_file(const void* data, int64_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data), count = static_cast<uintptr_t>(bytes);
  for (const Region* region = regions.load(); region != nullptr; region = region->next) {
    const uintptr_t begin = region->begin.load(), size = region->size.load();
    if (address >= begin && address - begin <= size && count <= size - (address - begin))
      return size > 0;
  }
  return false;
}

void advise_pages(const void* data, int64_t bytes, Pages what) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  // Pages that a neighbour shares are left alone.
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (begin + page - 1) / page * page,
                  last = (begin + static_cast<uintptr_t>(bytes)) / page * page;
  if (first >= last) return;
  int advice = what == Pages::kSoon ? MADV_WILLNEED : MADV_DONTNEED;
  if (what == Pages::kMap) {
#ifdef MADV_POPULATE_READ
    advice = MADV_POPULATE_READ;
#else
    return;
#endif
  }
  ::madvise(reinterpret_cast<void*>(first), last - first, advice);
}

void install_sigbus_reporter() {
  struct sigaction action {};
  action.sa_sigaction = on_sigbus;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGBUS, &action, nullptr);
}

std::string read_text(const std::filesystem::path& path, int64_t max_bytes) {
  Descriptor file;
  const int64_t size = open_regular(path, file);
  const auto refuse = [&](int64_t bytes) {
    fail_input("{}: expected at most {} bytes, got {}", shown(path), max_bytes, bytes);
  };
  if (size > max_bytes) refuse(size);
  std::string text;
  for (int64_t chunk = size + 1;;) {  // one more: shows the end, and a file that grew
    const size_t before = text.size();
    text.resize(before + static_cast<size_t>(chunk));
    const int64_t got =
        read_at(file, text.data() + before, chunk, static_cast<int64_t>(before), path);
    text.resize(before + static_cast<size_t>(got));
    if (static_cast<int64_t>(text.size()) > max_bytes) refuse(static_cast<int64_t>(text.size()));
    if (got < chunk) return text;
    chunk = std::min(kReadChunk, max_bytes + 1 - static_cast<int64_t>(text.size()));
  }
}

uint64_t hash_bytes(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t hash_file(const std::filesystem::path& path) {
  Descriptor file;
  const int64_t size = open_regular(path, file);
  const HashState state = new_hash(0);
  hash_range(file, 0, size, state.get(), path);
  return XXH3_64bits_digest(state.get());
}

uint64_t fingerprint_file(const std::filesystem::path& path) {
  Descriptor file;
  const int64_t size = open_regular(path, file);
  const HashState state = new_hash(static_cast<uint64_t>(size));
  if (size <= kWholeFingerprint) {
    hash_range(file, 0, size, state.get(), path);
  } else {
    const int64_t last =
        size - kSampleBytes;  // sample 0 is the head, the one after the last the tail
    for (int64_t i = 0; i <= kSamples + 1; ++i) {
      const int64_t at = last / (kSamples + 1) * i + last % (kSamples + 1) * i / (kSamples + 1);
      hash_range(file, at, kSampleBytes, state.get(), path);
    }
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace tenon
