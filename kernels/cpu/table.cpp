// SPDX-License-Identifier: Apache-2.0
// The kernel table of one instruction set; compiled once for each.
#include "kernels/cpu/kernels.h"

namespace tenon::cpu::TENON_ISA {

void sample(const SampleArgs& args) { sample_token(args); }
void repetition_penalty(const RepetitionPenaltyArgs& args) { penalize_repeated(args); }

extern const KernelTable table;  // a const object needs this to be visible outside
const KernelTable table = {.name = TENON_ISA_NAME,
#define X(fn, Args) .fn = fn,
                           TENON_KERNELS(X)
#undef X
};

}  // namespace tenon::cpu::TENON_ISA
