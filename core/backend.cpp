// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/trace.h"

namespace tenon {
namespace {

const KernelTable* choose_cpu() {
  const char* variable = std::getenv("TENON_CPU");
  const std::string wanted = variable != nullptr ? variable : "";
  std::string known;
  for (const cpu::Implementation& implementation : cpu::implementations()) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", implementation.table->name);
    if (!wanted.empty()) {
      if (wanted != implementation.table->name) continue;
      if (implementation.usable()) return implementation.table;
      fail(Exit::kEnvironment, "TENON_CPU={}: this CPU does not have the instructions", wanted);
    }
    if (!implementation.usable()) continue;
    if (implementation.worth_it == nullptr || implementation.worth_it())
      return implementation.table;
  }
  fail(Exit::kEnvironment, "TENON_CPU={}: expected one of {}", printable(wanted), known);
}

const KernelTable& default_table() {
  static const KernelTable* table =
      trace_wanted() ? traced(Device::kCPU, choose_cpu()) : choose_cpu();
  return *table;
}

thread_local const KernelTable* override_table = nullptr;
thread_local const KernelTable* override_cuda_table = nullptr;

// The card of this process.
struct OpenCard {
  int index = -1;
  cuda::Card card{};
  const KernelTable* table = nullptr;
};
OpenCard open_card;

// Why card `index` cannot be used, or "" and its description.
std::string unusable(int index, cuda::Card& card) {
  const char* why = "";
  if (!cuda::backend().describe(index, &card, &why)) return why;
  if (cuda::implementation_for(card.capability) != nullptr) return "";
  const int least = cuda::backend().implementations[cuda::backend().implementation_count - 1].least;
  const std::string expected = card.capability < least
                                   ? fmt::format("expected {}.{} or newer", least / 10, least % 10)
                                   : "for which this program was built without kernels";
  return fmt::format("{} has compute capability {}.{}, {}", printable(card.name),
                     card.capability / 10, card.capability % 10, expected);
}

Device open(int index) {
  static std::mutex mutex;  // ranks may be threads
  const std::lock_guard lock(mutex);
  if (open_card.index == index) return Device::kCUDA;
  TENON_CHECK(open_card.index < 0, "[device] cuda:{} asked for after cuda:{}", index,
              open_card.index);
  OpenCard opened{.index = index};
  const std::string problem = unusable(index, opened.card);
  if (!problem.empty()) fail(Exit::kEnvironment, "--device cuda:{}: {}", index, problem);
  const char* why = "";
  if (!cuda::backend().open(index, &why))
    fail(Exit::kEnvironment, "--device cuda:{}: {}: {}", index, printable(opened.card.name), why);
  const KernelTable* table = cuda::implementation_for(opened.card.capability)->table;
  opened.table = trace_wanted() ? traced(Device::kCUDA, table) : checked(table);
  open_card = opened;
  return Device::kCUDA;
}

// N of "cuda:N"; negative when it is not a number.
int number_after_colon(const std::string& text) {
  int number = -1;
  const char* begin = text.data() + text.find(':') + 1;
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : -1;
}

}  // namespace

namespace cuda {

const Implementation* implementation_for(int capability) {
  const Backend& b = backend();
  for (int i = 0; i < b.implementation_count; ++i) {
    if (b.implementations[i].runs_on(capability)) return &b.implementations[i];
  }
  return nullptr;
}

}  // namespace cuda

const KernelTable& kernels(Device device) {
  if (device == Device::kCPU) return override_table != nullptr ? *override_table : default_table();
  if (override_cuda_table != nullptr) return *override_cuda_table;
  TENON_CHECK(open_card.table != nullptr, "[device] no CUDA device was opened");
  return *open_card.table;
}

Device open_device(const std::string& wanted, int local_rank) {
  kernels(Device::kCPU);  // a TENON_CPU that is wrong is told here; a card needs the host's as well
  if (wanted == "cpu") return Device::kCPU;
  const bool any = wanted == "auto";
  const bool named = wanted.starts_with("cuda:");
  if (!any && !named && wanted != "cuda") {
    fail_input("--device: expected auto, cpu, cuda or cuda:N, got '{}'", printable(wanted));
  }
  const char* why = "";
  const int cards = cuda::backend().cards(&why);
  if (cards <= 0) {
    if (any) return Device::kCPU;
    fail(Exit::kEnvironment, "--device {}: {}", printable(wanted), why);
  }
  const int index = named ? number_after_colon(wanted) : local_rank % cards;
  if (index < 0) fail_input("--device: expected cuda:N, got '{}'", printable(wanted));
  if (index >= cards) {
    fail(Exit::kEnvironment,
         "--device cuda:{}: this machine has {} CUDA device{} (numbered from 0)", index, cards,
         cards == 1 ? "" : "s");
  }
  cuda::Card card;
  if (any && !unusable(index, card).empty()) return Device::kCPU;
  return open(index);
}

std::string device_text(Device device) {
  if (device == Device::kCPU) return fmt::format("cpu ({} kernels)", kernels(device).name);
  return fmt::format("cuda:{}, {} ({} kernels)", open_card.index, printable(open_card.card.name),
                     kernels(device).name);
}

DType parse_dtype(const std::string& text, const std::string& flag) {
  if (text == "fp32" || text == "float32") return DType::kF32;
  if (text == "bf16" || text == "bfloat16") return DType::kBF16;
  if (text == "fp16" || text == "float16") return DType::kF16;
  fail_input("{}: expected fp32, bf16 or fp16, got \"{}\"", flag, printable(text));
}

void require_dtype(Device device, DType dtype) {
  if (device == Device::kCPU || dtype != DType::kBF16 || open_card.card.capability >= 80) return;
  fail(Exit::kEnvironment,
       "cuda:{}: {} (compute capability {}.{}) does not compute in bf16: use --precision fp16",
       open_card.index, printable(open_card.card.name), open_card.card.capability / 10,
       open_card.card.capability % 10);
}

std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables;
  for (const cpu::Implementation& implementation : cpu::implementations()) {
    if (implementation.usable()) tables.push_back(implementation.table);
  }
  return tables;
}

const KernelTable* use_table(const KernelTable* table) {
  return std::exchange(override_table, table);
}
void use_cuda_table(const KernelTable* table) { override_cuda_table = table; }

}  // namespace tenon
