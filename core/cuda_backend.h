// SPDX-License-Identifier: Apache-2.0
// What the CUDA backend offers to the engine. Core declares it; kernels/cuda implements it, or
// kernels/cuda/absent.cpp in a build without CUDA. Plain types; a reason is a text that lives until
// the next call. A device that fails while the host waits for it throws Error(kInternal).
#pragma once

#include "core/device.h"
#include "core/kernel_table.h"

namespace tenon::cuda {

// The kernels built for one architecture, and the cards that run them, by compute capability (10 *
// major + minor): machine code runs on one generation, PTX on all newer ones too.
struct Implementation {
  const KernelTable* table;
  int least, most;
  bool runs_on(int capability) const { return least <= capability && capability <= most; }
};

struct Card {
  char name[256];
  int capability;  // 10 * major + minor
};

struct Backend {
  // How many cards this machine has; 0 with the reason (no driver, none there) in *why.
  int (*cards)(const char** why);
  // Describes card `index`; false with the reason when it cannot be asked.
  bool (*describe)(int index, Card* card, const char** why);
  // Makes `index` the card of this process; false with the reason. Once a process.
  bool (*open)(int index, const char** why);
  const DeviceMemory* memory;
  void (*capacity)(int64_t* free_bytes, int64_t* total_bytes);  // of the opened card
  const Implementation* implementations;                        // newest first
  int implementation_count;
};
const Backend& backend();

// The implementation that suits a card of `capability`; null when it is older than all.
const Implementation* implementation_for(int capability);

}  // namespace tenon::cuda
