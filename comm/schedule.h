// SPDX-License-Identifier: Apache-2.0
// How a collective is made of messages, for a transport that can pass bytes between two ranks
// (MPI): a list of stages, each a piece of local work and then transfers that may all be under way
// together. All ranks make the same list.
//
// Every operation begins with an exchange of frames: the call's signature, which is compared, and
// up to 2 KiB of data, which is all there is to a small operation. A large all-reduce goes in
// segments: each rank receives its chunk of the segment from all others, sums in the order of
// ranks, and passes the sums on while the next segment's chunks travel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "comm/call.h"

namespace tenon {

struct Transfer {
  bool receives;
  int peer;
  std::byte* data;
  int64_t bytes;  // of a first stage's receive: room for the frame, whatever its size
};

struct Stage {
  std::function<void()>
      before;  // runs when the stages before are complete; throws when ranks disagree
  std::vector<Transfer> transfers;
};

// Memory that a communicator's operations go through; one operation uses it at a time. Counted as
// workspace.
class Workspace {
 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  // `bytes` of memory at least; contents are undefined, and so are those of the memory given out
  // before.
  std::byte* take(int64_t bytes);

 private:
  std::vector<std::byte> memory_;
};

// The workspaces hold the frames and the chunks of others; they and the call's memory outlive the
// stages.
std::vector<Stage> make_stages(const Call& call, int rank, int size, Workspace& frames,
                               Workspace& chunks);
std::vector<Stage> make_stages(const Message& message, int rank, Workspace& frames);

}  // namespace tenon
