// SPDX-License-Identifier: Apache-2.0
#include "core/file_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/counting.h"
#include "core/error.h"
#include "core/files.h"

namespace tenon {
namespace {

int64_t whole_pages(int64_t bytes) {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  return (std::max<int64_t>(bytes, 1) + page - 1) / page * page;
}

struct Mapping {
  void* data;
  size_t bytes;
  std::shared_ptr<FileMemory> file;
  ~Mapping() { ::munmap(data, bytes); }
};

}  // namespace

std::shared_ptr<FileMemory> FileMemory::create(const std::filesystem::path& folder) {
  std::shared_ptr<FileMemory> memory(new FileMemory);
  if (counting() == nullptr) memory->file_.emplace(folder);
  return memory;
}

Tensor FileMemory::zeros(const Shape& shape, DType dtype) {
  const int64_t bytes = whole_pages(shape.numel() * size_of(dtype));
  const bool dry = !file_;
  if (!dry) {
    // Not a hole: a page that finds no room when it is written would end the process.
    const int error = ::posix_fallocate(file_->fd(), size_, bytes);
    if (error != 0) fail_system(file_->folder(), fmt::format("take {} bytes more", bytes), error);
  }
  void* data = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      dry ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED,
                      dry ? -1 : file_->fd(), dry ? 0 : size_);
  if (data == MAP_FAILED) fail(Exit::kMemory, "{} bytes of a file could not be mapped", bytes);
  const auto mapping = std::make_shared<Mapping>();
  mapping->data = data;
  mapping->bytes = static_cast<size_t>(bytes);
  mapping->file = shared_from_this();
  size_ += bytes;
  return Tensor::borrow(data, shape, dtype, mapping);
}

void release_pages(const Tensor& in_file) {
  const int64_t bytes = whole_pages(in_file.bytes());
  ::madvise(in_file.raw(), static_cast<size_t>(bytes), MADV_DONTNEED);
}

}  // namespace tenon
