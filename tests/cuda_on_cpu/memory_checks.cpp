// SPDX-License-Identifier: Apache-2.0
// The functions that gcc's -fsanitize=thread calls before each access to memory. libtsan is not
// linked: these take its place, and judge the accesses of kernel code.
#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>

#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {
namespace {

// An access as the hooks see it.
struct Access {
  uintptr_t address;
  uint64_t bytes;
  AccessKind kind;
  void* pc;
};

const char* name_of(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead: return "read";
    case AccessKind::kWrite: return "write";
    case AccessKind::kAtomic: return "atomic update";
  }
  return "";
}

// " (norm.cu:57)" where addr2line can tell, else nothing. For people; tests that expect violations
// are quiet and skip the cost.
std::string source_of(void* pc) {
  Dl_info module;
  if (is_quiet() || dladdr(pc, &module) == 0) return "";
  const auto offset =
      reinterpret_cast<uintptr_t>(pc) - 1 - reinterpret_cast<uintptr_t>(module.dli_fbase);
  std::FILE* pipe =
      popen(text("addr2line -se '%s' %#lx 2>/dev/null", module.dli_fname, offset).c_str(), "r");
  if (pipe == nullptr) return "";
  char line[256] = "";
  const bool found = std::fgets(line, sizeof line, pipe) != nullptr && line[0] != '?';
  pclose(pipe);
  std::string place = line;
  if (!found) return "";
  return " (" + place.substr(0, place.find_first_of(" \n")) + ")";
}

[[noreturn]] void refuse(Worker& worker, const char* kind, const Access& access,
                         const std::string& what) {
  running = nullptr;
  worker.fail(kind, text("%s of %llu bytes: %s%s", name_of(access.kind),
                         static_cast<unsigned long long>(access.bytes), what.c_str(),
                         source_of(access.pc).c_str()));
}

[[gnu::noinline, noreturn]] void refuse_shared(Worker& worker, const Access& access,
                                               const Conflict& conflict) {
  running = nullptr;
  const std::string where = worker.shared.describe(access.address, access.bytes);
  const uint3 other = worker.lanes[static_cast<size_t>(conflict.other)].index;
  const std::string thread = text("thread (%u,%u,%u)", other.x, other.y, other.z);
  switch (conflict.kind) {
    case Conflict::kUnwritten:
      refuse(worker, "unwritten", access, where + ", which nobody wrote in this block");
    case Conflict::kInFlight:
      refuse(worker, "in flight", access,
             where + ", while a cp.async of " + thread + " to it is under way");
    case Conflict::kRace:
      refuse(worker, "race", access,
             where + ", with nothing to order it after the " + name_of(conflict.other_kind) +
                 " by " + thread);
    case Conflict::kNone: break;
  }
  refuse(worker, "out of bounds", access, where);
}

// The segments of the program and its libraries: constants lie there.
const std::vector<Extent>& program_data() {
  static const auto* segments = [] {
    auto* found = new std::vector<Extent>;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* result) {
          for (int i = 0; i < info->dlpi_phnum; ++i)
            if (info->dlpi_phdr[i].p_type == PT_LOAD)
              static_cast<std::vector<Extent>*>(result)->push_back(
                  {info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, info->dlpi_phdr[i].p_memsz});
          return 0;
        },
        found);
    return found;
  }();
  return *segments;
}

bool within(const Extent& extent, const Access& access) {
  const uint64_t offset = access.address - extent.begin;
  return offset < extent.bytes && access.bytes <= extent.bytes - offset;
}

// Everything that the fast path does not settle.
[[gnu::noinline]] void judge(Worker& worker, const Access& access, Extent& cached) {
  const Pause pause;
  const auto* pointer = reinterpret_cast<const void*>(access.address);
  if (in_device_region(access.address)) {
    const DeviceBlock* block = find_device_block(access.address);
    if (block != nullptr && !block->freed && block->device == worker.device) {
      const Extent whole = {block->begin, static_cast<uint64_t>(block->bytes)};
      if (within(whole, access)) {
        cached = whole;
        return;
      }
    }
    refuse(worker, block != nullptr && block->freed ? "use after free" : "out of bounds", access,
           device_range_problem(pointer, static_cast<int64_t>(access.bytes), worker.device));
  }
  const Extent arguments = {reinterpret_cast<uintptr_t>(worker.launch->arguments.get()),
                            static_cast<uint64_t>(worker.launch->argument_bytes)};
  if (access.kind == AccessKind::kRead && within(arguments, access)) return;
  if (pointer == nullptr || access.address < 4096)
    refuse(worker, "out of bounds", access, text("null pointer %p", pointer));
  if (worker.is_stack(access.address))
    refuse(worker, "out of bounds", access, "another thread's local variable");
  for (const Extent& segment : program_data()) {
    if (!within(segment, access)) continue;
    if (access.kind == AccessKind::kRead) return;
    refuse(worker, "host memory", access, text("%p, data of the program", pointer));
  }
  refuse(worker, "host memory", access, text("%p is memory of the host", pointer));
}

[[gnu::noinline]] void check_shared(Worker& worker, const Access& access) {
  SharedMemory& shared = worker.shared;
  Conflict conflict;
  const bool plain = shared.is_plain(access.address);
  if (plain || shared.inside(access.address, access.bytes)) {
    Shadow& shadow = plain ? shared.plain_shadow() : shared.shadow();
    if (shadow.access(access.address, access.bytes, access.kind, worker.lane->number, conflict))
      return;
  }
  refuse_shared(worker, access, conflict);
}

[[gnu::noinline]] void check_further(Worker& worker, uintptr_t address, uint64_t bytes,
                                     AccessKind kind, void* pc) {
  const Access access = {address, bytes, kind, pc};
  if (worker.shared.holds(address) || worker.shared.is_plain(address))
    check_shared(worker, access);
  else
    judge(worker, access, worker.cached[(reinterpret_cast<uintptr_t>(pc) >> 2) % Worker::kCached]);
}

// What every access passes: local variables, and the array that the instruction met last time.
inline void check(const void* at, uint64_t bytes, AccessKind kind, void* pc) {
  Worker* worker = running;
  if (worker == nullptr) return;
  const auto address = reinterpret_cast<uintptr_t>(at);
  if (address - worker->stack_begin < Worker::kStackBytes) return;
  const Extent& last = worker->cached[(reinterpret_cast<uintptr_t>(pc) >> 2) % Worker::kCached];
  const uint64_t offset = address - last.begin;
  if (offset < last.bytes && bytes <= last.bytes - offset) return;
  check_further(*worker, address, bytes, kind, pc);
}

}  // namespace

void check_read(const void* at, int64_t bytes) {
  check(at, static_cast<uint64_t>(bytes), AccessKind::kRead, __builtin_return_address(0));
}
void check_write(void* at, int64_t bytes) {
  check(at, static_cast<uint64_t>(bytes), AccessKind::kWrite, __builtin_return_address(0));
}
void check_atomic(void* at, int64_t bytes) {
  check(at, static_cast<uint64_t>(bytes), AccessKind::kAtomic, __builtin_return_address(0));
}

}  // namespace tenon::cuda_on_cpu

#define TENON_HOOK(name, bytes, kind)                                          \
  void __tsan_##name(void* at) {                                               \
    tenon::cuda_on_cpu::check(at, bytes, tenon::cuda_on_cpu::AccessKind::kind, \
                              __builtin_return_address(0));                    \
  }
#define TENON_HOOKS(bytes)                          \
  TENON_HOOK(read##bytes, bytes, kRead)             \
  TENON_HOOK(write##bytes, bytes, kWrite)           \
  TENON_HOOK(unaligned_read##bytes, bytes, kRead)   \
  TENON_HOOK(unaligned_write##bytes, bytes, kWrite) \
  TENON_HOOK(volatile_read##bytes, bytes, kRead)    \
  TENON_HOOK(volatile_write##bytes, bytes, kWrite)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
TENON_HOOKS(1)
TENON_HOOKS(2)
TENON_HOOKS(4)
TENON_HOOKS(8)
TENON_HOOKS(16)
void __tsan_read_range(void* at, unsigned long bytes) {
  tenon::cuda_on_cpu::check(at, bytes, tenon::cuda_on_cpu::AccessKind::kRead,
                            __builtin_return_address(0));
}
void __tsan_write_range(void* at, unsigned long bytes) {
  tenon::cuda_on_cpu::check(at, bytes, tenon::cuda_on_cpu::AccessKind::kWrite,
                            __builtin_return_address(0));
}
}

// -fsanitize=alignment,bounds calls these for a pointer that its type's alignment forbids, and for
// an index beyond an array of known length.
namespace tenon::cuda_on_cpu {
namespace {

// As gcc lays them out for libubsan.
struct UbsanLine {
  const char* file;
  uint32_t line, column;
};
struct UbsanType {
  uint16_t kind, info;
  char name[1];
};
struct UbsanMismatch {
  UbsanLine at;
  const UbsanType* type;
  uint8_t log_alignment, kind;
};
struct UbsanBounds {
  UbsanLine at;
  const UbsanType* array;
};

void undefined(const char* kind, const std::string& what) {
  if (running != nullptr) running->fail(kind, what);
  std::fprintf(stderr, "cuda_on_cpu: host code: %s\n", what.c_str());
  std::abort();
}

}  // namespace
}  // namespace tenon::cuda_on_cpu

extern "C" {
void __ubsan_handle_type_mismatch_v1(tenon::cuda_on_cpu::UbsanMismatch* data, void* pointer) {
  tenon::cuda_on_cpu::undefined(
      "misaligned", tenon::cuda_on_cpu::text("%p is not aligned to %d bytes, as %s must be (%s:%u)",
                                             pointer, 1 << data->log_alignment, data->type->name,
                                             data->at.file, data->at.line));
}
void __ubsan_handle_out_of_bounds(tenon::cuda_on_cpu::UbsanBounds* data, void* index) {
  tenon::cuda_on_cpu::undefined(
      "out of bounds",
      tenon::cuda_on_cpu::text("index %lld of %s (%s:%u)",
                               static_cast<long long>(reinterpret_cast<intptr_t>(index)),
                               data->array->name, data->at.file, data->at.line));
}
}
