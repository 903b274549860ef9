// SPDX-License-Identifier: Apache-2.0
#include "comm/schedule.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/memory.h"

namespace tenon {
namespace {

constexpr int64_t kInline = 2048;  // bytes of data that travel with the signature
constexpr int64_t kFrame = sizeof(Signature) + kInline;
constexpr int64_t kPiece = 16 << 20;   // a transfer's size; MPI counts in int
constexpr int64_t kSegment = 4 << 20;  // of what travels at once in an all-reduce or reduce-scatter

void add(std::vector<Transfer>& transfers, bool receives, int peer, std::byte* data,
         int64_t bytes) {
  for (int64_t done = 0; done < bytes; done += kPiece) {
    transfers.push_back({receives, peer, data + done, std::min(kPiece, bytes - done)});
  }
}

// What the stages of one call share.
struct Plan {
  Call call;
  int rank, size;
  Workspace* workspace;
  std::byte* frames;  // (size) of kFrame; that of `rank` is sent

  const Signature& signature() const { return call.signature; }
  // Nobody writes through these unless the call's memory is an output.
  std::byte* in() const { return static_cast<std::byte*>(const_cast<void*>(call.in)); }
  std::byte* out() const { return static_cast<std::byte*>(call.out); }
  std::byte* frame(int peer) const { return frames + peer * kFrame; }
  std::byte* payload(int peer) const { return frame(peer) + sizeof(Signature); }
  // Bytes of the data that a rank puts into its frame when they fit.
  int64_t given() const {
    switch (signature().kind) {
      case Kind::kReduceScatter: return signature().bytes() * size;
      case Kind::kBarrier: return 0;
      default: return signature().bytes();
    }
  }
  bool is_small() const { return given() <= kInline; }

  // Calls f(peer) for the others, beginning after this rank so that not all turn to rank 0 first.
  template <class F>
  void for_peers(F f) const {
    for (int i = 1; i < size; ++i) f((rank + i) % size);
  }
  void check_frames() const {
    for_peers([&](int peer) {
      Signature theirs;
      std::memcpy(&theirs, frame(peer), sizeof(theirs));
      check_same(signature(), rank, theirs, peer);
    });
  }
  // Sums `count` elements: `theirs(peer)` from the others, `mine` from this rank, to `to`.
  template <class Theirs>
  void reduce(const std::byte* mine, Theirs theirs, void* to, int64_t count) const {
    std::vector<const void*> all(static_cast<size_t>(size));
    for (int r = 0; r < size; ++r) all[static_cast<size_t>(r)] = r == rank ? mine : theirs(r);
    reduce_in_order(signature().element, signature().reduce, all, to, count);
  }
};
using SharedPlan = std::shared_ptr<Plan>;

// Frames: the signature, and the data where it is small.
Stage exchange_frames(const SharedPlan& plan) {
  const bool sends_data = plan->is_small() && (plan->signature().kind != Kind::kBroadcast ||
                                               plan->signature().root == plan->rank);
  const int64_t data = sends_data ? plan->given() : 0;
  Stage stage;
  stage.before = [plan, data] {
    std::memcpy(plan->frame(plan->rank), &plan->signature(), sizeof(Signature));
    copy_bytes(plan->in(), plan->payload(plan->rank), data);
  };
  plan->for_peers([&](int peer) {
    stage.transfers.push_back({true, peer, plan->frame(peer), kFrame});
    stage.transfers.push_back(
        {false, peer, plan->frame(plan->rank), static_cast<int64_t>(sizeof(Signature)) + data});
  });
  return stage;
}

// All the data came in the frames.
void finish_small(const Plan& plan) {
  const int64_t bytes = plan.signature().bytes(), count = plan.signature().count;
  switch (plan.signature().kind) {
    case Kind::kAllReduce:
      return plan.reduce(
          plan.in(), [&](int peer) { return plan.payload(peer); }, plan.out(), count);
    case Kind::kReduceScatter:
      return plan.reduce(
          plan.in() + plan.rank * bytes,
          [&](int peer) { return plan.payload(peer) + plan.rank * bytes; }, plan.out(), count);
    case Kind::kAllGather:
      for (int r = 0; r < plan.size; ++r) {
        copy_bytes(r == plan.rank ? plan.in() : plan.payload(r), plan.out() + r * bytes, bytes);
      }
      return;
    case Kind::kBroadcast:
      if (plan.rank != plan.signature().root)
        copy_bytes(plan.payload(plan.signature().root), plan.out(), bytes);
      return;
    case Kind::kBarrier:
    case Kind::kMessage: return;
  }
}

// A run of elements.
struct Span {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
};

void add_all_reduce(const SharedPlan& plan, std::vector<Stage>& stages) {
  const int64_t element = size_of(plan->signature().element);
  const int64_t segment = kSegment / element, count = plan->signature().count;
  const int64_t segments = (count + segment - 1) / segment;
  const auto chunk = [=, size = plan->size](int64_t s, int r) -> Span {
    const int64_t begin = s * segment, length = std::min(segment, count - begin);
    return {begin + length * r / size, begin + length * (r + 1) / size};
  };
  // Where the chunk from `peer` waits to be summed.
  const int64_t room = (segment / plan->size + 1) * element;
  std::byte* waiting = plan->workspace->take(room * plan->size);
  const auto at = [=](int peer) { return waiting + peer * room; };

  for (int64_t s = 0; s <= segments; ++s) {
    Stage stage;
    stage.before = [=] {
      if (s == 0) return plan->check_frames();
      const Span mine = chunk(s - 1, plan->rank);
      plan->reduce(plan->in() + mine.begin * element, at, plan->out() + mine.begin * element,
                   mine.count());
    };
    plan->for_peers([&](int peer) {
      if (s > 0) {  // the sums of the segment before
        const Span mine = chunk(s - 1, plan->rank), theirs = chunk(s - 1, peer);
        add(stage.transfers, true, peer, plan->out() + theirs.begin * element,
            theirs.count() * element);
        add(stage.transfers, false, peer, plan->out() + mine.begin * element,
            mine.count() * element);
      }
      if (s < segments) {
        const Span mine = chunk(s, plan->rank), theirs = chunk(s, peer);
        add(stage.transfers, true, peer, at(peer), mine.count() * element);
        add(stage.transfers, false, peer, plan->in() + theirs.begin * element,
            theirs.count() * element);
      }
    });
    stages.push_back(std::move(stage));
  }
}

void add_reduce_scatter(const SharedPlan& plan, std::vector<Stage>& stages) {
  const int64_t element = size_of(plan->signature().element), bytes = plan->signature().bytes();
  const int64_t segment = std::max<int64_t>(1, kSegment / element / plan->size),
                count = plan->signature().count;
  const int64_t segments = (count + segment - 1) / segment;
  const int64_t room = segment * element;
  std::byte* waiting = plan->workspace->take(room * plan->size);
  const auto at = [=](int peer) { return waiting + peer * room; };
  const auto part = [=](int64_t s) -> Span {
    return {s * segment, std::min(count, (s + 1) * segment)};
  };

  for (int64_t s = 0; s <= segments; ++s) {
    Stage stage;
    stage.before = [=] {
      if (s == 0) return plan->check_frames();
      const int64_t begin = part(s - 1).begin * element;
      plan->reduce(plan->in() + plan->rank * bytes + begin, at, plan->out() + begin,
                   part(s - 1).count());
    };
    if (s < segments) {
      plan->for_peers([&](int peer) {
        add(stage.transfers, true, peer, at(peer), part(s).count() * element);
        add(stage.transfers, false, peer, plan->in() + peer * bytes + part(s).begin * element,
            part(s).count() * element);
      });
    }
    stages.push_back(std::move(stage));
  }
}

void add_all_gather(const SharedPlan& plan, std::vector<Stage>& stages) {
  const int64_t bytes = plan->signature().bytes();
  Stage stage;
  stage.before = [=] {
    plan->check_frames();
    copy_bytes(plan->in(), plan->out() + plan->rank * bytes, bytes);
  };
  plan->for_peers([&](int peer) {
    add(stage.transfers, true, peer, plan->out() + peer * bytes, bytes);
    add(stage.transfers, false, peer, plan->in(), bytes);
  });
  stages.push_back(std::move(stage));
}

// The root hands each rank one chunk; then all pass theirs on, so that no rank sends the whole more
// than once.
void add_broadcast(const SharedPlan& plan, std::vector<Stage>& stages) {
  const int64_t bytes = plan->signature().bytes();
  const int root = plan->signature().root;
  const auto chunk = [=](int r) -> Span {
    return {bytes * r / plan->size, bytes * (r + 1) / plan->size};
  };
  const Span mine = chunk(plan->rank);
  Stage scatter, gather;
  scatter.before = [=] { plan->check_frames(); };
  if (plan->rank != root)
    add(scatter.transfers, true, root, plan->out() + mine.begin, mine.count());
  plan->for_peers([&](int peer) {
    const Span theirs = chunk(peer);
    if (plan->rank == root) {
      add(scatter.transfers, false, peer, plan->out() + theirs.begin, theirs.count());
    } else {
      add(gather.transfers, true, peer, plan->out() + theirs.begin, theirs.count());
    }
    if (peer != root) add(gather.transfers, false, peer, plan->out() + mine.begin, mine.count());
  });
  stages.push_back(std::move(scatter));
  stages.push_back(std::move(gather));
}

}  // namespace

Workspace::~Workspace() {
  memory_process().release(MemoryKind::kWorkspace, static_cast<int64_t>(memory_.size()));
}

std::byte* Workspace::take(int64_t bytes) {
  const int64_t grown = bytes - static_cast<int64_t>(memory_.size());
  if (grown > 0) {
    memory_.resize(static_cast<size_t>(bytes));
    memory_process().charge(MemoryKind::kWorkspace, grown);
  }
  return memory_.data();
}

std::vector<Stage> make_stages(const Call& call, int rank, int size, Workspace& frames,
                               Workspace& chunks) {
  const auto plan =
      std::make_shared<Plan>(Plan{call, rank, size, &chunks, frames.take(kFrame * size)});
  std::vector<Stage> stages = {exchange_frames(plan)};
  if (plan->is_small()) {
    stages.push_back({[plan] {
                        plan->check_frames();
                        finish_small(*plan);
                      },
                      {}});
    return stages;
  }
  switch (call.signature.kind) {
    case Kind::kAllReduce: add_all_reduce(plan, stages); break;
    case Kind::kReduceScatter: add_reduce_scatter(plan, stages); break;
    case Kind::kAllGather: add_all_gather(plan, stages); break;
    case Kind::kBroadcast: add_broadcast(plan, stages); break;
    case Kind::kBarrier:
    case Kind::kMessage: break;
  }
  return stages;
}

std::vector<Stage> make_stages(const Message& message, int rank, Workspace& frames) {
  std::byte* frame = frames.take(kFrame);
  std::byte* data = static_cast<std::byte*>(message.data);
  const int64_t bytes = message.signature.bytes(), with_frame = bytes <= kInline ? bytes : 0;
  Stage first, rest;
  if (message.receives) {
    first.transfers = {{true, message.peer, frame, kFrame}};
    rest.before = [=] {
      Signature theirs;
      std::memcpy(&theirs, frame, sizeof(theirs));
      check_same(message.signature, rank, theirs, message.peer);
      copy_bytes(frame + sizeof(Signature), data, with_frame);
    };
  } else {
    first.before = [=] {
      std::memcpy(frame, &message.signature, sizeof(Signature));
      copy_bytes(data, frame + sizeof(Signature), with_frame);
    };
    first.transfers = {
        {false, message.peer, frame, static_cast<int64_t>(sizeof(Signature)) + with_frame}};
  }
  add(rest.transfers, message.receives, message.peer, data, bytes - with_frame);
  return {std::move(first), std::move(rest)};
}

}  // namespace tenon
