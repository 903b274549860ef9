// SPDX-License-Identifier: Apache-2.0
// Encoded data of all ranks, on rank 0.
#pragma once

#include <functional>

#include "comm/communicator.h"
#include "text/data/encode_data.h"

namespace tenon {

using TakePart = std::function<void(const EncodedPart&)>;

// Every rank calls encode() for its share; rank 0 calls take() with all parts, in order. The other
// ranks keep theirs in a file without a name until rank 0 has come to them: in the folder for
// temporary files, so that nothing need be shared.
void gather_parts(Communicator& world, const std::function<void(Share, const TakePart&)>& encode,
                  const TakePart& take);

}  // namespace tenon
