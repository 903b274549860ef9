// SPDX-License-Identifier: Apache-2.0
// What the tests start under mpirun: `mpi_program MODE`. It ends as a tool does: an error becomes
// one line and the end of the job. Modes that fail show how; their tests look at the line, the exit
// code and the time.
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "comm/agree.h"
#include "comm/mesh.h"
#include "comm/threads.h"
#include "comm/world.h"
#include "core/error.h"
#include "tests/comm/cases.h"

using namespace tenon;
using namespace tenon::test;

namespace {

void must(const std::string& wrong) {
  if (!wrong.empty()) fail(Exit::kInternal, "{}", wrong);
}

// The result of one long sum; every implementation must give these bits.
std::vector<float> long_sum(Communicator& world) {
  std::vector<float> values(3000001);  // several segments
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = 1.0f / (static_cast<float>(i % 1013) + 0.3f * static_cast<float>(world.rank() + 1));
  }
  world.all_reduce({values.data(), static_cast<int64_t>(values.size()), DType::kF32}, Reduce::kSum)
      .wait();
  return values;
}

void cases(World& job) {
  Communicator& world = job.communicator();
  must(check_cases(world, all_cases(world.size(), {0, 1, 7, 1023})));
  std::vector<Case> large = all_cases(world.size(), {100003});
  std::erase_if(large, [](const Case& c) { return c.reduce != Reduce::kSum; });
  must(check_cases(world, large));
  // Broadcasts and all-gathers in several pieces, a reduce-scatter in several segments.
  for (const Op op : {Op::kBroadcast, Op::kAllGather, Op::kReduceScatter}) {
    must(
        check_cases(world, {{op, DType::kF32, Reduce::kSum, 5 << 20, false, world.size() - 1, 3}}));
  }
  must(check_values(world));
  must(check_messages(world));
  must(check_splits(world));
  must(check_random(world, 1000, 7));
  const std::vector<std::vector<float>> threads = on_ranks(world.size(), long_sum);
  if (long_sum(world) != threads[static_cast<size_t>(world.rank())])
    must("MPI and threads give different sums");

  Mesh mesh(world, fmt::format("dp={},tp=1", world.size()));
  must(check_values(mesh.axis("dp")));
  check_agreement(world, {{"build", "1"}});
  if (job.local_size() != world.size() || job.local_rank() != world.rank()) must("local ranks");
  std::vector<int64_t> all(1, job.threads_for_rank());
  world.all_reduce(std::span<int64_t>(all), Reduce::kSum);
  const int64_t cores = std::max<int64_t>(world.size(), std::thread::hardware_concurrency());
  if (all[0] > cores) must(fmt::format("{} threads on {} cores", all[0], cores));
}

// An all-reduce again and again until something ends it.
void work_on(Communicator& world) {
  std::vector<float> values(200000, 1.0f);
  while (true) {
    world
        .all_reduce({values.data(), static_cast<int64_t>(values.size()), DType::kF32}, Reduce::kMax)
        .wait();
  }
}

void one_throws(World& job) {
  job.communicator().barrier();
  if (job.rank() == 1) fail_input("data.jsonl:7: expected a string, got a number");
  work_on(job.communicator());
}

void one_throws_while_others_send(World& job) {
  Communicator& world = job.communicator();
  std::vector<float> values(3000000, 1.0f);
  const Work work = world.all_reduce({values.data(), 3000000, DType::kF32}, Reduce::kSum);
  const Work next = world.all_reduce({values.data(), 10, DType::kF32}, Reduce::kSum);
  if (job.rank() == 1) fail(Exit::kNumeric, "the loss is not finite");
  work_on(world);
}

void all_throw(World&) { fail_input("config.json: expected a file"); }

void disagree(World& job) {
  check_agreement(job.communicator(),
                  {{"build", "1"}, {"data", job.rank() == 1 ? "9f0c" : "1a2b"}});
}

void mismatch(World& job) {
  float value = 0;
  if (job.rank() == 1) job.communicator().barrier();
  job.communicator().all_reduce({&value, 1, DType::kF32}, Reduce::kSum).wait();
}

void message_mismatch(World& job) {
  Communicator& world = job.communicator();
  std::vector<float> values(100000);
  if (job.rank() == 0) world.send({values.data(), 100000, DType::kF32}, 1, 5).wait();
  if (job.rank() == 1) world.recv({values.data(), 50, DType::kF32}, 0, 5).wait();
}

void one_stops(World& job) {
  job.communicator().set_timeout(1);
  job.communicator().note_phase("step 7");
  job.communicator().barrier();
  if (job.rank() == 1) raise(SIGSTOP);
  work_on(job.communicator());
}

// Rank 1 computes for three times the time limit: nothing must happen but a line.
void one_computes(World& job) {
  Communicator& world = job.communicator();
  world.set_timeout(2);
  world.note_phase(job.rank() == 1 ? "a long sum" : "a short sum");
  world.barrier();
  if (job.rank() == 1) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(6);
    volatile double sum = 0;
    while (std::chrono::steady_clock::now() < end) sum = sum + 1;
  }
  world.barrier();
}

// Rank 1 answers, but does nothing.
void one_idles(World& job) {
  job.communicator().set_timeout(1);
  job.communicator().barrier();
  if (job.rank() == 1) std::this_thread::sleep_for(std::chrono::hours(1));
  job.communicator().barrier();
}

void one_pauses(World& job) {  // no longer than the time limit: nothing must happen
  job.communicator().set_timeout(60);
  job.communicator().barrier();
  if (job.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(2));
  job.communicator().barrier();
}

void one_dies(World& job) {
  job.communicator().barrier();
  if (job.rank() == 1) raise(SIGKILL);
  work_on(job.communicator());
}

void one_exits(World& job) {
  job.communicator().barrier();
  if (job.rank() == 1) _exit(6);
  work_on(job.communicator());
}

void goes_on(World& job) {
  fmt::print("pid {}\n", getpid());
  std::fflush(stdout);
  work_on(job.communicator());
}

void goes_on_stubbornly(World& job) {
  signal(SIGTERM, SIG_IGN);
  goes_on(job);
}

void idles(World& job) {
  fmt::print("pid {}\n", getpid());
  std::fflush(stdout);
  job.communicator().barrier();
  signal(SIGTERM, SIG_IGN);
  std::this_thread::sleep_for(std::chrono::hours(1));
}

// Latency and bandwidth of an all-reduce, and the processor time of a rank that waits for another.
void measure(World& job) {
  Communicator& world = job.communicator();
  const auto seconds = [](clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  for (const int64_t bytes : {8, 2048, 65536, 1 << 20, 8 << 20, 64 << 20}) {
    std::vector<float> values(static_cast<size_t>(bytes / 4), 1.0f);
    const int repeats = bytes > (1 << 23) ? 5 : bytes > 100000 ? 30 : 2000;
    std::vector<double> times;
    for (int i = -3; i < repeats; ++i) {
      world.barrier();
      const double begin = seconds(CLOCK_MONOTONIC);
      world.all_reduce({values.data(), bytes / 4, DType::kF32}, Reduce::kSum).wait();
      if (i >= 0) times.push_back(seconds(CLOCK_MONOTONIC) - begin);
    }
    std::sort(times.begin(), times.end());
    const double median = times[times.size() / 2];
    if (job.rank() == 0) {
      fmt::print("{:9} bytes: {:10.1f} us, {:6.2f} GB/s\n", bytes, 1e6 * median,
                 1e-9 * static_cast<double>(bytes) / median);
    }
  }
  world.barrier();
  const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
  if (job.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(2));
  const double idle = seconds(CLOCK_PROCESS_CPUTIME_ID);
  world.barrier();
  fmt::print("rank {}: {:.1f} ms of processor time while {} 2 s\n", job.rank(),
             1e3 * ((job.rank() == 1 ? idle : seconds(CLOCK_PROCESS_CPUTIME_ID)) - cpu),
             job.rank() == 1 ? "idle for" : "waiting for");
}

const std::map<std::string, std::function<void(World&)>> modes = {
    {"cases", cases},
    {"one-throws", one_throws},
    {"one-throws-while-others-send", one_throws_while_others_send},
    {"all-throw", all_throw},
    {"disagree", disagree},
    {"mismatch", mismatch},
    {"message-mismatch", message_mismatch},
    {"one-stops", one_stops},
    {"one-computes", one_computes},
    {"one-idles", one_idles},
    {"one-pauses", one_pauses},
    {"one-dies", one_dies},
    {"one-exits", one_exits},
    {"goes-on", goes_on},
    {"goes-on-stubbornly", goes_on_stubbornly},
    {"idles", idles},
    {"measure", measure},
};

}  // namespace

int main(int argc, char** argv) {
  try {
    World job = World::start();
    modes.at(argc == 2 ? argv[1] : "")(job);
    job.finish();
    return 0;
  } catch (const Error& error) {
    World::abort(error.code(),
                 *error.what() == '\0' ? "" : fmt::format("tenon: error: {}", error.what()));
  } catch (const std::exception& error) {
    World::abort(Exit::kInternal, fmt::format("tenon: error: {}", error.what()));
  }
}
