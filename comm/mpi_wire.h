// SPDX-License-Identifier: Apache-2.0
// All that is asked of MPI itself: passing bytes. Only the engine's thread calls these.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "comm/schedule.h"

namespace tenon::mpi {

struct Place {
  int rank = 0, size = 1;
  int64_t tags = 0;                // usable ones: [0, tags)
  std::vector<std::string> hosts;  // by rank
};

// MPI_Init and what follows from it. Throws Error(kEnvironment) when this MPI does not allow
// threads.
Place wire_start();
void wire_finish();
void wire_abort(int code);

// Messages that are under way together. Errors of MPI become Error(kPeer).
class Wire {
 public:
  Wire();
  // MPI may still know the messages of a wire that is destroyed before they are complete.
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // Begins `transfer` with rank `peer` of the world. Requires: transfer.bytes <= 2^31 - 1.
  void post(const Transfer& transfer, int peer, int tag);
  // How many have become complete since the last call.
  int test();
  int pending() const { return pending_; }
  // The ranks of the world that the pending ones wait for.
  std::set<int> late() const;

 private:
  struct Requests;
  std::unique_ptr<Requests> requests_;
  std::vector<int> peers_;
  int pending_ = 0;
};

// A short text that nobody waits for: sends one, takes one that has come from any rank, looks whether
// one has.
struct Note {
  int peer = 0;
  std::string text;
};
void wire_note(int peer, int tag, const std::string& text);
std::optional<Note> wire_take_note(int tag);
bool wire_noted(int tag);

}  // namespace tenon::mpi
