// SPDX-License-Identifier: Apache-2.0
#include "tools/gather_parts.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"

namespace tenon {
namespace {

constexpr int kTag = 11;

// Ranks reach the end of their shares at different times, and none waits in vain: one that fails
// ends the job.
constexpr double kPatience = 1e7;  // seconds

// A part in bytes: the lengths, then the elements of each list.
struct Lengths {
  int64_t ids, runs, special, skipped, unwritten, source;
  TextFaults faults;
  bool text, ends_text;
};

template <class T>
void put(const T* data, size_t count, std::string& out) {
  out.append(reinterpret_cast<const char*>(data), count * sizeof(T));
}

template <class T>
void take(T* data, size_t count, const char*& from) {
  std::memcpy(static_cast<void*>(data), from, count * sizeof(T));
  from += count * sizeof(T);
}

std::string packed(const EncodedPart& part) {
  Lengths lengths;
  std::memset(static_cast<void*>(&lengths), 0, sizeof lengths);  // what lies between members too
  lengths.ids = static_cast<int64_t>(part.ids.size());
  lengths.runs = static_cast<int64_t>(part.runs.size());
  lengths.special = static_cast<int64_t>(part.special.size());
  lengths.skipped = part.skipped;
  lengths.unwritten = part.unwritten;
  lengths.source = part.source;
  lengths.faults = part.faults;
  lengths.text = part.text;
  lengths.ends_text = part.ends_text;
  std::string bytes;
  put(&lengths, 1, bytes);
  put(part.ids.data(), part.ids.size(), bytes);
  put(part.runs.data(), part.runs.size(), bytes);
  for (const auto& [id, count] : part.special) {
    const SpecialCount special = {id, count};
    put(&special, 1, bytes);
  }
  return bytes;
}

EncodedPart unpacked(const std::string& bytes) {
  const char* from = bytes.data();
  Lengths lengths;
  take(&lengths, 1, from);
  EncodedPart part;
  part.ids.resize(static_cast<size_t>(lengths.ids));
  part.runs.resize(static_cast<size_t>(lengths.runs));
  take(part.ids.data(), part.ids.size(), from);
  take(part.runs.data(), part.runs.size(), from);
  for (int64_t i = 0; i < lengths.special; ++i) {
    SpecialCount special;
    take(&special, 1, from);
    part.special[static_cast<int32_t>(special.id)] = special.count;
  }
  part.skipped = lengths.skipped;
  part.unwritten = lengths.unwritten;
  part.source = static_cast<int32_t>(lengths.source);
  part.faults = lengths.faults;
  part.text = lengths.text;
  part.ends_text = lengths.ends_text;
  return part;
}

// Messages one behind the other, in a file that goes with the process.
class Spool {
 public:
  void write(const std::string& message) {
    sizes_.push_back(static_cast<int64_t>(message.size()));
    write_all(file_.fd(), std::as_bytes(std::span(message)), file_.folder());
  }
  template <class Function>
  void for_each(Function function) {
    lseek(file_.fd(), 0, SEEK_SET);
    std::string message;
    for (const int64_t size : sizes_) {
      message.resize(static_cast<size_t>(size));
      read_all(message);
      function(message);
    }
  }

 private:
  void read_all(std::string& message) {
    for (size_t done = 0; done < message.size();) {
      const ssize_t count = read(file_.fd(), message.data() + done, message.size() - done);
      if (count <= 0) fail_system(file_.folder(), "be read back", count < 0 ? errno : EIO);
      done += static_cast<size_t>(count);
    }
  }

  ScratchFile file_;
  std::vector<int64_t> sizes_;
};

}  // namespace

void gather_parts(Communicator& world, const std::function<void(Share, const TakePart&)>& encode,
                  const TakePart& take) {
  const Share share = {world.rank(), world.size()};
  const double timeout = world.timeout();
  world.set_timeout(kPatience);
  if (world.rank() == 0) {
    encode(share, take);
    for (int rank = 1; rank < world.size(); ++rank) {
      std::string bytes;
      for (int64_t size;;) {  // 0 behind the last
        world.recv({&size, 1, DType::kI64}, rank, kTag).wait();
        if (size == 0) break;
        bytes.resize(static_cast<size_t>(size));
        world.recv({bytes.data(), size, DType::kU8}, rank, kTag).wait();
        take(unpacked(bytes));
      }
    }
  } else {
    Spool spool;
    encode(share, [&](const EncodedPart& part) { spool.write(packed(part)); });
    const auto send = [&](int64_t size) { world.send({&size, 1, DType::kI64}, 0, kTag).wait(); };
    spool.for_each([&](std::string& bytes) {
      send(static_cast<int64_t>(bytes.size()));
      world.send({bytes.data(), static_cast<int64_t>(bytes.size()), DType::kU8}, 0, kTag).wait();
    });
    send(0);
  }
  world.set_timeout(timeout);
}

}  // namespace tenon
