// SPDX-License-Identifier: Apache-2.0
// The thread that makes all calls to MPI. It goes round: new operations, a step of each operation
// whose turn it is, a pause when nothing moved. Operations of one communicator run one after the
// other, as do messages of one tag between two ranks; all others run beside each other, so no order
// between groups can make ranks wait in a circle.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <thread>

#include "comm/mpi_wire.h"

namespace tenon::mpi {

// A group needs nothing of MPI but messages: it is a list of ranks and a number that goes into the
// tags.
struct Group {
  int number = 0;
  int rank = 0;              // of this process in it
  std::vector<int> members;  // ranks of the world
  Workspace frames, chunks;
};

struct Operation {
  Signature signature;
  std::shared_ptr<Group> group;
  std::shared_ptr<Completion> completion;
  std::function<std::vector<Stage>()> plan;  // called when its turn comes
  std::array<int, 4> lane{};                 // operations of one lane run one after the other
  int tag = 0;                               // of the frames
  double limit = 0;
  Workspace message_frame;

  bool started = false;  // the rest belongs to the engine's thread
  std::vector<Stage> stages;
  size_t stage = 0;  // the next
  Wire wire;
  std::chrono::steady_clock::time_point last_progress, last_question;
  bool told = false;  // who is waited for
};
using SharedOperation = std::shared_ptr<Operation>;

// What a rank that is waited for has answered.
struct Peer {
  std::chrono::steady_clock::time_point answered, worked;  // when it last did
  int64_t computed = -1;                                   // its processor time so far, in ns
  std::string phase;
};

// A tag is (group, message or collective, data or frame, the user's tag). Group 0 is nobody's.
inline constexpr int kDataBit = Communicator::kTags, kMessageBit = kDataBit << 1,
                     kGroupStep = kMessageBit << 1;
// Notes of the engines themselves, in group 0.
inline constexpr int kReportTag = kMessageBit;  // "this rank reports the error that ends the job"
inline constexpr int kQuestionTag = kMessageBit + 1;  // "I wait for you"
inline constexpr int kAnswerTag =
    kMessageBit + 2;  // "I have computed for so many ns, and am in ..."

// The longest that the thread sleeps: others may ask after this rank.
inline constexpr std::chrono::milliseconds kLongestPause{250};

class Engine {
 public:
  // Starts MPI in a new thread; place() is known when this returns. Throws Error(kPeer) when it has
  // not started within `seconds`.
  void start(double seconds);
  // Ends MPI and the thread, when all ranks have come to it.
  void finish();
  void submit(SharedOperation operation);
  // After this no memory that was given to an operation is touched, and MPI is called to abort
  // only.
  void halt(const std::string& why);
  // Fails the operation when MPI has not returned to this thread within the operation's limit.
  void check_alive(const SharedOperation& operation);

  void note_phase(const std::string& phase);
  std::string phase();

  bool claim_report();
  void abort(int code, double seconds);

  const Place& place() const { return place_; }
  const std::string& host() const { return place_.hosts[static_cast<size_t>(place_.rank)]; }
  // The lowest number that no group of this rank has; all members take the highest of theirs.
  int64_t free_group() const { return free_group_; }
  void take_group(int64_t number);

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  void serve();
  bool drive();
  bool advance(Operation& operation);
  // Asks the ranks that the operation waits for, says who they are, gives up those that are lost.
  void watch(Operation& operation);
  std::string who(const std::set<int>& ranks, const Operation& operation) const;
  void exchange_notes();
  void watch_own_pauses();
  void break_off(std::exception_ptr error);
  void pause(std::unique_lock<std::mutex>& lock, Clock::duration idle);
  void watch_launcher();
  // Has the engine's thread run `task` between two rounds; false when it does not within `seconds`.
  bool ask(const std::function<void()>& task, double seconds);

  std::thread thread_;
  std::mutex mutex_;  // guards those up to broken_
  std::condition_variable wake_, answer_;
  std::vector<SharedOperation> inbox_;
  const std::function<void()>* task_ = nullptr;
  int abort_code_ = 0;
  std::string phase_;
  bool ready_ = false, stop_ = false, ended_ = false;
  std::exception_ptr broken_;  // what every operation ends with from now on

  std::atomic<Clock::rep> beat_{0};  // when the thread was last seen between two calls
  Place place_;
  int64_t free_group_ = 1;
  std::vector<SharedOperation> active_;
  std::map<int, Peer> peers_;
  std::vector<SharedOperation> given_up_;  // kept, as MPI may still know their frames and chunks
  pid_t launcher_ = 0;
  Clock::time_point launcher_seen_, last_look_, last_notes_;
};

}  // namespace tenon::mpi
