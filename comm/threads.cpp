// SPDX-License-Identifier: Apache-2.0
// A rank leaves what it hands over on a table that all ranks share and goes on; the last one to
// come does the whole operation for all. One lock for everything: this is for tests, not for speed.
#include "comm/threads.h"

#include <algorithm>
#include <deque>
#include <map>
#include <thread>
#include <tuple>
#include <utility>

#include "comm/call.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/parallel_for.h"

namespace tenon {
namespace {

template <class T>
struct Posted {
  T what;
  std::shared_ptr<Completion> completion;  // null: this rank has not come yet
};

struct Group {
  std::vector<int> members;                            // ranks of the world
  std::map<int64_t, std::vector<Posted<Call>>> calls;  // by sequence number, then by rank
  // By (from, to, tag): messages whose other side has not come; all sent, or all awaited.
  std::map<std::tuple<int, int, int>, std::deque<Posted<Message>>> messages;
  std::map<std::pair<int64_t, int>, std::shared_ptr<Group>> parts;  // by (how many-th split, color)
};

struct Table {
  explicit Table(int ranks)
      : left(static_cast<size_t>(ranks)), errors(static_cast<size_t>(ranks)) {}

  std::mutex mutex;                        // guards all below, and every Group
  std::vector<char> left;                  // the rank's function has ended
  std::vector<std::exception_ptr> errors;  // what it ended with
  std::exception_ptr broken;               // what every operation ends with from now on
  int culprit = 0;                         // the rank that broke it
  std::vector<std::shared_ptr<Group>> groups;

  // Ends every operation, now and later. Requires: mutex is held.
  void break_off(int rank, std::exception_ptr error) {
    if (broken != nullptr) return;
    broken = error;
    culprit = rank;
    for (const std::shared_ptr<Group>& group : groups) {
      for (auto& [sequence, posted] : group->calls) {
        for (Posted<Call>& one : posted) {
          if (one.completion != nullptr) one.completion->finish(error);
        }
      }
      for (auto& [key, queue] : group->messages) {
        for (Posted<Message>& one : queue) one.completion->finish(error);
      }
      group->calls.clear();
      group->messages.clear();
    }
  }
};

std::exception_ptr peer_error(const std::string& message) {
  return std::make_exception_ptr(Error(Exit::kPeer, message));
}

// The reduction of elements [begin, begin + count) of every rank's `in`, to `to(rank)` on the ranks
// where that is not null. Block by block, as outputs may lie where inputs do.
template <class To>
void reduce_to(const std::vector<Posted<Call>>& posted, int64_t begin, int64_t count, To to) {
  constexpr int64_t kBlock = 4096;
  const Signature& signature = posted[0].what.signature;
  const int64_t element = size_of(signature.element);
  std::vector<std::byte> block(static_cast<size_t>(kBlock * element));
  std::vector<const void*> in(posted.size());
  for (int64_t done = 0; done < count; done += kBlock) {
    const int64_t n = std::min(kBlock, count - done);
    for (size_t r = 0; r < posted.size(); ++r) {
      in[r] = static_cast<const std::byte*>(posted[r].what.in) + (begin + done) * element;
    }
    reduce_in_order(signature.element, signature.reduce, in, block.data(), n);
    for (size_t r = 0; r < posted.size(); ++r) {
      if (std::byte* out = to(r)) copy_bytes(block.data(), out + done * element, n * element);
    }
  }
}

void carry_out(const std::vector<Posted<Call>>& posted) {
  const Signature& signature = posted[0].what.signature;
  const int64_t bytes = signature.bytes(), count = signature.count;
  const auto out = [&](size_t r) { return static_cast<std::byte*>(posted[r].what.out); };
  switch (signature.kind) {
    case Kind::kAllReduce: return reduce_to(posted, 0, count, out);
    case Kind::kReduceScatter:
      for (size_t owner = 0; owner < posted.size(); ++owner) {
        reduce_to(posted, static_cast<int64_t>(owner) * count, count,
                  [&](size_t r) { return r == owner ? out(r) : nullptr; });
      }
      return;
    case Kind::kAllGather:
      for (size_t to = 0; to < posted.size(); ++to) {
        for (size_t from = 0; from < posted.size(); ++from) {
          copy_bytes(posted[from].what.in, out(to) + static_cast<int64_t>(from) * bytes, bytes);
        }
      }
      return;
    case Kind::kBroadcast:
      for (size_t to = 0; to < posted.size(); ++to) {
        copy_bytes(posted[static_cast<size_t>(signature.root)].what.in, out(to), bytes);
      }
      return;
    case Kind::kBarrier:
    case Kind::kMessage: return;
  }
}

class ThreadRank : public Communicator {
 public:
  ThreadRank(std::shared_ptr<Table> table, std::shared_ptr<Group> group, int rank,
             const std::string& world)
      : Communicator(rank, static_cast<int>(group->members.size()), world),
        table_(std::move(table)),
        group_(std::move(group)) {}

 private:
  Work begin(const Call& call) override;
  Work begin(const Message& message) override;
  std::unique_ptr<Communicator> make_group(int color, const std::vector<int>& members) override;

  bool left(int rank) const {
    return table_->left[static_cast<size_t>(group_->members[static_cast<size_t>(rank)])];
  }
  int world_rank() const { return group_->members[static_cast<size_t>(rank())]; }
  void break_off(std::exception_ptr error) { table_->break_off(world_rank(), std::move(error)); }

  // A handle whose time limit names the ranks that `missing()` lists then.
  template <class Missing>
  std::shared_ptr<Completion> handle(const Signature& signature, Missing missing);

  const std::shared_ptr<Table> table_;
  const std::shared_ptr<Group> group_;
  int64_t splits_ = 0;
};

template <class Missing>
std::shared_ptr<Completion> ThreadRank::handle(const Signature& signature, Missing missing) {
  const std::shared_ptr<Completion> completion = make_completion();
  const std::string who = describe();
  completion->on_limit = [this, signature, missing, who, limit = timeout(),
                          self = std::weak_ptr<Completion>(completion)] {
    const std::lock_guard<std::mutex> lock(table_->mutex);
    const std::shared_ptr<Completion> mine = self.lock();
    if (mine == nullptr || mine->finished()) return;
    break_off(peer_error(
        fmt::format("[comm] {}, {} bytes, made no progress for {} s on {}: waiting for {}",
                    text(signature), signature.bytes(), limit, who, missing())));
  };
  completion->on_abandon = [this, signature, who] {
    const std::lock_guard<std::mutex> lock(table_->mutex);
    break_off(
        peer_error(fmt::format("[comm] {} gave up {} because of an error", who, text(signature))));
  };
  return completion;
}

Work ThreadRank::begin(const Call& call) {
  const int64_t sequence = call.signature.sequence;
  const auto missing = [this, sequence] {
    std::string names;
    for (int r = 0; r < size(); ++r) {
      if (group_->calls[sequence][static_cast<size_t>(r)].completion != nullptr) continue;
      names += fmt::format("{}rank {}", names.empty() ? "" : ", ", r);
    }
    return names;
  };
  const std::shared_ptr<Completion> completion = handle(call.signature, missing);
  const std::lock_guard<std::mutex> lock(table_->mutex);
  if (table_->broken != nullptr) {
    completion->finish(table_->broken);
    return Work(completion);
  }

  std::vector<Posted<Call>>& posted = group_->calls[sequence];
  posted.resize(static_cast<size_t>(size()));
  posted[static_cast<size_t>(rank())] = {call, completion};
  bool all = true;
  try {
    for (int r = 0; r < size(); ++r) {
      const Posted<Call>& other = posted[static_cast<size_t>(r)];
      if (other.completion != nullptr) {
        check_same(call.signature, rank(), other.what.signature, r);
      } else {
        all = false;
        if (left(r))
          fail(Exit::kPeer, "[comm] {}: rank {} has ended without it", text(call.signature), r);
      }
    }
  } catch (const Error&) {
    break_off(std::current_exception());
    return Work(completion);
  }
  if (all) {
    carry_out(posted);
    for (const Posted<Call>& one : posted) one.completion->finish();
    group_->calls.erase(sequence);
  }
  return Work(completion);
}

Work ThreadRank::begin(const Message& message) {
  const auto key = message.receives ? std::make_tuple(message.peer, rank(), message.tag)
                                    : std::make_tuple(rank(), message.peer, message.tag);
  const auto missing = [peer = message.peer] { return fmt::format("rank {}", peer); };
  const std::shared_ptr<Completion> completion = handle(message.signature, missing);
  const std::lock_guard<std::mutex> lock(table_->mutex);
  if (table_->broken != nullptr) {
    completion->finish(table_->broken);
    return Work(completion);
  }

  std::deque<Posted<Message>>& queue = group_->messages[key];
  if (queue.empty() || queue.front().what.receives == message.receives) {
    queue.push_back({message, completion});
    if (left(message.peer)) {
      break_off(peer_error(fmt::format("[comm] {}: rank {} has ended without it",
                                       text(message.signature), message.peer)));
    }
    return Work(completion);
  }
  const Posted<Message> other = queue.front();
  try {
    check_same(message.signature, rank(), other.what.signature, message.peer);
  } catch (const Error&) {
    completion->finish(std::current_exception());
    break_off(std::current_exception());
    return Work(completion);
  }
  queue.pop_front();
  if (message.receives) {
    copy_bytes(other.what.data, message.data, message.signature.bytes());
  } else {
    copy_bytes(message.data, other.what.data, message.signature.bytes());
  }
  other.completion->finish();
  completion->finish();
  return Work(completion);
}

std::unique_ptr<Communicator> ThreadRank::make_group(int color, const std::vector<int>& members) {
  ++splits_;  // as on the ranks of larger groups
  if (members.size() == 1) return make_self(world());
  const std::lock_guard<std::mutex> lock(table_->mutex);
  std::shared_ptr<Group>& part = group_->parts[{splits_, color}];
  if (part == nullptr) {
    part = std::make_shared<Group>();
    for (const int member : members)
      part->members.push_back(group_->members[static_cast<size_t>(member)]);
    table_->groups.push_back(part);
  }
  const auto mine = std::find(members.begin(), members.end(), rank());
  return std::make_unique<ThreadRank>(table_, part, static_cast<int>(mine - members.begin()),
                                      world());
}

// Notes that the rank has ended, and ends what others expect of it.
void leave(Table& table, int rank, std::exception_ptr error) {
  const std::lock_guard<std::mutex> lock(table.mutex);
  const size_t index = static_cast<size_t>(rank);
  table.errors[index] = error;
  table.left[index] = 1;
  const auto ended = peer_error(fmt::format("[comm] rank {} has ended{} while others wait for it",
                                            rank, error != nullptr ? " with an error" : ""));
  if (error != nullptr) return table.break_off(rank, ended);
  for (const std::shared_ptr<Group>& group : table.groups) {
    const auto found = std::find(group->members.begin(), group->members.end(), rank);
    if (found == group->members.end()) continue;
    const int mine = static_cast<int>(found - group->members.begin());
    bool awaited = false;
    for (const auto& [sequence, posted] : group->calls) {
      awaited = awaited || posted[static_cast<size_t>(mine)].completion == nullptr;
    }
    for (const auto& [key, queue] : group->messages) {
      const auto& [from, to, tag] = key;
      awaited = awaited || (!queue.empty() && (queue.front().what.receives ? from : to) == mine);
    }
    if (awaited) return table.break_off(rank, ended);
  }
}

}  // namespace

void run_ranks(int ranks, const std::function<void(Communicator&)>& fn) {
  TENON_CHECK(ranks >= 1, "[comm] the number of ranks must be at least 1, got {}", ranks);
  const auto table = std::make_shared<Table>(ranks);
  const auto world = std::make_shared<Group>();
  for (int r = 0; r < ranks; ++r) world->members.push_back(r);
  table->groups.push_back(world);
  const int share = std::max(1, thread_count() / ranks);
  const KernelTable& chosen = kernels(Device::kCPU);

  const auto run = [&](int rank) {
    std::exception_ptr error;
    set_thread_count(share);
    use_table(&chosen);
    try {
      ThreadRank communicator(table, world, rank, fmt::format("rank {}/{}", rank, ranks));
      fn(communicator);
    } catch (...) {
      error = std::current_exception();
    }
    leave(*table, rank, error);
  };
  std::vector<std::thread> threads;
  try {
    for (int r = 0; r < ranks; ++r) threads.emplace_back(run, r);
  } catch (...) {  // the system has no thread left
    for (int r = static_cast<int>(threads.size()); r < ranks; ++r)
      leave(*table, r, std::current_exception());
  }
  for (std::thread& thread : threads) thread.join();

  if (table->errors[static_cast<size_t>(table->culprit)] != nullptr) {
    std::rethrow_exception(table->errors[static_cast<size_t>(table->culprit)]);
  }
  for (const std::exception_ptr& error : table->errors) {
    if (error != nullptr) std::rethrow_exception(error);
  }
}

}  // namespace tenon
