// SPDX-License-Identifier: Apache-2.0
// Communicators whose ranks are threads, and what is built on any Communicator.
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
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

// The message of the Error that f() throws, after its exit code: "5: ...".
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return std::to_string(static_cast<int>(error.code())) + ": " + error.what();
  }
  return "no error";
}

// True when every rank has an empty text; else Catch shows them.
bool all_well(const std::vector<std::string>& ranks) {
  std::string wrong;
  for (const std::string& text : ranks) wrong += text;
  INFO(wrong);
  CHECK(wrong.empty());
  return wrong.empty();
}

}  // namespace

TEST_CASE("every collective gives the bits of a serial sum in the order of ranks", "[comm]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5);
  CAPTURE(ranks);
  const std::vector<Case> cases = all_cases(ranks, {0, 1, 7, 1023});
  all_well(on_ranks(ranks, [&](Communicator& world) { return check_cases(world, cases); }));
}

TEST_CASE("large collectives too", "[comm]") {
  const int ranks = GENERATE(1, 2, 5);
  std::vector<Case> cases = all_cases(ranks, {100003});
  std::erase_if(cases, [](const Case& c) { return c.reduce != Reduce::kSum; });
  all_well(on_ranks(ranks, [&](Communicator& world) { return check_cases(world, cases); }));
}

TEST_CASE("values, messages and splits on threads", "[comm]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5);
  CAPTURE(ranks);
  all_well(on_ranks(ranks, check_values));
  all_well(on_ranks(ranks, check_messages));
  all_well(on_ranks(ranks, check_splits));
}

TEST_CASE("random sequences of calls with random delays", "[comm]") {
  const int ranks = GENERATE(2, 3, 5);
  CAPTURE(ranks);
  all_well(on_ranks(ranks, [](Communicator& world) { return check_random(world, 1000, 42); }));
}

TEST_CASE("on_ranks gives back results by rank and rethrows the first error as it was", "[comm]") {
  CHECK(on_ranks(4, [](Communicator& world) { return 10 * world.rank() + world.size(); }) ==
        std::vector<int>{4, 14, 24, 34});
  CHECK_THROWS_AS(on_ranks(3,
                           [](Communicator& world) {
                             if (world.rank() == 2) throw std::out_of_range("x");
                           }),
                  std::out_of_range);
}

TEST_CASE("a rank that fails wakes the others, whatever they wait for", "[comm]") {
  const std::string waits_in = GENERATE("all_reduce", "recv", "barrier", "split", "group");
  CAPTURE(waits_in);
  std::atomic<int> woken{0};
  const auto run = [&](Communicator& world) {
    const auto pair = world.split(world.rank() / 2, 0, "pair");
    if (world.rank() == 2) fail(Exit::kNumeric, "the loss is NaN");
    try {
      float value = 1;
      if (waits_in == "all_reduce") world.all_reduce({&value, 1, DType::kF32}, Reduce::kSum).wait();
      if (waits_in == "recv")
        world.recv({&value, 1, DType::kF32}, (world.rank() + 1) % 4, 0).wait();
      if (waits_in == "barrier") world.barrier();
      if (waits_in == "split") world.split(0, 0, "again");
      if (waits_in == "group") {
        pair->barrier();
        world.barrier();
      }
    } catch (const Error& error) {
      woken += error.code() == Exit::kPeer;
      throw;
    }
  };
  CHECK(error_of([&] { on_ranks(4, run); }) == "4: the loss is NaN");
  CHECK(woken == 3);
}

TEST_CASE("a rank that returns early wakes the others", "[comm]") {
  CHECK(error_of([] {
          on_ranks(3, [](Communicator& world) {
            if (world.rank() != 1) world.barrier();
          });
        }).find("5: [comm] ") == 0);
  CHECK(error_of([] {
          on_ranks(2, [](Communicator& world) {
            float value = 0;
            if (world.rank() == 0) world.recv({&value, 1, DType::kF32}, 1, 0).wait();
          });
        }).find("5: [comm] ") == 0);
}

TEST_CASE("an operation given up by an exception does not wait for the others", "[comm]") {
  const std::string error = error_of([] {
    on_ranks(3, [](Communicator& world) {
      std::vector<float> values(1000, 1.0f);
      const Work work = world.all_reduce({values.data(), 1000, DType::kF32}, Reduce::kSum);
      if (world.rank() == 1) fail(Exit::kIo, "disk full");
      world.barrier();
      world.barrier();
    });
  });
  CHECK(error == "6: disk full");
}

TEST_CASE("a call that others do not make is named on both sides", "[comm]") {
  const std::string error = error_of([] {
    on_ranks(2, [](Communicator& world) {
      std::vector<float> values(100);
      world.barrier();
      if (world.rank() == 0)
        world.all_reduce({values.data(), 100, DType::kF32}, Reduce::kSum).wait();
      if (world.rank() == 1) world.broadcast({values.data(), 99, DType::kF32}, 1).wait();
    });
  });
  CHECK(error ==
        "3: [comm] ranks disagree: rank 0 calls all_reduce #2 of 100 fp32 (sum), rank 1 calls "
        "broadcast #2 "
        "of 99 fp32 from 1");
  const std::string message_error = error_of([] {
    on_ranks(2, [](Communicator& world) {
      std::vector<float> values(100);
      if (world.rank() == 0) world.send({values.data(), 100, DType::kF32}, 1, 5).wait();
      if (world.rank() == 1) world.recv({values.data(), 50, DType::kF32}, 0, 5).wait();
    });
  });
  CHECK(message_error ==
        "3: [comm] ranks disagree: rank 0 calls message of 100 fp32, rank 1 calls message of 50 "
        "fp32");
}

TEST_CASE("a peer that does not come is named when the time limit has passed", "[comm]") {
  std::atomic<bool> given_up{false};
  const std::string error = error_of([&] {
    on_ranks(3, [&](Communicator& world) {
      world.set_timeout(0.05);
      const auto group = world.split(0, 0, "dp");
      float value = 0;
      if (world.rank() == 2) {  // comes when the others have gone
        while (!given_up) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return;
      }
      try {
        group->all_reduce({&value, 1, DType::kF32}, Reduce::kMax).wait();
      } catch (const Error&) {
        given_up = true;
        throw;
      }
    });
  });
  CHECK(
      error.find(
          "5: [comm] all_reduce #1 of 1 fp32 (max), 4 bytes, made no progress for 0.05 s on dp ") ==
      0);
  CHECK(error.find(": waiting for rank 2") != std::string::npos);
}

TEST_CASE("what a programmer broke is refused before anybody waits", "[comm]") {
  const auto self = make_self();
  std::vector<float> values(4);
  const Buffer four = {values.data(), 4, DType::kF32};
  CHECK(error_of([&] {
          self->reduce_scatter(four, {values.data(), 3, DType::kF32}, Reduce::kSum).wait();
        }).find("1: ") == 0);
  CHECK(error_of([&] {
          self->all_gather(four, {values.data(), 4, DType::kI32}).wait();
        }).find("1: ") == 0);
  CHECK(error_of([&] { self->broadcast(four, 1).wait(); }).find("1: ") == 0);
  CHECK(error_of([&] {
          self->all_reduce({values.data(), -1, DType::kF32}, Reduce::kSum).wait();
        }).find("1: ") == 0);
  CHECK(error_of([&] {
          self->all_reduce({nullptr, 1, DType::kF32}, Reduce::kSum).wait();
        }).find("1: ") == 0);
  CHECK(error_of([&] { self->send(four, 0, 0).wait(); }).find("1: ") == 0);
  CHECK(error_of([&] { self->split(-1, 0, "x"); }).find("1: ") == 0);
  CHECK(error_of([&] { self->set_timeout(0); }).find("1: ") == 0);
}

TEST_CASE("a communicator counts what passes", "[comm]") {
  const auto bytes = on_ranks(3, [](Communicator& world) {
    std::vector<float> values(12);
    world.all_reduce({values.data(), 12, DType::kF32}, Reduce::kSum).wait();
    world.all_gather({values.data(), 4, DType::kF32}, {values.data(), 12, DType::kF32}).wait();
    return world.traffic().operations == 2 && world.traffic().seconds_waiting >= 0
               ? world.traffic().bytes
               : -1;
  });
  CHECK(bytes == std::vector<int64_t>(3, 96));
}

TEST_CASE("ranks that agree pass, and a difference is told once, by rank 0", "[comm]") {
  on_ranks(3, [](Communicator& world) { check_agreement(world, {{"build", "1"}, {"data", "x"}}); });
  std::vector<std::string> errors(4);
  on_ranks(4, [&](Communicator& world) {
    const int rank = world.rank();
    errors[static_cast<size_t>(rank)] = error_of([&] {
      check_agreement(world, {{"build", "7"},
                              {"data", rank == 3 ? "9f\n" : "1a2b"},
                              {rank == 1 ? "flags" : "seed", "5"}});
    });
  });
  CHECK(errors[0] ==
        "3: ranks disagree: data: ranks 0-2: 1a2b, rank 3: 9f\\n; seed: ranks 0, 2-3: 5, rank 1: "
        "(nothing); "
        "flags: ranks 0, 2-3: (nothing), rank 1: 5");
  for (size_t r = 1; r < 4; ++r) CHECK(errors[r] == "3: ");
}

TEST_CASE("a mesh names the axes of a world, outermost first", "[comm]") {
  const auto ranks = on_ranks(12, [](Communicator& world) {
    Mesh mesh(world, "pp=2,dp=3,tp=2");
    Communicator& joined = mesh.axes({"tp", "pp"});
    const int here = mesh.coord("pp") * 6 + mesh.coord("dp") * 2 + mesh.coord("tp");
    const bool good = here == world.rank() && mesh.size("dp") == 3 && mesh.axis("dp").size() == 3 &&
                      mesh.axis("dp").rank() == mesh.coord("dp") &&
                      mesh.axis("tp").rank() == mesh.coord("tp") && joined.size() == 4 &&
                      joined.rank() == mesh.coord("pp") * 2 + mesh.coord("tp") &&
                      mesh.size("cp") == 1 && mesh.coord("cp") == 0 && mesh.axis("cp").size() == 1;
    int64_t sum = world.rank();
    mesh.axis("dp").all_reduce(std::span<int64_t>(&sum, 1), Reduce::kSum);
    return good ? sum - 3 * (mesh.coord("pp") * 6 + mesh.coord("tp")) : -1;
  });
  CHECK(ranks == std::vector<int64_t>(12, 2 + 4));
}

TEST_CASE("a mesh that does not fit the world is refused", "[comm]") {
  const auto error = [](const std::string& text) {
    return error_of([&] { on_ranks(2, [&](Communicator& world) { Mesh(world, text); }); });
  };
  CHECK(error("dp=2") == "no error");
  CHECK(error("dp=1,tp=2,pp=1") == "no error");
  CHECK(error("dp=3") ==
        "2: mesh \"dp=3\": expected sizes that multiply to the number of ranks, 2");
  CHECK(error("") == "2: mesh \"\": expected sizes that multiply to the number of ranks, 2");
  CHECK(error("dp=2,dp=1") == "2: mesh \"dp=2,dp=1\": expected each axis once, got \"dp\" again");
  for (const char* text :
       {"dp", "=2", "dp=", "dp=0", "dp=-2", "dp=2x", "dp=2,", ",dp=2", "dp=99999999999", "dp 2"}) {
    CAPTURE(text);
    CHECK(error(text).find("2: mesh ") == 0);
  }
}

TEST_CASE("a process that was started plainly is a world of one", "[comm]") {
  World world = World::start();
  CHECK(world.size() == 1);
  CHECK(world.local_rank() == 0);
  CHECK(world.local_size() == 1);
  CHECK(world.threads_for_rank() >= 1);
  CHECK(!world.hostname().empty());
  CHECK(world.warning().empty());
  world.communicator().barrier();
  world.finish();
}

TEST_CASE("the environment divides threads and is checked", "[comm]") {
  const auto start_with = [](const char* name, const char* value) {
    setenv(name, value, 1);
    std::string result = error_of([&] { World::start(); });
    if (result == "no error") result = std::to_string(World::start().threads_for_rank());
    unsetenv(name);
    return result;
  };
  const char* threads = std::getenv("OMP_NUM_THREADS");
  const std::string before = threads == nullptr ? "" : threads;
  unsetenv("OMP_NUM_THREADS");
  CHECK(start_with("OMP_NUM_THREADS", "3") == "3");
  CHECK(start_with("OMP_NUM_THREADS", "5,2") == "5");
  CHECK(start_with("OMP_NUM_THREADS", "many") ==
        "3: OMP_NUM_THREADS: expected a positive number, got \"many\"");
  CHECK(start_with("OMP_NUM_THREADS", "0").find("3: ") == 0);
  CHECK(start_with("SLURM_CPUS_PER_TASK", "1") == "1");
  CHECK(start_with("SLURM_CPUS_PER_TASK", "1(x3)") == "1");  // of each of three nodes
  CHECK(start_with("SLURM_STEP_NUM_TASKS", "2") ==
        "3: started by srun without PMIx: use `srun --mpi=pmix tenon ...`");
  CHECK(std::stoi(start_with("SLURM_STEP_NUM_TASKS", "1")) >= 1);
  if (!before.empty()) setenv("OMP_NUM_THREADS", before.c_str(), 1);
}
