// SPDX-License-Identifier: Apache-2.0
// A Communicator is a group of ranks that act together. Every member makes the same collective
// calls in the same order (another order, count or dtype is an error that names both calls); what
// it hands over lives until wait().
//
//   Work work = group.all_reduce({grads, n, DType::kF32}, Reduce::kSum);  // begins
//   ...                                                                   // computes meanwhile
//   work.wait();  // or at once: group.all_reduce(...).wait()
//
// Sums are taken in the order of ranks, in fp32 for the half-width floats, and rounded once: the
// result has the same bits on every rank, on every repetition and in every implementation.
//
// A communicator is used by one thread of its rank. A group of one is an ordinary group: the same
// calls give the same results there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/work.h"
#include "core/dtype.h"

namespace tenon {

// Integers wrap in kSum; a NaN wins in kMax and kMin.
enum class Reduce : uint8_t { kSum, kMax, kMin };

// `count` elements that lie one after the other.
struct Buffer {
  void* data = nullptr;
  int64_t count = 0;
  DType dtype = DType::kF32;
};

struct Call;
struct Message;

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Who speaks, for messages: "rank 3/8 node02", in a part of it "dp 1/2 (rank 3/8 node02)".
  std::string describe() const;

  // Every rank's buffer becomes the reduction of all of them.
  Work all_reduce(Buffer buffer, Reduce reduce);
  // `out` becomes chunk rank() of the reduction of every rank's `in`; the rest of `in` stays as it
  // is. Requires: in.count == size() * out.count; `out` is apart from `in` or is its chunk rank().
  Work reduce_scatter(Buffer in, Buffer out, Reduce reduce);
  // Chunk r of `out` becomes the `in` of rank r.
  // Requires: out.count == size() * in.count; `in` is apart from `out` or is its chunk rank().
  Work all_gather(Buffer in, Buffer out);
  // Every rank's buffer becomes that of `root`.
  Work broadcast(Buffer buffer, int root);
  // One message from this rank to `peer`; messages of one tag arrive in order. Both sides give the
  // same count and dtype. Requires: peer != rank(), 0 <= tag < kTags.
  Work send(Buffer buffer, int peer, int tag);
  Work recv(Buffer buffer, int peer, int tag);
  static constexpr int kTags = 1 << 14;

  // Blocking.
  void barrier();
  void all_reduce(std::span<double> values, Reduce reduce);
  void all_reduce(std::span<int64_t> values, Reduce reduce);
  std::vector<std::string> all_gather_text(const std::string& text);  // by rank; any bytes

  // The ranks that gave the same color, ordered by (key, rank); a collective call. `name` stands in
  // describe(). Requires: color >= 0.
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name);

  // An operation throws Error(kPeer) when a rank that it waits for has not answered for so long, or
  // has answered but done nothing for kIdleLimits times as long; 60 s unless set. A rank that
  // computes is waited for however long it does. (Between the threads of a test ranks cannot be
  // watched: there it is how long an operation waits at all.) After a sixth of it, at most 10 s, a
  // line on stderr says who is waited for. Groups split off later take it over.
  // Requires: seconds > 0.
  void set_timeout(double seconds);
  double timeout() const { return timeout_; }
  static constexpr double kIdleLimits = 5;

  // What this rank is doing, for those that wait for it: "step 12".
  virtual void note_phase(const std::string& phase) { (void)phase; }

  const Traffic& traffic() const { return *traffic_; }

 protected:
  // `world` is how the rank is called in the whole job: "rank 3/8 node02".
  Communicator(int rank, int size, std::string world);

  // Begin one operation. `call` and `message` are checked, and counted; size() > 1 for messages.
  virtual Work begin(const Call& call) = 0;
  virtual Work begin(const Message& message) = 0;
  // The group of `members`: ranks of this communicator in their new order, this rank among them.
  // A collective call of all ranks of this communicator, whatever their color.
  virtual std::unique_ptr<Communicator> make_group(int color, const std::vector<int>& members) = 0;

  // The shared part of an operation's handle.
  std::shared_ptr<Completion> make_completion() const;
  const std::string& world() const { return world_; }

 private:
  Work count(const Call& call);
  Work pass(Buffer buffer, int peer, int tag, bool receives);

  const int rank_, size_;
  std::string world_, name_;
  double timeout_ = 60;
  int64_t sequence_ = 0;
  std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
};

// The group of one: every operation is the identity.
std::unique_ptr<Communicator> make_self(const std::string& world = "rank 0/1");

}  // namespace tenon
