// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_on_cpu/shared_memory.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {
namespace {

constexpr int64_t kGuard = 256;

char* map_buffer() {
  void* block = mmap(nullptr, SharedMemory::kBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  return static_cast<char*>(block);
}

// Where the calling OS thread has the program's thread_local variables.
Extent thread_locals() {
  Extent found;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        for (int i = 0; i < info->dlpi_phnum; ++i)
          if (info->dlpi_phdr[i].p_type == PT_TLS)
            *static_cast<Extent*>(result) = {reinterpret_cast<uintptr_t>(info->dlpi_tls_data),
                                             info->dlpi_phdr[i].p_memsz};
        return 1;  // the first is the program itself
      },
      &found);
  return found;
}

}  // namespace

SharedMemory::SharedMemory()
    : base_(map_buffer()),
      array_of_(kBytes / 4),
      shadow_(begin(), kBytes, order_),
      plain_(thread_locals().begin, thread_locals().bytes, order_) {}

SharedMemory::~SharedMemory() { munmap(base_, kBytes); }

void SharedMemory::add(const void* tag, const char* name, int64_t begin, int64_t bytes) {
  arrays_.push_back({tag, name, begin, bytes});
  std::memset(base_ + begin, 0xff, static_cast<size_t>(bytes));
  std::memset(array_of_.data() + begin / 4, static_cast<int>(arrays_.size()),
              static_cast<size_t>((bytes + 3) / 4));
  end_ = begin + bytes + kGuard;
}

void SharedMemory::start_block(int threads, int64_t dynamic_bytes) {
  std::fill_n(array_of_.begin(), std::min(end_, static_cast<int64_t>(kBytes)) / 4, 0);
  arrays_.clear();
  static_bytes_ = 0;
  add(nullptr, "dynamic shared memory", kGuard + 128, dynamic_bytes);  // 128-byte aligned, no more
  order_.start_block(threads);
}

void* SharedMemory::array(const void* tag, const char* name, int64_t bytes, int64_t alignment) {
  for (const SharedArray& array : arrays_)
    if (array.tag == tag) return base_ + array.begin;
  alignment = std::max<int64_t>(alignment, 4);
  const int64_t begin = (end_ + alignment - 1) / alignment * alignment;
  if (begin + bytes + kGuard > static_cast<int64_t>(kBytes) || arrays_.size() == 255)
    return nullptr;
  add(tag, name, begin, bytes);
  static_bytes_ += bytes;
  return base_ + begin;
}

std::string SharedMemory::describe(uintptr_t address, uint64_t bytes) const {
  if (is_plain(address)) return text("the __shared__ variable at %#lx", address);
  const auto offset = static_cast<int64_t>(address - begin());
  const SharedArray* nearest = &arrays_[0];
  for (const SharedArray& array : arrays_)
    if (array.begin - kGuard / 2 <= offset) nearest = &array;
  const long long from_begin = offset - nearest->begin;
  const long long beyond = from_begin + static_cast<long long>(bytes) - nearest->bytes;
  if (from_begin < 0)
    return text("%lld bytes before '%s' of %lld bytes", -from_begin, nearest->name,
                static_cast<long long>(nearest->bytes));
  if (beyond > 0)
    return text("%lld bytes past the end of '%s' of %lld bytes", beyond, nearest->name,
                static_cast<long long>(nearest->bytes));
  return text("'%s' + %lld bytes", nearest->name, from_begin);
}

}  // namespace tenon::cuda_on_cpu
