// SPDX-License-Identifier: Apache-2.0
// How the engine watches the ranks that an operation waits for: it asks them each second, and a rank
// that lives answers with the processor time it has used. Also what it says of itself.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "comm/mpi_engine.h"
#include "core/error.h"

namespace tenon::mpi {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr std::chrono::milliseconds kNotesEvery{20};
constexpr double kWaitTold = 10;  // seconds in one operation; less where the limit is short
constexpr double kPauseTold = 3;  // seconds; a process that is not stopped runs sooner
// A rank works when it computes for a thousandth of the time: as one does that waits for a slow disk.
constexpr double kWorking = 1e-3;

int64_t processor_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{1000000000} * time.tv_sec + time.tv_nsec;
}

// How often an operation asks after the ranks that it waits for.
double question_interval(const Operation& operation) { return std::min(1.0, operation.limit / 8); }

std::string phase_text(const std::string& phase) { return phase.empty() ? "" : ", in " + phase; }

void say(const std::string& line) {
  std::fputs(("tenon: warning: " + line + "\n").c_str(), stderr);
}

}  // namespace

void Engine::watch(Operation& operation) {
  const Clock::time_point now = Clock::now();
  const auto since = [&](Clock::time_point then) {
    return Seconds(now - std::max(then, operation.last_progress)).count();
  };
  const double limit = operation.limit, waited = since(operation.last_progress);
  if (since(operation.last_question) < question_interval(operation)) return;
  operation.last_question = now;
  const std::set<int> late = operation.wire.late();
  double lost = 0;
  for (const int rank : late) {
    wire_note(rank, kQuestionTag, "");
    const Peer& peer = peers_[rank];
    const double idle_limit = Communicator::kIdleLimits * limit;
    if (since(peer.worked) >= idle_limit) lost = idle_limit;
    if (since(peer.answered) >= limit) lost = limit;
  }
  if (lost > 0) {
    fail(Exit::kPeer,
         "[comm] {}, {} bytes, made no progress for {} s on rank {} ({}){}: waiting for {}",
         text(operation.signature), operation.signature.bytes(), lost, place_.rank, host(),
         phase_text(phase()), who(late, operation));
  }
  if (operation.told || waited < std::min(kWaitTold, limit / 6)) return;
  operation.told = true;
  // One of those that wait says it.
  const std::vector<int>& members = operation.group->members;
  const auto first =
      std::find_if(members.begin(), members.end(), [&](int rank) { return !late.contains(rank); });
  if (first == members.end() || *first != place_.rank) return;
  say(fmt::format("[rank {}/{} {}] has waited for {:.1f} s in {}, {} bytes{}, for {}", place_.rank,
                  place_.size, host(), waited, text(operation.signature),
                  operation.signature.bytes(), phase_text(phase()), who(late, operation)));
}

// "rank 1 (node02), which does not answer, last seen in step 12; rank 3 (node04), which is at work".
std::string Engine::who(const std::set<int>& ranks, const Operation& operation) const {
  const Clock::time_point recent =
      Clock::now() - std::chrono::duration_cast<Clock::duration>(
                         Seconds(3 * question_interval(operation)) + kLongestPause);
  std::string all;
  for (const int rank : ranks) {
    const Peer& peer = peers_.at(rank);
    const char* state = peer.answered < recent ? "does not answer"
                        : peer.worked < recent ? "answers, but stands still"
                                               : "is at work";
    all += fmt::format("{}rank {} ({}), which {}", all.empty() ? "" : "; ", rank,
                       place_.hosts[static_cast<size_t>(rank)], state);
    if (!peer.phase.empty()) all += ", last seen in " + printable(peer.phase);
  }
  return all;
}

// Answers the ranks that wait for this one, and takes in what others have answered.
void Engine::exchange_notes() {
  const Clock::time_point now = Clock::now();
  if (now - last_notes_ < kNotesEvery) return;
  last_notes_ = now;
  while (const std::optional<Note> question = wire_take_note(kQuestionTag)) {
    const int64_t computed =
        processor_ns(CLOCK_PROCESS_CPUTIME_ID) - processor_ns(CLOCK_THREAD_CPUTIME_ID);
    wire_note(question->peer, kAnswerTag, fmt::format("{} {}", computed, phase()));
  }
  while (const std::optional<Note> answer = wire_take_note(kAnswerTag)) {
    Peer& peer = peers_[answer->peer];
    const size_t space = answer->text.find(' ');
    const int64_t computed = std::strtoll(answer->text.c_str(), nullptr, 10);
    const double worked = 1e-9 * static_cast<double>(computed - peer.computed);
    if (peer.computed < 0 || worked >= kWorking * Seconds(now - peer.worked).count()) {
      peer.worked = now;
      peer.computed = computed;
    }
    peer.answered = now;
    peer.phase = answer->text.substr(std::min(space, answer->text.size() - 1) + 1);
  }
}

// A process that was stopped for a while, or whose machine was, says so, and counts what it waits for
// from now on: others may have been stopped with it.
void Engine::watch_own_pauses() {
  const Clock::time_point now = Clock::now(), before{Clock::duration(beat_.load())};
  beat_ = now.time_since_epoch().count();
  const double pause = Seconds(now - before).count();
  if (before == Clock::time_point{} || pause < kPauseTold) return;
  for (const SharedOperation& operation : active_) operation->last_progress = now;
  say(fmt::format("[rank {}/{} {}] stood still for {:.1f} s: it was stopped, or its machine was",
                  place_.rank, place_.size, host(), pause));
}

void Engine::note_phase(const std::string& phase) {
  const std::lock_guard<std::mutex> lock(mutex_);
  phase_ = phase;
}

std::string Engine::phase() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return phase_;
}

}  // namespace tenon::mpi
