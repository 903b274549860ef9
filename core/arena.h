// SPDX-License-Identifier: Apache-2.0
// Host memory for tensors, cut from large segments: best fit, neighbours joined when they are given
// back. A training step asks for the same sizes in the same order, so after the first step nothing
// is asked of the system, and what one size has left serves others.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace tenon {

// Safe to use from several threads.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // `bytes` bytes, 64-byte aligned, contents undefined; null when the system has none.
  // Requires: bytes is a positive multiple of 64.
  void* take(int64_t bytes);
  // Gives back what take(bytes) returned.
  void give(void* block, int64_t bytes);
  // Returns the segments that are wholly free to the system.
  void trim();
  // How often the system was asked for a segment.
  int64_t segments_asked_for();
  // Bytes of addresses that were ever taken, of the segments that are there.
  int64_t touched();

 private:
  using Address = char*;
  struct Segment {
    int64_t bytes;
    Address fresh;  // from here on nobody has touched it
    Address open;   // to here it may be written: RLIMIT_DATA counts that
  };

  void* take_free(int64_t bytes);
  void* take_fresh(int64_t bytes);
  bool add_segment(int64_t bytes);
  static bool open(Address begin, Segment& segment, Address end);
  void insert(Address block, int64_t bytes);
  void erase(std::map<Address, int64_t>::iterator block);
  std::map<Address, Segment>::iterator segment_of(Address block);

  std::mutex mutex_;
  std::map<Address, Segment> segments_;
  std::map<Address, int64_t> free_;                   // touched and free, by address
  std::set<std::pair<int64_t, Address>> free_sizes_;  // the same, by size
  int64_t asked_ = 0;
};

}  // namespace tenon
