// SPDX-License-Identifier: Apache-2.0
// Copies between the host and the card through pinned memory, which the card reads and writes by
// itself while the host goes on.
#pragma once

#include <cstdint>

namespace tenon::cuda {

// Queues a copy to the card; `from` may be changed as soon as this returns.
void upload(void* to, const void* from, int64_t bytes);

// Copies to the host when all that was asked of the card before is done; waits for it.
void download(void* to, const void* from, int64_t bytes);

}  // namespace tenon::cuda
