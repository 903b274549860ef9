// SPDX-License-Identifier: Apache-2.0
// The one file that knows MPI. Its C functions only.
#include <mpi.h>
#include <unistd.h>

#include <array>
#include <list>

#include "comm/mpi_wire.h"
#include "core/error.h"

namespace tenon::mpi {
namespace {

MPI_Comm comm = MPI_COMM_NULL;  // Tenon's own copy of the world

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(Exit::kPeer, "[comm] {}: {}", call,
       printable(std::string(text, static_cast<size_t>(length))));
}

}  // namespace

Place wire_start() {
  // FUNNELED is enough: the thread that comes here is the one that makes all other calls.
  int level = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread");
  if (level < MPI_THREAD_FUNNELED) {
    fail(Exit::kEnvironment,
         "this MPI allows no threads: expected level {} (FUNNELED) or more, got {}",
         MPI_THREAD_FUNNELED, level);
  }
  check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");

  Place place;
  check(MPI_Comm_rank(comm, &place.rank), "MPI_Comm_rank");
  check(MPI_Comm_size(comm, &place.size), "MPI_Comm_size");
  int found = 0;
  int* highest = nullptr;
  check(MPI_Comm_get_attr(comm, MPI_TAG_UB, &highest, &found), "MPI_Comm_get_attr");
  place.tags = found ? static_cast<int64_t>(*highest) + 1 : 0;

  std::array<char, 64> name{};
  gethostname(name.data(), name.size() - 1);
  std::vector<char> names(static_cast<size_t>(place.size) * name.size());
  check(
      MPI_Allgather(name.data(), name.size(), MPI_CHAR, names.data(), name.size(), MPI_CHAR, comm),
      "MPI_Allgather");
  for (size_t i = 0; i < names.size(); i += name.size())
    place.hosts.push_back(printable(&names[i]));
  return place;
}

void wire_finish() { MPI_Finalize(); }

void wire_abort(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

struct Wire::Requests {
  std::vector<MPI_Request> all;
  std::vector<int> indices;
};

Wire::Wire() : requests_(std::make_unique<Requests>()) {}
Wire::~Wire() = default;

void Wire::post(const Transfer& transfer, int peer, int tag) {
  const int bytes = static_cast<int>(transfer.bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  if (transfer.receives) {
    check(MPI_Irecv(transfer.data, bytes, MPI_BYTE, peer, tag, comm, &request), "MPI_Irecv");
  } else {
    check(MPI_Isend(transfer.data, bytes, MPI_BYTE, peer, tag, comm, &request), "MPI_Isend");
  }
  if (pending_ == 0) {  // those of the stage before are complete
    requests_->all.clear();
    peers_.clear();
  }
  requests_->all.push_back(request);
  peers_.push_back(peer);
  ++pending_;
}

int Wire::test() {
  if (pending_ == 0) return 0;
  int completed = 0;
  requests_->indices.resize(requests_->all.size());
  check(MPI_Testsome(static_cast<int>(requests_->all.size()), requests_->all.data(), &completed,
                     requests_->indices.data(), MPI_STATUSES_IGNORE),
        "MPI_Testsome");
  pending_ -= completed;
  return completed;
}

std::set<int> Wire::late() const {
  std::set<int> ranks;
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (requests_->all[i] != MPI_REQUEST_NULL) ranks.insert(peers_[i]);
  }
  return ranks;
}

namespace {

// Notes that MPI may not have copied yet.
struct Outgoing {
  std::string text;
  MPI_Request request = MPI_REQUEST_NULL;
};
std::list<Outgoing> outgoing;

}  // namespace

void wire_note(int peer, int tag, const std::string& text) {
  std::erase_if(outgoing, [](Outgoing& note) {
    int done = 0;
    check(MPI_Test(&note.request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  });
  Outgoing& note = outgoing.emplace_back(Outgoing{.text = text});
  check(MPI_Isend(note.text.data(), static_cast<int>(note.text.size()), MPI_CHAR, peer, tag, comm,
                  &note.request),
        "MPI_Isend");
}

std::optional<Note> wire_take_note(int tag) {
  int waiting = 0, length = 0;
  MPI_Status status;
  check(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm, &waiting, &status), "MPI_Iprobe");
  if (waiting == 0) return std::nullopt;
  check(MPI_Get_count(&status, MPI_CHAR, &length), "MPI_Get_count");
  Note note{.peer = status.MPI_SOURCE, .text = std::string(static_cast<size_t>(length), '\0')};
  check(MPI_Recv(note.text.data(), length, MPI_CHAR, note.peer, tag, comm, MPI_STATUS_IGNORE),
        "MPI_Recv");
  return note;
}

bool wire_noted(int tag) {
  int waiting = 0;
  check(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm, &waiting, MPI_STATUS_IGNORE), "MPI_Iprobe");
  return waiting != 0;
}

}  // namespace tenon::mpi
