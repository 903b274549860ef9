// SPDX-License-Identifier: Apache-2.0
// The Communicator of a rank that talks MPI: it hands operations to the engine.
#include <algorithm>
#include <utility>

#include "comm/mpi.h"
#include "comm/mpi_engine.h"
#include "core/error.h"

namespace tenon::mpi {
namespace {

// Never destroyed: exit() may run while the thread is inside MPI.
Engine* engine = nullptr;

class MpiRank : public Communicator {
 public:
  explicit MpiRank(std::shared_ptr<Group> group)
      : Communicator(group->rank, static_cast<int>(group->members.size()),
                     fmt::format("rank {}/{} {}", engine->place().rank, engine->place().size,
                                 engine->host())),
        group_(std::move(group)) {}

 private:
  Work begin(const Call& call) override {
    const SharedOperation operation = make_operation(call.signature);
    operation->lane = {group_->number, -1, 0, 0};
    operation->tag = group_->number * kGroupStep;
    operation->plan = [call, group = group_] {
      const int members = static_cast<int>(group->members.size());
      return make_stages(call, group->rank, members, group->frames, group->chunks);
    };
    return submit(operation);
  }

  Work begin(const Message& message) override {
    const SharedOperation operation = make_operation(message.signature);
    operation->lane = {group_->number, message.peer, message.tag, message.receives};
    operation->tag = group_->number * kGroupStep + kMessageBit + message.tag;
    operation->plan = [message, group = group_, frame = &operation->message_frame] {
      return make_stages(message, group->rank, *frame);
    };
    return submit(operation);
  }

  void note_phase(const std::string& phase) override { engine->note_phase(phase); }

  std::unique_ptr<Communicator> make_group(int, const std::vector<int>& members) override {
    // Groups that have a member in common get different numbers; others may share one.
    int64_t number = engine->free_group();
    all_reduce(std::span<int64_t>(&number, 1), Reduce::kMax);
    engine->take_group(number);
    if (members.size() == 1) return make_self(world());

    const auto part = std::make_shared<Group>();
    part->number = static_cast<int>(number);
    part->rank =
        static_cast<int>(std::find(members.begin(), members.end(), rank()) - members.begin());
    for (const int member : members)
      part->members.push_back(group_->members[static_cast<size_t>(member)]);
    return std::make_unique<MpiRank>(part);
  }

  SharedOperation make_operation(const Signature& signature) const {
    auto operation = std::make_shared<Operation>();
    operation->signature = signature;
    operation->group = group_;
    operation->completion = make_completion();
    operation->limit = timeout();
    return operation;
  }

  Work submit(const SharedOperation& operation) const {
    Completion& completion = *operation->completion;
    completion.on_limit = [watched = std::weak_ptr<Operation>(operation)] {
      if (const SharedOperation alive = watched.lock()) engine->check_alive(alive);
    };
    completion.on_abandon = [who = describe(), signature = operation->signature] {
      engine->halt(fmt::format("[comm] {} gave up {} because of an error", who, text(signature)));
    };
    Work work(operation->completion);
    engine->submit(operation);
    return work;
  }

  const std::shared_ptr<Group> group_;
};

}  // namespace

std::unique_ptr<Communicator> start() {
  constexpr double kStartLimit = 300;
  TENON_CHECK(engine == nullptr, "[comm] MPI starts once in a process");
  engine = new Engine;
  engine->start(kStartLimit);
  const auto all = std::make_shared<Group>();
  all->number = 1;
  engine->take_group(all->number);
  all->rank = engine->place().rank;
  for (int r = 0; r < engine->place().size; ++r) all->members.push_back(r);
  if (all->members.size() == 1) return make_self(fmt::format("rank 0/1 {}", engine->host()));
  return std::make_unique<MpiRank>(all);
}

bool is_started_within(double seconds) {
  if (engine != nullptr) return engine->place().size > 1;
  engine = new Engine;
  try {
    engine->start(seconds);
  } catch (const Error&) {
    return false;
  }
  return true;
}

void finish() {
  if (engine != nullptr) engine->finish();
}

bool claim_report() { return engine == nullptr || engine->claim_report(); }

void abort(int code, double seconds) {
  if (engine != nullptr) engine->abort(code, seconds);
}

}  // namespace tenon::mpi
