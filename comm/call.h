// SPDX-License-Identifier: Apache-2.0
// What an implementation of Communicator is asked to do, and the reduction that they all share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tenon {

// The element types that travel: those of DType, and fp64, which no tensor has.
enum class Element : uint8_t { kF32, kBF16, kF16, kI32, kI64, kU8, kI8, kF64 };
Element element_of(DType dtype);
int64_t size_of(Element element);

enum class Kind : uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kBarrier,
  kMessage
};

// What all members of a group must agree on; it travels in front of the data and is compared.
struct Signature {
  Kind kind = Kind::kBarrier;
  Element element = Element::kU8;
  Reduce reduce = Reduce::kSum;
  uint8_t unused = 0;
  int32_t root = 0;      // of a broadcast
  int64_t count = 0;     // elements of a rank's share: of the smaller buffer where the two differ
  int64_t sequence = 0;  // the communicator's how many-th collective call; 0 for messages

  int64_t bytes() const { return count * size_of(element); }
  bool operator==(const Signature&) const = default;
};
static_assert(sizeof(Signature) == 24);
// "all_reduce #12 of 100 fp32 (sum)".
std::string text(const Signature& signature);

struct Call {
  Signature signature;
  const void* in = nullptr;
  void* out = nullptr;  // equals `in` for all_reduce and broadcast
};

struct Message {
  Signature signature;
  void* data = nullptr;
  int peer = 0;
  int tag = 0;
  bool receives = false;
};

// Throws Error(kEnvironment) unless rank `peer` makes the same call as `rank`.
void check_same(const Signature& mine, int rank, const Signature& theirs, int peer);

// Does nothing where `from` is `to`.
void copy_bytes(const void* from, void* to, int64_t bytes);

// out[i] = in[0][i] + in[1][i] + ... in this order (or max, min); halves are widened to fp32 and
// rounded once. `out` may be one of `in`.
void reduce_in_order(Element element, Reduce reduce, const std::vector<const void*>& in, void* out,
                     int64_t count);

}  // namespace tenon
