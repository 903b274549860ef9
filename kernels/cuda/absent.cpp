// SPDX-License-Identifier: Apache-2.0
// The CUDA backend of a build without CUDA.
#include "core/cuda_backend.h"

namespace tenon::cuda {

const Backend& backend() {
  static const Backend none = {.cards =
                                   [](const char** why) {
                                     *why = "this program was built without CUDA";
                                     return 0;
                                   },
                               .describe = [](int, Card*, const char**) { return false; },
                               .open = [](int, const char**) { return false; },
                               .memory = nullptr,
                               .capacity = [](int64_t*, int64_t*) {},
                               .implementations = nullptr,
                               .implementation_count = 0};
  return none;
}

}  // namespace tenon::cuda
